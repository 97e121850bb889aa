"""A store that does not hear how a call ended: what that held goes back in the background, or once it is back."""

import asyncio
import threading
from contextlib import nullcontext

import pytest

import opero as o
from opero import clock
from opero.stores.guard import guard
from shared_store import MappedStore, Reachable, comes_back, opened
from together import wait_for


class Slow(MappedStore):
    """A store whose first answer to how a call ended takes its time, or never comes."""

    def __init__(self):
        super().__init__()
        self.asked, self.answers, self.settled = None, threading.Event(), []

    async def leave(self, runtime, *args):
        if self.asked is not None and not self.asked.is_set():
            self.asked.set()
            await asyncio.Event().wait()
        await super().leave(runtime, *args)

    async def settle(self, runtime, *args):
        change = await super().settle(runtime, *args)
        self.settled.append(args[-2])
        if self.asked is not None:
            self.asked.set()
            assert self.answers.wait(30)
        return change


def cancelled(store, function):
    """Cancel a call while it tells the store how it ended."""

    async def main():
        call = asyncio.ensure_future(function())
        while not store.asked.is_set():
            await asyncio.sleep(0)
        call.cancel()
        with pytest.raises((asyncio.CancelledError, OSError)):
            await call

    store.asked = threading.Event()
    asyncio.run(main())
    store.asked = None
    store.answers.set()


def test_a_slot_goes_back():
    with opened(Slow) as store:
        bulkhead = o.Bulkhead(1, store=store, name="shop")

        @o.opero(bulkhead)
        async def f():
            return 1

        cancelled(store, f)
        wait_for(lambda: bulkhead.shared.read() == (0, 0))
        assert asyncio.run(f()) == 1


@pytest.mark.parametrize("fails", [False, True])
def test_a_probe_is_told_of_once(fails):
    with opened(Slow) as store:
        breaker = o.CircuitBreaker(
            failure_ratio=0.5, min_calls=1, half_open_probes=4, reset_after=1, store=store, name="shop"
        )
        failing = [True, fails, False, False, False, False]

        @o.opero(breaker)
        async def f():
            if failing.pop(0):
                raise OSError
            return 1

        with pytest.raises(OSError):
            asyncio.run(f())
        clock.sleep(1)
        cancelled(store, f)
        assert [asyncio.run(f()) for _ in range(3)] == [1] * 3
        assert store.settled == ["failure", "failure" if fails else "success", *["success"] * 3]
        assert breaker.state == "closed"


def test_a_slot_goes_back_once_the_store_that_was_away_as_the_call_ended_is_back():
    with opened(Reachable) as store:
        bulkhead = o.Bulkhead(1, store=store, name="shop")

        @o.opero(bulkhead)
        def f():
            store.down = outage

        outage = True
        f()
        assert guard(store).away
        outage = False
        f()  # in a slot of this process
        comes_back(store)
        wait_for(lambda: bulkhead.shared.read() == (0, 0))
        f()


@pytest.mark.parametrize("fails", [False, True])
def test_so_does_a_probe(fails):
    with opened(Reachable) as store:
        breaker = o.CircuitBreaker(consecutive=1, half_open_probes=1, reset_after=1, store=store, name="shop")
        failing, outage = [True, fails, False], [False, True, False]

        @o.opero(breaker)
        def f():
            store.down = outage.pop(0)
            if failing.pop(0):
                raise OSError

        with pytest.raises(OSError):
            f()
        clock.sleep(1)
        with pytest.raises(OSError) if fails else nullcontext():
            f()
        assert guard(store).away
        comes_back(store)
        wait_for(lambda: store.settled == ["failure", "none"])
        f()
        assert breaker.state == "closed"
