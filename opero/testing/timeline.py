"""A virtual clock: waits take no time, and time moves only when everybody waits.

1. Those who take part: the thread that made the clock, threads begun since, and those that have run a function with a
   timeout since.
2. Each of them runs, waits for a time, or is stuck: it waits for something that no clock knows.
3. Time jumps to the earliest time that is waited for, when nobody runs. What was waited for is over, or was set, before
   the next jump: who is due counts as running.
4. Stuck is whom the kernel has not let run since the last look, several times. Where it does not say that (it does on
   Linux): whose frame has not moved. A slow machine makes this later, not wrong.

Source: trio's MockClock, whose time also jumps when everybody waits.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from math import ceil, inf, nextafter
from pathlib import Path
from typing import TYPE_CHECKING

from opero import clock as real
from opero.errors import ConfigurationError
from opero.policy import duration, number

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from opero.policy import Duration

STEP = 0.002  # real seconds between two looks at what others do
LOOKS = 5  # so many looks find a thread stuck that waits for another one
LOOKS_ON_THE_WAY = 200  # that a loop takes while everybody else waits for one time; 100 s or less are not affected
PATIENT_LOOKS = 250  # and so many one that waits for something outside
PLACES = 6  # decimals of a time that is told: microseconds
WAITING = (
    *("threading.py", "queue.py", "selectors.py", "futures/thread.py", "futures/_base.py"),
    *("_thread_cache.py", "_io_epoll.py", "_io_kqueue.py"),  # trio's
)
KERNEL = Path("/proc/self/task")
LOOKER = "opero-store"  # the thread of a guard: each of its looks would be a jump, and takes real time


class Clock:
    """Virtual time, in seconds. Thread-safe.

    Not for code that waits for real sockets or calls `time.sleep` itself: that needs real time.
    """

    _real_sleep, _real_wait = staticmethod(real.sleep), staticmethod(real.wait)  # the system's, also inside another

    def __init__(self, start: float | None = None) -> None:
        self._now = self._start = even(real.now()) if start is None else number("start", start)
        self._wall = real.wall() - self._start
        self._moved = threading.Condition()
        self._parked: dict[int, tuple[float, Callable[[], bool]]] = {}  # thread → when it goes on, or if this is true
        self._changes = 0  # how often that changed
        self._closed = False
        self._older = {thread for thread in threading.enumerate() if thread is not threading.current_thread()}
        self._left = _at_work()

    def now(self) -> float:
        """Return the virtual time; raise `ConfigurationError` inside an event loop that cannot be moved in it."""
        refuse_other_loops()
        return self._now

    def wall(self) -> float:
        """Return the virtual time as Unix time."""
        return self._wall + self._now

    def elapsed(self) -> float:
        """Return the virtual seconds since the clock began, to the microsecond."""
        return round(self._now - self._start, PLACES)

    def began(self) -> float:
        """Return when it began, as Unix time."""
        return self._wall + self._start

    def advance(self, seconds: Duration) -> None:
        """Move time on, by seconds or a `timedelta`; whoever waits for less is woken."""
        self.advance_to(self._now + duration("seconds", seconds, low=0))

    def advance_to(self, at: float) -> None:
        """Move time on to `at`, if that is later."""
        number("at", at)
        with self._moved:
            self._jump_locked(at)

    def sleep(self, seconds: float) -> None:
        """Wait in virtual time; who looks for a store since before it began, really."""
        me = threading.current_thread()
        if me.name == LOOKER and me in self._older:
            self._real_sleep(seconds)
            return
        self.until(self._now + max(0.0, seconds), woken=bool, wait=self._rest)

    def wait(self, event: threading.Event, seconds: float | None) -> bool:
        """Wait for the event in virtual time; it is somebody else's to set, in real time."""
        at = inf if seconds is None else self._now + seconds
        self.until(at, woken=event.is_set, wait=lambda step: self._real_wait(event, step))
        return event.is_set() or (seconds is None and self._real_wait(event, None))  # the clock may have been closed

    def after(self, seconds: float) -> float:
        """Return the time in so many seconds, and a later one, however little they are beside the time it is."""
        return max(self._now + seconds, nextafter(self._now, inf))

    def pace(self, seconds: float) -> float:
        """Return how long a loop that looks every `seconds` may wait: longer where others wait for ages."""
        me = threading.get_ident()
        with self._moved:
            ends = [at for thread, (at, _) in self._parked.items() if thread != me and at < inf]
        return max(seconds, (min(ends, default=self._now) - self._now) / LOOKS_ON_THE_WAY)

    def until(self, at: float, *, woken: Callable[[], bool], wait: Callable[[float], object]) -> None:
        """Wait for a time, or until `woken` says so; `wait` waits really, for so many seconds or until woken."""
        me = threading.get_ident()
        others = _Others()
        self._park(me, at, woken)
        try:
            while self._now < at and not woken() and not self._closed:
                seen = self._changes
                if others.are_still(self._at_large(me)):
                    self._jump(seen)
                else:
                    wait(STEP)
        finally:
            with self._moved:
                del self._parked[me]
                self._changes += 1

    def close(self) -> None:
        """Let everybody go who still waits."""
        with self._moved:
            self._closed = True
            self._moved.notify_all()

    def _park(self, me: int, at: float, woken: Callable[[], bool]) -> None:
        with self._moved:
            self._parked[me] = (at, woken)
            self._changes += 1

    def _rest(self, seconds: float) -> None:
        with self._moved:
            self._moved.wait(seconds)

    def _at_large(self, me: int) -> list[threading.Thread]:
        """Who takes part, and is not parked here."""
        begun = [thread for thread in threading.enumerate() if thread not in self._older]
        working = [thread for job, thread in _at_work().items() if job not in self._left]
        return [thread for thread in {*begun, *working} if thread.ident != me and thread.ident not in self._parked]

    def _jump(self, seen: int) -> None:
        """Go to the earliest time, if everybody is still where they were seen, and nobody is due."""
        with self._moved:
            parked = list(self._parked.values())
            earliest = min(at for at, _ in parked)
            due = any(at <= self._now or woken() for at, woken in parked)
            if seen == self._changes and not due and earliest < inf:
                self._jump_locked(earliest)
                return
        self._rest(STEP)

    def _jump_locked(self, at: float) -> None:
        self._now = max(self._now, at)
        self._moved.notify_all()


