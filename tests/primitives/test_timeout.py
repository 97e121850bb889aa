"""Deadlines: how far they reach, and what ends a blocking function."""

import asyncio
import os
import signal
import threading
import time
from contextlib import nullcontext

import pytest

import opero as o
from child import ending, fork
from opero import testing
from opero.drivers import timers


def test_inner_calls_wait_for_nothing_past_the_deadline_around_them():
    @o.opero(retries=5, min_delay=7, jitter="none")
    def inner():
        raise OSError

    @o.opero(o.Timeout(5))
    def outer():
        inner()

    with testing.clock(), pytest.raises(OSError):
        outer()
    assert inner.opero.stats()["attempts"] == 1


def test_inner_waits_are_refused_for_the_deadline_around_them():
    policy = o.RateLimit(1, per=60, burst=1)

    @o.opero(policy)
    async def inner():
        return 1

    @o.opero(retries=0, timeout=5)
    async def outer():
        return await inner()

    async def main():
        await inner()
        with pytest.raises(o.RateLimitedError) as caught:
            await outer()
        return caught.value.reason, virtual.elapsed()

    with testing.clock() as virtual:
        assert asyncio.run(main()) == ("deadline", 0)


def test_nothing_begins_after_the_deadline():
    ran = []

    @o.opero(o.Bulkhead(5))
    def inner():
        ran.append(1)

    @o.opero(o.Timeout(1, how="cooperative"))
    def outer():
        virtual.advance(2)
        with pytest.raises(o.CallTimeout), o.Timeout(10):
            ran.append(2)
        inner.opero.with_(timeout=3)()

    with testing.clock() as virtual, pytest.raises(o.CallTimeout):
        outer()
    assert ran == []


def test_remaining_is_the_nearest_deadline_and_crosses_threads_and_tasks():
    @o.opero(retries=0, timeout=10)
    def outer():
        virtual.advance(4)
        return o.remaining(), inner(), longer()

    @o.opero(retries=0, timeout=2)
    def inner():
        return o.remaining()

    @o.opero(retries=0, timeout=100)
    def longer():
        return o.remaining()

    @o.opero(retries=0, attempt_timeout=3)
    async def task():
        return await asyncio.create_task(look())

    async def look():
        return o.remaining()

    with testing.clock() as virtual:
        assert outer() == (6, 2, 6)
        assert asyncio.run(task()) == 3
        assert o.remaining() is None


def test_remaining_is_zero_when_the_time_is_over():
    left = []
    with testing.clock() as virtual, pytest.raises(o.CallTimeout, match="within 1 s"), o.Timeout(1):
        left.append((virtual.advance(5), o.remaining()))
    assert left == [(None, 0)]


def test_a_signal_ends_a_blocking_function_on_the_main_thread():
    finished = []

    @o.opero(o.Timeout(0.1, how="signal"))
    def f():
        try:
            time.sleep(20)
        except Exception:
            finished.append("swallowed")
        finally:
            finished.append("finally")

    before, started = signal.getsignal(signal.SIGALRM), time.monotonic()
    with pytest.raises(o.CallTimeout):
        f()
    assert time.monotonic() - started < 10
    assert finished == ["finally"]
    assert signal.getsignal(signal.SIGALRM) is before
    assert o.opero(o.Timeout(5, how="signal"))(abs)(-3) == 3


def test_a_signal_that_ends_a_later_attempt_shows_what_the_one_before_failed_of():
    steps = iter([OSError("down")])

    @o.opero(o.Retry(1, wait=0), o.Timeout(0.3, how="signal"))
    def f():
        for error in steps:
            raise error
        time.sleep(20)

    with pytest.raises(o.CallTimeout) as caught:
        f()
    assert repr(caught.value.__cause__) == "OSError('down')"


