"""Who refreshes a ring's keys when that goes wrong: one who waits tries once more, and nobody waits for ever."""

import asyncio
import os
import threading

import pytest

import opero as o
from opero import testing


class Refused(Exception):
    status = 401


def ringed(refresh, *policies, is_async=False):
    """Return a function whose only key was refused for good, and the policy."""
    policy = o.ArgFallback("key", alternatives=["old"], cooldown=9, refresh=refresh)

    def f(key=""):
        if key == "old":
            raise Refused
        return key

    async def g(key=""):
        return f(key)

    policy.ring.rest("old", float("inf"))
    return o.opero(policy, *policies)(g if is_async else f), policy


def run(library, main):
    if library == "asyncio":
        return asyncio.run(main())
    import trio

    return trio.run(main)


class Library:
    """What is needed of asyncio or of trio."""

    def __init__(self, name):
        self.name = name

    async def sleep(self, seconds):
        if self.name == "asyncio":
            await asyncio.sleep(seconds)
        else:
            import trio

            await trio.sleep(seconds)

    async def gather(self, *functions):
        """Run them side by side; return what each returned or raised."""
        found = [None] * len(functions)

        async def keep(n, function):
            try:
                found[n] = await function()
            except Exception as error:
                found[n] = error

        if self.name == "asyncio":
            await asyncio.gather(*(keep(n, function) for n, function in enumerate(functions)))
        else:
            import trio

            async with trio.open_nursery() as nursery:
                for n, function in enumerate(functions):
                    nursery.start_soon(keep, n, function)
                    await trio.lowlevel.checkpoint()
        return found


@pytest.fixture(params=["asyncio", "trio"])
def library(request):
    return Library(request.param)


def test_when_a_refresh_fails_one_who_waits_tries_again_and_all_have_its_answer(library):
    made = []

    async def refresh():
        made.append(1)
        await library.sleep(0.01)
        if len(made) == 1:
            raise KeyError("vault")
        return ["fresh"]

    f, _ = ringed(refresh, is_async=True)
    found = run(library.name, lambda: library.gather(*[f] * 6))
    assert [type(each) for each in found] == [KeyError] + [str] * 5
    assert len(made) == 2


@pytest.mark.parametrize("at_once", [False, True])
def test_when_that_fails_too_the_others_are_told_and_do_not_try_one_after_the_other(library, at_once):
    made = []

    async def refresh():
        made.append(1)
        if not at_once or len(made) == 1:
            await library.sleep(0.01)
        raise KeyError("vault")

    f, _ = ringed(refresh, is_async=True)
    found = run(library.name, lambda: library.gather(*[f] * 6))
    assert [type(each) for each in found] == [KeyError] * 2 + [o.Rejected] * 4
    assert "refresh= failed (KeyError)" in str(found[-1])
    assert "vault" not in str(found[-1])
    assert len(made) == 2
    run(library.name, lambda: library.gather(f))  # who comes later tries anew
    assert len(made) == 3


def test_when_who_refreshes_is_cancelled_another_does_and_of_those_one_may_be_gone_too():
    made = []

    async def refresh():
        made.append(1)
        await asyncio.sleep(5)
        return ["fresh"]

    f, _ = ringed(refresh, is_async=True)

    async def main():
        tasks = [asyncio.create_task(f()) for _ in range(5)]
        await asyncio.sleep(1)
        tasks[0].cancel()
        tasks[1].cancel()  # whom it would be handed to
        return await asyncio.gather(*tasks, return_exceptions=True)

    with testing.clock():
        found = asyncio.run(main())
    assert [type(each) for each in found] == [asyncio.CancelledError] * 2 + [str] * 3
    assert len(made) == 2