def even(seconds: float) -> float:
    """Return the next 1,024th of a second: added to whole seconds it stays exact, and so do differences."""
    return ceil(seconds * 1024) / 1024


def refuse_other_loops() -> None:
    """Raise `ConfigurationError` inside an event loop that cannot be moved in time."""
    loop = asyncio._get_running_loop()  # noqa: SLF001 - None where nothing runs, instead of an error
    if loop is not None and not isinstance(loop, asyncio.BaseEventLoop):
        raise ConfigurationError("loop", loop, "one of asyncio's own, or trio: nobody else's can be moved in time")


class _Others:
    """What one who waits has seen of those who do not wait here."""

    def __init__(self) -> None:
        self._seen: dict[int, tuple[object, int]] = {}  # thread → where it was, in how many looks

    def are_still(self, threads: list[threading.Thread]) -> bool:
        """Look; whether all of them are stuck."""
        frames = sys._current_frames() if threads else {}  # noqa: SLF001 - the only way to see another thread
        before, self._seen = self._seen, {}
        still = True
        for thread in threads:
            frame = frames.pop(thread.ident or 0, None)
            place = _place(_number(thread), frame)
            was, looks = before.get(id(thread), (None, 0))
            looks = looks + 1 if place is not None and place == was else 0
            self._seen[id(thread)] = (place, looks)
            waits = frame is not None and frame.f_code.co_filename.endswith(WAITING)
            still = still and looks >= (LOOKS if waits else PATIENT_LOOKS)
        frames.clear()  # our own frame is among them, and would be in a circle
        return still


def _number(thread: threading.Thread) -> int | None:
    """Return the kernel's number of a thread; a forked child's first one still knows that of its parent's."""
    return os.getpid() if thread is threading.main_thread() else thread.native_id


def _place(number: int | None, frame: object) -> object:
    """Return something that stays the same while a thread does not run; None while it runs or is about to."""
    if number is None or frame is None:
        return None
    try:
        status = (KERNEL / str(number) / "status").read_text()
    except OSError:
        return (id(frame), getattr(frame, "f_lasti", None))
    return status[status.index("\nvoluntary_ctxt_switches") :] if "\nState:\tS" in status else None


def _at_work() -> dict[Any, threading.Thread]:
    """Functions with a timeout, and the threads that run them: these may be older than the clock."""
    spare = sys.modules.get("opero.workers.spare")
    return spare.unheard() if spare is not None else {}
