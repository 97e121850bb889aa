"""A hedged call ends, whatever becomes of its attempts: each is given some seconds, and no test waits for ever."""

import asyncio
import time

import pytest

import opero as o
from ending import ended
from opero import clock

ENDS = {  # how long each attempt takes, and whether it fails; what the call ends with, in how many attempts, and when
    "at once": ([(0, False)], 0, 1, 0),
    "in time": ([(0.5, False)], 0, 1, 0.5),
    "with the hedge": ([(5, False), (0, False)], 1, 2, 1),
    "with the first, after all": ([(1.5, False), (5, False)], 0, 2, 1.5),
    "with the hedge of a hedge": ([(5, False), (5, False), (0, False)], 2, 3, 2),
    "by failing at once": ([(0, True)], OSError, 1, 0),
    "by failing all": ([(4, True), (4, True), (4, True)], OSError, 3, 6),
    "with the first, where the hedge fails": ([(5, False), (0, True)], 0, 2, 5),
    "with the hedge, where the first fails": ([(1.5, True), (3, False)], 1, 2, 4),
}


def next_of(attempts, made):
    number = len(made)
    made.append(number)
    return number, *attempts[number]


@pytest.mark.parametrize("name", ENDS)
def test_a_call_of_a_plain_function_ends(name):
    attempts, outcome, count, seconds = ENDS[name]
    made = []

    @o.opero(o.Hedge(1, max_hedges=2))
    def f():
        number, takes, fails = next_of(attempts, made)
        clock.sleep(takes)
        if fails:
            raise OSError
        return number

    assert ended(f) == [outcome, pytest.approx(seconds)]
    assert len(made) == count


@pytest.mark.parametrize("name", ENDS)
def test_a_call_of_a_coroutine_function_ends(name):
    attempts, outcome, count, seconds = ENDS[name]
    made = []

    @o.opero(o.Hedge(1, max_hedges=2))
    async def f():
        number, takes, fails = next_of(attempts, made)
        await asyncio.sleep(takes)
        if fails:
            raise OSError
        return number

    assert ended(lambda: asyncio.run(f())) == [outcome, pytest.approx(seconds)]
    assert len(made) == count


def test_a_thread_that_lost_while_it_waited_calls_nothing_and_takes_nothing():
    limit, made = o.RateLimit(10, burst=1), []

    @o.opero(o.Hedge(0.02), limit, retries=0)
    def f():
        made.append(None)
        time.sleep(0.06)
        return len(made)

    assert f() == 1
    time.sleep(0.3)
    assert (len(made), f.opero.stats()["attempts"], limit.peek()) == (1, 1, (1, 0))


def test_a_thread_that_lost_retries_no_more():
    made, budget = [], o.RetryBudget(min_per_second=0, cap=3)

    @o.opero(
        o.Retry(5, wait=0.05, jitter="none", budget=budget), o.Hedge(0.02), order=["hedge", "retry", "retry_budget"]
    )
    def f():
        made.append(None)
        if len(made) == 2:
            return "hedge"
        time.sleep(0.05)
        raise OSError

    assert f() == "hedge"
    time.sleep(0.3)
    assert (len(made), f.opero.stats()["attempts"]) == (2, 2)