@pytest.mark.parametrize("seconds", [5e-324, 1e-9, 1e-6, 1e-5, 5e-5])
def test_an_alarm_that_rings_at_once_is_a_timeout_and_nothing_else(seconds):
    before, f = signal.getsignal(signal.SIGALRM), o.opero(o.Timeout(seconds, how="signal"))(time.sleep)
    for _ in range(20):
        with pytest.raises(o.CallTimeout):
            f(5)
    assert signal.getsignal(signal.SIGALRM) is before


@pytest.mark.parametrize("when", ["armed", "disarmed"])
def test_an_alarm_outside_of_the_function_never_reaches_the_caller(monkeypatch, when):
    real, before = signal.setitimer, signal.getsignal(signal.SIGALRM)

    def setitimer(which, seconds, *interval):
        answer = real(which, seconds, *interval)
        ours = signal.getsignal(signal.SIGALRM) is not before
        if ours and bool(seconds) is (when == "armed"):
            signal.raise_signal(signal.SIGALRM)
        return answer

    monkeypatch.setattr(signal, "setitimer", setitimer)
    f = o.opero(o.Timeout(5, how="signal"))(abs)
    if when == "armed":
        with pytest.raises(o.CallTimeout):
            f(-3)
    else:
        assert f(-3) == 3
    assert signal.getsignal(signal.SIGALRM) is before


@pytest.mark.parametrize("seconds", [1e10, 1e308])
def test_a_signal_that_never_comes_stops_nothing(seconds):
    before = signal.getsignal(signal.SIGALRM)
    assert o.opero(o.Timeout(seconds, how="signal"))(abs)(-3) == 3
    assert signal.getsignal(signal.SIGALRM) is before


def test_a_signals_timer_leaves_that_of_others_as_it_was():
    rung = []
    before = signal.signal(signal.SIGALRM, lambda *_: rung.append(1))
    timer = signal.setitimer(signal.ITIMER_REAL, 30)
    try:
        assert o.opero(o.Timeout(5, how="signal"))(abs)(-3) == 3
        assert 0 < signal.getitimer(signal.ITIMER_REAL)[0] <= 30
    finally:
        signal.setitimer(signal.ITIMER_REAL, *timer)
        signal.signal(signal.SIGALRM, before)
    assert rung == []


def test_off_the_main_thread_a_signal_is_a_thread():
    threads = []

    @o.opero(o.Timeout(5, how="signal"))
    def f():
        threads.append(threading.current_thread())

    worker = threading.Thread(target=f)
    worker.start()
    worker.join()
    assert threads[0].name == "opero-timeout"


def test_a_cooperative_timeout_runs_in_place_and_judges_at_the_end():
    @o.opero(o.Timeout(1, how="cooperative"))
    def f(seconds):
        virtual.advance(seconds)
        return threading.current_thread()

    with testing.clock() as virtual:
        assert f(0.5) is threading.current_thread()
        with pytest.raises(o.CallTimeout):
            f(2)


def test_a_way_to_end_that_does_not_exist_is_refused():
    with pytest.raises(o.ConfigurationError, match="how takes 'thread' or 'signal' or 'cooperative'"):
        o.Timeout(5, how="magic")


def test_a_hundredth_of_a_second_is_a_time_and_nothing_is_none():
    assert o.Timeout(attempt=0.01).attempt == 0.01
    for settings in ({"seconds": 0}, {"attempt": 0}):
        with pytest.raises(o.ConfigurationError):
            o.Timeout(**settings)


def test_the_fast_path_of_a_blocking_function_is_for_timeouts_that_cooperate():
    assert o.Timeout(1, how="cooperative").fragment() is not None
    assert o.Timeout(1).fragment() is o.Timeout(attempt=1, how="cooperative").fragment() is None
    assert (o.Timeout.minds_refusals, o.Timeout.reads_arguments) == (False, False)


