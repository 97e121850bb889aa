"""The virtual clock on trio: the clock that every run has unless it is given another.

Imported where trio is, and nowhere else. A run with a clock of its own, `trio.testing.MockClock`, is left alone.
"""

from __future__ import annotations

from contextlib import contextmanager
from math import inf
from select import select
from typing import TYPE_CHECKING, Any

from trio._core._run import GLOBAL_RUN_CONTEXT, SystemClock

from opero.errors import ConfigurationError
from opero.testing.timeline import even

if TYPE_CHECKING:
    from collections.abc import Iterator

    from opero.testing.timeline import Clock

Shifts = dict[int, tuple[Any, float]]


@contextmanager
def moved(virtual: Clock) -> Iterator[None]:
    """Let runs have virtual time: those that began before, and those that begin now."""
    shifts: Shifts = {}  # trio's clocks by identity, and what their time is more than ours
    clock: Any = SystemClock
    time, sleep_time = clock.current_time, clock.deadline_to_sleep_time

    def shift(self: Any) -> float:
        if id(self) not in shifts:
            shifts[id(self)] = self, even(time(self) - virtual.now())
        return shifts[id(self)][1]

    def wait(self: Any, deadline: float) -> float:
        runner = GLOBAL_RUN_CONTEXT.runner
        if deadline == inf or runner.waiting_for_idle:  # who waits for all to be idle goes first
            return inf
        left = deadline - self.current_time()
        if left > 0:
            _wait(virtual, virtual.after(left), runner.io_manager)
        return 0.0

    clock.current_time = lambda self: virtual.now() + shift(self)
    clock.deadline_to_sleep_time = wait
    try:
        yield
    finally:
        clock.current_time, clock.deadline_to_sleep_time = time, sleep_time
        for each, more in shifts.values():
            ahead = virtual.now() + more - time(each)
            object.__setattr__(each, "offset", each.offset + max(0.0, ahead))  # it is frozen


def _wait(virtual: Clock, at: float, poller: Any) -> None:
    """Wait for a time, or for something to be ready sooner, and leave that for trio to find."""
    queue = getattr(poller, "_epoll", None) or getattr(poller, "_kqueue", None)
    if queue is None:
        raise ConfigurationError("loop", "trio", "asyncio's here: trio can be moved in time on Linux and macOS")

    def ready(seconds: float) -> bool:
        return bool(select([queue], [], [], seconds)[0])

    virtual.until(at, woken=lambda: ready(0), wait=ready)
