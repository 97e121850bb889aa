"""Single-flight: of all who want one result at once, one loads it, and the others wait for that.

1. The first who joins leads. The others wait, and share the leader's result or its error: one failure is one failure.
2. A leader that is cancelled hands over to one who waits, who leads next. A flight that nobody waits for is cancelled.
3. A flight knows the flights it waits for. A call that would close a circle is an error, not a deadlock.
4. What was invalidated meanwhile is returned to those who wait and not kept; whoever comes later starts anew.
5. Tasks wait for tasks of their own loop only: another loop may be stopped before it is done.
"""

from __future__ import annotations

from contextvars import ContextVar

from opero import forks
from opero.exclusive import hand_back, new_lock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Hashable
    from types import TracebackType
    from typing import Any, Protocol

    from opero.record import Record
    from opero.runtime import Waiter

    class Cancellable(Protocol):
        """What a driver started."""

        def cancel(self) -> object:
            """Stop it, if it can be stopped."""

    Slot = tuple[Hashable, object]

current: ContextVar[Flight | None] = ContextVar("opero.cache.flight", default=None)


class Flight:
    """One load under way. Its fields are guarded by the lock of its `Flights`."""

    __slots__ = (
        "awaits",
        "background",
        "captain",
        "done",
        "error",
        "heir",
        "kept",
        "record",
        "result",
        "slot",
        "stale",
        "stops",
        "takers",
        "task",
        "trace",
        "value",
        "waiters",
    )

    def __init__(self, slot: Slot, *, background: bool = False) -> None:
        self.slot = slot
        self.background = background  # goes on when nobody waits
        self.waiters: list[Waiter] = []
        self.awaits: list[Flight] = []
        self.captain: Waiter | None = None  # what the caller of the one who leads waits on
        self.heir: Waiter | None = None
        self.task: Cancellable | None = None
        self.done = False
        self.kept = True  # whether its result may be stored
        self.stops: dict[Waiter, BaseException] = {}  # for the captains of those who were cancelled
        self.value: Any = None
        self.error: Exception | None = None
        self.takers = 0
        self.trace: TracebackType | None = None
        self.result = "miss"
        self.stale = False  # what it found is to be loaded anew
        self.record: Record | None = None  # for one caller to take over as its own


