"""What one `Cache` carries, for all functions that use it: entries, loads under way, and what loading took."""

from __future__ import annotations

import os
from _thread import allocate_lock
from contextvars import ContextVar

from opero import forks
from opero.stores.cache.envelope import Envelope
from opero.stores.cache.flights import Flights
from opero.stores.cache.guard import Guard
from opero.stores.cache.keys import name_of
from opero.stores.cache.memory import LruStore, MemoryStore
from opero.stores.cache.places import Distant, Local
from opero.stores.cache.shelf import Shelf
from opero.windows import LatencyHistogram

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Hashable
    from typing import Any

    from opero.primitives.cache import Cache
    from opero.stores.cache.flights import Flight
    from opero.stores.cache.keys import Keys
    from opero.stores.cache.near import Near
    from opero.stores.cache.store import Store

REFRESHES = 32  # loads behind the callers' backs at once; what is stale meanwhile stays stale
modes: ContextVar[tuple[tuple[object, str], ...]] = ContextVar("opero.cache.modes", default=())
forced: list[bool] = []  # whether there ever was one: while it is empty, nobody has to look further


class State:
    """Thread-safe; starts empty in a forked child only as far as loads are concerned."""

    def __init__(self, policy: Cache) -> None:
        self._policy = policy
        self.backend = policy.backend if isinstance(policy.backend, str) else type(policy.backend).__name__
        held = policy.max_entries if self.backend == "memory" or policy.near is not None else 0
        kind = LruStore if policy.eviction == "lru" else MemoryStore
        self.memory: MemoryStore | None = kind(held, policy.max_bytes, early=policy.early) if held else None
        self.guard = Guard()
        self._stores: dict[str, Store] = {}
        self._nears: dict[str, Near] = {}
        self._places: dict[str, Distant] = {}
        self.flights = Flights()
        self.behind = Flights()  # loads behind the callers' backs, where those do not wait for them
        self.load = LatencyHistogram()
        self.after_fork()
        forks.remember(self)

    def after_fork(self) -> None:
        """Forget the parent's refreshes."""
        self._lock = allocate_lock()
        self._refreshes = 0

    def place(self, function: Callable[..., Any], keys: Keys) -> Local | Distant:
        """Return where the results of a function are kept."""
        policy = self._policy
        if self.memory is not None and policy.backend == "memory":
            return Local(self.memory, self.flights, keys)
        namespace = policy.namespace or name_of(function)
        envelope = Envelope(
            signing=policy.signing_key,
            encryption=policy.encryption_key,
            compress_above=policy.compress_above,
            inflated=policy.max_inflated,
        )
        shelf = Shelf(self.store(namespace), self.guard, envelope, function, namespace, lease=policy.lease)
        near = self.near(namespace)
        return Distant(shelf, near, self.behind, keys, early=policy.early, beside=self._places)

    def store(self, namespace: str) -> Store:
        """Return the store of a namespace: one file each on disk, one and the same in Redis."""
        policy = self._policy
        if policy.backend == "disk":
            if namespace not in self._stores:
                from opero.stores.cache.disk import DiskStore

                self._stores[namespace] = DiskStore(
                    policy.directory,
                    namespace,
                    max_bytes=policy.max_bytes,
                    max_entries=policy.max_entries,
                    patience=policy.patience,
                )
            return self._stores[namespace]
        if "" not in self._stores and not isinstance(policy.backend, str):
            from opero.stores.cache.foreign import ForeignStore

            self._stores[""] = ForeignStore(policy.backend)
        if "" not in self._stores:
            from opero.stores.cache.redis import RedisStore

            url = policy.url or os.environ.get("OPERO_REDIS_URL") or "redis://127.0.0.1:6379/0"
            self._stores[""] = RedisStore(url, patience=policy.patience)
        return self._stores[""]

    def near(self, namespace: str) -> Near | None:
        """Return what keeps copies in this process coherent, where they were asked for."""
        policy = self._policy
        if policy.near is None or self.memory is None:
            return None
        if namespace not in self._nears:
            from opero.stores.cache.named import prefix_of
            from opero.stores.cache.near import Near

            self._nears[namespace] = Near(self.store(namespace), self.memory, prefix_of(namespace), policy.near)  # type: ignore[arg-type]
        return self._nears[namespace]

    def mode(self) -> str | None:
        """Return what a context manager asked for: "bypass", "refresh" or nothing."""
        for state, mode in reversed(modes.get()):
            if state is self:
                return mode
        return None

    def loaded(self, seconds: float) -> None:
        """Count how long a load took."""
        with self._lock:
            self.load.add(seconds)

    def load_times(self) -> list[float]:
        """Return the median, p95 and p99 of what loading took, in seconds."""
        with self._lock:
            return self.load.quantiles((0.5, 0.95, 0.99))

    def begin_refresh(self, flights: Flights, key: Hashable, scope: object) -> Flight | None:
        """Return a flight to lead in the background, unless one is under way or there are too many."""
        with self._lock:
            if self._refreshes >= REFRESHES:
                return None
            flight = flights.begin(key, scope)
            self._refreshes += flight is not None
            return flight

    def end_refresh(self) -> None:
        """Say that one is over."""
        with self._lock:
            self._refreshes -= 1

    def count(self) -> int:
        """Return how many entries this process holds."""
        return 0 if self.memory is None else len(self.memory)

    def usage(self) -> int:
        """Return an estimate of the bytes they take; 0 where bytes are not bounded."""
        return 0 if self.memory is None else self.memory.bytes
