"""Quotas by the generic cell rate algorithm (GCRA): what a rate limit is, without anybody who waits. Pure.

One number says everything about a rate: `due`, the time at which its bucket would be full again. A call of weight w at
`now` moves it w intervals on from `max(due, now)`. It may go at once while that lies no more than `burst` intervals
ahead; else it is that much too early, and gets a ticket: the time at which it may go.

1. A call goes when the slowest of the rates lets it, and is charged to each of them at that time: what goes within any
   T seconds is at most rate·T + burst, for each rate.
2. Tickets are given times in the order they come. A ticket is charged when it is used, not when it is given: who comes
   late (its loop stood still, its thread had no turn) may find that others took its place, and waits again.
3. What the late ones lost is lost: where the first finds that it must wait on, all slide back by as much.
4. Who leaves makes room for those behind. Whoever is first is told when it may go earlier; it is the only one who
   has to know, since the others are told when they are.

Source: ITU-T I.371 (2004), annex A.1.
"""

from __future__ import annotations

from math import inf

from opero import forks
from opero.exclusive import hand_back, inside, new_lock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Protocol

    class Waiter(Protocol):
        """Whoever waits for a ticket's time."""

        def wake(self) -> bool:
            """Tell that the time has changed; False when there is nobody any more."""
            raise NotImplementedError


LATE = 0.05  # seconds that a thread or a loop may be late without losing its place
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
    """Leave to go at `at` or before, and by as much later as the queue has slid since it was zero."""

    __slots__ = ("at", "waiter", "weight")

    def __init__(self, weight: float, at: float) -> None:
        self.weight = weight
        self.at = at
        self.waiter: Waiter | None = None


def earliest(rates: Sequence[tuple[float, float]], dues: Sequence[float], now: float, weight: float) -> float:
    """When the slowest of some rates, each an interval and a burst, lets a call go."""
    at = max(max(due, now) + interval * (weight - burst) for (interval, burst), due in zip(rates, dues, strict=True))
    return at if at > now + ROUNDING else now


def charged(rates: Sequence[tuple[float, float]], dues: Sequence[float], at: float, weight: float) -> list[float]:
    """Return what is due once it went at that time."""
    return [max(due, at) + interval * weight for (interval, _), due in zip(rates, dues, strict=True)]


def due_by(rates: Sequence[tuple[float, float]], held: Mapping[float, float], now: float) -> list[float]:
    """Return what is due by each rate, of what is kept by their intervals: others may have booked by other rates."""
    return [held.get(interval, now) for interval, _ in rates]


def left_at_once(rates: Sequence[tuple[float, float]], dues: Sequence[float], now: float) -> int:
    """How many calls would go at once, given when each rate is due."""
    left = min(burst - max(0.0, due - now) / interval for (interval, burst), due in zip(rates, dues, strict=True))
    return max(0, int(left + 1e-9))


