"""Errors and responses that raise when asked whether they are true, or for an attribute: they pass as they are."""

import asyncio
import threading

import pytest

import opero as o
from opero import Retry, conditions, fused, opero, presets, responses, stops, waits

NOW = waits.constant(0)


class Untrue(Exception):
    def __bool__(self):
        raise RuntimeError("asked whether it is true")


class Shut(Exception):
    def __getattr__(self, name):
        raise RuntimeError(f"asked for {name}")

    @property
    def response(self):
        raise RuntimeError("asked for its response")


class Headers:
    def get(self, name):
        raise RuntimeError(name)


class Answer(Exception):
    headers = Headers()
    retry_after = None


class Odd(Exception):
    retry_after = type("Span", (), {"total_seconds": lambda _: "long"})()


def name_of_what_it_raises(function):
    """Return the class of the error, or of those in a group: pytest could not show the error itself."""
    try:
        function()
    except o.AllFailedError as failed:
        return type(failed.errors[-1]).__name__
    except Exception as error:
        return type(error).__name__
    return None


SETTINGS = {
    "plain": lambda: [Retry(2, wait=NOW)],
    "budget": lambda: [Retry(2, wait=NOW), o.RetryBudget(0.5)],
    "retry after": lambda: [Retry(2, wait=waits.retry_after(NOW))],
    "stop": lambda: [Retry(2, wait=NOW, stop=stops.event(threading.Event()))],
    "strategy": lambda: [Retry(2, wait=NOW, strategies={Exception: o.Strategy("retry")})],
    "status": lambda: [Retry(2, wait=NOW, on=conditions.status(500) | ~conditions.status(404))],
    "hedge": lambda: [Retry(2, wait=NOW), o.Hedge(delay=5)],
    "breaker": lambda: [Retry(2, wait=NOW), o.CircuitBreaker(consecutive=9, ignore=conditions.status(404))],
    "rotation": lambda: [Retry(2, wait=NOW), o.ArgFallback("key", alternatives=["a", "b"], cooldown=5)],
    "cache": lambda: [Retry(2, wait=NOW), o.Cache(ttl=1)],
    "everything": lambda: [Retry(2, wait=NOW), o.Timeout(5), o.Bulkhead(2), o.RetryBudget(0.5), o.CircuitBreaker()],
}


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("kind", [Untrue, Shut, Answer, Odd])
@pytest.mark.parametrize("policies", SETTINGS.values(), ids=SETTINGS)
def test_the_caller_gets_the_error_itself_after_its_retries(policies, kind, fast, monkeypatch):
    monkeypatch.setattr(fused, "enabled", fast)
    made = []

    @opero(*policies())
    def f(key="a"):
        made.append(key)
        raise kind

    assert name_of_what_it_raises(f) == kind.__name__
    assert len(made) >= 3


@pytest.mark.parametrize("kind", [Untrue, Shut, Answer, Odd])
@pytest.mark.parametrize("policies", SETTINGS.values(), ids=SETTINGS)
def test_around_coroutine_functions_too(policies, kind):
    made = []

    @opero(*policies())
    async def f(key="a"):
        made.append(key)
        raise kind

    assert name_of_what_it_raises(lambda: asyncio.run(f())) == kind.__name__
    assert len(made) >= 3


@pytest.mark.parametrize("word", [o.DoNotRetry, o.RetryNow])
def test_what_a_word_of_the_function_carries_reaches_the_caller(word):
    @opero(Retry(1, wait=NOW))
    def f():
        raise word(Untrue())

    assert name_of_what_it_raises(f) == "Untrue"


@pytest.mark.parametrize("kind", [Untrue, Shut, Answer, Odd])
def test_a_fallback_and_presets_stand_in_for_it(kind):
    def f():
        raise kind

    assert opero(Retry(1, wait=NOW), o.Fallback(5))(f)() == 5
    assert opero(o.Fallback(5, on=conditions.status(404) | ~conditions.types(KeyError)))(f)() == 5
    for preset in (presets.http, presets.database, presets.llm, presets.queue):
        assert name_of_what_it_raises(opero(preset(retries=1, min_delay=0))(f)) == kind.__name__


def test_the_stop_that_ends_a_wait_leaves_the_error(monkeypatch):
    monkeypatch.setattr(fused, "enabled", False)
    flag = threading.Event()

    @opero(Retry(3, wait=60, stop=stops.event(flag)))
    def f():
        threading.Timer(0.02, flag.set).start()
        raise Untrue

    assert name_of_what_it_raises(f) == "Untrue"


@pytest.mark.parametrize("outcome", [Shut(), Answer(), Odd()], ids=["shut", "headers", "span"])
def test_what_does_not_let_itself_be_asked_says_nothing(outcome):
    assert responses.status(outcome) is None
    assert responses.retry_after(outcome, 0.0) is None


def test_a_result_that_does_not_let_itself_be_asked_is_returned():
    for kind in (Untrue, Shut, Answer, Odd):
        result = kind()
        f = opero(Retry(2, wait=NOW, on=conditions.status(500)), o.RetryBudget(0.5))(lambda result=result: result)
        assert f() is result
