"""A result that a call inside gave up on is not asked for again by a retry further out."""

import asyncio
import contextvars
import gc
import threading
import weakref

import pytest

import opero as o
from opero import events, fused, nested, testing


class Answer:
    status = 503

    def check(self):
        raise Down


class Down(Exception):
    pass


def answer():
    return Answer()


def busy(retries=2, **more):
    return o.Retry(retries, wait=0.0001, on=Down | o.conditions.status(503), **more)


@pytest.fixture(params=[True, False], ids=["fast", "general"], autouse=True)
def _speed(request, monkeypatch):
    monkeypatch.setattr(fused, "enabled", request.param)


def levels(make, made, policy):
    """Return a leaf that counts its calls, two calls around it, and all three decorated."""

    def leaf():
        made.append(1)
        return make()

    leaf = o.opero(policy, name="leaf")(leaf)
    middle = o.opero(policy, name="middle")(leaf)
    return o.opero(policy, name="outer")(middle)


def test_the_same_result_is_not_retried_again():
    made, heard = [], []
    with events.subscribe(heard.append):
        assert levels(Answer, made, busy())().status == 503
    told = [e.fields for e in heard if e.name == "opero.retry.nested"]
    assert (len(made), told) == (3, [{"attempts": 1, "inner": "leaf", "error": ""}] * 2)
    made.clear()
    levels(Answer, made, busy(nested=True))()
    assert len(made) == 27


@pytest.mark.parametrize("value", [None, False, 0, "down"])
def test_nor_one_that_many_share(value):
    made, heard = [], []
    with events.subscribe(heard.append, "opero.retry.nested"):
        assert levels(lambda: value, made, o.Retry(2, wait=0.0001, on_result=lambda r: r == value))() == value
    assert (len(made), [event.fields["inner"] for event in heard]) == (3, ["leaf", "leaf"])


def test_a_coroutine_function_does_the_same():
    made = []

    @o.opero(busy())
    async def leaf():
        made.append(1)
        return Answer()

    @o.opero(busy())
    async def middle():
        return await leaf()

    @o.opero(busy())
    async def outer():
        return await asyncio.create_task(middle())

    assert asyncio.run(outer()).status == 503
    assert len(made) == 3


def test_a_result_that_comes_from_another_thread_is_known():
    made = []
    inner = levels(Answer, made, busy())

    @o.opero(busy())
    def outer():
        found = []
        thread = threading.Thread(target=lambda: found.append(inner()))
        thread.start()
        thread.join()
        return found[0]

    outer()
    assert len(made) == 3


@pytest.mark.parametrize("errors_alone", [True, False])
def test_an_error_made_of_the_result_is_not_retried(errors_alone):
    made = []
    policy = o.Retry(2, wait=0.0001, on=Down) if errors_alone else busy()
    inner = levels(Answer, made, busy())

    def by_itself():
        if inner().status == 503:
            raise Down

    def by_the_answer():
        inner().check()

    def wrapped():
        try:
            inner().check()
        except Down as error:
            raise Down("again") from error

    def by_another():
        refuse(inner())

    def refuse(result):
        raise Down(result.status)

    def in_another_context(function):
        return lambda: contextvars.Context().run(function)

    for function in (by_itself, by_the_answer, wrapped, by_another):
        made.clear()
        outer, heard = o.opero(policy, name="outer")(function), []
        with events.subscribe(heard.append, "opero.retry.nested"), pytest.raises(Down):
            o.opero(policy, name="around")(in_another_context(outer))()
        assert len(made) == 3, function
        assert {event.fields["inner"] for event in heard} == {"leaf"}


@pytest.mark.parametrize("cause", [None, Down("never raised")])
def test_another_failure_after_a_result_was_dealt_with_is_retried(cause):
    made, results = [], []
    inner = levels(Answer, made, busy())

    def second_way():
        raise Down from cause

    @o.opero(o.Retry(2, wait=0.0001))
    def outer():
        results.append(inner())
        second_way()

    with pytest.raises(Down):
        outer()
    assert len(made) == 9


def test_a_result_that_a_fallback_made_good_is_not_given_up():
    made = []

    @o.opero(busy(1), o.Fallback(0, on_result=lambda r: r is not None))
    def inner():
        made.append(1)
        return Answer()

    @o.opero(o.Retry(1, wait=0.0001, on_result=lambda r: r == 0))
    def outer():
        return inner()

    assert outer() == 0
    assert len(made) == 4


def test_what_an_earlier_attempt_was_given_says_nothing_of_the_next():
    made = []
    inner = o.opero(busy(1), name="inner")(answer)

    @o.opero(o.Retry(3, wait=0.0001, on=Down, on_result=lambda r: r == "own"))
    def outer():
        made.append(1)
        if len(made) > 1:
            return "own"
        inner()
        return fail()

    def fail():
        raise Down

    assert outer() == "own"
    assert len(made) == 4


def test_a_result_object_of_an_earlier_call_is_not_given_up():
    shared, made = Answer(), []
    inner = o.opero(busy(1), name="inner")(lambda: shared)
    inner()

    @o.opero(busy(2))
    def outer():
        made.append(1)
        return shared

    assert outer() is shared
    assert len(made) == 3


def test_nothing_of_a_result_is_kept():
    inner = o.opero(busy(1))(answer)
    result = weakref.ref(inner())
    gc.collect()
    assert result() is None
    before = len(nested._results)
    for _ in range(20):
        inner()
    assert len(nested._results) <= before + 1


def test_a_clock_with_a_time_of_its_own_knows_nothing_of_results_before_and_leaves_none():
    made = []

    @o.opero(o.Retry(1, wait=0.0001, on_result=lambda r: r is None))
    def down():
        made.append(1)

    down()
    for start in (0.0, 1e12):
        with testing.clock(start=start):
            down()
    down()
    assert len(made) == 8


def test_a_result_that_an_event_kept_from_being_retried_is_at_its_end():
    flag, made = threading.Event(), []
    inner = o.Retry(2, wait=0.0001, on_result=lambda r: r is None, stop=o.stops.event(flag))

    @o.opero(inner, name="inner")
    def unwanted():
        made.append(1)

    outer = o.opero(o.Retry(2, wait=0.0001, on_result=lambda r: r is None), name="outer")(unwanted)
    with events.subscribe(lambda event: flag.set(), "opero.retry.scheduled"):
        assert outer() is None
    assert len(made) == 1
