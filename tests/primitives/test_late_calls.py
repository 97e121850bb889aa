"""What comes after its deadline is not begun, and is held against nobody."""

import asyncio
import pickle

import pytest

import opero as o
from garbage import ROUNDS, uncollected
from opero import testing
from opero.drivers import blocking
from shared_store import opened


def late(function, times=1):
    """Call it so often inside of a call whose deadline has passed; return the errors."""
    errors = []

    @o.opero(o.Timeout(1, how="cooperative"), name="page")
    def page():
        o.clock.sleep(2)
        for _ in range(times):
            with pytest.raises(o.ExecutionError) as raised:
                function()
            errors.append(raised.value)

    with pytest.raises(o.CallTimeout):
        page()
    return errors


def late_task(function, times=1):
    """Do the same with a coroutine function."""
    return late(lambda: asyncio.run(function()), times)


def test_its_error_is_in_no_circle():
    f = o.opero(retries=0)(lambda: None)

    @o.opero(o.Timeout(1, how="cooperative"), o.Fallback("late"))
    def page():
        o.clock.sleep(2)
        return f()

    with testing.clock(), uncollected() as circles:
        left = []
        for _ in ROUNDS:
            page()
            left.append(circles())
    assert 0 in left


def test_a_call_that_began_too_late_says_nothing_about_what_it_would_have_called(where):
    breaker, called = o.CircuitBreaker(consecutive=1, **where), []
    f = o.opero(breaker, o.Bulkhead(2, control="adaptive"))(lambda: called.append(None))
    seen = f.opero.operation.places["bulkhead"].seen
    for error in late(f, 3):
        assert type(error) is o.CallTimeout
        assert o.attempts(error) == ()
        assert "uncalled" not in vars(pickle.loads(pickle.dumps(error)))
    assert (breaker.state, f.opero.stats()["attempts"], called) == ("closed", 0, [])
    assert (seen.late, seen.other) == (0, 0)
    f()
    assert called == [None]


def test_nor_does_a_task(where):
    breaker = o.CircuitBreaker(consecutive=1, **where)

    @o.opero(breaker)
    async def f():
        raise NotImplementedError

    late_task(f, 2)
    assert (breaker.state, f.opero.stats()["attempts"]) == ("closed", 0)


def test_nor_does_a_generator_or_a_block():
    breaker = o.CircuitBreaker(consecutive=1)

    @o.opero(breaker)
    def f():
        yield 1

    @o.opero(breaker)
    async def g():
        yield 1

    async def first():
        return [item async for item in g()]

    def block():
        with breaker:
            raise NotImplementedError

    with testing.clock():
        late(lambda: list(f()))
        late_task(first)
        late(block)
    assert breaker.state == "closed"


def test_one_that_its_own_deadline_ends_is_a_failure_and_so_is_one_whose_own_call_came_too_late():
    breaker = o.CircuitBreaker(consecutive=1)
    inner = o.opero(lambda: None)

    @o.opero(breaker)
    def f(again=True):
        o.clock.sleep(2)
        return f(False) if again else inner()

    @o.opero(o.Timeout(3, how="cooperative"))
    def page():
        f()

    with testing.clock(), pytest.raises(o.CallTimeout) as raised:
        page()
    assert (breaker.state, f.opero.stats()["attempts"]) == ("open", 2)
    assert "inner" not in str(raised.value)


def test_a_retry_that_was_paid_for_and_came_too_late_is_paid_back(where, monkeypatch):
    monkeypatch.setattr(blocking.Blocking, "pause", lambda self, seconds, flag=None: self.sleep(seconds + 9))
    budget = o.RetryBudget(**where)

    @o.opero(o.Retry(3, wait=1), budget)
    def f():
        raise ConnectionError

    @o.opero(o.Timeout(5, how="cooperative"))
    def page():
        f()

    before = budget.tokens.wait_for(200)
    with pytest.raises(o.CallTimeout) as raised:
        page()
    assert raised.value.operation.endswith("f")
    assert f.opero.stats()["attempts"] == 1
    if where:
        assert budget.shared._back == 1
    else:
        assert budget.tokens.wait_for(200) == before


