"""A virtual clock: waits take no time, and time moves only when everybody waits."""

from __future__ import annotations

import asyncio
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from opero import clock as real

if TYPE_CHECKING:
    from collections.abc import Iterator

STEP = 0.002  # real seconds between two looks at what other threads do
GRACE = 0.05  # real seconds that other threads get to do what this one waits for, once one of them waits too
PATIENCE = 0.5  # the same while none of them waits: it may not have come so far


class Clock:
    """Virtual time, in seconds. Thread-safe.

    Not for code that waits for real sockets or calls `time.sleep` itself: that needs real time.

    Source: trio's MockClock, whose time also jumps when everybody waits.
    """

    def __init__(self, start: float = 1000.0) -> None:
        self._now = start
        self._wall = real.wall() - start
        self._moved = threading.Condition()
        self._wakes: dict[int, float] = {}  # thread → when it goes on
        self._changes = 0  # how often that changed: who moves time must have seen it as it is
        self._owner = threading.get_ident()
        self._real_wait = real.wait

    def now(self) -> float:
        """Return the virtual time."""
        return self._now

    def wall(self) -> float:
        """Return the virtual time as Unix time."""
        return self._wall + self._now

    def advance(self, seconds: float) -> None:
        """Move time on; whoever waits for less is woken."""
        self._jump(self._now + seconds)

    def sleep(self, seconds: float) -> None:
        """Wait in virtual time."""
        self._until(None, self._now + max(0.0, seconds))

    def wait(self, event: threading.Event, seconds: float | None) -> bool:
        """Wait for the event in virtual time; it is somebody else's to set, in real time."""
        if seconds is None:
            return self._real_wait(event, None)
        self._until(event, self._now + seconds)
        return event.is_set()

    def _until(self, event: threading.Event | None, at: float) -> None:
        me = threading.get_ident()
        with self._moved:
            self._wakes[me] = at
            self._changes += 1
        try:
            while self._now < at and not (event is not None and event.is_set()):
                seen = self._changes
                if self._wait_for_others(event):
                    continue
                with self._moved:
                    first = min(self._wakes.values())
                if first == at and seen == self._changes:
                    self._jump(at)
        finally:
            with self._moved:
                del self._wakes[me]
                self._changes += 1
                self._moved.notify_all()

    def _wait_for_others(self, event: threading.Event | None) -> bool:
        """Give other threads real time to do something; whether they did."""
        if threading.active_count() == 1:
            return False
        if event is not None:
            return self._hears(event)
        with self._moved:
            if self._owner not in self._wakes:
                return self._moved.wait(PATIENCE)
            return len(self._wakes) > 1 and self._moved.wait(GRACE)

    def _hears(self, event: threading.Event) -> bool:
        """Whether another thread sets the event, or waits for less than this one."""
        me, waited = threading.get_ident(), 0.0
        while True:
            if self._real_wait(event, STEP):
                return True
            waited += STEP
            with self._moved:
                others = [at for thread, at in self._wakes.items() if thread != me]
                if others and min(others) < self._wakes[me]:
                    return True
            if waited > (GRACE if len(others) >= _at_work() else PATIENCE):
                return False

    def _jump(self, at: float) -> None:
        with self._moved:
            self._now = max(self._now, at)
            self._moved.notify_all()


@contextmanager
def clock(start: float = 1000.0) -> Iterator[Clock]:
    """Make every wait, window and timer virtual while the block runs, sync and on asyncio loops.

    Example:
        >>> with clock() as virtual:
        ...     virtual.sleep(3600)
        ...     virtual.now()
        4600.0
    """
    virtual = Clock(start)
    names = ("now", "wall", "sleep", "wait")
    saved = {name: getattr(real, name) for name in names}
    loop = asyncio.BaseEventLoop
    time, run_once = loop.time, loop._run_once  # type: ignore[attr-defined]  # noqa: SLF001

    def jump_then_run_once(self: Any) -> None:
        _jump(self, virtual)
        run_once(self)

    for name in names:
        setattr(real, name, getattr(virtual, name))
    loop.time = lambda _: virtual.now()  # type: ignore[method-assign,assignment]
    loop._run_once = jump_then_run_once  # type: ignore[attr-defined]  # noqa: SLF001
    try:
        yield virtual
    finally:
        loop.time, loop._run_once = time, run_once  # type: ignore[method-assign,attr-defined]  # noqa: SLF001
        for name, value in saved.items():
            setattr(real, name, value)


def _at_work() -> int:
    """How many threads of ours should be heard of: those that run a function with a timeout, at least one."""
    spare = sys.modules.get("opero.workers.spare")
    return max(1, spare.at_work() if spare is not None else 0)


def _jump(loop: Any, virtual: Clock) -> None:
    """Move time to the loop's next timer when nothing else is ready."""
    if loop._ready or loop._stopping:  # noqa: SLF001
        return
    timers = [handle.when() for handle in loop._scheduled if not handle.cancelled()]  # noqa: SLF001
    if not timers:
        return
    busy = threading.active_count() > 1
    loop._process_events(loop._selector.select(GRACE if busy else 0))  # noqa: SLF001
    if not loop._ready and min(timers) > virtual.now():  # noqa: SLF001
        virtual.advance(min(timers) - virtual.now())
