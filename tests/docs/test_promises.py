"""Each promise names tests that are there."""

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
PAGE = (TESTS.parent / "docs/promises.md").read_text()
NAMING = re.compile(r"^- `([\w/]+\.py)::(\w+)`", re.MULTILINE)
NAMED = NAMING.findall(PAGE)


@pytest.mark.parametrize(("file", "name"), NAMED, ids=lambda part: part.removesuffix(".py"))
def test_a_named_test_is_there(file, name):
    assert re.search(rf"^(async )?(def|class) {name}\b", (TESTS / file).read_text(), re.MULTILINE)


def test_each_of_the_twelve_promises_names_tests():
    parts = PAGE.partition("## What is not promised")[0].split("\n## ")[1:]
    assert [part.partition(".")[0] for part in parts] == [f"P{number}" for number in range(1, 13)]
    assert all(len(NAMING.findall(part)) > 1 for part in parts)
    assert len(NAMED) == PAGE.count("::")  # none is written in a way this test does not read
