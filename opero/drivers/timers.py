"""Timeouts of coroutine functions on the fast path: one timer for all calls of a loop with the same timeout.

They end in the order they began, so only the first of them needs a timer; a call that ends in time costs two dictionary
operations. `asyncio.timeout` makes and cancels a timer for each.
"""

from __future__ import annotations

import sys
from asyncio import CancelledError, _get_running_loop, tasks

from opero import clock
from opero.deadlines import Deadline, deadline, leave, within

TYPE_CHECKING = False
if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Task, TimerHandle
    from contextvars import Token
    from typing import Any

    from opero.pipeline import Operation

    Timers = dict[AbstractEventLoop, "Timer"]

if sys.version_info < (3, 12):  # where it is a frame around this, as dear as the rest of `begin`
    current_task = tasks._current_tasks.get  # type: ignore[attr-defined]  # noqa: SLF001
else:
    current_task = tasks.current_task

new = object.__new__  # a frame less than `Limit()`, a tenth of what a timeout costs


class Limit(Deadline):
    """The deadline of one call, known to the calls inside; `cancelling` is how often its task was cancelled before."""

    __slots__ = ("cancelling", "task", "timer", "token")
    scope, how, inherited = "timeout", "thread", False  # the same for all of them

    cancelling: int
    task: Task[Any]
    timer: Timer
    token: Token[Deadline | None]


class Timer:
    """The calls of one loop with one timeout."""

    __slots__ = ("handle", "loop", "pending")

    def __init__(self, loop: AbstractEventLoop) -> None:
        self.loop = loop
        self.pending: dict[Limit, None] = {}
        self.handle: TimerHandle | None = None

    def arm(self, first: Limit) -> None:
        """Fire when the first of them is late."""
        self.handle = self.loop.call_at(self.loop.time() + first.at - clock.now(), self.fire)

    def fire(self) -> None:
        """Cancel who is late, and wait for the next."""
        self.handle = None
        now = clock.now()
        while self.pending:
            first = next(iter(self.pending))
            if first.at > now:
                self.arm(first)
                return
            del self.pending[first]
            first.hit = True
            first.task.cancel()


def begin(at: float, seconds: float, timers: Timers) -> Limit | None:
    """Cancel this task at a time, unless the call has ended before; None where there is no task to cancel.

    `timers` are those of all calls with this timeout.
    """
    loop = _get_running_loop()
    if loop is None:  # trio runs
        return None
    task = current_task(loop)
    if task is None:
        return None
    timer = timers.get(loop) or _timer(timers, loop)
    limit = new(Limit)
    limit.at, limit.seconds, limit.task, limit.timer, limit.hit = at, seconds, task, timer, False
    limit.cancelling = task.cancelling()
    timer.pending[limit] = None
    if timer.handle is None:
        timer.arm(limit)
    limit.token = deadline.set(limit)
    within.append(None)
    return limit


def judge(limit: Limit, error: BaseException, operation: Operation) -> BaseException:
    """Forget a call that raised, and return what it raised: a timeout, if it was our cancellation."""
    leave(limit.token)
    if not limit.hit:
        del limit.timer.pending[limit]
    elif limit.task.uncancel() <= limit.cancelling and isinstance(error, CancelledError):
        return limit.expire(operation)
    return error


def _timer(timers: Timers, loop: AbstractEventLoop) -> Timer:
    for closed in [other for other in list(timers) if other.is_closed()]:
        timers.pop(closed, None)  # another thread may have done so
    return timers.setdefault(loop, Timer(loop))
