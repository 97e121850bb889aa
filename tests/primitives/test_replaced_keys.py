"""Who is refused after the ring's keys were replaced goes on with the new ones."""

import asyncio
import threading

import pytest

import opero as o


class Refused(Exception):
    status = 401


def ring(**settings):
    return o.ArgFallback("key", alternatives=["old"], cooldown=9, **settings)


def test_a_thread_that_is_refused_after_another_refreshed():
    policy = ring(refresh=lambda: ["fresh"])
    both, late = threading.Barrier(2), threading.Event()

    @o.opero(policy)
    def f(name, key=""):
        if key == "old":
            both.wait(10)
            assert name == "early" or late.wait(10)
            raise Refused
        return key

    found = []
    thread = threading.Thread(target=lambda: found.append(f("late")))
    thread.start()
    assert f("early") == "fresh"
    late.set()
    thread.join(10)
    assert found == ["fresh"]


def test_a_task_that_is_refused_after_another_refreshed():
    asked = []
    policy = ring(refresh=lambda: asked.append(1) or ["fresh"])

    async def main():
        late = asyncio.Event()

        @o.opero(policy)
        async def f(name, key=""):
            if key == "old":
                await (asyncio.sleep(0) if name == "early" else late.wait())
                raise Refused
            return key

        task = asyncio.create_task(f("late"))
        assert await f("early") == "fresh"
        late.set()
        return await task

    assert asyncio.run(main()) == "fresh"
    assert asked == [1]


def tried(replaced, **settings):
    """Return the keys that a call tries which is always refused, and each time after they were replaced."""
    policy, used = ring(**settings), []

    @o.opero(policy)
    def f(key=""):
        used.append(key)
        policy.replace(replaced)
        raise Refused

    with pytest.raises(o.AllFailedError) as caught:
        f()
    assert len(caught.value.errors) == len(used)
    return used


def test_keys_that_were_replaced_by_hand_are_tried_once_and_not_the_one_that_was_refused_since():
    assert tried(["newer"]) == ["old", "newer"]
    assert tried(["old"]) == ["old"]
    assert tried(["old"], refresh=lambda: ["old"]) == ["old", "old"]


def test_a_call_with_keys_of_its_own_gets_no_others_though_they_refuse_all_of_ours():
    tried = []

    @o.opero(ring(refresh=lambda: ["old"]))
    def f(key=""):
        tried.append(key)
        raise Refused

    for keys in ({"key": ["old"]}, {}, {"key": ["mine"]}):
        with pytest.raises(o.AllFailedError):
            f(**keys)
        tried.append("")
    assert tried == ["old", "", "old", "", "mine", ""]


def test_a_refresh_wants_alternatives():
    with pytest.raises(o.ConfigurationError, match=r"refresh takes a function that .*, beside alternatives="):
        o.ArgFallback("key", refresh=lambda: ["fresh"], cooldown=9)
