"""The garbage collector ends abandoned calls anywhere, also where this thread holds the lock of what they have."""

import asyncio
import gc
import itertools
import signal
import threading
import time
from contextlib import contextmanager, suppress

import pytest

import opero as o
from ending import ended

numbers = itertools.count()
POLICIES = {
    "circuit": lambda: o.CircuitBreaker(failure_ratio=1.0),
    "probes": lambda: o.CircuitBreaker(consecutive=1, reset_after=1e-6, half_open_probes=100),
    "circuits by key": lambda: o.CircuitBreaker(failure_ratio=1.0, key=lambda _: next(numbers) % 20, max_keys=5),
    "rates by key": lambda: o.RateLimit("100000/s", key=lambda _: next(numbers) % 20, max_keys=5),
    "slots": lambda: o.Bulkhead(3, max_queue=1000, max_wait=0.01),
    "rate": lambda: o.RateLimit("100000/s; 1000000/min"),
    "tokens": lambda: o.RetryBudget(0.9),
    "ring": lambda: o.ArgFallback("given", alternatives=[1, 2], cooldown=1, refresh=lambda: [1, 2]),
}


@contextmanager
def eager():
    """Let it look at every chance."""
    before = gc.get_threshold()
    gc.set_threshold(1)
    try:
        yield
    finally:
        gc.set_threshold(*before)


@pytest.mark.parametrize("policy", POLICIES)
def test_a_task_that_nobody_keeps_ends_while_others_go_on(policy):
    @o.opero(POLICIES[policy](), retries=1, min_delay=0, max_delay=0)
    async def work(given):
        if given == "failing":
            raise ConnectionError
        await (asyncio.sleep(0) if given == "passing" else asyncio.get_running_loop().create_future())

    async def call(given):
        with suppress(ConnectionError, o.OperoError):
            await work(given)

    async def main():
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)  # it tells of each task
        for _ in range(60):
            for _ in range(2):
                asyncio.create_task(call("hanging"))  # noqa: RUF006 - nobody keeps it
            await asyncio.gather(call("passing"), call("failing"))

    def run():
        with eager():
            asyncio.run(main())
        gc.collect()
        return work.opero.stats()["active"]

    assert ended(run)[0] == 0


@pytest.mark.parametrize("policy", POLICIES)
def test_a_generator_that_nobody_keeps_ends_while_others_go_on(policy):
    @o.opero(POLICIES[policy](), retries=0)
    def work(given):
        if given == "failing":
            raise ConnectionError
        yield given

    def run():
        with eager():
            for _ in range(200):
                circle = [work("hanging")]
                circle.append(circle)
                for given in (None, "failing", "passing"):
                    with suppress(ConnectionError, o.OperoError):
                        list(work(given)) if given else next(circle[0])
            del circle
        gc.collect()
        return work.opero.stats()["active"]

    assert ended(run)[0] == 0


def test_threads_whose_abandoned_calls_end_under_each_others_locks_wait_for_no_other():
    policy = o.CircuitBreaker(consecutive=3, reset_after=0.001, key=lambda _: next(numbers) % 8, max_keys=4)

    @o.opero(policy, retries=0)
    def work(given):
        if given == "failing":
            raise ConnectionError
        yield given

    def run():
        until = time.monotonic() + 0.7
        while time.monotonic() < until:
            circle = [work("hanging")]
            circle.append(circle)
            for given in (None, "failing", "passing"):
                with suppress(ConnectionError, o.OperoError):
                    list(work(given)) if given else next(circle[0])

    with eager():
        threads = [threading.Thread(target=run, daemon=True) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
    assert not any(thread.is_alive() for thread in threads)


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs a timer")
@pytest.mark.parametrize("policy", POLICIES)
def test_a_handler_of_a_signal_may_call_in_the_middle_of_a_call(policy):
    handled = []

    @o.opero(POLICIES[policy](), retries=0)
    def work(given):
        if given == "failing":
            raise ConnectionError

    def call(given):
        with suppress(ConnectionError, o.OperoError):
            work(given)

    before = signal.signal(signal.SIGALRM, lambda *_: handled.append(call("passing")))
    signal.setitimer(signal.ITIMER_REAL, 0.002, 0.002)
    try:
        while len(handled) < 200:
            call("passing")
            call("failing")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