def test_who_has_gone_before_is_handed_nothing():
    made = []

    async def refresh():
        made.append(1)
        await asyncio.sleep(5)
        return ["fresh"]

    f, _ = ringed(refresh, is_async=True)

    async def main():
        tasks = [asyncio.create_task(f()) for _ in range(3)]
        for task in (tasks[1], tasks[0]):
            await asyncio.sleep(1)
            task.cancel()
        return await asyncio.wait_for(tasks[2], 60)

    with testing.clock():
        assert asyncio.run(main()) == "fresh"
    assert len(made) == 2


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_child_forked_in_the_middle_of_a_refresh_waits_for_nobody():
    def refresh():
        child = os.fork()
        if child == 0:
            os._exit(0 if policy.ring.flight is None else 1)
        assert os.waitpid(child, 0)[1] == 0
        return ["fresh"]

    f, policy = ringed(refresh)
    assert f() == "fresh"


def test_who_is_cancelled_when_it_was_just_handed_to_them_hands_it_on():
    made = []

    async def refresh():
        made.append(1)
        await asyncio.sleep(1)
        if len(made) == 1:
            raise KeyError
        return ["fresh"]

    f, _ = ringed(refresh, is_async=True)

    async def main():
        tasks = [asyncio.create_task(f()) for _ in range(4)]
        tasks[0].add_done_callback(lambda _: tasks[1].cancel())
        return await asyncio.gather(*tasks, return_exceptions=True)

    with testing.clock():
        found = asyncio.run(main())
    assert [type(each) for each in found] == [KeyError, asyncio.CancelledError, str, str]
    assert len(made) == 2


def test_a_cancelled_scope_of_trio_hands_it_on():
    import trio

    made, found = [], []

    async def refresh():
        made.append(1)
        await trio.sleep(0.05)
        return ["fresh"]

    f, _ = ringed(refresh, is_async=True)

    async def first():
        with trio.move_on_after(0.01):
            await f()

    async def second():
        found.append(await f())

    async def main():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(first)
            await trio.sleep(0.001)
            nursery.start_soon(second)

    trio.run(main)
    assert found == ["fresh"]
    assert len(made) == 2


def test_who_waits_waits_no_longer_than_their_deadline():
    async def refresh():
        await asyncio.sleep(60)
        return ["fresh"]

    slow, policy = ringed(refresh, is_async=True)

    @o.opero(policy, timeout=2)
    async def quick(key=""):
        return key

    async def main():
        task = asyncio.create_task(slow())
        await asyncio.sleep(1)
        with pytest.raises(o.CallTimeout):
            await quick()
        assert virtual.elapsed() == 3
        return await task

    with testing.clock() as virtual:
        assert asyncio.run(main()) == "fresh"


def test_threads_hand_it_over_too():
    made, together, failing = [], threading.Barrier(6), threading.Event()

    def refresh():
        made.append(1)
        failing.wait(10)
        raise KeyError("vault")

    f, policy = ringed(refresh)
    found = []

    def work():
        together.wait(10)
        try:
            found.append(f())
        except Exception as error:
            found.append(type(error))

    threads = [threading.Thread(target=work, daemon=True) for _ in range(6)]
    for thread in threads:
        thread.start()
    while policy.ring.flight is None or len(policy.ring.flight.waiting) < 5:
        threading.Event().wait(0.001)
    failing.set()
    for thread in threads:
        thread.join(10)
    assert sorted(each.__name__ for each in found) == ["KeyError"] * 2 + ["Rejected"] * 4
    assert len(made) == 2


def test_threads_and_tasks_hand_it_over_to_each_other():
    made = []

    async def refresh_async():
        made.append("task")
        while len(policy.ring.flight.waiting) < 2:
            await asyncio.sleep(0.001)
        raise KeyError

    def refresh():
        return refresh_async() if asyncio._get_running_loop() else fresh()

    def fresh():
        made.append("thread")
        return ["fresh"]

    f, policy = ringed(refresh)
    g = o.opero(policy)(as_task)

    async def main():
        first = asyncio.create_task(g())
        second = asyncio.create_task(g())
        await asyncio.sleep(0)
        third = asyncio.create_task(asyncio.to_thread(f))
        return await asyncio.gather(first, second, third, return_exceptions=True)

    found = asyncio.run(main())
    assert [type(each) for each in found] == [KeyError, str, str]
    assert made == ["task", "thread"]  # a thread goes first: nothing that blocks a loop can hold it up


