import doctest

import pytest

from opero.control import law
from opero.control.retry_budget import LEAST, PARAMETER, RetryBudgetLaw, Snapshot


def test_a_wish_says_where_and_why_and_on_what():
    wish = law.Wish("bulkhead.limit", 12.0, "binding", {"p95": 0.08})
    assert (wish.parameter, wish.value, wish.reason, wish.inputs["p95"]) == ("bulkhead.limit", 12.0, "binding", 0.08)
    assert doctest.testmod(law).failed == 0


def judged(ratio, retries, recovered, seconds=1.0, **more):
    """Let a law look twice, and return its only wish, or None."""
    budget = RetryBudgetLaw()
    assert budget.decide(Snapshot(0.0, ratio, 0, 0)) == []
    wishes = budget.decide(Snapshot(seconds, ratio, retries, recovered, **more))
    assert len(wishes) <= 1
    return wishes[0] if wishes else None


@pytest.mark.parametrize(("recovered", "expected"), [(20, 0.11), (10, 0.11), (9, 0.1), (5, 0.1), (4, 0.05), (0, 0.05)])
def test_the_ratio_follows_how_much_retries_help(recovered, expected):
    wish = judged(0.1, 20, recovered)
    assert wish.value == pytest.approx(expected)
    assert (wish.parameter, wish.reason) == (PARAMETER, "efficacy")
    assert wish.inputs == {"retries": 20, "recovered": recovered, "efficacy": recovered / 20}


@pytest.mark.parametrize(
    ("reason", "more"), [("slo_burn", {"burn": 1.1}), ("breaker", {"open": 1.0}), ("binding", {"refused": 3.0})]
)
def test_a_service_in_trouble_gets_the_least_at_once(reason, more):
    wish = judged(0.1, 100, 100, seconds=0.1, **more)
    assert (wish.value, wish.reason) == (LEAST, reason)


def test_an_objective_that_holds_is_no_trouble():
    assert judged(0.1, 20, 20, burn=1.0).reason == "efficacy"


def test_too_little_is_not_judged():
    assert judged(0.1, 9, 0) is None
    assert judged(0.1, 100, 0, seconds=0.9) is None
    assert judged(0.1, 9, 0, seconds=10.0).value == 0.05


@pytest.mark.parametrize(("ratio", "expected"), [(0.02, 0.04), (0.065, 0.07), (0.2, 0.18), (0.07, 0.07)])
def test_without_retries_it_returns_to_where_it_began(ratio, expected):
    wish = judged(ratio, 0, 0, seconds=10.0)
    assert (wish.value, wish.reason) == (pytest.approx(expected), "calm")