class Flights:
    """All loads under way of one cache."""

    def __init__(self) -> None:
        self.after_fork()
        forks.remember(self)

    def after_fork(self) -> None:
        """Forget the parent's loads: they end there."""
        self._lock = new_lock()
        self._flights: dict[Hashable, dict[object, Flight]] = {}

    def join(self, key: Hashable, scope: object, waiter: Callable[[], Waiter]) -> tuple[Flight, Waiter | None] | None:
        """Return the flight, and what to wait on: nothing for the one who leads. None if that would close a circle."""
        parent = current.get()
        parked = None
        with self._lock:
            flight = self._flights.get(key, {}).get(scope)
            if flight is None:
                flight = self._flights.setdefault(key, {})[scope] = Flight((key, scope))
            elif parent is not None and _reaches(flight, parent):
                return None
            else:
                parked = waiter()
                flight.waiters.append(parked)
            if parent is not None:
                parent.awaits.append(flight)
        return flight, parked

    def part(self, flight: Flight) -> None:
        """Say that the flight this call belongs to no longer waits for another one."""
        parent = current.get()
        if parent is not None:
            with self._lock:
                if flight in parent.awaits:
                    parent.awaits.remove(flight)

    def begin(self, key: Hashable, scope: object) -> Flight | None:
        """Return a flight to lead in the background; None if one is under way."""
        with self._lock:
            flights = self._flights.setdefault(key, {})
            if scope in flights:
                return None
            flight = flights[scope] = Flight((key, scope), background=True)
            return flight

    def launch(self, flight: Flight, task: Cancellable, captain: Waiter | None = None) -> None:
        """Say what can be cancelled, and what the caller of the one who leads waits on."""
        with self._lock:
            flight.task = task
            if captain is None:
                return
            if flight.done:
                captain.wake()
            else:
                flight.captain = captain
                flight.waiters.append(captain)

    def land(self, flight: Flight, value: Any, error: Exception | None, *, leads: bool) -> None:
        """Give everyone who waits the result, or the error; `leads` says whether the leader takes it, too."""
        with self._lock:
            flight.value, flight.error, flight.done = value, error, True
            flight.trace = None if error is None else error.__traceback__
            self._drop_locked(flight)
            waiting, flight.waiters = flight.waiters, []
            flight.takers = len(waiting) + (leads and not flight.background)
            self._forget_locked(flight)
        for waiter in waiting:
            waiter.wake()

    def take(self, flight: Flight) -> tuple[Any, Exception | None, TracebackType | None]:
        """Return value, error and traceback; the last one who takes them leaves none behind."""
        with self._lock:
            taken = flight.value, flight.error, flight.trace
            flight.takers -= 1
            self._forget_locked(flight)
        return taken

    def hand_over(self, flight: Flight, stop: BaseException) -> bool:
        """Let one who waits lead, for this one was cancelled; whether its own caller will raise `stop`."""
        with self._lock:
            captain, flight.captain = flight.captain, None
            told = captain is not None and captain in flight.waiters
            if told and captain is not None:
                flight.waiters.remove(captain)
                flight.stops[captain] = stop
                captain.wake()
            flight.task = None
            self._crown_locked(flight)
            return told

    def leave(self, flight: Flight, waiter: Waiter) -> None:
        """Stop waiting: pass the lead on if it was just handed over, and stop a load that nobody waits for."""
        hand_back(self._lock, self._leave_locked, flight, waiter)

    def _leave_locked(self, flight: Flight, waiter: Waiter) -> None:
        if flight.done:
            flight.takers -= 1
            self._forget_locked(flight)
        if waiter in flight.waiters:
            flight.waiters.remove(waiter)
        if flight.heir is waiter:
            self._crown_locked(flight)
        lonely = not (flight.waiters or flight.done or flight.heir or flight.background)
        if lonely and flight.task is not None:
            self._drop_locked(flight)
            flight.task.cancel()

    def inherits(self, flight: Flight, waiter: Waiter) -> bool:
        """Whether this one was chosen to lead; asked once woken."""
        with self._lock:
            if flight.heir is not waiter:
                return False
            flight.heir = None
            flight.background = False
            return True

    def discard(self, key: Hashable, remove: Callable[[], object]) -> None:
        """Let no load under way be kept, and remove what is."""
        with self._lock:
            for flight in self._flights.pop(key, {}).values():
                flight.kept = False
            remove()

    def discard_all(self, remove: Callable[[], object]) -> None:
        """Let none of the loads under way be kept."""
        with self._lock:
            for flights in self._flights.values():
                for flight in flights.values():
                    flight.kept = False
            self._flights.clear()
            remove()

    def keep(self, flight: Flight, store: Callable[[], object]) -> bool:
        """Store a result, unless it was invalidated while it was loaded."""
        with self._lock:
            if flight.kept:
                store()
            return flight.kept

    def adopt(self, flight: Flight) -> Record | None:
        """Return the record of the attempts made, to the first who asks."""
        with self._lock:
            record, flight.record = flight.record, None
        return record

    def __len__(self) -> int:
        return sum(map(len, self._flights.values()))

    def _crown_locked(self, flight: Flight) -> None:
        flight.heir = flight.waiters.pop(0) if flight.waiters else None
        if flight.heir is None:
            self._drop_locked(flight)
        else:
            flight.heir.wake()

    def _drop_locked(self, flight: Flight) -> None:
        key, scope = flight.slot
        flights = self._flights.get(key, {})
        if flights.get(scope) is flight:
            del flights[scope]
            if not flights:
                del self._flights[key]

    def _forget_locked(self, flight: Flight) -> None:
        """Break the circle of an error, its frames and the flight they know."""
        if flight.takers <= 0:
            flight.value = flight.error = flight.trace = None


def _reaches(flight: Flight, goal: Flight) -> bool:
    """Whether `flight` is, or waits for, `goal`."""
    seen: set[int] = set()
    waiting = [flight]
    while waiting:
        here = waiting.pop()
        if here is goal:
            return True
        if id(here) not in seen:
            seen.add(id(here))
            waiting += here.awaits
    return False
