"""A decorated function that calls itself until no frame is left: what its calls held is given back."""

import asyncio

import pytest

import opero as o

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
