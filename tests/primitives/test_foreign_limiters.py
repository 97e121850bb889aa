"""Limiters that are not ours: those of aiolimiter, and whatever has `acquire`."""

import asyncio
import inspect
import math
import threading
from contextlib import nullcontext

import pytest
from aiolimiter import AsyncLimiter

import opero as o
from opero import limiters, testing


def test_a_limiter_of_aiolimiter_works_as_it_is():
    limiter = AsyncLimiter(2, 10)

    @o.opero(retries=0, rate_limit=limiter)
    async def f():
        return 1

    @o.opero(o.RateLimit(limiter, wait=False))
    async def refused():
        return 1

    async def main():
        started = time.now()
        assert [await f() for _ in range(3)] == [1, 1, 1]
        with pytest.raises(o.RateLimitedError):
            await refused()
        return time.now() - started

    with testing.clock() as time:
        assert asyncio.run(main()) == pytest.approx(5)
    with pytest.raises(o.ConfigurationError, match="an AsyncLimiter waits for coroutine functions only"):
        o.opero(rate_limit=limiter)(len)


def test_a_limiter_of_aiolimiter_is_waited_for_no_longer_than_patience_says():
    async def third(**settings):
        """Let two calls go, and return what becomes of a third, and when."""

        @o.opero(o.RateLimit(AsyncLimiter(2, 10), **settings))
        async def f():
            return 1

        await f()
        await f()
        started = time.now()
        try:
            answer = await f()
        except o.RateLimitedError as error:
            answer = error.retry_after
        waits = f.opero.operation.book.read()[1]["opero.rate_limiter.wait.duration", ("",)]
        return answer, round(time.now() - started, 6), round(waits[-1], 6)

    with testing.clock() as time:
        assert asyncio.run(third(wait=5)) == (1, 5, 5)
        assert asyncio.run(third(wait=4)) == (5, 0, 0)

    @o.opero(o.RateLimit(AsyncLimiter(2, 10), wait=False, weight=2))
    async def heavy():
        return 1

    async def main():
        await heavy()
        with pytest.raises(o.RateLimitedError) as refused:
            await heavy()
        return refused.value.retry_after

    with testing.clock():
        assert asyncio.run(main()) == 10


@pytest.mark.parametrize("hurried", [False, True])
def test_a_limiter_of_aiolimiter_is_waited_for_no_longer_than_it_takes(hurried):
    f, ended = o.opero(o.RateLimit(AsyncLimiter(2, 10)))(coroutine), []

    async def main():
        await f()
        await f()
        await asyncio.sleep(3)
        other = asyncio.create_task(another())
        await f()
        ended.append("f")
        await other
        return time.elapsed()

    async def another():
        ended.append("another")

    with testing.clock() as time, testing.no_waits() if hurried else nullcontext():
        assert asyncio.run(main()) == pytest.approx(3 if hurried else 5)
    waits = f.opero.operation.book.read()[1]["opero.rate_limiter.wait.duration", ("",)]
    assert (ended, waits[-1]) == (["another", "f"], pytest.approx(0 if hurried else 2))


async def coroutine():
    return 1


def limiter(answer, *, suspends=True):
    """Return a limiter that answers so."""

    async def acquire(self, call, key, weight, patience):
        return answer

    def at_once(self, call, key, weight, patience):
        return answer

    return type("Mine", (), {"acquire": acquire if suspends else at_once, "__repr__": lambda _: "<mine>"})()


@pytest.mark.parametrize("answer", [None, True, "1", -1, math.nan, math.inf])
def test_a_limiter_of_ones_own_that_does_not_return_seconds_is_named(answer):
    f = o.opero(o.RateLimit(limiter(answer)), retries=0)(lambda: 1)
    with pytest.raises(o.ConfigurationError) as caught:
        f()
    wanted = "`async def acquire(self, call, key, weight, patience)` returns how many seconds it waited"
    assert str(caught.value) == f"rate=<mine>: rate takes a limiter whose {wanted}; this one returned {answer!r}"


def test_so_is_one_that_is_not_to_be_awaited():
    f = o.opero(o.RateLimit(limiter(0.5, suspends=False)), retries=0)(lambda: 1)
    with pytest.raises(o.ConfigurationError, match=r"this one returned 0\.5 without `async`"):
        f()


@pytest.mark.parametrize("foreign", [threading.Semaphore, asyncio.Lock])
def test_what_is_acquired_by_other_arguments_is_refused_where_it_is_given(foreign):
    with pytest.raises(o.ConfigurationError, match=r"limiter whose `async def acquire\(self, call.*this one takes \("):
        o.RateLimit(foreign())


def test_the_protocol_can_be_imported_by_who_writes_a_limiter():
    class Mine(limiters.RateLimiter):
        pass

    assert list(inspect.signature(Mine().acquire).parameters) == ["call", "key", "weight", "patience"]


def test_a_limiter_of_ones_own_is_asked_with_key_weight_and_patience():
    asked = []

    class Mine:
        async def acquire(self, call, key, weight, patience):
            asked.append((call.operation.name, key, weight, patience))
            if weight > 2:
                raise o.RateLimitedError("mine", retry_after=7)
            await call.runtime.sleep(0)
            return 0.0

    @o.opero(o.RateLimit(Mine(), wait=3, key="tenant", weight=lambda items, tenant: len(items)), name="f")
    def f(items, tenant):
        return items

    assert f([1], "a") == [1]
    with pytest.raises(o.RateLimitedError) as caught:
        f([1, 2, 3], tenant="b")
    assert (caught.value.retry_after, caught.value.reason, caught.value.operation) == (7, "rate_limited", "f")
    assert caught.value.primitive == "rate_limiter"
    assert asked == [("f", "a", 1, 3), ("f", "b", 3, 3)]
    assert f.opero.stats()["rejected"] == 1
