"""What a call inside has retried to its end is not retried outside, wherever it ran."""

import asyncio
import contextlib
import threading

import pytest

import opero as o
from opero import events, fused

TWICE = o.Retry(1, wait=0)


BOTH_SPEEDS = pytest.mark.parametrize("fast", [True, False], ids=["fast", "general"])


def counted(name, made):
    """Return a coroutine function that fails, decorated, and writes down that it was called."""

    @o.opero(TWICE, name=name)
    async def fail():
        made.append(name)
        raise OSError(name)

    return fail


async def outcome(function):
    try:
        return await function()
    except Exception as error:
        return error


def test_what_was_told_to_stop_inside_is_not_retried_outside():
    flag, calls = threading.Event(), []

    @o.opero(o.Retry(3, wait=30, jitter="none", stop=o.stops.event(flag)))
    def inner():
        calls.append(1)
        threading.Timer(0.01, flag.set).start()
        raise OSError

    outer = o.opero(o.Retry(3, wait=0))(inner)
    with pytest.raises(OSError):
        outer()
    assert len(calls) == 1


@BOTH_SPEEDS
def test_a_function_decorated_twice_is_retried_by_the_inner_one(fast, monkeypatch):
    monkeypatch.setattr(fused, "enabled", fast)
    made = []
    inner = counted("f", made)
    assert isinstance(asyncio.run(outcome(o.opero(TWICE, name="f")(inner))), OSError)
    assert made == ["f"] * 2


def test_a_task_of_the_call_is_inside():
    made = []
    inner = counted("inner", made)

    @o.opero(TWICE, name="outer")
    async def outer():
        await asyncio.create_task(inner())

    assert isinstance(asyncio.run(outcome(outer)), OSError)
    assert made == ["inner"] * 2


def test_a_group_is_retried_unless_all_in_it_were():
    made, heard = [], []
    first, second = counted("first", made), counted("second", made)

    @o.opero(TWICE, name="outer")
    async def outer(*inside):
        async with asyncio.TaskGroup() as group:
            for function in inside:
                group.create_task(function())

    async def fresh():
        made.append("fresh")
        raise OSError

    with events.subscribe(lambda event: heard.append(event.fields["inner"]), "opero.retry.nested"):
        assert isinstance(asyncio.run(outcome(lambda: outer(first, second))), ExceptionGroup)
        assert sorted(made) == ["first"] * 2 + ["second"] * 2
        assert heard in (["first"], ["second"])
        made.clear()
        asyncio.run(outcome(lambda: outer(first, fresh)))
    assert made.count("fresh") == 2
    assert len(heard) == 1


@BOTH_SPEEDS
def test_one_error_object_of_two_tasks_says_nothing_about_the_others_call(fast, monkeypatch):
    monkeypatch.setattr(fused, "enabled", fast)
    error, made = OSError(), []

    @o.opero(o.Retry(1, wait=0.01, jitter="none"), name="mock")
    async def fail(pause):
        made.append(pause)
        await asyncio.sleep(pause)
        raise error

    async def main():
        await asyncio.gather(*(outcome(lambda pause=pause: fail(pause)) for pause in (0.0, 0.2)))

    asyncio.run(main())
    assert sorted(made) == [0.0, 0.0, 0.2, 0.2]


class Unavailable(Exception):
    """What a layer in the middle makes of the error below."""


def leaf(made):
    return o.opero(TWICE, name="leaf")(lambda: fails(made))


def fails(made):
    made.append("leaf")
    raise OSError


def calls_of(outer, made):
    made.clear()
    with pytest.raises(Exception):  # noqa: B017 - whichever
        outer()
    return len(made)


@BOTH_SPEEDS
def test_an_error_that_takes_the_place_of_the_inner_one_is_that_failure(fast, monkeypatch):
    monkeypatch.setattr(fused, "enabled", fast)
    made = []
    inner = leaf(made)

    def by_hand():
        try:
            inner()
        except OSError:
            raise Unavailable  # noqa: B904 - with the other as its context

    def named():
        try:
            inner()
        except OSError as error:
            raise Unavailable from error

    @contextlib.contextmanager
    def translated():
        try:
            yield
        except OSError:
            raise Unavailable  # noqa: B904

    def by_a_block():
        with translated():
            inner()

    for middle in (by_hand, named, by_a_block):
        assert calls_of(o.opero(TWICE, name="outer")(o.opero(TWICE, name="middle")(middle)), made) == 2


@BOTH_SPEEDS
def test_one_that_hides_it_is_that_failure_too(fast, monkeypatch):
    monkeypatch.setattr(fused, "enabled", fast)
    made = []

    def hiding(inner):
        def function():
            try:
                inner()
            except (OSError, Unavailable):
                raise Unavailable from None

        return o.opero(TWICE, name="hiding")(function)

    assert calls_of(hiding(hiding(leaf(made))), made) == 2


@BOTH_SPEEDS
def test_a_handled_error_is_not_the_cause_of_what_comes_after_it(fast, monkeypatch):
    monkeypatch.setattr(fused, "enabled", fast)
    made = []
    inner = leaf(made)

    def second_way():
        raise Unavailable

    def other():
        try:
            inner()
        except OSError:
            second_way()  # fails for reasons of its own

    def suppressed():
        try:
            inner()
        except OSError:
            hidden()

    def hidden():
        raise Unavailable from None

    for function in (other, suppressed):
        assert calls_of(o.opero(TWICE, name="outer")(function), made) == 4


def test_an_error_without_a_traceback_counts_as_the_failure_behind_it():
    made = []
    inner = leaf(made)

    @o.opero(TWICE, name="outer")
    def outer():
        try:
            inner()
        except OSError as error:
            error.__traceback__ = None
            raise Unavailable  # noqa: B904

    assert calls_of(outer, made) == 2


def test_what_is_suppressed_is_no_cause_to_a_condition_either():
    shown, hidden, odd = Unavailable(), Unavailable(), Unavailable()
    shown.__context__, hidden.__context__ = OSError(), OSError()
    hidden.__suppress_context__ = True

    class Empty(OSError):
        def __bool__(self):
            return False

    odd.__cause__ = Empty()
    assert [o.conditions.cause(OSError)(error) for error in (shown, hidden, odd)] == [True, False, True]


@BOTH_SPEEDS
def test_an_error_object_of_two_tasks_that_both_gave_up_before_is_each_ones_own(fast, monkeypatch):
    monkeypatch.setattr(fused, "enabled", fast)
    shared, made = OSError("shared"), []

    async def main():
        inside, given_up = asyncio.Event(), asyncio.Event()

        @o.opero(TWICE, name="one")
        async def f(waits):
            made.append(waits)
            if waits:
                inside.set()
                await given_up.wait()
            raise shared

        async def first():
            await inside.wait()
            await outcome(lambda: f(False))
            given_up.set()

        async def second():
            await outcome(counted("before", []))  # it gave up on something else
            await outcome(lambda: f(True))

        await asyncio.gather(first(), second())

    asyncio.run(main())
    assert (made.count(True), made.count(False)) == (2, 2)
