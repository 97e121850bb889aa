"""What a function says by `DoNotRetry` and `RetryNow` is for the retry; all others see the error itself."""

import asyncio
import gc
import weakref
from datetime import timedelta
from itertools import pairwise

import pytest
import trio

import opero as o
from opero import CircuitBreaker, events, fused, testing
from opero.circuit import CLOSED, OPEN

BOTH = pytest.mark.parametrize("word", [o.DoNotRetry, o.RetryNow])
SPEEDS = pytest.mark.parametrize("fast", [True, False], ids=["fast", "general"])
DRIVERS = pytest.mark.parametrize("driver", ["blocking", "aio", "trio"])


class Denied(Exception):
    """It is the caller's fault."""


class Answered(Exception):
    def __init__(self, status):
        super().__init__(status)
        self.status_code = status


def made(outcome, driver, *policies, **settings):
    """Return a function that ends so, decorated, to be called without awaiting."""

    def end(*_):
        raise outcome() if callable(outcome) else outcome

    async def end_async(*_):
        end()

    f = o.opero(*policies, **settings)(end if driver == "blocking" else end_async)
    if driver == "trio":
        return f, lambda *args: trio.run(f, *args)
    return f, f if driver == "blocking" else lambda *args: asyncio.run(f(*args))


def outcome(call, *args):
    try:
        return call(*args)
    except Exception as error:
        return error


@BOTH
@SPEEDS
@DRIVERS
@pytest.mark.parametrize("settings", [{"retries": 0}, {"circuit_breaker": True}, {"timeout": 5}, {"hedge": 5.0}, {}])
def test_the_caller_gets_the_users_error_whatever_the_policies(word, fast, driver, settings, monkeypatch):
    monkeypatch.setattr(fused, "enabled", fast)
    mine = Denied("mine")
    f, call = (
        made(word(mine), driver, **settings, min_delay=0.001) if not settings else made(word(mine), driver, **settings)
    )
    assert outcome(call) is mine
    assert [attempt.error for attempt in o.attempts(mine)][-1] is mine
    assert f.opero.stats()["errors"] == 1


@BOTH
@SPEEDS
def test_a_breaker_judges_the_users_error(word, fast, monkeypatch):
    monkeypatch.setattr(fused, "enabled", fast)
    for judged, state in (({"ignore": Denied}, CLOSED), ({"on": OSError}, CLOSED), ({"on": Denied}, OPEN)):
        breaker = CircuitBreaker(min_calls=1, **judged)
        _, call = made(lambda: word(Denied()), "blocking", breaker)
        assert isinstance(outcome(call), Denied)
        assert breaker.state == state


@BOTH
@SPEEDS
def test_a_fallback_and_its_classes_judge_the_users_error(word, fast, monkeypatch):
    monkeypatch.setattr(fused, "enabled", fast)
    policy = o.Fallback("other", by={Denied: "denied"}, on=OSError)
    assert made(word(Denied()), "blocking", policy)[1]() == "denied"
    assert made(word(OSError()), "blocking", policy)[1]() == "other"
    mine = KeyError()
    assert outcome(made(word(mine), "blocking", policy)[1]) is mine


@BOTH
def test_a_key_ring_and_a_table_of_strategies_judge_the_users_error(word):
    ring = o.ArgFallback("key", alternatives=["a", "b"], cooldown=30)
    tried = []

    @o.opero(ring)
    def f(key=None):
        tried.append(key)
        raise word(Answered(429))

    with testing.clock():
        assert isinstance(outcome(f), o.AllFailedError)
    assert tried == ["a", "b"]
    retry = o.Retry(2, wait=0, strategies={Denied: "fallback"}, on=OSError)
    assert made(word(Denied()), "blocking", retry, o.Fallback("theirs", on=OSError))[1]() == "theirs"


