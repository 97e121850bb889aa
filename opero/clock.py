"""Time, in seconds. Whatever reads the time or waits goes through these names, so that a test can replace them."""

from __future__ import annotations

import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from threading import Event


LONGEST = 1e9  # 30 years: what an operating system takes for a wait


def _wait(event: Event, seconds: float | None) -> bool:
    return event.wait(None if seconds is None else min(seconds, LONGEST))


def _sleep(seconds: float) -> None:
    time.sleep(min(seconds, LONGEST))


def _steady(seconds: float) -> float:
    return seconds


now: Callable[[], float] = time.monotonic
wall: Callable[[], float] = time.time
sleep: Callable[[float], None] = _sleep
wait: Callable[[Event, float | None], bool] = _wait  # block this thread until the event is set, for so long at most
pace: Callable[[float], float] = _steady  # seconds a loop that looks now and then may wait for its next look
