"""The ring of a parameter's alternatives: which of them rest until when, and who refreshes them. Time is an argument.

1. One refreshes, all who come meanwhile wait. When that fails, or is cancelled, one who waits tries once more, and the
   others get its outcome: there are never more than two tries in a row.
2. Who blocks is handed it before who suspends: a task might need the very loop that a blocking call holds up.
3. Nobody waits for themselves: not for a refresh that they are made by, nor, blocking, for one of their own thread.
"""

from __future__ import annotations

from _thread import get_ident
from contextvars import ContextVar
from math import inf

from opero import forks
from opero.exclusive import hand_back, new_lock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType
    from typing import Any

    from opero.runtime import Waiter

REMEMBERED = 10_000  # alternatives whose rest is kept


class Ring:
    """The state: until when which alternative rests, and who refreshes. The lock is held for arithmetic only."""

    def __init__(self, alternatives: Sequence[Any] | None) -> None:
        self.alternatives = alternatives
        self.until: dict[Any, float] = {}
        self.turn = 0
        self.after_fork()
        forks.remember(self)

    def after_fork(self) -> None:
        """Nobody refreshes here, and nobody waits for it."""
        self._lock = new_lock()
        self.flight: Flight | None = None

    def order(self, given: Sequence[Any], now: float, *, spread: bool = False) -> list[int]:
        """Return positions: those that are rested, then those that will be, soonest first; none refused for good."""
        with self._lock:
            until = [self.until.get(_label(each), -inf) for each in given]
            rested = [n for n in range(len(given)) if until[n] <= now]
            resting = sorted((n for n in range(len(given)) if now < until[n] < inf), key=until.__getitem__)
            if spread and rested:
                start = self.turn % len(rested)
                self.turn += 1
                rested = rested[start:] + rested[:start]
            return rested + resting

    def refused(self) -> bool:
        """Whether all its own alternatives were refused for good."""
        with self._lock:
            return all(self.until.get(_label(each)) == inf for each in self.alternatives or ())

    def rest(self, alternative: Any, until: float) -> None:
        """Let an alternative rest, not shorter than it does already."""
        label = _label(alternative)
        with self._lock:
            self.until[label] = max(until, self.until.pop(label, -inf))
            if len(self.until) > REMEMBERED:
                del self.until[next(iter(self.until))]

    def replace(self, alternatives: Sequence[Any]) -> None:
        """Go on with others."""
        with self._lock:
            self.alternatives = alternatives
            self.until.clear()

    def join(self, waiter: Waiter, *, blocks: bool) -> Flight:
        """Return the refresh under way, or a new one that this waiter leads; it is woken when it ends or is ours."""
        with self._lock:
            if self.flight is None:
                self.flight = Flight(waiter)
            else:
                self.flight.waiting.append((waiter, get_ident(), blocks))
            return self.flight

    def leave(self, flight: Flight, waiter: Waiter) -> None:
        """Wait no longer. Whom it was just handed to hands it on."""
        hand_back(self._lock, self._leave_locked, flight, waiter)

    def _leave_locked(self, flight: Flight, waiter: Waiter) -> None:
        flight.waiting = [each for each in flight.waiting if each[0] is not waiter]
        if flight.leader is waiter:
            self._hand_over_locked(flight)

    def fail(self, flight: Flight, failure: str) -> None:
        """Let one who waits try once more; after that all of them know."""
        hand_back(self._lock, self._fail_locked, flight, failure)

    def _fail_locked(self, flight: Flight, failure: str) -> None:
        flight.failure = failure
        if flight.handed:
            self.end(flight)
        else:
            flight.handed = True
            self._hand_over_locked(flight)

    def end(self, flight: Flight) -> None:
        """Wake who waits."""
        with self._lock:
            self.flight = None
            waiting, flight.waiting = flight.waiting, []
        for waiter, _, _ in waiting:
            waiter.wake()

    def _hand_over_locked(self, flight: Flight) -> None:
        while flight.waiting:
            heir = min(flight.waiting, key=lambda each: not each[2])
            flight.waiting.remove(heir)
            flight.leader, flight.thread, _ = heir
            if heir[0].wake():
                return
        self.flight = flight.leader = None


class Flight:
    """One refresh: who leads it in which thread, who waits for it, and what its last try failed of."""

    __slots__ = ("failure", "handed", "leader", "thread", "waiting")

    def __init__(self, leader: Waiter) -> None:
        self.leader: Waiter | None = leader
        self.thread = get_ident()
        self.waiting: list[tuple[Waiter, int, bool]] = []  # in which thread, and whether that is blocked
        self.handed = False
        self.failure = ""

    def waits_for_itself(self, *, blocks: bool) -> bool:
        """Whether who waits here would hold it up for ever."""
        return self in _inside.get() or (blocks and self.thread == get_ident())


class Refreshing:
    """Lead a refresh while the block runs."""

    def __init__(self, ring: Ring, flight: Flight) -> None:
        self._ring = ring
        self._flight = flight

    def __enter__(self) -> None:
        self._outer = _inside.get()
        _inside.set((*self._outer, self._flight))

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        _inside.set(self._outer)
        if kind is None:
            self._ring.end(self._flight)
        else:
            self._ring.fail(self._flight, kind.__name__)


_inside: ContextVar[tuple[Flight, ...]] = ContextVar("opero.refreshing", default=())  # the refreshes around this call


def _label(alternative: Any) -> Any:
    """Return what to know an alternative by: itself, or its identity where it cannot be hashed."""
    try:
        hash(alternative)
    except TypeError:
        return id(alternative)
    return alternative