def test_limits_hold_for_what_the_function_wants_retried():
    times = []

    def again():
        times.append(o.clock.now())
        return o.RetryNow(Denied(len(times)), after=3)

    with testing.clock():
        f, call = made(again, "blocking", o.Retry(5, on=OSError, strategies={Denied: o.Strategy("retry", limit=2)}))
        assert outcome(call).args == (3,)
    assert [later - sooner for sooner, later in pairwise(times)] == [3, 3]
    assert f.opero.stats()["retries"] == 2


@SPEEDS
def test_what_must_not_be_retried_inside_is_not_retried_outside(fast, monkeypatch):
    monkeypatch.setattr(fused, "enabled", fast)
    made_calls, heard = [], []
    for inner in ({"retries": 0}, {"circuit_breaker": True}, {"retries": 3, "min_delay": 0}):
        made_calls.clear()

        @o.opero(**inner, name="inner")
        def f():
            made_calls.append(1)
            raise o.DoNotRetry(Denied())

        @o.opero(retries=2, min_delay=0, name="outer")
        def g(f=f):
            f()

        with events.subscribe(heard.append, "opero.retry.nested"):
            assert isinstance(outcome(g), Denied)
        assert len(made_calls) == 1
    assert {(event.operation, event.fields["inner"]) for event in heard} == {("outer", "inner")}
    assert len(heard) == 3


def test_one_error_object_is_not_refused_for_what_was_said_of_it_once():
    same, left = Denied(), 0

    @o.opero(retries=1, min_delay=0)
    def f():
        nonlocal left
        left += 1
        if left == 1:
            raise o.DoNotRetry(same)
        raise same

    assert outcome(f) is same
    assert left == 1
    assert outcome(f) is same
    assert left == 3


def test_what_was_said_of_an_error_object_holds_for_that_attempt():
    same = Denied()
    left = [o.RetryNow(same), same, 7]

    @o.opero(retries=3, min_delay=0, retry_on=OSError)
    def f():
        raise left.pop(0)

    assert outcome(f) is same
    assert left == [7]


def test_the_chain_of_the_users_error_is_as_it_was():
    cause, mine = KeyError("cause"), Denied("mine")
    mine.__cause__ = cause
    assert outcome(made(o.DoNotRetry(mine), "blocking", retries=0)[1]).__cause__ is cause
    assert mine.__context__ is None


def test_blocks_and_generators_say_it_too():
    mine = Denied()
    with pytest.raises(Denied) as caught, CircuitBreaker(ignore=Denied):
        raise o.DoNotRetry(mine)
    assert caught.value is mine

    @o.opero(circuit_breaker=True)
    def numbers():
        yield 1
        raise o.RetryNow(mine)

    items = numbers()
    assert next(items) == 1
    with pytest.raises(Denied) as caught:
        next(items)
    assert caught.value is mine


def test_an_error_that_no_coroutine_may_raise_is_handed_on_where_that_is_possible():
    mine = StopIteration("mine")
    assert outcome(made(o.DoNotRetry(mine), "blocking", circuit_breaker=True)[1]) is mine
    said = o.DoNotRetry(StopIteration())
    assert outcome(made(said, "aio", retries=1)[1]) is said


def test_nothing_is_kept_of_it():
    @o.opero(circuit_breaker=True)
    def f():
        big = Big()
        seen.append(weakref.ref(big))
        raise o.DoNotRetry(Denied())

    class Big:
        pass

    seen = []
    gc.collect()
    gc.disable()
    try:
        for _ in range(5):
            outcome(f)
        assert [each() for each in seen] == [None] * 5
    finally:
        gc.enable()


def test_a_call_that_is_told_to_go_on_and_on_keeps_its_last_errors():
    seen, most = weakref.WeakSet(), 0

    @o.opero(retries=999, min_delay=0)
    def f():
        nonlocal most
        most = max(most, len(seen))
        error = Denied()
        seen.add(error)
        try:
            raise o.RetryNow(error)
        finally:
            del error

    assert isinstance(outcome(f), Denied)
    assert most <= 110


