"""Where the virtual clock begins and ends: time goes on, and never back."""

import asyncio
import os
import threading
import time
import weakref
from contextlib import suppress

import anyio
import pytest
import trio
import trio.testing

import opero as o
from opero import clock, testing
from shared_store import MappedStore


def opened():
    @o.opero(o.CircuitBreaker(consecutive=1, reset_after=5.0))
    def f(error=None):
        if error is not None:
            raise error
        return "ok"

    with suppress(OSError):
        f(OSError())
    assert f.opero.breaker.state == "open"
    return f


def test_what_was_used_before_goes_on_in_the_block():
    f, limit = opened(), o.RateLimit(1, per=60, burst=1)
    with limit:
        pass
    with testing.clock() as virtual:
        assert f.opero.breaker.state == "open"
        virtual.advance(6)
        assert f() == "ok"
        with limit:
            pass
        assert 58 <= virtual.elapsed() <= 60


def test_what_was_used_in_the_block_goes_on_after_it():
    with testing.clock() as virtual:
        virtual.advance(3600)
        f = opened()
    after = clock.now()
    assert 0 <= f.opero.breaker._policy.circuit.until - after <= 5
    with testing.clock() as virtual:
        assert clock.now() >= after
        virtual.advance(6)
        assert f() == "ok"


def test_a_clock_with_a_start_is_a_time_of_its_own():
    with testing.clock() as virtual:
        virtual.advance(3600)
    last = clock.now()
    with testing.clock(start=0) as virtual:
        assert clock.now() == 0
        virtual.advance(1e9)
    assert last <= clock.now() < last + 60


def test_time_goes_on_at_its_own_pace_after_the_block():
    with testing.clock() as virtual:
        virtual.advance(100)
        last = clock.now()
    before, now = time.monotonic(), clock.now()
    while time.monotonic() == before:
        pass
    assert 0 <= now - last < 60
    assert 0 < clock.now() - now < 60
    assert clock.common() == pytest.approx(time.monotonic(), abs=10)


def test_what_processes_share_is_of_the_time_they_have_in_common():
    store = MappedStore()
    weakref.finalize(store, os.close, store.descriptor)
    with testing.clock() as virtual:
        virtual.advance(3600)
    limit = o.RateLimit(40, per=3600, burst=40, store=store, name="borders")
    with limit:
        pass
    seen = {metric.name: value for metric, _, value in limit.observe(clock.now())}
    assert seen["opero.rate_limiter.available"] == 39
    assert max(store.known("opero:{borders}:v1:rate_limit").values()) < time.monotonic() + 100


def test_differences_are_exact():
    with testing.clock() as virtual:
        started = clock.now()
        clock.sleep(30)
        slept = clock.now() - started
        clock.sleep(0.1)
        assert (slept, virtual.elapsed()) == (30, 30.1)


def test_a_clock_inside_another_begins_at_its_time_and_moves_it():
    with testing.clock() as outer:
        outer.advance(10)
        with testing.clock() as inner:
            assert inner.now() == outer.now()
            clock.sleep(20)
        assert outer.elapsed() == 30
        clock.sleep(1)
        assert outer.elapsed() == 31
    assert clock.sleep is clock._sleep


