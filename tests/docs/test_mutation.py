"""Each line named as a survivor of mutation testing is still in its module."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/contributing/mutation.md").read_text()
SURVIVORS = PAGE.partition("## Survivors")[2].split("\n- ")[1:]
SHORTEST = 9  # what is shorter is an operator, or a word of the reason
NAMED = [
    (file, code)
    for file, *codes in (re.findall(r"`([^`]+)`", survivor) for survivor in SURVIVORS)
    for code in codes
    if len(code) >= SHORTEST
]


@pytest.mark.parametrize(("file", "code"), NAMED)
def test_a_survivor_is_where_it_is_said_to_be(file, code):
    (path,) = [*(ROOT / "opero").glob(file), *(ROOT / "opero/primitives").glob(file)]
    assert code in path.read_text()


def test_every_survivor_names_a_line():
    assert len(NAMED) >= len(SURVIVORS) > 10