async def as_task(key=""):
    return key


@pytest.mark.parametrize("driver", ["blocking", "asyncio", "trio"])
def test_a_refresh_that_calls_what_it_refreshes_for_is_told_so(driver):
    def refresh():
        return [f()]

    async def refresh_async():
        return [await f()]

    f, _ = ringed(refresh if driver == "blocking" else refresh_async, is_async=driver != "blocking")
    with pytest.raises(o.Rejected, match=r"waits for itself.* key"):
        f() if driver == "blocking" else run(driver, f)
    f, _ = ringed(lambda: [f("mine")])
    assert f() == "mine"  # with a key it needs none


def test_so_is_one_that_gets_there_by_a_task_a_thread_or_another_ring():
    async def by_a_task():
        return [await asyncio.create_task(f())]

    async def by_a_thread():
        return [await asyncio.to_thread(g)]

    async def by_another():
        return [await h()]

    for refresh in (by_a_task, by_a_thread, by_another):
        f, policy = ringed(lambda refresh=refresh: refresh(), is_async=True)  # else `g` would be refused
        g = o.opero(policy)(lambda key="": key)
        h, _ = ringed(f, is_async=True)
        with pytest.raises(o.Rejected, match="waits for itself"):
            asyncio.run(f())


def test_a_plain_call_does_not_block_the_loop_that_refreshes():
    async def refresh():
        await asyncio.sleep(0.1)
        return ["fresh"]

    f, policy = ringed(lambda: refresh(), is_async=True)  # noqa: PLW0108 - else `g` would be refused
    g = o.opero(policy)(lambda key="": key)

    async def main():
        task = asyncio.create_task(f())
        await asyncio.sleep(0.01)
        with pytest.raises(o.Rejected, match="waits for itself"):
            g()
        return await task

    assert asyncio.run(main()) == "fresh"


def test_a_task_that_a_refresh_left_behind_may_refresh_later():
    left = []

    async def refresh():
        left.append(asyncio.create_task(later()))
        return ["old" if len(left) == 1 else "fresh"]

    async def later():
        await asyncio.sleep(1)
        policy.ring.rest("old", float("inf"))
        return await f()

    f, policy = ringed(refresh, is_async=True)

    async def main():
        with pytest.raises(o.AllFailedError):
            await f()
        return await left[0]

    with testing.clock():
        assert asyncio.run(main()) == "fresh"


@pytest.mark.parametrize("is_async", [False, True])
def test_the_call_whose_last_key_is_refused_goes_on_with_new_ones(is_async):
    asked = []

    def refresh():
        asked.append(1)
        return ["old", "new"] if len(asked) == 1 else ["old"]

    f, policy = ringed(refresh, o.Retry(0), is_async=is_async)
    policy.replace(["old"])

    def call():
        return asyncio.run(f()) if is_async else f()

    assert (call(), asked, f.opero.stats()["attempts"]) == ("new", [1], 3)


def test_it_asks_for_new_keys_once_and_tells_all_refusals():
    asked = []
    f, policy = ringed(lambda: asked.append(1) or ["old"], o.Retry(0))
    for calls in (1, 2):
        policy.replace(["old"])
        with pytest.raises(o.AllFailedError) as caught:
            f()
        assert (len(caught.value.errors), len(asked)) == (2, calls)
    with pytest.raises(o.AllFailedError) as caught:  # it begins with a refresh, and does not make another
        f()
    assert (len(caught.value.errors), len(asked)) == (1, 3)
