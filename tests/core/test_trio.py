"""What only trio can show; that all primitives do on it what they do on asyncio is shown by the conformance suite."""

import subprocess
import sys
import threading

import pytest
import trio
from trio.testing import MockClock

import opero as o
from opero.stores.redis import RedisStore


def run(function, *args):
    """Run on a clock that jumps when no task can run."""
    return trio.run(function, *args, clock=MockClock(autojump_threshold=0))


def test_a_cancelled_call_ends_at_once_and_counts_for_nothing():
    @o.opero(retries=3, min_delay=30, jitter="none", bulkhead=1, circuit_breaker=True, fallback="never")
    async def f(error):
        if error is not None:
            raise error
        await trio.sleep(600)

    async def main():
        for error in (OSError(), None):  # in the wait before a retry, and in the function
            with trio.move_on_after(1) as scope:
                await f(error)
            assert scope.cancelled_caught
            assert trio.current_time() - started < 10

    clock = MockClock(autojump_threshold=0)
    started = clock.current_time()
    trio.run(main, clock=clock)
    stats = f.opero.stats()
    assert (stats["cancelled"], stats["errors"], stats["fallbacks"], stats["active"]) == (2, 0, 0, 0)
    assert f.opero.operation.places["bulkhead"].slots.used == 0


def test_a_cancel_scope_of_the_user_is_not_taken_for_a_timeout():
    @o.opero(retries=0, timeout=5, attempt_timeout=4)
    async def f():
        await trio.sleep(600)

    async def main():
        with trio.move_on_after(3) as scope:
            await f()
        assert scope.cancelled_caught
        with pytest.raises(o.CallTimeout, match=r"within 4 s \(attempt_timeout\)"), trio.fail_after(6):
            await f()

    run(main)


def test_a_timeout_of_the_functions_own_passes_as_it_is():
    @o.opero(retries=0, timeout=5)
    async def f():
        raise TimeoutError("mine")

    with pytest.raises(TimeoutError, match="mine"):
        run(f)


def test_a_thread_hands_its_slot_to_a_task():
    policy, entered, go = o.Bulkhead(1, max_queue=5), threading.Event(), threading.Event()

    @o.opero(policy)
    def hold():
        entered.set()
        go.wait(10)

    @o.opero(policy)
    async def in_task():
        return "task"

    async def main():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(in_thread)
            await trio.to_thread.run_sync(entered.wait, 10)
            nursery.start_soon(finish)
            assert await in_task() == "task"

    async def in_thread():
        await trio.to_thread.run_sync(hold)

    async def finish():
        while not policy.slots.queue:
            await trio.sleep(0.001)
        go.set()

    trio.run(main)
    assert (policy.slots.used, len(policy.slots.queue)) == (0, 0)


def test_a_task_whose_run_has_ended_costs_nobody_a_slot():
    policy, waiters = o.Bulkhead(1, max_queue=5), []

    async def main():
        from opero.drivers.aio import RUNTIME

        waiters.append(RUNTIME.waiter())

    trio.run(main)
    policy.slots.take()
    policy.slots.queue.append(waiters[0])
    policy.slots.release(policy.slots.taken)
    assert (policy.slots.used, len(policy.slots.queue)) == (0, 0)


def test_losers_of_a_race_have_ended_when_the_call_returns():
    ended = []

    @o.opero(o.Hedge(1))
    async def f():
        number = len(ended)
        ended.append("running")
        try:
            await trio.sleep(10 if number == 0 else 1)
        finally:
            ended[number] = "ended"
        return number

    async def main():
        before = trio.lowlevel.current_statistics().tasks_living
        assert await f() == 1
        assert trio.lowlevel.current_statistics().tasks_living == before

    run(main)
    assert ended == ["ended"] * 2


def test_those_who_ask_for_one_key_wait_for_one_load():
    loads, answers = [], []

    @o.opero(cache_ttl=60)
    async def f(x):
        loads.append(x)
        await trio.sleep(1)
        return x

    async def ask():
        answers.append(await f(7))

    async def main():
        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(ask)

    run(main)
    assert (loads, answers) == ([7], [7] * 20)


