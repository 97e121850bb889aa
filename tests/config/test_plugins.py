"""What other packages add is found by its name, and said when it is not there."""

import subprocess
import sys

import pytest

import opero as o
from opero import plugins

PACKAGE = {
    "mine.py": """
from opero.events import *
from opero.policy import Policy

class Twice(Policy):
    place, inside = "twice", "fallback"

    def __init__(self, times=2):
        self.freeze(times=times)

    def attach(self, function):
        async def layer(call, next):
            return [await next(call) for _ in range(self.times)]
        return layer

class Shelf(dict):
    def set(self, name, data, seconds):
        self[name] = data

    def delete(self, name):
        self.pop(name, None)

class Free:
    async def acquire(self, call, key, weight, patience):
        return 0.0
""",
    "mine-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: mine\nVersion: 1.0\n",
    "mine-1.0.dist-info/entry_points.txt": """
[opero.primitives]
twice = mine:Twice
[opero.rate_limiters]
free = mine:Free
[opero.cache_backends]
shelf = mine:Shelf
""",
}
USE = """
from opero import opero, plugins
assert plugins.names("opero.primitives") == ["twice"]
f = opero(retries=1, twice=3, rate_limit="free", fallback=0)(lambda: 1)
assert f() == [1, 1, 1], f()
assert [p.place for p in f.opero.policies] == ["fallback", "twice", "retry", "rate_limit"]
assert opero(retries=0, twice=True)(lambda: 1)() == [1, 1]
assert opero(retries=0, twice={"times": 1})(lambda: 1)() == [1]
g = opero(retries=0, cache_ttl=60, cache_backend="shelf")(lambda: 1)
assert (g(), g(), g.opero.cache.stats()["hits"]) == (1, 1, 1)
"""


def test_a_package_adds_a_policy_with_its_keyword_and_a_limiter(tmp_path):
    for name, text in PACKAGE.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    done = subprocess.run(
        [sys.executable, "-c", USE], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr


def test_what_is_not_there_is_said():
    assert "demo" in plugins.names("opero.commands")
    with pytest.raises(o.ConfigurationError, match=r"name='x': name takes one of opero\.commands: "):
        plugins.load("opero.commands", "x")
    with pytest.raises(o.ConfigurationError, match="group takes one of"):
        plugins.names("opero.nothing")
    with pytest.raises(o.ConfigurationError, match="rate_limit takes calls per second"):
        o.opero(rate_limit="nobody")


def test_a_place_that_stands_nowhere_is_refused():
    class Lost(o.Timeout):
        place = "lost"

    with pytest.raises(o.ConfigurationError, match="place='lost'"):
        o.opero(Lost(5))(len)
