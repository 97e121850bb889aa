"""A decorated function that calls itself until no frame is left: what its calls held is given back."""

import asyncio
import sys
import threading

import pytest

import opero as o
from together import wait_for

POLICIES = {
    "alone": {"retries": 0},
    "retry": {"retries": 1, "min_delay": 0},
    "bulkhead": {"retries": 0, "bulkhead": 10**6},
    "all": {"retries": 1, "min_delay": 0, "bulkhead": 10**6, "rate_limit": 1e9},
}


@pytest.fixture(params=[False, True], ids=["plain", "async"])
def deep(request):
    """Return what decorates a function that calls itself for ever, and makes one call of it."""

    def made(**settings):
        @o.opero(**settings)
        def plain():
            return plain()

        @o.opero(**settings)
        async def coroutine():
            return await coroutine()

        if request.param:
            return coroutine, lambda: asyncio.run(coroutine())
        return plain, plain

    return made


@pytest.mark.parametrize("settings", POLICIES.values(), ids=POLICIES)
def test_no_call_stays_active_and_no_slot_taken(deep, settings):
    function, call = deep(**settings)
    for _ in range(5):
        with pytest.raises(RecursionError):
            call()
    stats, bulkhead = function.opero.stats(), function.opero.operation.places.get("bulkhead")
    assert stats["active"] == 0
    assert stats["calls"] == stats["errors"] > 0  # those at the very bottom count as not made
    assert bulkhead is None or (bulkhead.slots.used, len(bulkhead.slots.queue)) == (0, 0)


def test_a_function_that_overflows_by_itself_is_retried_like_any_other():
    def overflow():
        return overflow()

    @o.opero(retries=2, min_delay=0)
    def f():
        overflow()

    with pytest.raises(RecursionError) as caught:
        f()
    assert len(o.attempts(caught.value)) == 3


@pytest.mark.parametrize("left", range(60, 20, -4))  # frames that the general path has; somewhere they are too few
def test_who_waits_for_the_slot_of_a_call_that_overflows_gets_it(left):
    bulkhead, queued, answers = o.Bulkhead(1, max_queue=1), threading.Event(), []

    @o.opero(bulkhead)
    def f(overflow=False):
        if overflow:
            queued.set()
            wait_for(lambda: bulkhead.slots.queue)
            deeper()
        return "answer"

    def deeper():
        return deeper() + 1

    def from_deep(levels):
        return f(overflow=True) if levels == 0 else from_deep(levels - 1)

    f()  # and from now on by the fast path
    waiting = threading.Thread(target=lambda: queued.wait(30) and answers.append(f()))
    waiting.start()
    with pytest.raises(RecursionError):
        from_deep(sys.getrecursionlimit() - depth() - left)
    queued.set()
    waiting.join(30)
    assert (answers, bulkhead.slots.used, f.opero.stats()["active"]) == (["answer"], 0, 0)


def depth():
    frame, count = sys._getframe(), 0
    while frame is not None:
        frame, count = frame.f_back, count + 1
    return count
