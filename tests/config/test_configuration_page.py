"""What docs/configuration.md shows is read as it says; its examples run with those of all pages."""

import re
import tomllib
from pathlib import Path

import pytest

import opero as o
from opero import OperoConfig, opero, values

PAGE = (Path(__file__).parents[2] / "docs/configuration.md").read_text()
EXCEPTIONS = {"ignore", "errors"}  # given by their names


def double(x):
    return 2 * x


def kinds(function):
    return {policy.place: policy for policy in function.opero.policies}


def test_the_page_shows_what_is_read_and_what_is_printed(capsys):
    tables = [tomllib.loads(text) for text in re.findall(r"^```toml\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)]
    assert {*values.TABLES} <= {*tables[1]}
    for table in tables:
        config = OperoConfig.from_dict(table)
        for keyword, value in table.items():
            if keyword != "operations":
                assert opero(OperoConfig.from_dict({keyword: value, "retries": 1}))
                for name, each in value.items() if isinstance(value, dict) else ():
                    taken = getattr(config.keywords()[keyword], name)
                    assert name in EXCEPTIONS or each == (list(taken) if isinstance(taken, tuple) else taken)
    ((code, printed),) = re.findall(r"^```python\n([^`]*)```\n\n```text\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    exec(code, {})
    assert capsys.readouterr().out == printed


@pytest.mark.parametrize("row", ["http", "database", "llm", "queue"])
def test_the_table_of_presets_says_what_is_in_them(row):
    says = re.search(rf"^\| `presets\.{row}\(\)` \|.*\| (.*) \|$", PAGE, re.MULTILINE)[1]
    places = kinds(getattr(o.presets, row)()(double))
    assert says.startswith(f"{places['retry'].retries} ")
    numbers = [int(number) for number in re.findall(r"\d+(?= s\b)", says)]
    timeouts = [places[place] for place in ("attempt_timeout", "timeout") if place in places]
    assert numbers == [each.attempt or each.seconds for each in timeouts]
    assert ("breaker" in says, "at once" in says) == ("circuit_breaker" in places, "bulkhead" in places)
    if "bulkhead" in places:
        assert f"{places['bulkhead'].limit} at once" in says


def test_the_table_of_plugins_names_every_group():
    assert re.findall(r"^\| `(opero\.\w+)` \|", PAGE, re.MULTILINE) == [*o.plugins.GROUPS]
