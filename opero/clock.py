"""Time, in seconds. Whatever reads the time or waits goes through these names, so that a test can replace them."""

from __future__ import annotations

import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    class Event(Protocol):
        """What a thread may wait for: an event of `threading`, or a waiter of ours."""

        def is_set(self) -> bool: ...
        def wait(self, timeout: float | None = None) -> bool: ...


LONGEST = 1e9  # 30 years: what an operating system takes for a wait


def _wait(event: Event, seconds: float | None) -> bool:
    return event.wait(None if seconds is None else min(seconds, LONGEST))


def _sleep(seconds: float) -> None:
    time.sleep(min(seconds, LONGEST))


def _ahead() -> float:
    return time.monotonic() + ahead


def resume(at: float) -> None:
    """Let the system's clock go on from `at`, if that is later: what was done on a virtual one is over, not to come."""
    global now, ahead
    ahead = max(ahead, at - time.monotonic())
    now = _ahead if ahead else time.monotonic


def common() -> float:
    """Return the time that all processes of this machine have in common."""
    return now() - ahead


def _steady(seconds: float) -> float:
    return seconds


now: Callable[[], float] = time.monotonic
ahead = 0.0  # seconds that `now` is ahead of the system, once a virtual clock has been
wall: Callable[[], float] = time.time
sleep: Callable[[float], None] = _sleep
hurried = False  # whether backoffs and waits for a quota are left out: a test said so
wait: Callable[[Event, float | None], bool] = _wait  # block this thread until the event is set, for so long at most
pace: Callable[[float], float] = _steady  # seconds a loop that looks now and then may wait for its next look
