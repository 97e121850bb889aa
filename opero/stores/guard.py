"""A store that may be away, and the state of this process that takes its place. One guard a store and process."""

from __future__ import annotations

from _thread import RLock
from collections import deque
from contextlib import suppress
from math import inf
from weakref import WeakValueDictionary

from opero import clock, events, forks
from opero.errors import StateError
from opero.stores import LEASE, LOST, RETURNED, UNUSABLE
from opero.stores.answers import AnswerError, check
from opero.stores.errands import Errands, in_background
from opero.waits import uniform

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import Any, TypeVar

    from opero.call import Call
    from opero.runtime import Runtime
    from opero.stores import StateStore

    T = TypeVar("T")

MOMENT = 0.02  # seconds that who was cancelled waits for what it gives back
FIRST, MOST = 0.1, 2.0  # seconds between two looks whether a store is back
RARELY = 60.0  # seconds between two looks at one that comes and goes
STEADY = 60.0  # seconds after which one that is back has stayed
ALONE = 60.0  # seconds for which a state that cannot be used is left alone
REMEMBERED = 1_000  # such states

_guards: dict[str, Guard] = {}
_own: WeakValueDictionary[StateStore, Guard] = WeakValueDictionary()  # which hold their stores
_lock = forks.lock()


def guard(store: str | StateStore) -> Guard:
    """Return the guard of a store; there is one for each address."""
    with _lock:
        if not isinstance(store, str):
            found = _own.get(store)
            if found is None:
                found = _own[store] = Guard(store)
            return found
        if store not in _guards:
            from opero.stores.redis import RedisStore

            _guards[store] = Guard(RedisStore(store))
        return _guards[store]


class Guard:
    """Asks a store while it is there. Thread-safe, for all threads and loops of the process."""

    def __init__(self, store: StateStore) -> None:
        self.store = store
        self._errands = Errands()
        self.after_fork()
        forks.remember(self)

    def after_fork(self) -> None:
        """Look anew: the thread that looks for a lost store stayed in the parent."""
        self._lock = RLock()  # a generator may be collected, and drop its slot, while we hold it
        self._renewing = False
        self._slots: dict[str, dict[str, Callable[[str], None]]] = {}
        self._owed: deque[Callable[[], object]] = deque()  # what was given back while it was away
        self._unusable: dict[str, float] = {}  # until when a state is left alone
        self._pause = FIRST
        self._lost = self._returned = -inf
        self.looking = False
        self.away = False

    async def ask(
        self,
        call: Call,
        key: str,
        question: Callable[[StateStore], Awaitable[T]],
        right: Callable[..., bool] | None = None,
        *asked: Any,
    ) -> T | None:
        """Ask the store about a state; None when it is away, and then from the first failure on without delay.

        It has failed, too, when it gives what is not `right` for what was asked (opero/stores/answers.py).
        """
        if self.away:
            if not self.looking:
                self._seek()
            return None
        if self._unusable and clock.now() < self._unusable.get(key, -inf):
            return None
        try:
            answer = await question(self.store)
            if right is not None:
                check(right, answer, asked)
        except StateError as error:
            self._pass_over(call, key, error)
        except Exception as error:  # noqa: BLE001 - whatever a store fails of, the call goes on without it
            self._lose(call, error)
        else:
            self._unusable.pop(key, None)
            return answer
        return None

    def later(self, work: Callable[[], object]) -> None:
        """Do it in a thread, if the store is there."""
        if not self.away:
            self._errands.add(work)

    def owe(self, work: Callable[[], object]) -> None:
        """Do it in a thread, now or once the store is back. No lock is waited for: see `Errands`."""
        if self.away:
            self._owed.append(work)
        else:
            self._errands.add(work)
        if not self.away:
            self._catch_up()

    def _catch_up(self) -> None:
        with suppress(IndexError):  # another thread may do the same
            while True:
                self._errands.add(self._owed.popleft())

    async def soon(self, runtime: Runtime, work: Callable[[], object], seconds: float = MOMENT) -> None:
        """Do the same, and wait for it but a moment: for who was cancelled, and holds up others if the store hangs."""
        if self.away:
            self.owe(work)
            return
        waiter = runtime.waiter()

        def work_and_wake() -> None:
            work()
            waiter.wake()

        self._errands.add(work_and_wake)
        await runtime.park(waiter, runtime.now() + seconds)

    def hold(self, key: str, token: str, end: Callable[[str], None]) -> None:
        """Renew the lease of a slot until `drop`; `end` gives it back, and blocks for a bounded time."""
        with self._lock:
            self._slots.setdefault(key, {})[token] = end
            start, self._renewing = not self._renewing, True
        if start and not in_background(self._renew):
            self._renewing = False  # who takes the next slot tries again

    def drop(self, key: str, token: str) -> None:
        """Renew it no longer."""
        with self._lock:
            held = self._slots.get(key, {})
            held.pop(token, None)
            if not held:
                self._slots.pop(key, None)

    def _lose(self, call: Call, error: Exception) -> None:
        with self._lock:
            if self.away:
                return
            self._lost = clock.now()
            if self._lost - self._returned > STEADY:
                self._pause = FIRST
            self.away = True
        reason = str(error) if isinstance(error, AnswerError) else _noted(error)
        call.emit(LOST, store=self.store.name, error=type(error).__name__, reason=reason)
        self._seek()

    def _pass_over(self, call: Call, key: str, error: StateError) -> None:
        with self._lock:
            told = key in self._unusable
            self._unusable[key] = clock.now() + ALONE
            if len(self._unusable) > REMEMBERED:
                del self._unusable[next(iter(self._unusable))]
        if not told:
            call.emit(UNUSABLE, store=self.store.name, kind=error.kind, reason=error.why)

    def _seek(self) -> None:
        """Let a thread look whether the store is back, if none does. Where none can be started the next call tries."""
        with self._lock:
            if self.looking or not self.away:
                return
            self.looking = True
        if not in_background(self._look):
            self.looking = False

    def _look(self) -> None:
        """Look whether the store is back: more rarely each time that it was, and did not stay."""
        pause = self._pause
        while True:
            clock.sleep(uniform(pause / 2, pause))
            try:
                self.store.ping()
            except Exception:  # noqa: BLE001 - it was said that it is away; this is how we know that it still is
                pause = min(pause * 2, max(MOST, self._pause))
            else:
                break
        with self._lock:
            self._pause = min(self._pause * 2, RARELY)
            self._returned = clock.now()
            self.away = self.looking = False
        fields = {"store": self.store.name, "after": self._returned - self._lost}
        events.say(RETURNED, self.store.name, fields)
        self._catch_up()

    def _renew(self) -> None:
        """Renew leases while slots are held."""
        while True:
            clock.sleep(LEASE / 3)
            with self._lock:
                if not self._slots:
                    self._renewing = False
                    return
                slots = [(key, held.copy()) for key, held in self._slots.items()]
            for key, held in slots:
                if not self.away:
                    with suppress(Exception):  # the calls notice a lost store themselves; the next round renews
                        self.store.renew(key, list(held))
                    self._end_dropped(key, held)

    def _end_dropped(self, key: str, renewed: dict[str, Callable[[str], None]]) -> None:
        """Give back what was dropped in between: the store may have heard of that before it renewed them all."""
        with self._lock:
            dropped = renewed.keys() - self._slots.get(key, {}).keys()
        for token in dropped:
            renewed[token](token)


def _noted(error: Exception) -> str:
    """Return what is noted on an error; anybody may write there."""
    notes = getattr(error, "__notes__", None)
    return "; ".join(map(str, notes)) if isinstance(notes, list) else ""
