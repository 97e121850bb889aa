"""Stop asking a store that does not answer.

After `LIMIT` failures in a row it is left alone for a pause, then asked by one call; each failure doubles the pause.
"""

from __future__ import annotations

from _thread import allocate_lock

from opero import forks

LIMIT = 3
PAUSE, LONGEST = 0.5, 30.0  # seconds


class Guard:
    """The breaker of one store. Pure: `now` is an argument. Thread-safe."""

    def __init__(self) -> None:
        self.after_fork()
        forks.remember(self)

    def after_fork(self) -> None:
        """Make the lock anew, and try afresh."""
        self._lock = allocate_lock()
        self._failures = 0
        self._pause = 0.0
        self._until = 0.0

    @property
    def doubts(self) -> bool:
        """Whether the last question failed."""
        return bool(self._failures)

    def admits(self, now: float) -> bool:
        """Whether to ask; the first after a pause asks for all."""
        with self._lock:
            if self._failures < LIMIT:
                return True
            if now < self._until:
                return False
            self._until = now + self._pause
            return True

    def succeeded(self) -> None:
        """Say that it answered."""
        if self._failures:
            with self._lock:
                self._failures, self._pause = 0, 0.0

    def failed(self, now: float) -> None:
        """Say that it did not."""
        with self._lock:
            self._failures += 1
            if self._failures >= LIMIT:
                self._pause = min(LONGEST, self._pause * 2) or PAUSE
                self._until = now + self._pause
