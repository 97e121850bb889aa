"""A budget in the scenarios its law was chosen by, and who pays into it and from it."""

import random

import pytest

import opero as o
from opero import testing
from opero.primitives.retry_budget import COST


def amplification(budget, *, fails, calls_per_second, seconds, start=0.0):
    """Play calls of up to four attempts one after the other; return attempts and successes for each call."""
    draw, tokens, retries = random.Random(1), budget.tokens, 3
    calls = attempts = successes = 0
    for step in range(int(calls_per_second * seconds)):
        now = start + step / calls_per_second
        calls += 1
        for tries in range(retries + 1):
            attempts += 1
            if draw.random() >= fails:
                successes += 1
                if tries:
                    tokens.refund(COST)
                else:
                    tokens.fund()
                break
            if tries == retries or not tokens.reserve(now, COST):
                break
    return attempts / calls, successes / calls


def test_it_shows_the_ratio_that_holds_now():
    budget = o.RetryBudget(0.1)
    budget.tokens.ratio.set(0.05)
    assert (budget.ratio, budget.settings["ratio"]) == (0.05, 0.1)
    assert repr(budget).startswith("RetryBudget(ratio=0.05, min_per_second=0.1, ")


def test_an_outage_gets_almost_no_retries_after_the_first_moment():
    budget = o.RetryBudget()
    budget.tokens.utilization(0.0)
    amplification(budget, fails=0, calls_per_second=1000, seconds=30)
    first, _ = amplification(budget, fails=1, calls_per_second=1000, seconds=10, start=30.0)
    later, _ = amplification(budget, fails=1, calls_per_second=1000, seconds=30, start=40.0)
    assert first < 1.03
    assert later < 1.002


def test_single_failures_are_all_retried():
    attempts, successes = amplification(o.RetryBudget(), fails=0.1, calls_per_second=1000, seconds=60)
    assert successes > 0.999
    assert attempts == pytest.approx(1.11, abs=0.01)


def test_a_quiet_function_keeps_its_floor_of_ten():
    attempts, _ = amplification(o.RetryBudget(), fails=1, calls_per_second=2, seconds=60)
    assert attempts == pytest.approx(1 + (10 + 6) / 120, abs=0.02)


def test_a_service_that_is_too_busy_costs_less():
    budget = o.RetryBudget(min_per_second=0)

    @o.opero(o.Retry(1, wait=0, on=o.conditions.status(429), budget=budget))
    def f():
        error = OSError()
        error.status = 429
        raise error

    with testing.clock():
        for _ in range(40):
            with pytest.raises(OSError):
                f()
    assert f.opero.stats()["retries"] == int(10 / 0.35)


def test_a_retry_that_never_began_gives_its_token_back():
    import asyncio

    budget = o.RetryBudget(min_per_second=0)

    @o.opero(o.Retry(1, wait=100, jitter="none", budget=budget))
    async def f():
        raise OSError

    async def main():
        task = asyncio.create_task(f())
        await asyncio.sleep(1)
        assert budget.tokens.left == 9
        task.cancel()
        await asyncio.wait([task])

    with testing.clock():
        asyncio.run(main())
    assert budget.tokens.left == 10


def test_it_is_spent_by_hand_until_there_is_none():
    budget = o.RetryBudget(min_per_second=0.5, cap=2, name="mine")
    with testing.clock() as time:
        budget.spend()
        budget.spend()
        with pytest.raises(o.RetryBudgetExhausted) as caught:
            budget.spend()
        assert (caught.value.reason, caught.value.operation, caught.value.retry_after) == ("retry_budget", "mine", 2)
        time.advance(2)
        budget.spend()
    assert o.RetryBudget(min_per_second=0).tokens.wait_for(1) is None


def test_the_fast_path_funds_it_as_the_general_one_does():
    budget = o.RetryBudget(0.5, min_per_second=0, cap=20)

    @o.opero(budget, o.Retry(1))
    def f(x):
        return x

    for n in range(10):
        f(n)
    assert f.opero.source().startswith("def call(x):")
    assert "funding[0] += 1" in f.opero.source()
    assert budget.tokens.funding == [10]


def test_what_trickles_in_pays_for_a_retry():
    budget = o.RetryBudget(min_per_second=0.5, cap=1)

    @o.opero(o.Retry(1, wait=0, budget=budget))
    def f():
        raise OSError

    def retries(pause):
        time.advance(pause)
        before = f.opero.stats()["retries"]
        with pytest.raises(OSError):
            f()
        return f.opero.stats()["retries"] - before

    with testing.clock() as time:
        assert [retries(pause) for pause in (0, 0, 1, 1, 1, 1)] == [1, 0, 0, 1, 0, 1]


def test_the_retries_of_a_generator_are_paid_for():
    budget, made = o.RetryBudget(min_per_second=0, cap=1), []

    @o.opero(o.Retry(3, wait=0, budget=budget))
    def f():
        made.append(1)
        raise OSError
        yield

    with pytest.raises(OSError):
        list(f())
    assert len(made) == 2


def test_processes_of_a_map_may_share_it_unless_something_else_has_it_already():
    given = [{}, {"control": "adaptive", "shadow": True}, {"store": "redis://localhost", "name": "shared"}]
    assert [o.RetryBudget(**settings).can_share() for settings in given] == [True, False, False]


def test_the_gauge_tells_what_is_spent():
    from opero import catalogue

    @o.opero(retry_budget=0.2, retries=1, name="budgeted")
    def f():
        return 1

    f.opero.operation.places["retry_budget"].tokens.left = 4.0
    family = next(f for f in catalogue.snapshot() if f.metric.name == "opero.retry.budget.utilization")
    assert family.samples["budgeted", "budgeted"] == pytest.approx(0.6, abs=0.01)
