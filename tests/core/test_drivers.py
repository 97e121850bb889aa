"""What only one driver can do, and what neither may."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

import opero as o
from garbage import ROUNDS, uncollected
from opero import clock, testing
from opero.drivers import blocking
from opero.runtime import run
from opero.workers import spare
from together import wait_for


async def _suspend():
    await asyncio.sleep(0)


def test_a_layer_that_suspends_on_the_blocking_driver_is_an_error_not_a_hang():
    with pytest.raises(RuntimeError, match="runtime port"):
        run(_suspend())


def test_an_abandoned_thread_is_counted_until_it_ends():
    go, ended = threading.Event(), threading.Event()

    @o.opero(retries=0, timeout=0.01)
    def f():
        go.wait(10)
        ended.set()

    before = spare.at_work().keys()  # what earlier tests abandoned
    with pytest.raises(o.CallTimeout):
        f()
    (job,) = spare.at_work().keys() - before
    assert spare.abandoned() >= 1
    go.set()
    ended.wait(10)
    wait_for(lambda: job not in spare.at_work())
    wait_for(lambda: before >= spare.at_work().keys())
    assert spare.abandoned() <= len(before)


def test_so_many_threads_are_left_behind_and_then_calls_are_refused(monkeypatch):
    monkeypatch.setattr(blocking, "MAX_THREADS", spare.abandoned() + 5)
    go_on = threading.Event()

    @o.opero(retries=0, timeout=0.05, name="capped")
    def hang():
        go_on.wait(60)

    outcomes = []
    for _ in range(30):
        try:
            hang()
        except Exception as error:
            outcomes.append(error)
    go_on.set()
    refused = [error for error in outcomes if isinstance(error, o.Rejected)]
    assert 15 <= len(refused) < 30
    assert not any(isinstance(error, o.BulkheadFullError) for error in refused)
    assert refused[0].primitive == "timeout"
    stats = hang.opero.stats()
    assert stats["calls"] == 30
    assert stats["attempts"] == 30 - len(refused)  # who found no thread did not call the function
    assert not any(o.attempts(error) for error in refused)


def test_threads_that_are_waited_for_are_not_capped(monkeypatch):
    monkeypatch.setattr(blocking, "MAX_THREADS", spare.abandoned() + 5)
    together = threading.Barrier(30)

    @o.opero(retries=0, timeout=60)
    def healthy(n):
        together.wait(60)
        return n

    with ThreadPoolExecutor(30) as callers:
        assert list(callers.map(healthy, range(30))) == list(range(30))


def test_threads_of_timed_calls_are_reused():
    @o.opero(retries=0, timeout=10)
    def f():
        return threading.get_ident()

    before = threading.active_count()
    for _ in range(50):
        f()
    assert threading.active_count() <= before + 2


def test_threads_of_a_burst_end_when_it_is_over():
    barrier = threading.Barrier(3 * spare.KEPT)

    @o.opero(retries=0, timeout=60)
    def f():
        barrier.wait()

    callers = [threading.Thread(target=f) for _ in range(barrier.parties)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    ours = [thread for thread in threading.enumerate() if thread.name == "opero-timeout"]
    for thread in {*ours} - {*spare._threads._idle, *spare.at_work().values()}:
        thread.join(30)
    assert sum(thread.is_alive() for thread in {*ours} - {*spare.at_work().values()}) <= spare.KEPT


def test_the_error_of_a_timed_call_keeps_its_traceback_to_the_function():
    @o.opero(retries=0, timeout=10)
    def f():
        raise KeyError("here")

    with pytest.raises(KeyError) as caught:
        f()
    assert caught.traceback[-1].name == "f"


@pytest.mark.parametrize("retries", [0, 3])
def test_cancelling_a_task_ends_it_at_once_and_counts_nothing(retries):
    policy = o.CircuitBreaker(min_calls=1)
    started = []

    @o.opero(policy, o.Bulkhead(1), o.Retry(retries) if retries else o.Timeout(50), o.Fallback(0))
    async def f():
        started.append(1)
        await asyncio.sleep(100)

    async def main():
        task = asyncio.create_task(f())
        await asyncio.sleep(1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return clock.now()

    with testing.clock(start=0):
        assert asyncio.run(main()) == 1
    assert len(started) == 1
    assert f.opero.breaker.state == "closed"
    stats = f.opero.stats()
    assert (stats["cancelled"], stats["errors"], stats["fallbacks"], stats["active"]) == (1, 0, 0, 0)
    assert f.opero.operation.places["bulkhead"].slots.used == 0


def test_cancelling_during_a_backoff_is_not_delayed():
    @o.opero(retries=5, min_delay=100, jitter="none", max_delay=100)
    async def f():
        raise OSError

    async def main():
        task = asyncio.create_task(f())
        await asyncio.sleep(1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return clock.now()

    with testing.clock(start=0):
        assert asyncio.run(main()) == 1


def test_an_outer_asyncio_timeout_is_not_mistaken_for_ours():
    @o.opero(retries=3, timeout=50, jitter="none")
    async def f():
        await asyncio.sleep(100)

    async def main():
        with pytest.raises(TimeoutError) as caught:
            async with asyncio.timeout(2):
                await f()
        assert not isinstance(caught.value, o.CallTimeout)

    with testing.clock():
        asyncio.run(main())
    assert f.opero.stats()["timeouts"] == 0


def test_a_thousand_calls_leave_no_garbage():
    @o.opero(retries=1, circuit_breaker=True, min_delay=0)
    def f(x):
        if x % 3 == 0:
            raise OSError
        return x

    def calls():
        for x in range(300):
            try:
                f(x)
            except (OSError, o.Rejected):
                continue

    calls()
    left = []
    with uncollected() as circles:
        for _ in ROUNDS:
            calls()
            left.append(circles())
    assert min(left) < 20


# ---- one timer for all calls of a loop


def timed(seconds=10.0, **settings):
    @o.opero(retries=0, timeout=seconds, **settings)
    async def f(pause):
        await asyncio.sleep(pause)
        return pause

    asyncio.run(f(0))  # the next call takes the fast path
    return f


def test_calls_that_are_late_end_and_the_others_go_on():
    f = timed()

    async def run():
        return await asyncio.gather(*(f(pause) for pause in (3, 30, 9.9, 10.1)), return_exceptions=True)

    with testing.clock() as time:
        answers = asyncio.run(run())
        assert time.elapsed() == pytest.approx(10)
    assert [a if isinstance(a, float | int) else type(a) for a in answers] == [3, o.CallTimeout, 9.9, o.CallTimeout]
    assert f.opero.stats()["timeouts"] == 2


def test_a_call_that_is_cancelled_from_outside_is_no_timeout():
    f = timed()

    async def run():
        task = asyncio.ensure_future(f(5))
        await asyncio.sleep(1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    with testing.clock():
        asyncio.run(run())
    assert (f.opero.stats()["cancelled"], f.opero.stats()["timeouts"]) == (1, 0)


def test_an_outer_timeout_ends_the_call_inside_as_its_own():
    f = timed()

    async def run():
        with pytest.raises(TimeoutError) as caught:
            async with asyncio.timeout(1):
                await f(5)
        assert not isinstance(caught.value, o.CallTimeout)
        assert asyncio.current_task().cancelling() == 0

    with testing.clock():
        asyncio.run(run())
    assert f.opero.stats()["cancelled"] == 1


def test_after_a_timeout_the_task_is_not_left_cancelled():
    f = timed()

    async def run():
        for _ in range(3):
            with pytest.raises(o.CallTimeout):
                await f(11)
        assert asyncio.current_task().cancelling() == 0
        await asyncio.sleep(1)
        return await f(1)

    with testing.clock():
        assert asyncio.run(run()) == 1


def test_calls_that_end_in_time_leave_nothing_behind():
    f = timed()
    timers = f.__globals__["timers"]

    async def run():
        await asyncio.gather(*(f(0.001) for _ in range(100)))
        assert [timer.pending for loop, timer in timers.items() if not loop.is_closed()] == [{}]

    for _ in range(3):
        asyncio.run(run())
    assert len(timers) == 1