def test_no_hedge_is_begun_after_the_deadline():
    called = []

    @o.opero(o.Hedge(0.2))
    def f():
        called.append(None)
        o.clock.sleep(0.5)

    @o.opero(o.Timeout(0.1, how="cooperative"))
    def page():
        f()

    with pytest.raises(o.CallTimeout):
        page()
    assert called == [None]
    assert f.opero.stats()["attempts"] == 1


def test_an_item_is_not_begun_after_the_deadline_of_its_generator():
    asked = []

    @o.opero(o.Timeout(1, how="cooperative"))
    def f():
        for item in range(3):
            asked.append(item)
            yield item

    with testing.clock():
        items = f()
        next(items)
        o.clock.sleep(0.6)
        next(items)
        o.clock.sleep(0.6)
        with pytest.raises(o.CallTimeout):
            next(items)
    assert asked == [0, 1]


def test_a_call_that_came_too_late_uses_up_no_quota(where):
    limit, called = o.RateLimit(2, per=1000, wait=False, **where), []
    f = o.opero(limit)(lambda: called.append(None))
    assert [type(error) for error in late(f, 3)] == [o.CallTimeout] * 3
    assert called == []
    f()
    f()
    with pytest.raises(o.RateLimitedError):
        f()
    stats = f.opero.stats()
    assert (stats["attempts"], stats["rejected"]) == (2, 1)


def stalled(limit, others, tasks, seconds):
    """Make calls at once, and let the loop stand still; return when those that went did, and the errors by kind."""
    went, errors, began = [], [], o.clock.now()

    @o.opero(limit, *others, retries=0)
    async def f():
        went.append(round(o.clock.now() - began, 3))

    async def one():
        try:
            await f()
        except o.ExecutionError as error:
            errors.append(error)
            assert o.clock.now() - began <= max(seconds + 0.06, 2) + 1e-6

    async def main():
        every = [asyncio.create_task(one()) for _ in range(tasks)]
        await asyncio.sleep(0.05)
        o.clock.sleep(seconds)
        await asyncio.gather(*every)

    asyncio.run(main())
    return went, errors, f


def test_nobody_waits_for_the_quota_longer_than_it_may_though_the_line_moves_on(where):
    limit = o.RateLimit(10, burst=1, wait=0.25, **where)
    went, errors, f = stalled(limit, (), 3, 1)
    assert went == [0]
    assert [(type(error), error.reason) for error in errors] == [(o.RateLimitedError, "rate_limited")] * 2
    asyncio.run(f())  # and nothing is used up
    assert went == [0, 1.05]


def test_nor_past_its_deadline(where):
    went, errors, f = stalled(o.RateLimit(10, burst=1, **where), (o.Timeout(2),), 19, 1.5)
    assert max(went) <= 2
    assert len(went) + len(errors) == 19
    assert len(went) >= 5
    assert {type(error) for error in errors} <= {o.RateLimitedError, o.CallTimeout}
    assert {getattr(error, "reason", "deadline") for error in errors} == {"deadline"}
    assert f.opero.stats()["attempts"] == len(went)


def test_one_whose_deadline_passes_while_the_loop_stands_still_is_not_begun(where):
    went, errors, f = stalled(o.RateLimit(10, burst=1, **where), (o.Timeout(1),), 2, 1.5)
    assert went == [0]
    assert [type(error) for error in errors] == [o.CallTimeout]
    assert f.opero.stats()["attempts"] == 1


def test_a_place_that_is_gone_is_booked_anew_within_what_is_left_of_the_wait():
    with opened() as store:
        limit = o.RateLimit(1, burst=1, wait=4, store=store, name="it")
        went, errors, _ = stalled(limit, (), 4, 2.5)
        assert all(each <= 4.05 for each in went)
        assert len(went) + len(errors) == 4


def test_a_circuit_around_the_retry_still_hears_of_what_failed_before_the_deadline():
    breaker, called = o.CircuitBreaker(consecutive=1), []

    @o.opero(
        breaker,
        o.Timeout(2, how="cooperative"),
        o.Retry(3, wait=lambda *_: 0, on=ConnectionError),
        order=["timeout", "circuit_breaker", "retry"],
    )
    def work():
        called.append(None)
        raise ConnectionError

    slow = o.events.subscribe(lambda _: o.clock.sleep(5), "opero.retry.scheduled")
    with testing.clock(), slow, pytest.raises(o.CallTimeout):
        work()
    assert (len(called), breaker.state) == (1, "open")
