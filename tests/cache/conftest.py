"""Backends under one roof: settings of `Cache` by name, over real servers."""

import shutil

import pytest

from opero import events
from services.redis_servers import RedisServer

KEY, OTHER = b"k" * 32, b"o" * 32


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A Redis for a whole module; None where the program is missing, which fails in CI by another fixture's word."""
    if shutil.which("redis-server") is None:
        yield None
        return
    started = RedisServer(tmp_path_factory.mktemp("redis"))
    yield started
    started.stop()


@pytest.fixture
def settings(request, tmp_path):
    """Settings by name: `backend` or `backend-how`."""

    def make(name):
        backend, _, how = name.partition("-")
        given = {"backend": backend}
        if backend == "disk":
            given["directory"] = tmp_path / "cache"
        if backend == "redis":
            given["url"] = request.getfixturevalue("server").url
        if backend != "memory":
            given["patience"] = 2.0  # a busy machine is no outage
        given |= {
            "": {},
            "lru": {"eviction": "lru"},
            "signed": {"signing_key": [KEY, OTHER]},
            "encrypted": {"encryption_key": KEY, "compress_above": 0},
            "both": {"signing_key": KEY, "encryption_key": OTHER, "compress_above": 10},
        }[how]
        return given

    return make


@pytest.fixture
def heard():
    """What caches say: names without their beginning, and fields."""
    seen = []
    with events.subscribe(lambda e: seen.append((e.name.removeprefix("opero.cache."), e.fields)), "opero.cache.*"):
        yield seen