class Quota:
    """Rates that hold together, and the tickets that wait. Time is an argument; the lock is held for arithmetic only.

    With one rate, who finds `due` less than `slack` ahead may move it on without the lock, if nothing is called between
    the read and the write: what is done here under the lock does the same. While anybody waits `due` is without end,
    and `_used` is what is due by those who went.
    """

    def __init__(self, rates: Iterable[Rate]) -> None:
        self.rates = tuple(rates)
        self.laws = [(rate.interval, rate.burst) for rate in self.rates]
        self.only = self.rates[0] if len(self.rates) == 1 else None
        self._used: list[float] = []
        self.after_fork()
        forks.remember(self)

    def after_fork(self) -> None:
        """Make the lock anew, and forget who waits in the parent."""
        self._lock = new_lock()
        self._waiting: dict[Ticket, None] = {}
        self._end_locked(self._used or [-inf if rate.due == inf else rate.due for rate in self.rates])

    def book(self, now: float, patience: float, weight: float = 1) -> tuple[float, Ticket | None]:
        """Return how long to wait, and the ticket; None if that is longer than `patience`."""
        if inside(self._lock):
            return self.rates[0].interval, None
        with self._lock:
            at = self._join_locked(now, weight) if self._waiting else self._begin_locked(now, weight)
            if at - now > patience + ROUNDING:
                return at - now, None
            ticket = Ticket(weight, at - self._slid)
            if at > now:
                self._add_locked(ticket, now)
            return at - now, ticket

    def turn(self, ticket: Ticket, waiter: Waiter, now: float) -> tuple[float, bool]:
        """Use a ticket if it may go; else say when, and whether nobody is before it: `waiter` is told of a change."""
        with self._lock:
            if ticket not in self._waiting:  # everything was reset
                return ticket.at, True
            at, first = ticket.at + self._slid, next(iter(self._waiting)) is ticket
            if first or at <= now + ROUNDING:
                free = earliest(self.laws, self._used, now, ticket.weight)
                if free <= now:
                    self._go_locked(ticket, now)
                    return now, first
                if first:
                    self._slid += max(0.0, free - at)
                    ticket.at = free - self._slid
                at = free
            ticket.waiter = waiter
            return at, first

    def go(self, ticket: Ticket, now: float) -> None:
        """Use a ticket, whether it may go or not."""
        with self._lock:
            if ticket in self._waiting:
                self._go_locked(ticket, now)

    def give_back(self, ticket: Ticket) -> None:
        """Return a ticket that was not used."""
        hand_back(self._lock, self._give_back_locked, ticket)

    def reset(self) -> None:
        """Forget what was used; who waits keeps the time it was given."""
        with self._lock:
            for ticket in self._waiting:
                ticket.at += self._slid
            self._waiting.clear()
            self._end_locked([-inf for _ in self.rates])

    def idle(self, now: float) -> bool:
        """Whether it is as good as new."""
        return not self._waiting and all(rate.due <= now for rate in self.rates)

    def available(self, now: float) -> int:
        """How many calls would go at once."""
        with self._lock:
            return left_at_once(self.laws, self._behind(), now)

    def wait(self, now: float, weight: float) -> float:
        """How long a call would wait that were booked now."""
        with self._lock:
            return earliest(self.laws, self._behind(), now, weight) - now

    def fits(self, weight: float) -> bool:
        """Whether so heavy a call can ever go."""
        return all(weight <= rate.burst for rate in self.rates)

    def _begin_locked(self, now: float, weight: float) -> float:
        """Return when it may go where nobody waits, and charge it if that is now."""
        rate = self.only
        if rate is None:
            used = [rate.due for rate in self.rates]
            at = earliest(self.laws, used, now, weight)
            if at <= now:
                self._end_locked(charged(self.laws, used, now, weight))
            return at
        cost = rate.interval * weight
        early = cost - rate.interval - rate.slack
        due = rate.due  # nothing is called from here to the write
        if due < now:  # noqa: PLR1730 - max() would be a call
            due = now
        if due + early > now + ROUNDING:
            return due + early
        rate.due = due + cost
        return now

    def _add_locked(self, ticket: Ticket, now: float) -> None:
        if not self._waiting:
            for rate in self.rates:
                due = rate.due  # nothing is called from here to the write
                rate.due = inf
                self._used.append(max(due, now))
        self._waiting[ticket] = None
        self._weight += ticket.weight

    def _join_locked(self, now: float, weight: float) -> float:
        """Return when it may go behind those who wait; charge it if that is now, which may be since they are late."""
        at = earliest(self.laws, self._behind(), now, weight)
        if at <= now:
            self._used = charged(self.laws, self._used, now, weight)
        return at

    def _behind(self) -> list[float]:
        """Return what is due once those who wait are gone."""
        if not self._waiting:
            return [rate.due for rate in self.rates]
        return [due + rate.interval * self._weight for due, rate in zip(self._used, self.rates, strict=True)]

    def _go_locked(self, ticket: Ticket, now: float) -> None:
        self._used = charged(self.laws, self._used, now, ticket.weight)
        self._remove_locked(ticket)

    def _give_back_locked(self, ticket: Ticket) -> None:
        if ticket in self._waiting:
            self._remove_locked(ticket)

    def _remove_locked(self, ticket: Ticket) -> None:
        """Let it be gone, and wake who is first then, if it may go earlier than it knows."""
        first = next(iter(self._waiting)) is ticket
        del self._waiting[ticket]
        self._weight -= ticket.weight
        if not self._waiting:
            self._end_locked(self._used)
        elif first:
            self._tell_first_locked()

    def _tell_first_locked(self) -> None:
        for ticket in self._waiting:
            if earliest(self.laws, self._used, -inf, ticket.weight) >= ticket.at + self._slid - ROUNDING:
                return
            waiter, ticket.waiter = ticket.waiter, None
            if waiter is None or waiter.wake():
                return  # else it is gone, and will give its ticket back

    def _end_locked(self, dues: Sequence[float]) -> None:
        """Let this be due, where nobody waits."""
        self._used = []
        self._slid = self._weight = 0.0
        for rate, due in zip(self.rates, dues, strict=True):
            rate.due = due
