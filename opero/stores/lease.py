"""Calls of a shared limit that this process may make without asking."""

from __future__ import annotations

from contextlib import contextmanager
from math import inf

from opero import forks
from opero.exclusive import exclusive, new_lock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator


class Lease:
    """Calls that this process may make without asking. As many at a time as it used of late, `most` at most.

    They are good for `life` seconds from before they were asked for, and the store's burst is smaller by what the rate
    adds in that time: so however late they go, no T seconds see more than rate·T + burst.
    """

    __slots__ = ("__weakref__", "_asked", "_given", "_life", "_lock", "_most", "_size", "left", "until")

    def __init__(self, most: int, life: float) -> None:
        self._most = most
        self._life = life
        self._size = 1
        self.after_fork()
        forks.remember(self)

    def after_fork(self) -> None:
        """Leave what is left to the parent."""
        self._lock = new_lock()
        self.left = 0.0
        self.until = -inf
        self._given = 0
        self._asked = False

    @exclusive
    def take(self, now: float, weight: float) -> bool:
        """Use it for one call."""
        if now > self.until or self.left < weight:
            return False
        self.left -= weight
        return True

    @contextmanager
    def asking(self, now: float) -> Iterator[int]:
        """Give how many to ask for; 0 while somebody else asks."""
        if self._asked:
            yield 0
            return
        self._asked = True
        try:
            self._resize(now)
            yield self._size
        finally:
            self._asked = False

    @exclusive
    def fill(self, asked: float, count: int) -> None:
        """Take what was asked for at that time."""
        self.left, self._given, self.until = 0.0, count, asked + self._life
        self.left = float(count)

    @exclusive
    def end(self) -> None:
        """Drop what is left."""
        self.left, self.until = 0.0, -inf

    def holds(self, now: float) -> float:
        """Return how much of it may be used yet."""
        return 0.0 if now > self.until else self.left

    def idle(self, now: float) -> bool:
        """Whether there is nothing left of it."""
        return now > self.until or self.left < 1

    def _resize(self, now: float) -> None:
        if now <= self.until:
            self._size = min(self._most, self._size * 2)
        elif self._given:
            self._size = max(1, int(self._given - self.left))
