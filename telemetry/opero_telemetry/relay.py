"""From a call to a slow place: a bounded queue, and a thread that empties it. What does not fit is counted."""

from __future__ import annotations

import atexit
from collections import deque
from threading import Condition, Thread, current_thread
from typing import TYPE_CHECKING, Any

from opero import catalogue, clock, forks
from opero.catalogue import Family
from opero.signals import Metric, Signals

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

CAPACITY = 10_000
REASONS = ("queue_full", "write_failed")
DROPPED = Metric(
    "opero.telemetry.events.dropped",
    "counter",
    "{event}",
    "What a log, file or exporter did not get: no room, or it failed.",
    attributes=("reason",),
    zeros=[(reason,) for reason in REASONS],
)
SIGNALS = Signals("telemetry", (), (DROPPED,))

_dropped: dict[tuple[str, str], int] = {}


def drop(sink: str, reason: str, count: int = 1) -> None:
    """Count what was lost on its way to a sink."""
    _dropped[sink, reason] = _dropped.get((sink, reason), 0) + count


def _read() -> Iterable[Family]:
    family = Family(DROPPED)
    for key, count in _dropped.copy().items():
        family.samples[key] = count
    return (family,)


catalogue.contribute(_read)


class Relay:
    """Hands items to `write(list of them)` in a thread of its own, and calls `idle()` each second without any.

    `put` never blocks.
    """

    def __init__(
        self,
        name: str,
        write: Callable[[list[Any]], object],
        *,
        idle: Callable[[], object] | None = None,
        capacity: int = CAPACITY,
    ) -> None:
        self.name = name
        self.failing = ""
        self._write = write
        self._idle = idle or int
        self._capacity = capacity
        for reason in REASONS:
            _dropped.setdefault((name, reason), 0)
        self.after_fork()
        forks.remember(self)
        atexit.register(self.close, 2.0)

    def after_fork(self) -> None:
        """The thread stayed in the parent, and so did what waited."""
        self._waiting: deque[Any] = deque()
        self._changed = Condition()
        self._busy = self._closed = False
        self._thread: Thread | None = None

    def put(self, item: Any) -> None:
        """Take an item; without room it is dropped and counted."""
        if len(self._waiting) >= self._capacity:
            drop(self.name, "queue_full")
            return
        self._waiting.append(item)
        if self._busy:  # it looks again before it rests
            return
        with self._changed:
            if self._thread is None and not self._closed:
                self._thread = Thread(target=self._run, name=f"opero-{self.name}", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def flush(self, seconds: float = 5.0) -> bool:
        """Wait until everything put so far is written; whether it was, in time."""
        until = clock.now() + seconds
        with self._changed:
            while (self._waiting or self._busy) and self._thread is not None:
                left = until - clock.now()
                if left <= 0:
                    return False
                self._changed.wait(min(left, 0.1))
        return True

    def close(self, seconds: float = 5.0) -> bool:
        """Write what waits, for so long at most, and end."""
        atexit.unregister(self.close)
        done = self.flush(seconds)
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if self._thread is not None and self._thread is not current_thread():
            self._thread.join(seconds)
        return done

    def _run(self) -> None:
        while (items := self._next()) is not None:
            try:
                self._write(items) if items else self._idle()
                self.failing = ""
            except Exception as error:  # noqa: BLE001 - a sink that fails costs its lines, counted, and nothing else
                self.failing = type(error).__name__
                drop(self.name, "write_failed", len(items))

    def _next(self) -> list[Any] | None:
        """Return what waits, nothing after a second without, None at the end."""
        with self._changed:
            self._busy = False
            self._changed.notify_all()
            if not self._waiting and not self._closed:
                self._changed.wait(1.0)
            if not self._waiting:
                return None if self._closed else []
            self._busy = True
            return [self._waiting.popleft() for _ in range(len(self._waiting))]
