"""A call that is cancelled while it tells a store how it ended: what it held goes back in the background."""

import asyncio

import pytest

import opero as o
from opero import clock
from shared_store import MappedStore, opened
from together import wait_for


class Slow(MappedStore):
    """A store whose first answer to how a call ended never comes."""

    def __init__(self):
        super().__init__()
        self.asked = None
        self.settled = []

    async def leave(self, runtime, *args):
        await self._rest(runtime)
        await super().leave(runtime, *args)

    async def settle(self, runtime, *args):
        await self._rest(runtime)
        change = await super().settle(runtime, *args)
        self.settled.append(args[-2])
        return change

    async def _rest(self, runtime):
        if self.asked is not None and not self.asked.is_set() and runtime.suspends:
            self.asked.set()
            await asyncio.Event().wait()


def cancelled(store, function):
    async def main():
        store.asked = asyncio.Event()
        call = asyncio.ensure_future(function())
        await store.asked.wait()
        call.cancel()
        with pytest.raises((asyncio.CancelledError, OSError)):
            await call

    asyncio.run(main())


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
def test_a_probe_goes_back(fails):
    with opened(Slow) as store:
        breaker = o.CircuitBreaker(consecutive=1, half_open_probes=1, reset_after=1, store=store, name="shop")
        failing = [True, fails, False]

        @o.opero(breaker)
        async def f():
            if failing.pop(0):
                raise OSError
            return 1

        with pytest.raises(OSError):
            asyncio.run(f())
        clock.sleep(1)
        cancelled(store, f)
        wait_for(lambda: store.settled == ["failure", "none"])
        assert asyncio.run(f()) == 1
        assert breaker.state == "closed"
