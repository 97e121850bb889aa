"""What is open on an event loop, and closes with it; sooner, where nobody has it any more.

1. A loop ends its asynchronous generators last, as `asyncio.run` lets it: one of ours closes what is open by then.
2. Who had it may be collected at any time, also while the loop ends. So what is open is the loop's until it is closed.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from weakref import WeakKeyDictionary

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from typing import Any

    Closer = Callable[[], Awaitable[object]]
    Values = WeakKeyDictionary[Any, Any]
else:
    Values = WeakKeyDictionary

OPEN = "_opero_open"  # of a loop, what is open on it


class ByLoop(Values):
    """Values by loop. Setting one drops those of closed loops: a value may hold its loop. Thread-safe."""

    def __setitem__(self, loop: Any, value: Any) -> None:
        for known in self.keyrefs():  # a list: other threads add theirs meanwhile
            if (other := known()) is not None and other.is_closed():
                self.pop(other, None)
        super().__setitem__(loop, value)


class _Open:
    """What is open on one loop."""

    def __init__(self) -> None:
        self.closers: dict[Closer, None] = {}
        self.over = False
        self.end = self._end()
        self._tasks: set[asyncio.Task[None]] = set()

    async def close(self, closers: tuple[Closer, ...]) -> None:
        for closer in closers:
            await closer()
            self.closers.pop(closer, None)

    def close_soon(self, loop: Any, closers: tuple[Closer, ...]) -> None:
        if not self.over:
            task = loop.create_task(self.close(closers))
            self._tasks.add(task)
            task.add_done_callback(self._closed)

    def _closed(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # what fails as it is closed is closed

    async def _end(self) -> AsyncIterator[None]:
        try:
            yield
        finally:
            self.over = True
            await asyncio.gather(*self._tasks, *(closer() for closer in self.closers), return_exceptions=True)


async def close_with(loop: Any, *closers: Closer) -> None:
    """Have them awaited when the running loop ends."""
    here = getattr(loop, OPEN, None)
    if here is None:
        here = _Open()
        setattr(loop, OPEN, here)  # it ends with its loop, also where that is only dropped
        await anext(here.end)
    here.closers.update(dict.fromkeys(closers))


def is_over(loop: Any) -> bool:
    """Whether the loop has closed what was open: who opens something now has to close it."""
    here = getattr(loop, OPEN, None)
    return here is not None and here.over


async def close(loop: Any, *closers: Closer) -> None:
    """Await them now, on their loop."""
    await getattr(loop, OPEN).close(closers)


def close_soon(loop: Any, *closers: Closer) -> None:
    """Have them awaited soon. From any thread, and in the middle of anything."""
    here = getattr(loop, OPEN, None)
    if here is not None:
        with suppress(RuntimeError):  # the loop is closed, and they with it
            loop.call_soon_threadsafe(here.close_soon, loop, closers)
