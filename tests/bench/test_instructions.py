"""The hot paths stay within their budget of instructions, and the budget notices a regression."""

import sys

import pytest

from benchmarks import instructions
from benchmarks.subjects import PLANTED

pytestmark = [
    pytest.mark.service("valgrind"),
    pytest.mark.timeout(300),
    pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="the budgets are CPython 3.11's"),
]
GATES = {gate.subject: gate for gate in instructions.gates()}
HOT = ["retry, breaker, limit", "cache hit"]


@pytest.fixture(scope="module", autouse=True)
def _counted_together():
    yardsticks = {name for gate in GATES.values() for name in gate.against}
    instructions.counts([*GATES, *yardsticks, *(name + PLANTED for name in HOT)])


@pytest.mark.parametrize("name", GATES)
def test_a_call_costs_no_more_than_its_budget(name):
    assert instructions.ratio(GATES[name]) <= GATES[name].bound


@pytest.mark.parametrize("name", HOT)
def test_a_lock_on_the_hot_path_would_be_noticed(name):
    assert instructions.ratio(GATES[name], PLANTED) > GATES[name].bound
