"""What a call inside has retried to its end is not retried outside, wherever it ran."""

import asyncio
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
