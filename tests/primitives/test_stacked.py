"""Decorators upon one another: both operations have one name, and each knows its own errors."""

import asyncio
import copy
import functools
import pickle
import time

import pytest

import opero as o
from opero import fused

SPEEDS = pytest.mark.parametrize("fast", [True, False], ids=["fast", "general"])
TAKES = {"thread": 2.0, "signal": 2.0, "cooperative": 0.06}  # seconds; only the last one runs to its end
WAYS = [("async", "thread"), ("sync", "thread"), ("sync", "signal"), ("sync", "cooperative")]


def stacked(kind, *decorators, takes=0.06):
    """Return a function under these, outermost first, that takes longer than they wait; and how to call it."""
    made = []
    if kind == "async":

        async def f():
            made.append(1)
            await asyncio.sleep(60)
    else:

        def f():
            made.append(1)
            time.sleep(takes)

    for decorator in reversed(decorators):
        f = decorator(f)
    return f, (lambda: asyncio.run(f())) if kind == "async" else f, made


@SPEEDS
@pytest.mark.parametrize(("kind", "how"), WAYS)
@pytest.mark.parametrize("outer", [(), (o.Timeout(60),)], ids=["alone", "timed"])
def test_a_retry_around_a_timed_function_tries_again(kind, how, outer, fast, monkeypatch):
    monkeypatch.setattr(fused, "enabled", fast)
    f, call, made = stacked(kind, o.opero(o.Retry(2, wait=0), *outer), o.Timeout(0.05, how=how), takes=TAKES[how])
    with pytest.raises(o.CallTimeout):
        call()
    assert made  # on a busy machine the time of an attempt may be over before it has begun
    inner, around = f.__wrapped__.opero.stats(), f.opero.stats()
    assert (inner["calls"], inner["timeouts"]) == (3, 3)
    assert (around["attempts"], around["retries"], around["timeouts"]) == (3, 2, 0)


@SPEEDS
@pytest.mark.parametrize(("kind", "how"), WAYS)
def test_what_counts_as_a_timeout_is_the_operations_own(kind, how, fast, monkeypatch):
    monkeypatch.setattr(fused, "enabled", fast)
    f, call, _ = stacked(kind, o.Retry(2, wait=0), o.opero(o.Timeout(0.05, how=how)), takes=TAKES[how])
    with pytest.raises(o.CallTimeout):
        call()
    assert outcomes(f) == {"error": 1}
    assert outcomes(f.__wrapped__) == {"timeout": 3}


@SPEEDS
def test_what_counts_as_rejected_is_the_operations_own(fast, monkeypatch):
    monkeypatch.setattr(fused, "enabled", fast)

    @o.Retry(2, wait=0, on=o.Rejected)
    @o.CircuitBreaker()
    def f():
        raise AssertionError

    f.__wrapped__.opero.breaker.force_open()
    with pytest.raises(o.CircuitOpenError):
        f()
    assert (outcomes(f), outcomes(f.__wrapped__)) == ({"error": 1}, {"rejected": 3})


def test_their_errors_pickle_and_are_copied():
    _, call, _ = stacked("sync", o.Retry(0), o.Timeout(0.01, how="cooperative"))

    @o.Bulkhead(1)
    def full():
        full()

    for fails in (call, full):
        with pytest.raises(o.ExecutionError) as caught:
            fails()
        for twin in (pickle.loads(pickle.dumps(caught.value)), copy.copy(caught.value)):
            assert (type(twin), str(twin), twin.operation) == (
                type(caught.value),
                str(caught.value),
                caught.value.operation,
            )


def outcomes(f):
    """Return how many calls ended how."""
    from opero.call import DURATION

    found = {}
    for (name, attributes), counts in f.opero.operation.book.read()[1].items():
        if name == DURATION.name and sum(counts[:-1]):
            found[attributes[0]] = found.get(attributes[0], 0) + int(sum(counts[:-1]))
    return found


def test_the_handle_finds_the_breaker_of_a_decorator_further_in():
    @o.Bulkhead(3)
    @o.Retry(0)
    @o.CircuitBreaker()
    def f(): ...

    f.opero.breaker.force_open()
    with pytest.raises(o.CircuitOpenError):
        f()
    with pytest.raises(o.ConfigurationError, match="circuit_breaker=True"):
        _ = o.Bulkhead(3)(o.Retry(0)(len)).opero.breaker


def test_a_retry_that_was_cancelled_in_its_wait_was_decided_on():
    @o.Retry(2, wait=60, jitter="none")
    async def f():
        raise OSError

    async def main():
        async with asyncio.timeout(0.01):
            await f()

    with pytest.raises(TimeoutError):
        asyncio.run(main())
    counted = f.opero.stats()
    assert (counted["retries"], counted["attempts"], counted["cancelled"]) == (1, 1, 1)


def itself(f):
    return f


def wrapped(f):
    @functools.wraps(f)
    def g(*args):
        return f(*args)

    return g


@pytest.mark.parametrize("between", [itself, wrapped, functools.partial])
def test_the_handle_finds_the_cache_of_a_decorator_further_in(between):
    f = o.Retry(2, wait=0)(between(o.opero(o.Timeout(9))(o.Cache(60)(lambda x: 2 * x))))
    assert f(3) == 6
    assert (f.opero.cache.get(3), f.opero.cache.stats()["hits"]) == (6, 0)
    f.opero.cache.invalidate(3)
    assert not f.opero.cache.contains(3)
    with pytest.raises(o.ConfigurationError, match="cache_ttl=60"):
        _ = o.Retry(2)(o.Timeout(9)(len)).opero.cache


def test_the_handle_finds_the_controllers_of_decorators_further_in():
    inner = o.opero(o.Bulkhead(5, control="adaptive"))(lambda: 1)
    budgeted = o.opero(o.Retry(2), o.RetryBudget(control="adaptive"))(inner)
    outer = o.opero(o.Timeout(9))(budgeted)
    assert outer.opero.controllers["bulkhead.limit"] is inner.opero.controllers["bulkhead.limit"]
    assert len(outer.opero.controllers) == 3
    outer.opero.controllers.freeze()
    assert all(each.frozen for handle in (inner, budgeted) for each in handle.opero.controllers)
    own = o.opero(o.Bulkhead(7, control="adaptive"))(outer)
    assert own.opero.controllers["bulkhead.limit"] is not inner.opero.controllers["bulkhead.limit"]
    assert not len(o.Retry(2)(o.Timeout(9)(len)).opero.controllers)