def test_loops_blocks_and_generators():
    seen, limit = [], o.RateLimit(2, per=0.1, burst=1)

    @o.opero(retries=1, min_delay=0)
    async def numbers():
        seen.append("asked")
        if len(seen) == 1:
            raise OSError
        await trio.sleep(1)
        yield 1
        yield 2

    async def main():
        async for attempt in o.Retry(2, wait=1, on=KeyError):
            with attempt:
                if attempt.number == 1:
                    raise KeyError
        assert attempt.number == 2
        with pytest.raises(o.CallTimeout):
            await in_a_block()
        for _ in range(2):
            async with limit:
                pass
        assert [number async for number in numbers()] == [1, 2]

    async def in_a_block():
        async with o.Timeout(5):
            assert o.remaining() > 4
            await trio.sleep(600)

    run(main)


def test_an_event_of_trio_ends_a_wait():
    flag = trio.Event()

    @o.opero(o.Retry(3, wait=600, jitter="none", stop=o.stops.event(flag)))
    async def f():
        raise OSError

    async def main():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(set_soon)
            with pytest.raises(OSError):
                await f()
        assert trio.current_time() < started + 10

    async def set_soon():
        await trio.sleep(1)
        flag.set()

    clock = MockClock(autojump_threshold=0)
    started = clock.current_time()
    trio.run(main, clock=clock)


def test_waits_can_be_left_out_of_a_test():
    @o.opero(retries=3, min_delay=30, fallback="later")
    async def f():
        raise OSError

    with o.testing.no_waits():
        assert trio.run(f) == "later"


@pytest.mark.service("redis")
def test_processes_share_state_through_redis(redis_server):
    limit = o.RateLimit(2, per=60, wait=False, store=RedisStore(redis_server.url, timeout=5), name="trio")

    @o.opero(limit)
    async def f():
        return 1

    async def main():
        assert [await f(), await f()] == [1, 1]
        with pytest.raises(o.RateLimitedError):
            await f()

    trio.run(main)


@pytest.mark.service("redis")
@pytest.mark.parametrize("near", [None, 5])
def test_a_cache_in_redis_answers(redis_server, near):
    loads = []

    @o.opero(o.Cache(60, backend="redis", url=redis_server.url, near=near, tags=["all"], patience=5))
    async def f(x):
        loads.append(x)
        await trio.sleep(0.01)
        return [x]

    async def main():
        assert [await f(1), await f(1), await f(2)] == [[1], [1], [2]]
        await f.opero.cache.invalidate(1)
        assert await f(1) == [1]
        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(f, 5)
        await f.opero.cache.clear()
        assert await f(1) == [1]

    trio.run(main)
    assert loads == [1, 2, 1, 5, 1]


def test_the_two_ways_to_wait_have_the_same_names():
    from opero.drivers import on_asyncio, on_trio

    for names in (vars(on_trio), vars(on_asyncio)):
        assert {"sleep", "here", "offload", "cut", "either", "let_go", "Branch", "Waiter"} <= names.keys()


def test_trio_is_imported_by_nobody_but_its_user():
    program = """
import asyncio, sys
from opero import opero

@opero(retries=1, min_delay=0, timeout=5, hedge=1)
async def f():
    return 1

assert asyncio.run(f()) == 1
assert "trio" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True)


def test_remaining_tells_the_nearer_of_our_deadline_and_trios():
    async def main():
        assert o.remaining() is None
        with trio.fail_after(20):
            assert o.remaining() == pytest.approx(20, abs=1)
            async with o.Timeout(5):
                assert o.remaining() == pytest.approx(5, abs=1)
            async with o.Timeout(90):
                assert o.remaining() == pytest.approx(20, abs=1)
        with trio.move_on_after(0):
            assert o.remaining() == 0
            await trio.sleep(1)

    trio.run(main)
