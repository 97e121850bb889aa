"""The slots of a bulkhead, and who waits for one, without anybody who calls."""

from __future__ import annotations

from _thread import allocate_lock
from collections import deque

from opero import forks
from opero.knobs import Knob

TYPE_CHECKING = False
if TYPE_CHECKING:
    from opero.runtime import Waiter


class Slots:
    """The state: slots in use, and who waits. The lock is held for arithmetic only.

    Who finds nobody queueing may take a slot or give it back without the lock, if nothing is called in between.
    """

    def __init__(self, limit: int, max_queue: int) -> None:
        self.limit = _Limit(self, limit)
        self.max_queue = max_queue
        self.after_fork()
        forks.remember(self)

    def after_fork(self) -> None:
        """Forget the parent's calls: they are not in flight here."""
        self._lock = allocate_lock()
        self.used = 0
        self.queue: deque[Waiter] = deque()

    def take(self) -> bool:
        """Take a slot if one is free and nobody waits for it."""
        with self._lock:
            return self._take_locked()

    def join(self, waiter: Waiter) -> int | None:
        """Queue up. Return the queue's length, 0 if a slot came free in between (it is woken), None if it is full."""
        with self._lock:
            if self._take_locked():
                waiter.wake()
                return 0
            if len(self.queue) >= self.max_queue:
                return None
            self.queue.append(waiter)
            self._serve_locked()  # a slot given back since we looked was given back to nobody
            return len(self.queue)

    def leave(self, waiter: Waiter) -> bool:
        """Leave the queue; False when a slot was already handed over."""
        with self._lock:
            if waiter not in self.queue:
                return False
            self.queue.remove(waiter)
            return True

    def serve(self) -> None:
        """Let in who waits, as far as there is room."""
        with self._lock:
            self._serve_locked()

    def add(self) -> None:
        """Count a slot that was given elsewhere."""
        with self._lock:
            self.used += 1

    def release(self) -> None:
        """Give a slot back: to the first who waits, else to all."""
        with self._lock:
            self.used -= 1
            self._serve_locked()

    def _serve_locked(self) -> None:
        while self.queue and self.used < self.limit.value:
            if self.queue.popleft().wake():
                self.used += 1

    def _take_locked(self) -> bool:
        if self.used >= self.limit.value or self.queue:
            return False
        self.used += 1
        return True


class _Limit(Knob):
    """How many slots there are; more of them are given out at once."""

    __slots__ = ("_slots",)

    def __init__(self, slots: Slots, limit: int) -> None:
        super().__init__("bulkhead.limit", limit, low=1, high=max(limit * 100, 1000))
        self._slots = slots

    def set(self, value: float) -> float:
        limit = super().set(value)
        self._slots.serve()
        return limit
