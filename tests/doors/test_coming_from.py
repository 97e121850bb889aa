"""What users of other libraries reported for years does not happen here: the failures named in docs/coming-from.md."""

import asyncio
import threading

import pytest

import opero as o
from opero import clock, conditions, stops, testing, waits
from together import together


def failing(times):
    """Return a function that fails so often, and then returns how often it was called."""
    calls = []

    def f():
        calls.append(1)
        if len(calls) <= times:
            raise OSError(len(calls))
        return len(calls)

    return f


def test_one_retry_serves_loops_of_threads_and_tasks_at_once():
    retry, seen = o.Retry(2, wait=0.001), []

    def loop():
        numbers, f = [], failing(2)
        for attempt in retry:
            with attempt:
                numbers.append(attempt.number)
                f()
        seen.append(numbers)

    async def loop_async():
        numbers, f = [], failing(2)
        async for attempt in retry:
            with attempt:
                numbers.append(attempt.number)
                await asyncio.sleep(0.001)
                f()
        seen.append(numbers)

    async def main():
        await asyncio.gather(*(loop_async() for _ in range(20)))

    together(*[loop] * 8, lambda: asyncio.run(main()))
    assert seen == [[1, 2, 3]] * 28


def test_a_generator_is_retried_until_its_first_item():
    f = failing(2)

    @o.Retry(2, wait=0)
    def items():
        yield f()

    g = failing(2)

    @o.Retry(2, wait=0)
    async def later():
        yield g()

    async def main():
        return [item async for item in later()]

    assert list(items()) == asyncio.run(main()) == [3]


def test_the_time_of_the_first_attempt_counts():
    made = []

    @o.Retry(None, stop=stops.elapsed(2), wait=0)
    def slow():
        made.append(1)
        clock.sleep(5)
        raise OSError

    with testing.clock(), pytest.raises(OSError):
        slow()
    assert len(made) == 1


@pytest.mark.parametrize("wait", [waits.exponential, waits.fibonacci, waits.linear, waits.decorrelated_jitter])
def test_no_wait_overflows(wait):
    for n in (1_000, 10**6):
        assert 0.1 <= wait(0.1, 30).delay(n, 30.0, None) <= 30


def test_a_condition_that_is_none_is_refused_where_it_is_written():
    either = conditions.types(OSError) | KeyError
    assert o.Retry(on=either).matches(KeyError())
    for wrong in ((either,), "OSError", [KeyError, either]):
        with pytest.raises(o.ConfigurationError, match="on takes an exception type"):
            o.Retry(on=wrong)


def test_a_class_of_errors_has_a_limit_and_a_wait_of_its_own():
    own = {KeyError: o.Strategy(limit=2, wait=waits.constant(10))}
    errors, at = [KeyError(), OSError(), KeyError(), OSError(), KeyError("third")], []

    @o.Retry(9, wait=1, jitter="none", strategies=own)
    def f():
        at.append(clock.now())
        raise errors.pop(0)

    with testing.clock(start=0), pytest.raises(KeyError, match="third"):
        f()
    assert at == [0, 10, 11, 21, 22]


def test_calls_through_a_breaker_do_not_wait_for_one_another():
    both = threading.Barrier(2)

    @o.CircuitBreaker(consecutive=3)
    def f():
        both.wait(10)

    together(f, f)


def test_a_circuit_closes_after_as_many_successes_as_are_asked_for():
    states = []

    @o.CircuitBreaker(consecutive=1, half_open_probes=3, reset_after=5)
    def f(works):
        if not works:
            raise OSError

    with testing.clock() as time:
        with pytest.raises(OSError):
            f(False)
        time.advance(5)
        for _ in range(3):
            f(True)
            states.append(f.opero.breaker.state)
    assert states == ["half_open", "half_open", "closed"]


def test_a_circuit_in_a_store_is_asked_for_its_name():
    with pytest.raises(o.ConfigurationError, match="name"):
        o.CircuitBreaker(store="redis://127.0.0.1:1")


@pytest.mark.parametrize(("limit", "most"), [(o.RateLimit("5/min", burst=5), 10), (o.RateLimit("5/min", burst=1), 6)])
def test_no_minute_has_more_than_the_rate_and_the_burst(limit, most):
    at = []
    with testing.clock(start=0):
        for _ in range(30):
            with limit:
                at.append(clock.now())
    assert max(sum(begin <= each <= begin + 60 for each in at) for begin in at) == most


def test_who_would_wait_longer_is_refused_at_once():
    @o.RateLimit("1/min", wait=30)
    def f():
        return clock.now()

    with testing.clock(start=0):
        assert f() == 0
        with pytest.raises(o.RateLimitedError) as refused:
            f()
        assert (clock.now(), refused.value.retry_after) == (0, 60)


def test_a_limiter_outlives_the_loops_that_wait_for_it():
    f = o.RateLimit("20/s", burst=1)(asyncio.sleep)

    async def main():
        waiting = [asyncio.create_task(f(0)) for _ in range(20)]
        await waiting[0]  # the loop ends, and the others with it

    for _ in range(3):
        asyncio.run(main())


def test_many_keys_take_no_threads_and_tasks_at_once_no_more_than_there_is():
    before = threading.active_count()

    @o.RateLimit("4/day", key="tenant", wait=False)
    async def hit(tenant):
        await asyncio.sleep(0)

    async def main():
        return await asyncio.gather(*(hit(n % 100) for n in range(1_000)), return_exceptions=True)

    assert sum(answer is None for answer in asyncio.run(main())) == 400
    assert threading.active_count() <= before