@SPEEDS
@pytest.mark.parametrize("driver", ["blocking", "aio"])
def test_do_not_retry_takes_a_text_or_a_class(fast, driver, monkeypatch):
    monkeypatch.setattr(fused, "enabled", fast)
    for given, kind, text in [("bad input", o.DoNotRetry, "bad input"), (Denied, Denied, "")]:
        f, call = made(lambda given=given: o.DoNotRetry(given), driver, o.Retry(2, wait=0))
        error = outcome(call)
        assert (type(error), str(error), f.opero.stats()["attempts"]) == (kind, text, 1)


@SPEEDS
def test_retry_now_takes_a_text_or_a_class(fast, monkeypatch):
    monkeypatch.setattr(fused, "enabled", fast)
    for given, kind, text in [("busy", o.RetryNow, "busy"), (Denied, Denied, "")]:
        f, call = made(lambda given=given: o.RetryNow(given), "blocking", o.Retry(2, on=KeyError))
        error = outcome(call)
        assert (type(error), str(error), f.opero.stats()["attempts"]) == (kind, text, 3)


@BOTH
@pytest.mark.parametrize("wrong", [5, KeyboardInterrupt(), KeyboardInterrupt, int, ["bad"]])
def test_they_take_nothing_else(word, wrong):
    with pytest.raises(o.ConfigurationError, match="error takes an exception, a class of exceptions, or a text"):
        word(wrong)


@pytest.mark.parametrize(
    ("after", "seconds"),
    [(5, 5.0), ("7", 7.0), (timedelta(minutes=1), 60.0), ("Sun, 06 Nov 1994 08:49:37 GMT", 0.0)],
)
def test_retry_now_waits_as_long_as_it_says(after, seconds):
    calls = []

    @o.opero(o.Retry(1, wait=100))
    def f():
        calls.append(virtual.now())
        raise o.RetryNow(Denied, after=after)

    with testing.clock() as virtual, pytest.raises(Denied):
        f()
    assert calls[1] - calls[0] == seconds


@pytest.mark.parametrize("after", [float("nan"), float("inf"), -1, "soon", None, True, timedelta(seconds=-1)])
def test_retry_now_refuses_what_is_no_pause_and_keeps_the_users_error(after):
    mine = Denied("mine")
    with pytest.raises(o.ConfigurationError, match="after takes seconds") as caught:
        o.RetryNow(mine, after=after)
    assert caught.value.__cause__ is mine


@BOTH
@SPEEDS
@DRIVERS
@pytest.mark.parametrize("how", ["from", "handled"])
def test_a_word_that_names_no_error_stands_for_the_one_in_whose_place_it_is_raised(
    word, fast, driver, how, monkeypatch
):
    monkeypatch.setattr(fused, "enabled", fast)
    mine = Denied("mine")

    def end():
        try:
            raise mine
        except Denied as error:
            if how == "from":
                raise word from error
            raise word  # noqa: B904 - that is the case

    async def end_async():
        end()

    f = o.Retry(2, wait=0)(end if driver == "blocking" else end_async)
    call = {"blocking": f, "aio": lambda: asyncio.run(f()), "trio": lambda: trio.run(f)}[driver]
    assert outcome(call) is mine
    assert len(o.attempts(mine)) == (3 if word is o.RetryNow else 1)
    assert mine.__cause__ is mine.__context__ is None


def deny():
    raise Denied


@BOTH
@SPEEDS
def test_a_word_stands_for_nothing_that_was_handled_elsewhere_or_hidden(word, fast, monkeypatch):
    monkeypatch.setattr(fused, "enabled", fast)

    @o.Retry(2, wait=0)
    def alone():
        raise word

    @o.Retry(2, wait=0)
    def hidden():
        try:
            deny()
        except Denied:
            raise word from None

    @o.Retry(2, wait=0)
    def told():
        try:
            deny()
        except Denied as error:
            raise word("bad input") from error

    for f in (alone, hidden, told):
        try:
            deny()
        except Denied:
            assert type(outcome(f)) is word
