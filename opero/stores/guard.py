"""A store that may be away, and the state of this process that takes its place. One guard a store and process."""

from __future__ import annotations

from _thread import allocate_lock
from weakref import WeakKeyDictionary

from opero import clock, events, forks
from opero.stores import LEASE, LOST, RETURNED
from opero.waits import uniform

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import TypeVar

    from opero.call import Call
    from opero.stores import StateStore

    T = TypeVar("T")

FIRST, MOST = 0.1, 2.0  # seconds between two looks whether a store is back

_guards: dict[str, Guard] = {}
_own: WeakKeyDictionary[StateStore, Guard] = WeakKeyDictionary()
_lock = allocate_lock()


def guard(store: str | StateStore) -> Guard:
    """Return the guard of a store; there is one for each address."""
    with _lock:
        if not isinstance(store, str):
            return _own.setdefault(store, Guard(store))
        if store not in _guards:
            from opero.stores.redis import RedisStore

            _guards[store] = Guard(RedisStore(store))
        return _guards[store]


class Guard:
    """Asks a store while it is there. Thread-safe, for all threads and loops of the process."""

    def __init__(self, store: StateStore) -> None:
        self.store = store
        self.after_fork()
        forks.remember(self)

    def after_fork(self) -> None:
        """Look anew: the thread that looks for a lost store stayed in the parent."""
        self._lock = allocate_lock()
        self._renewing = False
        self._slots: dict[str, set[str]] = {}
        self.away = False

    async def ask(self, call: Call, question: Callable[[StateStore], Awaitable[T]]) -> T | None:
        """Ask the store; None when it is away, and then from the first failure on without delay."""
        if self.away:
            return None
        try:
            return await question(self.store)
        except Exception as error:  # noqa: BLE001 - whatever a store fails of, the call goes on without it
            self._lose(call, error)
            return None

    def later(self, work: Callable[[], None]) -> None:
        """Do it in a thread, if the store is there."""
        if not self.away:
            _in_background(work)

    def hold(self, key: str, token: str) -> None:
        """Renew the lease of a slot until `drop`."""
        with self._lock:
            self._slots.setdefault(key, set()).add(token)
            start, self._renewing = not self._renewing, True
        if start:
            _in_background(self._renew)

    def drop(self, key: str, token: str) -> None:
        """Renew it no longer."""
        with self._lock:
            held = self._slots.get(key, set())
            held.discard(token)
            if not held:
                self._slots.pop(key, None)

    def _lose(self, call: Call, error: Exception) -> None:
        with self._lock:
            if self.away:
                return
            self.away = True
        call.emit(LOST, store=self.store.name, error=type(error).__name__)
        _in_background(self._look)

    def _look(self) -> None:
        """Look whether the store is back."""
        started, pause = clock.now(), FIRST
        while True:
            clock.sleep(uniform(pause / 2, pause))
            try:
                self.store.ping()
            except Exception:  # noqa: BLE001 - it was said that it is away; this is how we know that it still is
                pause = min(pause * 2, MOST)
            else:
                break
        self.away = False
        fields = {"store": self.store.name, "after": clock.now() - started}
        events.say(RETURNED, self.store.name, fields)

    def _renew(self) -> None:
        """Renew leases while slots are held."""
        while True:
            clock.sleep(LEASE / 3)
            with self._lock:
                if not self._slots:
                    self._renewing = False
                    return
                slots = [(key, list(tokens)) for key, tokens in self._slots.items()]
            for key, tokens in slots:
                if not self.away:
                    try:
                        self.store.renew(key, tokens)
                    except Exception:  # noqa: BLE001, S112 - the calls notice a lost store themselves; the next round renews
                        continue


def _in_background(work: Callable[[], None]) -> None:
    from threading import Thread

    Thread(target=work, name="opero-store", daemon=True).start()
