"""A real exception's traceback and memory do not pile up; what a call made is gone when it is over."""

import asyncio
import gc
import threading
import tracemalloc
import weakref

import pytest

import opero as o
from opero import testing

FAST = {"min_delay": 0, "max_delay": 0}


def failing_retries():
    @o.opero(retries=2, retry_budget=0.1, **FAST)
    def f():
        raise ConnectionError("down")

    def once():
        try:
            f()
        except ConnectionError as error:
            o.attempts(error)

    return once


def nested_retries():
    @o.opero(retries=2, **FAST)
    def inner():
        raise ConnectionError("down")

    @o.opero(retries=2, fallback=0, **FAST)
    def outer():
        try:
            inner()
        except ConnectionError as error:
            raise RuntimeError("wrapped") from error

    return outer


def key_ring():
    class Refused(Exception):
        status = 429

    @o.opero(o.ArgFallback("key", alternatives=["a", "b"], cooldown=1), o.Fallback(0), o.Retry(1, wait=0))
    def f(key=""):
        raise Refused

    return f


def loops():
    def once():
        for attempt in o.Retry(2, wait=0, on=ConnectionError):
            with attempt:
                if attempt.number == 1:
                    raise ConnectionError
                return

    return once


def generators():
    failures = iter(lambda: ConnectionError("down"), None)

    @o.opero(retries=2, fallback=[1, 2], **FAST)
    def f():
        raise next(failures)
        yield

    def once():
        for _ in f():
            break

    return once


def in_tasks():
    @o.opero(hedge=0, retries=1, fallback=0, **FAST)
    async def f():
        await asyncio.sleep(0)
        raise ConnectionError("down")

    async def some():
        for _ in range(10):
            await f()

    return lambda: asyncio.run(some())


@pytest.mark.parametrize("make", [failing_retries, nested_retries, key_ring, loops, generators, in_tasks])
def test_memory_does_not_grow_with_calls(make):
    once = make()
    times = 20 if make is in_tasks else 200

    def used():
        for _ in range(times):
            once()
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        used()
        before = used()
        assert used() + used() - 2 * before < 60_000  # bytes, for two more rounds
    finally:
        tracemalloc.stop()


@pytest.mark.limit_leaks("150 KB")  # at one place in the code; an error kept for each call is more than 1 KB each
@pytest.mark.parametrize("calls", [1_000, pytest.param(100_000, marks=[pytest.mark.soak, pytest.mark.timeout(900)])])
@pytest.mark.parametrize(
    "policies",
    [
        (o.Retry(1, wait=0, budget=o.RetryBudget()),),
        (o.CircuitBreaker(calls=100, failure_ratio=1.0, reset_after=0.001, half_open_probes=1),),
        (o.Fallback(0), o.Retry(1, wait=0)),
    ],
    ids=["retries and their history", "circuit", "fallback"],
)
def test_failing_calls_leave_nothing(policies, calls):
    @o.opero(*policies)
    def f():
        raise ConnectionError("down")

    for _ in range(calls):
        try:
            f()
        except (ConnectionError, o.CircuitOpenError) as error:
            o.attempts(error)


def test_hedged_threads_are_reused():
    f = o.opero(hedge=5)(lambda: 1)
    f()
    before = threading.active_count()
    for _ in range(100):
        f()
    assert threading.active_count() <= before + 1


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("retries", [None, 999])
def test_a_call_that_goes_on_and_on_keeps_its_last_attempts(is_async, retries):
    class Down(Exception):
        def __init__(self):
            raised.add(self)
            kept.append(len(raised))

    raised, kept = weakref.WeakSet(), []

    def f():
        raise Down

    async def g():
        f()

    retry = o.Retry(retries, wait=0, jitter="none", stop=o.stops.attempts(1000) if retries is None else None)
    made = o.opero(retry, name=f"long {is_async} {retries}")(g if is_async else f)
    with testing.capture("opero.call.finished") as seen, pytest.raises(Down) as caught:
        asyncio.run(made()) if is_async else made()
    assert [event["fields"]["attempts"] for event in seen.events] == [1000]
    told = o.attempts(caught.value)
    assert [each.number for each in told] == list(range(901, 1001))
    assert [each.error for each in told].count(caught.value) == 1
    assert max(kept) <= 101
    assert caught.value.__notes__[0].startswith("opero: 1000 attempts in ")
