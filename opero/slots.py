"""The slots of a bulkhead, and who waits for one, without anybody who calls."""

from __future__ import annotations

from collections import deque

from opero import forks
from opero.exclusive import hand_back, new_lock
from opero.knobs import Knob

TYPE_CHECKING = False
if TYPE_CHECKING:
    from opero.runtime import Waiter


class Slots:
    """The state: slots in use, and who waits. The lock is held for arithmetic only.

    `taken[0]` is how many are in use: who finds nobody queueing may count one up or down without the lock, if nothing
    is called in between. A forked child counts in another list: what its parent took is given back to nobody there.
    """

    def __init__(self, limit: int, max_queue: int) -> None:
        self.limit = _Limit(self, limit)
        self.max_queue = max_queue
        self.after_fork()
        forks.remember(self)

    def after_fork(self) -> None:
        """Forget the parent's calls: they are not in flight here."""
        self._lock = new_lock()
        self.taken = [0]
        self.queue: deque[Waiter] = deque()

    @property
    def used(self) -> int:
        """How many are in use."""
        return self.taken[0]

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
            try:
                self.queue.remove(waiter)
            except ValueError:
                return False
            return True

    def serve(self) -> None:
        """Let in who waits, as far as there is room."""
        with self._lock:
            self._serve_locked()

    def add(self) -> None:
        """Count a slot that was given elsewhere."""
        with self._lock:
            self.taken[0] += 1

    def release(self, taken: list[int]) -> bool:
        """Give a slot back where it was taken, to the first who waits, else to all; whether it is of this process."""
        hand_back(self._lock, self._release_locked, taken)
        return taken is self.taken

    def _release_locked(self, taken: list[int]) -> None:
        taken[0] -= 1
        self._serve_locked()

    def _serve_locked(self) -> None:
        while self.queue and self.taken[0] < self.limit.value:
            waiter, taken = self.queue.popleft(), self.taken
            taken[0] += 1
            if not waiter.wake():
                taken[0] -= 1

    def _take_locked(self) -> bool:
        if self.taken[0] >= self.limit.value or self.queue:
            return False
        self.taken[0] += 1
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