@pytest.mark.parametrize("error", [KeyError, asyncio.CancelledError, KeyboardInterrupt, SystemExit])
def test_whatever_ends_the_block_all_is_as_before(error):
    names = ("wall", "sleep", "wait", "pace")
    before = [getattr(clock, name) for name in names]
    loop, trios = asyncio.BaseEventLoop, trio._core._run.SystemClock
    patched = [loop.time, loop._run_once, trios.current_time, trios.deadline_to_sleep_time]
    with pytest.raises(error), testing.clock(), testing.no_waits(), testing.capture():
        raise error
    assert [getattr(clock, name) for name in names] == before
    assert [loop.time, loop._run_once, trios.current_time, trios.deadline_to_sleep_time] == patched
    assert not clock.hurried


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_loop_that_runs_already_enters_and_leaves(backend):
    woken = []

    async def wait(seconds):
        await anyio.sleep(seconds)
        woken.append(seconds)

    async def main():
        real = time.monotonic()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait, 3600)  # set in real time
            await anyio.lowlevel.checkpoint()
            with testing.clock() as virtual:
                tasks.start_soon(wait, 3600.1)
                with anyio.move_on_after(1800) as scope:
                    await anyio.sleep(2000)
                assert scope.cancelled_caught
                assert virtual.elapsed() == 1800
                await anyio.sleep(1799.9)
                assert woken == []
            with anyio.fail_after(60):  # and the rest in real time
                while woken != [3600, 3600.1]:
                    await anyio.sleep(0.01)
        assert time.monotonic() - real < 60

    anyio.run(main, backend=backend)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_backoffs_timeouts_and_limits_take_no_time(backend):
    limit = o.RateLimit(1, per=10, burst=1)

    @o.opero(o.Retry(2, wait=30, jitter="none"), limit)
    async def flaky(errors=[OSError, OSError]):  # noqa: B006 - kept on purpose
        if errors:
            raise errors.pop()
        return "ok"

    @o.opero(retries=0, timeout=5)
    async def slow():
        await anyio.sleep(600)

    async def main():
        started = clock.now()
        assert await flaky() == "ok"
        assert clock.now() - started == 60
        with pytest.raises(o.CallTimeout):
            await slow()
        assert clock.now() - started == 65

    with testing.clock() as virtual:
        anyio.run(main, backend=backend)
        assert virtual.elapsed() == 65


def test_trio_and_its_threads_share_the_time():
    async def main():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.to_thread.run_sync, clock.sleep, 7)
            nursery.start_soon(trio.sleep, 3)
        return clock.now()

    with testing.clock() as virtual:
        trio.run(main)
        assert virtual.elapsed() == 7


def test_trio_who_waits_for_all_to_be_idle_goes_before_time_does():
    seen = []

    async def main():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep, 100)
            await trio.testing.wait_all_tasks_blocked()
            seen.append(virtual.elapsed())

    with testing.clock() as virtual:
        trio.run(main)
    assert seen == [0]


def test_a_run_of_trio_with_a_clock_of_its_own_is_left_alone():
    with testing.clock() as virtual:
        trio.run(trio.sleep, 100, clock=trio.testing.MockClock(autojump_threshold=0))
        assert virtual.elapsed() == 0


def test_a_loop_of_somebody_else_is_refused():
    class Other(asyncio.AbstractEventLoop):
        pass

    asyncio._set_running_loop(Other())
    try:
        with pytest.raises(o.ConfigurationError, match="one of asyncio's own"), testing.clock():
            pass
    finally:
        asyncio._set_running_loop(None)
    function = o.opero(retries=0)(lambda: 1)
    with testing.clock():
        asyncio._set_running_loop(Other())
        try:
            with pytest.raises(o.ConfigurationError, match="one of asyncio's own"):
                function()
        finally:
            asyncio._set_running_loop(None)
        assert function() == 1


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_waits_that_are_nothing_beside_the_time_it_is_end(backend):
    async def main():
        for _ in range(10):
            await anyio.sleep(1e-8)

    with testing.clock(start=1e9):
        anyio.run(main, backend=backend)


def test_many_threads_wait_for_many_times():
    woken = []

    def wait(seconds):
        clock.sleep(seconds)
        woken.append(seconds)

    with testing.clock() as virtual:
        threads = [threading.Thread(target=wait, args=(seconds,)) for seconds in range(20, 0, -1)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert woken == sorted(woken)
        assert virtual.elapsed() == 20


def test_a_thread_that_looks_now_and_then_keeps_no_clock_inside_another_from_moving():
    stop = threading.Event()

    def look():
        while not clock.wait(stop, 5.0):
            pass

    with testing.clock(), testing.clock() as inner:
        looking = threading.Thread(target=look)
        looking.start()
        clock.sleep(60)
        assert inner.elapsed() == 60
        stop.set()
    looking.join(30)
    assert not looking.is_alive()


def test_who_looks_for_a_store_since_before_waits_really():
    began, took = threading.Event(), []

    def look():
        began.wait(30)
        started = time.monotonic()
        clock.sleep(0.2)
        took.append(time.monotonic() - started)

    older = threading.Thread(target=look, name="opero-store")
    older.start()
    with testing.clock():
        began.set()
        older.join(30)
    assert took[0] >= 0.2
