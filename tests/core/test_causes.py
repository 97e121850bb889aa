"""A refusal that ends a call shows what the function failed of before, as its cause."""

import asyncio
import copy
import pickle
import traceback
import weakref

import pytest
import trio

import opero as o
from garbage import uncollected
from opero import clock, conditions, databases, fused, testing

KINDS = pytest.mark.parametrize("kind", ["plain", "aio", "trio", "generator", "async generator"])


class Down(Exception):
    """What the function itself fails of."""


@pytest.fixture(autouse=True, params=[True, False], ids=["fast", "general"])
def speed(request, monkeypatch):
    monkeypatch.setattr(fused, "enabled", request.param)
    with testing.clock():
        yield


def made(kind, script, *policies):
    """Decorate a function of this kind that raises or sleeps as the script says; return what calls it in a loop."""
    steps = enumerate(script, 1)

    def play():
        number, step = next(steps)
        if step is Down:
            raise Down(number)
        return step

    def plain():
        clock.sleep(play())

    def generator():
        yield clock.sleep(play())

    async def task():
        await (trio if kind == "trio" else asyncio).sleep(play())

    async def stream():
        yield await asyncio.sleep(play())

    f = o.opero(*policies)({"plain": plain, "generator": generator, "async generator": stream}.get(kind, task))
    ways = {"plain": f, "generator": lambda: next(f()), "async generator": lambda: in_a_loop(lambda: anext(f()))}
    return ways.get(kind, lambda: in_a_loop(f, trio.run if kind == "trio" else runs))


def runs(function):
    asyncio.run(function())


def in_a_loop(function, run=runs):
    """Raise what it raises; an error that left a loop by itself would be kept by that in a circle."""
    caught = []

    async def call():
        try:
            await function()
        except Exception as error:
            caught.append(error)

    run(call)
    raise caught.pop()


def caught(f):
    try:
        f()
    except Exception as error:
        return error
    raise AssertionError("it raised nothing")


def again(**settings):
    return o.Retry(4, **{"wait": 1, "jitter": "none", **settings})


def total(seconds, kind):
    return o.Timeout(seconds, how="cooperative" if kind in {"plain", "generator"} else "thread")


@KINDS
def test_a_circuit_that_opens_between_two_attempts(kind):
    f = made(kind, [Down, Down], again(), o.CircuitBreaker(consecutive=2))
    error = caught(f)
    assert isinstance(error, o.CircuitOpenError)
    assert repr(error.__cause__) == "Down(2)"
    assert error.__cause__ is o.attempts(error)[-1].error
    refused = caught(f)
    assert isinstance(refused, o.CircuitOpenError)
    assert (refused.__cause__, refused.__context__) == (None, None)


@KINDS
def test_a_timeout_that_passes_in_a_later_attempt(kind):
    error = caught(made(kind, [Down, Down, 60], again(), total(10, kind)))
    assert isinstance(error, o.CallTimeout)
    assert repr(error.__cause__) == "Down(2)"
    assert caught(made(kind, [60], again(), total(10, kind))).__cause__ is None


@KINDS
def test_a_quota_and_slots_that_are_used_up_by_a_later_attempt(kind):
    error = caught(made(kind, [Down, Down], again(), o.RateLimit(2, per=60, wait=False)))
    assert isinstance(error, o.RateLimitedError)
    assert repr(error.__cause__) == "Down(2)"
    bulkhead = o.Bulkhead(1)
    error = caught(made(kind, [Down], again(wait=lambda *_: float(bulkhead.slots.take())), bulkhead))
    assert isinstance(error, o.BulkheadFullError)
    assert repr(error.__cause__) == "Down(1)"


@KINDS
def test_an_attempt_that_took_too_long_is_a_failure_like_any(kind):
    each = o.Timeout(attempt=5, how=total(5, kind).how)
    error = caught(made(kind, [Down, 60], again(stop=o.stops.attempts(2)), each))
    assert isinstance(error, o.CallTimeout)
    assert error.__cause__ is None
    error = caught(made(kind, [Down, 60], again(), each, o.CircuitBreaker(consecutive=2)))
    assert isinstance(error, o.CircuitOpenError)
    assert error.__cause__.scope == "attempt_timeout"


@KINDS
def test_no_circle_arises(kind):
    for policy in (o.CircuitBreaker(consecutive=2), total(3, kind)):
        with uncollected():
            error = caught(made(kind, [Down, Down, 60], again(), policy))
            kept = weakref.ref(error), weakref.ref(error.__cause__)
            del error
            assert [each() for each in kept] == [None, None]


def test_an_answer_that_fails_is_raised_upon_the_refusal_and_its_cause():
    def answer():
        raise KeyError("no answer either")

    error = caught(made("plain", [Down, Down], o.Fallback(answer), again(), o.CircuitBreaker(consecutive=2)))
    assert isinstance(error, KeyError)
    assert isinstance(error.__context__, o.CircuitOpenError)
    assert repr(error.__context__.__cause__) == "Down(2)"


def test_what_was_raised_from_none_stays_hidden():
    @o.opero(again(), o.CircuitBreaker(consecutive=1))
    def f():
        try:
            {}["missing"]
        except KeyError:
            raise Down from None

    error = caught(f)
    assert isinstance(error.__cause__, Down)
    assert "KeyError" not in "".join(traceback.format_exception(error))


def test_a_refusal_that_was_raised_from_none_gets_no_cause():
    bulkhead = o.Bulkhead(2)
    left = [True]

    @o.opero(o.Retry(1, wait=0, on=(Down, o.Rejected)), bulkhead)
    def f(depth=0):
        if left and depth == 0:
            left.clear()
            raise Down
        try:
            f(depth + 1)
        except o.BulkheadFullError as refused:
            raise refused from None

    error = caught(f)
    assert isinstance(error, o.BulkheadFullError)
    assert error.__cause__ is None


def test_who_asks_for_causes_is_told_nothing_of_what_came_before_a_refusal():
    error = caught(made("plain", [Down, ConnectionError()], again(), o.CircuitBreaker(consecutive=1)))
    assert isinstance(error.__cause__, Down)
    assert not conditions.cause(Down)(error)
    error.__cause__ = ConnectionError()
    assert databases.passes(error.__cause__)
    assert not databases.passes(error)


def test_an_open_circuit_shows_as_other_errors_do():
    f = o.opero(o.CircuitBreaker(name="payments"), name="shop.pay")(lambda: 1)
    f.opero.breaker.force_open()
    error = caught(f)
    text = "the circuit of payments is open"
    assert (str(error), error.args, repr(error)) == (text, (text,), f"CircuitOpenError({text!r})")
    for other in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert (str(other), other.args, repr(other)) == (text, (text,), repr(error))
        assert (other.circuit, other.operation, other.retry_after) == ("payments", "shop.pay", None)
    assert repr(o.CircuitOpenError("mine", retry_after=2)) == "CircuitOpenError('mine')"
