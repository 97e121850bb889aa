"""A session over process workers whose parent is a coroutine: it waits for their pipes on the running loop."""

from __future__ import annotations

import asyncio

from opero import clock
from opero.workers.processes import Processes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from opero.workers.session import Block


class AsyncProcesses(Processes):
    """One run, awaited. Wants a loop that can watch pipes: any but the default one of Windows."""

    async def next(self, until: float | None) -> list[Block]:
        while not self._done and (until is None or clock.now() < until):
            self._feed()
            if not self._done and not self._woken:
                await self._readable(self._patience(until))
                self._hear(0)
            if self._woken:
                break
        self._woken = False
        return self._taken()

    _woken = False
    _waiter: asyncio.Future[None] | None = None

    def wake(self) -> None:
        """Let `next` return: an asynchronous input has something to hand over."""
        self._woken = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def _readable(self, seconds: float | None) -> None:
        """Wait until a worker says something or dies, or somebody wakes us, so long at most."""
        loop = asyncio.get_running_loop()
        self._waiter = loop.create_future()
        watched = [thing for worker in self._workers for thing in worker.watched()]
        watched = [thing if isinstance(thing, int) else thing.fileno() for thing in watched]
        for descriptor in watched:
            loop.add_reader(descriptor, self._ready)
        try:
            await asyncio.wait([self._waiter], timeout=seconds)
        finally:
            for descriptor in watched:
                loop.remove_reader(descriptor)
            self._waiter = None

    def _ready(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
