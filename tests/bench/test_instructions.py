"""The hot path stays within its budget of instructions, and the budget notices a regression."""

import pytest

from benchmarks import instructions

pytestmark = pytest.mark.service("valgrind")


@pytest.mark.parametrize(("name", "at_most"), instructions.budget().items())
def test_a_call_costs_no_more_than_its_budget(name, at_most):
    assert instructions.ratio(name) <= at_most


def test_a_lock_on_the_hot_path_would_be_noticed():
    assert instructions.ratio("planted: a lock") > instructions.budget()["retry, breaker, limit"]
