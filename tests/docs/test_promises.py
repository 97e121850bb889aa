"""Each promise names tests that are there."""

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
NAMED = re.findall(r"^- `([\w/]+\.py)::(\w+)`", (TESTS.parent / "docs/promises.md").read_text(), re.MULTILINE)


@pytest.mark.parametrize(("file", "name"), NAMED, ids=lambda part: part.removesuffix(".py"))
def test_a_named_test_is_there(file, name):
    assert re.search(rf"^(async )?(def|class) {name}\b", (TESTS / file).read_text(), re.MULTILINE)


def test_there_are_promises():
    assert len(NAMED) > 25
