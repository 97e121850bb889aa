"""Quotas by the generic cell rate algorithm (GCRA): what a rate limit is, without anybody who waits. Pure.

One number says everything about a rate: `due`, the time at which its bucket would be full again. A call of weight w at
`now` moves it w intervals on from `max(due, now)`. It may go at once while that lies no more than `burst` intervals
ahead; else it is that much too early, and gets a ticket: the time at which it may go.

1. A call goes when the slowest of the rates lets it, and is charged to each of them at that time. Tickets go in the
   order they were given: what goes within any T seconds is at most rate·T + burst, for each rate.
2. A ticket given back before its time moves up everyone behind it.

Source: ITU-T I.371 (2004), annex A.1.
"""

from __future__ import annotations

from _thread import allocate_lock
from itertools import count
from math import inf

from opero import forks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Protocol

    class Waiter(Protocol):
        """Whoever waits for a ticket's time."""

        def wake(self) -> bool:
            """Tell that the time has changed; False when there is nobody any more."""
            raise NotImplementedError


ROUNDING = 1e-6  # seconds; three times a third of a second is not quite one


class Rate:
    """`count` calls per `per` seconds, `burst` of them at once."""

    __slots__ = ("burst", "due", "interval", "slack")

    def __init__(self, count: float, per: float, burst: float) -> None:
        self.interval = per / count
        self.burst = burst
        self.slack = self.interval * (burst - 1)
        self.due = -inf


class Ticket:
    """Leave to go at `at`. `before` is what was due when it was given."""

    __slots__ = ("at", "before", "number", "waiter", "weight")

    def __init__(self, number: int, weight: float, at: float, before: Sequence[float]) -> None:
        self.number = number
        self.weight = weight
        self.at = at
        self.before = before
        self.waiter: Waiter | None = None


def earliest(rates: Sequence[tuple[float, float]], dues: Sequence[float], now: float, weight: float) -> float:
    """When the slowest of some rates, each an interval and a burst, lets a call go."""
    at = max(max(due, now) + interval * (weight - burst) for (interval, burst), due in zip(rates, dues, strict=True))
    return at if at > now + ROUNDING else now


def charged(rates: Sequence[tuple[float, float]], dues: Sequence[float], at: float, weight: float) -> list[float]:
    """Return what is due once it went at that time."""
    return [max(due, at) + interval * weight for (interval, _), due in zip(rates, dues, strict=True)]


def left_at_once(rates: Sequence[tuple[float, float]], dues: Sequence[float], now: float) -> int:
    """How many calls would go at once, given when each rate is due."""
    left = min(burst - max(0.0, due - now) / interval for (interval, burst), due in zip(rates, dues, strict=True))
    return max(0, int(left + 1e-9))


class Quota:
    """Rates that hold together, and the tickets that wait. Time is an argument; the lock is held for arithmetic only.

    With one rate, who finds `due` less than `slack` ahead may move it on without the lock, if nothing is called between
    the read and the write: then nobody waits, and what is done here under the lock does the same.
    """

    def __init__(self, rates: Iterable[Rate]) -> None:
        self.rates = tuple(rates)
        self.laws = [(rate.interval, rate.burst) for rate in self.rates]
        self.only = self.rates[0] if len(self.rates) == 1 else None
        self._numbers = count()
        self.after_fork()
        forks.remember(self)

    def after_fork(self) -> None:
        """Make the lock anew, and forget who waits in the parent."""
        self._lock = allocate_lock()
        self._waiting: dict[Ticket, None] = {}
        self._left: Ticket | None = None  # the first of those that left before their time, if others must move up

    def book(self, now: float, patience: float, weight: float = 1) -> tuple[float, Ticket | None]:
        """Return how long to wait, and the ticket; None if that is longer than `patience`."""
        with self._lock:
            if self._left is not None:
                self._move_up_locked(now)
            before = [rate.due for rate in self.rates]
            at = self._charge_locked(now, patience, weight)
            if at is None:
                return earliest(self.laws, before, now, weight) - now, None
            ticket = Ticket(next(self._numbers), weight, at, before)
            if at > now:
                self._waiting[ticket] = None
            return at - now, ticket

    def turn(self, ticket: Ticket, waiter: Waiter, now: float) -> tuple[float, bool]:
        """Return when the ticket may go, and whether nobody is before it; else `waiter` is told of a change."""
        with self._lock:
            if self._left is not None:
                self._move_up_locked(now)
            ticket.waiter = waiter
            return ticket.at, next(iter(self._waiting), ticket) is ticket

    def go(self, ticket: Ticket) -> None:
        """Use a ticket."""
        with self._lock:
            self._waiting.pop(ticket, None)

    def give_back(self, ticket: Ticket, now: float) -> None:
        """Return a ticket whose time has not come; after that, nothing can be undone."""
        with self._lock:
            if ticket not in self._waiting:
                return
            del self._waiting[ticket]
            if now >= ticket.at:
                return
            if self._left is None or ticket.number < self._left.number:
                self._left = ticket
            last = next(reversed(self._waiting), None)
            if last is None or last.number < self._left.number or not _woken(last):
                self._move_up_locked(now)  # else the last one does it, once for many that leave together

    def reset(self) -> None:
        """Forget what was used; who waits keeps the time it was given."""
        with self._lock:
            self._waiting.clear()
            self._left = None
            self._set_locked([-inf for _ in self.rates])

    def idle(self, now: float) -> bool:
        """Whether it is as good as new."""
        return not self._waiting and all(rate.due <= now for rate in self.rates)

    def available(self, now: float) -> int:
        """How many calls would go at once."""
        return left_at_once(self.laws, [rate.due for rate in self.rates], now)

    def fits(self, weight: float) -> bool:
        """Whether so heavy a call can ever go."""
        return all(weight <= rate.burst for rate in self.rates)

    def _charge_locked(self, now: float, patience: float, weight: float) -> float | None:
        rate = self.only
        if rate is None:
            dues = [rate.due for rate in self.rates]
            at = earliest(self.laws, dues, now, weight)
            if at - now > patience + ROUNDING:
                return None
            self._set_locked(charged(self.laws, dues, at, weight))
            return at
        cost = rate.interval * weight
        early = cost - rate.interval - rate.slack
        due = rate.due  # nothing is called from here to the write
        if due < now:  # noqa: PLR1730 - max() would be a call
            due = now
        if due + early - now > patience + ROUNDING:
            return None
        rate.due = due + cost
        return due + early if early + due > now + ROUNDING else now

    def _move_up_locked(self, now: float) -> None:
        left, self._left = self._left, None
        assert left is not None  # noqa: S101 - for the type checkers; whoever calls this asked
        behind = [ticket for ticket in self._waiting if ticket.number > left.number]
        dues = left.before
        for ticket in behind:
            at = earliest(self.laws, dues, now, ticket.weight)
            earlier, ticket.at, ticket.before = at < ticket.at, at, dues
            dues = charged(self.laws, dues, at, ticket.weight)
            if earlier:
                _woken(ticket)
        self._set_locked(dues)

    def _set_locked(self, dues: Sequence[float]) -> None:
        for rate, due in zip(self.rates, dues, strict=True):
            rate.due = due


def _woken(ticket: Ticket) -> bool:
    """Wake who waits, once; False when there is nobody any more."""
    waiter, ticket.waiter = ticket.waiter, None
    return waiter is None or waiter.wake()