@pytest.mark.parametrize("listening", [False, True])
@pytest.mark.parametrize("settings", [{"retries": 2, "min_delay": 0}, {"fallback": "answer"}])
@pytest.mark.parametrize("stalled", [False, True])  # the timer is due in the turn in which it is cancelled
def test_who_is_cancelled_before_the_timeout_stays_cancelled_however_long_the_cleanup_takes(
    stalled, settings, listening
):
    @o.opero(timeout=2, **settings)
    async def work():
        try:
            await asyncio.sleep(10)
        finally:
            await asyncio.sleep(10)

    async def main(virtual):
        task = asyncio.create_task(work())
        await asyncio.sleep(1)
        if stalled:
            virtual.advance(2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return task.cancelled()

    with testing.clock() as virtual, testing.capture() if listening else nullcontext():
        assert asyncio.run(main(virtual))
    stats = work.opero.stats()
    assert (stats["cancelled"], stats["timeouts"], stats["attempts"]) == (1, 0, 1)


def test_a_timeout_of_asyncio_around_a_call_cancels_it():
    @o.opero(o.Retry(3, wait=5, jitter="none"), o.Fallback("never"))
    async def f():
        raise OSError

    async def main():
        async with asyncio.timeout(1):
            assert o.remaining() is None  # which asyncio does not tell
            await f()

    with testing.clock() as virtual:
        began = virtual.now()
        with pytest.raises(TimeoutError) as caught:
            asyncio.run(main())
        assert virtual.now() - began == 1
    assert not isinstance(caught.value, o.CallTimeout)
    stats = f.opero.stats()
    assert (stats["cancelled"], stats["errors"], stats["timeouts"], stats["attempts"]) == (1, 0, 0, 1)


def test_one_inside_of_a_function_is_an_error_of_that_function():
    @o.opero(o.Retry(2, wait=0, on=TimeoutError), o.Timeout(60))
    async def f():
        async with asyncio.timeout(1):
            assert o.remaining() > 50
            await asyncio.sleep(9)

    with testing.clock(), pytest.raises(TimeoutError) as caught:
        asyncio.run(f())
    assert not isinstance(caught.value, o.CallTimeout)
    stats = f.opero.stats()
    assert (stats["errors"], stats["timeouts"], stats["attempts"]) == (1, 0, 3)


def test_before_the_end_of_a_block_no_wait_is_begun_that_would_pass_it():
    @o.opero(o.Retry(3, wait=5, jitter="none"))
    async def f():
        raise OSError

    async def main():
        async with o.Timeout(1):
            await f()

    with testing.clock() as virtual:
        began = virtual.now()
        with pytest.raises(OSError):
            asyncio.run(main())
        assert virtual.now() == began


def test_where_no_thread_can_be_started_the_call_is_refused_and_says_what_to_do(threads):
    f = o.opero(o.Timeout(5, how="thread"), retries=0)(threading.get_ident)
    threads(False)
    with pytest.raises(o.Rejected, match=r"no thread is free: .*cooperative") as refused:
        f()
    assert (refused.value.primitive, refused.value.reason) == ("timeout", "queue_full")
    assert (f.opero.stats()["rejected"], f.opero.stats()["attempts"]) == (1, 0)
    threads(True)
    assert f() != threading.get_ident()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_child_forked_inside_of_two_deadlines_has_both():
    quick = o.opero(o.Timeout(5, how="cooperative"))(o.remaining)
    inner = o.opero(o.Timeout(10, how="cooperative"))(fork)

    @o.opero(o.Timeout(0.5, how="cooperative"))
    def outer():
        if inner() == 0:
            assert 0 < quick() <= 0.5
            time.sleep(0.5)
            with pytest.raises(o.CallTimeout):
                quick()
            os._exit(0)

    quick()
    with ending(), pytest.raises(o.CallTimeout):
        outer()


def test_another_thread_may_have_dropped_a_closed_loop_meanwhile():
    held = {}

    class Closed:
        def is_closed(self):
            held.clear()
            return True

    held[Closed()] = None
    loop = object()
    assert timers._timer(held, loop) is held[loop]
