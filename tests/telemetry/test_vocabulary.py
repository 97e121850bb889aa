"""The telemetry reference names what the tests emit, and nothing else. Comes last, and is complete in a whole run."""

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs/reference/telemetry.md"
OURS = re.compile(r"opero\.(?!test\.)")  # tests make up names of their own


def documented(heading):
    """The names in the first column of the tables with this heading."""
    tables = re.findall(rf"^\| {heading} \|.*\n(?:\|.*\n)+", PAGE.read_text(), re.MULTILINE)
    return {name for table in tables for name in re.findall(r"^\| `([\w.]+)`", table, re.MULTILINE)}


KINDS = {"event": "opero_said", "metric": "opero_measured"}


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_emitted_is_documented(kind, request):
    emitted = {name for name in getattr(request.config, KINDS[kind]) if OURS.match(name)}
    assert emitted - documented(kind) == set()


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_documented_is_emitted_by_some_test(kind, request):
    if not request.config.opero_everything:
        pytest.skip("a part of the tests emits a part of the names: run them all, in one process")
    assert documented(kind) - getattr(request.config, KINDS[kind]) == set()
