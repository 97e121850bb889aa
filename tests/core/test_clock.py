"""The virtual clock itself."""

import asyncio
import hashlib
import os
import threading
import time

import pytest

from child import ending, fork
from opero import clock, testing


def test_sleeping_takes_no_time_and_moves_the_clock():
    real = time.monotonic()
    with testing.clock(start=0) as virtual:
        clock.sleep(3600)
        assert clock.now() == virtual.now() == 3600
    assert time.monotonic() - real < 5
    assert clock.sleep is clock._sleep


def test_timers_of_a_loop_fire_in_order():
    order = []

    async def wait(seconds):
        await asyncio.sleep(seconds)
        order.append((seconds, clock.now()))

    async def main():
        await asyncio.gather(*map(wait, (30, 10, 20)))

    with testing.clock(start=0):
        asyncio.run(main())
    assert order == [(10, 10), (20, 20), (30, 30)]


def test_two_threads_sleep_in_the_same_time():
    woken = []

    def sleep(seconds):
        clock.sleep(seconds)
        woken.append((seconds, clock.now()))

    with testing.clock(start=0):
        threads = [threading.Thread(target=sleep, args=(s,)) for s in (20, 10)]
        for thread in threads:
            thread.start()
        clock.sleep(30)
        for thread in threads:
            thread.join()
    assert [seconds for seconds, _ in woken] == [10, 20]


def test_a_wait_ends_when_the_event_is_set_or_the_time_is_over():
    with testing.clock(start=0):
        event = threading.Event()
        assert not clock.wait(event, 5)
        assert clock.now() == 5
        event.set()
        assert clock.wait(event, 5)
        assert clock.now() == 5


def test_time_stands_while_somebody_runs():
    with testing.clock(start=0):
        sleeper = threading.Thread(target=clock.sleep, args=(10,))
        sleeper.start()
        until = time.thread_time() + 0.7
        while time.thread_time() < until:
            assert clock.now() == 0
        sleeper.join()
        assert clock.now() == 10


def test_who_is_woken_goes_on_before_time_does():
    woken = []

    def hear(event):
        clock.wait(event, 100)
        woken.append(clock.now())

    for _ in range(30):
        with testing.clock(start=0):
            event = threading.Event()
            hearing = threading.Thread(target=hear, args=(event,))
            hearing.start()
            clock.sleep(1)
            event.set()
            clock.sleep(5)
            hearing.join()
    assert woken == [1] * 30


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_time_stands_in_a_forked_child_too_while_somebody_works():
    with ending():
        if fork() == 0:
            with testing.clock() as virtual:
                threading.Thread(target=clock.sleep, args=(10,)).start()
                hashlib.pbkdf2_hmac("sha256", b"work", b"without the GIL", 4_000_000)
                assert virtual.elapsed() == 0


def test_a_loop_and_its_threads_share_the_time():
    async def main():
        other = asyncio.to_thread(clock.sleep, 7)
        await asyncio.gather(other, asyncio.sleep(3))
        return clock.now()

    with testing.clock(start=0):
        assert asyncio.run(main()) == 7


def test_who_still_waits_when_the_clock_ends_is_let_go():
    with testing.clock(start=0):
        sleeper = threading.Thread(target=clock.sleep, args=(1e9,))
        sleeper.start()
    sleeper.join(30)
    assert not sleeper.is_alive()
