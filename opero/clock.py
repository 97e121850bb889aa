"""Time, in seconds. Whatever reads the time or waits goes through these names, so that a test can replace them."""

from __future__ import annotations

import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from threading import Event


def _wait(event: Event, seconds: float | None) -> bool:
    return event.wait(seconds)


now: Callable[[], float] = time.monotonic
wall: Callable[[], float] = time.time
sleep: Callable[[float], None] = time.sleep
wait: Callable[[Event, float | None], bool] = _wait  # block this thread until the event is set, for so long at most
