"""The turns of an event loop's tasks at a store: so many ask at a time, the others wait in line.

1. Waiting in line is no outage. When a question finds one, all who wait hear of it at once, and ask no more.
2. The bound is on a whole question: connecting, sending it, and all pieces of its answer.
3. It is counted in ticks, each begun when the one before it ended: a loop that stood still has waited one tick.
"""

from __future__ import annotations

import asyncio
from collections import deque

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import Any, TypeVar

    T = TypeVar("T")

TICKS = 4
here = asyncio.get_running_loop


class Turns:
    """Lets `most` ask at a time, in order of arrival, each for `seconds`. `outage` says which errors are one."""

    def __init__(self, most: int, seconds: float, outage: Callable[[Exception], bool]) -> None:
        self._most = self._free = most
        self._seconds = seconds
        self._outage = outage
        self._line: deque[asyncio.Future[None]] = deque()

    @property
    def idle(self) -> bool:
        """Whether nobody asks."""
        return self._free == self._most

    async def take(self, loop: Any, question: Callable[[], Awaitable[T]]) -> T:
        """Ask when it is our turn; `TimeoutError` if that takes too long, or finds an outage while we wait."""
        if self._free:
            self._free -= 1
        else:
            await self._wait(loop)
        try:
            async with asyncio.timeout(None) as bound:
                ticks = _Ticks(loop, self._seconds / TICKS, bound)
                try:
                    return await question()
                finally:
                    ticks.end()
        except Exception as error:
            if self._outage(error):
                self._send_away()
            raise
        finally:
            self._pass_on()

    async def _wait(self, loop: Any) -> None:
        turn = loop.create_future()
        self._line.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self._pass_on()
            raise

    def _pass_on(self) -> None:
        while self._line:
            turn = self._line.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1

    def _send_away(self) -> None:
        while self._line:
            turn = self._line.popleft()
            if not turn.done():
                turn.set_exception(TimeoutError())


class _Ticks:
    """Ends a timeout after so many ticks."""

    __slots__ = ("_bound", "_handle", "_left", "_loop", "_seconds")

    def __init__(self, loop: Any, seconds: float, bound: asyncio.Timeout) -> None:
        self._loop, self._seconds, self._bound, self._left = loop, seconds, bound, TICKS
        self._handle = loop.call_later(seconds, self._tick)

    def _tick(self) -> None:
        self._left -= 1
        if self._left:
            self._handle = self._loop.call_later(self._seconds, self._tick)
        else:
            self._bound.reschedule(self._loop.time())

    def end(self) -> None:
        self._handle.cancel()
