"""Where a function's results are kept: in this process, or on a shelf of a store, with copies here where asked for.

Both take what a load needs in the same steps: `find`, then `keep` or `release`. A store's failure is told and is a
miss; by hand it is a `CacheError`.
"""

from __future__ import annotations

from opero.errors import CacheError
from opero.stores.cache.look import UNLOOKED
from opero.stores.cache.named import called
from opero.stores.cache.said import BACKEND_FAILED, ENTRY_REFUSED, EVICTIONS
from opero.stores.cache.shelf import Found
from opero.stores.cache.trouble import Refused, Unavailable

PLACE = "cache"  # of what a call found on its way, in its record
PASSES = "who reads it first uses it up; return a list"

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterable, Sequence
    from typing import Any

    from opero.call import Call
    from opero.runtime import Runtime
    from opero.stores.cache.entry import Entry
    from opero.stores.cache.flights import Flight, Flights
    from opero.stores.cache.keys import Key, Keys
    from opero.stores.cache.memory import MemoryStore
    from opero.stores.cache.near import Near
    from opero.stores.cache.shelf import Shelf

    Tags = tuple[str, ...]


class Local:
    """In this process."""

    look = None  # there is nothing to wait for

    def __init__(self, memory: MemoryStore, flights: Flights, keys: Keys) -> None:
        self.memory = memory
        self.behind = flights  # who misses while it is loaded behind a caller's back waits for that
        self._flights = flights
        self._keys = keys

    def glance(self, key: Key, now: float) -> Entry | None:
        """Return an entry without waiting for anything."""
        return self.memory.get(key, now)

    async def find(self, load: Call, flight: Flight, tags: Tags, *, anew: bool) -> Found:
        """Look once more: it may have come while this call was on its way to its flight."""
        found, now = Found(b""), load.runtime.now()
        found.born = self.memory.born()
        found.entry = None if anew else self.memory.get(flight.slot[0], now)
        found.old = self.memory.keep(flight.slot[0], now)
        return found

    async def keep(self, load: Call, flight: Flight, found: Found, entry: Entry, now: float) -> None:
        """Store an entry, unless it was invalidated while it was loaded."""
        if entry.passes:
            _tell_refused(load, "memory", "iterator", entry, PASSES)
            return
        evicted: dict[str, int] = {}
        self._flights.keep(flight, lambda: evicted.update(self.memory.put(flight.slot[0], entry, now)))
        _count(load, evicted)

    async def release(self, load: Call, found: Found, *, stopped: bool = False) -> None:
        """Hold nothing."""

    async def peek(self, runtime: Runtime, asked: Sequence[tuple[Key, Tags]]) -> list[Entry | None]:
        """Return entries."""
        return [self.memory.get(key, runtime.now()) for key, _ in asked]

    async def put(self, call: Call, entries: Sequence[tuple[Key, Entry]], now: float) -> None:
        """Store entries by hand."""
        for key, entry in entries:
            if entry.passes:
                _tell_refused(call, "memory", "iterator", entry, PASSES)
                continue
            entry.born = self.memory.born()
            _count(call, self.memory.put(key, entry, now))

    async def forget(self, runtime: Runtime, keys: Sequence[Key]) -> int:
        """Forget keys; how many were there."""
        found: list[bool] = []
        for key in keys:
            self._flights.discard(key, lambda key=key: found.append(self.memory.remove(key)))  # type: ignore[misc]
        return sum(found)

    async def forget_tags(self, runtime: Runtime, tags: Iterable[str]) -> None:
        """Forget what has one of these tags."""
        self.memory.kill_tags(tags)

    async def forget_all(self, runtime: Runtime) -> None:
        """Forget every result of the function."""
        own = self._keys.own
        self._flights.discard_all(lambda: self.memory.remove_all(lambda key: key[0] == own))


class Distant:
    """On a shelf of a store, and near, where copies are kept."""

    def __init__(
        self,
        shelf: Shelf,
        near: Near | None,
        behind: Flights,
        keys: Keys,
        *,
        early: float,
        beside: dict[str, Distant],
    ) -> None:
        self.shelf = shelf
        self.near = near
        self.behind = behind  # apart: who finds the stale entry meanwhile does not wait
        self._keys = keys
        self._beside = beside  # one for each namespace of the cache: a tag means all of them
        beside[shelf.namespace] = self
        self.look = shelf.glances(keys, early) if near is None and keys.tells_tags else None

    def glance(self, key: Key, now: float) -> Entry | None:
        """Return a copy, while copies are known to be no older than the bound."""
        near = self.near
        return near.memory.get(key, now) if near is not None and near.fresh(now) else None

    async def find(self, load: Call, flight: Flight, tags: Tags, *, anew: bool) -> Found:
        """Look into the store, and take the lease to load where nothing is found."""
        found = self.shelf.seek(self._keys.full(flight.slot[0]))  # type: ignore[arg-type]
        looked = load.record.held.pop(PLACE, UNLOOKED)
        if looked.failure is not None:
            self._tell(load, found, looked.failure)
            return found
        near, now = self.near, load.runtime.now()
        ticket = None if near is None else near.expect(found.names, now)
        born = 0 if near is None else near.memory.born()
        until = None if load.deadline is None else load.deadline.at
        try:
            await self.shelf.find(
                load.runtime, found, tags, anew=anew, wait=not flight.background, until=until, looked=looked.asked
            )
        except Unavailable as failure:
            self._tell(load, found, failure)
        except BaseException:
            if near is not None:
                near.give_up(found.names, ticket)
            raise
        if found.stuck:
            load.emit(BACKEND_FAILED, backend=self.shelf.store.name, reason="stuck_lease")
        for reason in found.refused:
            load.emit(ENTRY_REFUSED, backend=self.shelf.store.name, reason=reason)
        if near is not None and ticket is not None:
            if found.entry is None or found.entry.passes:
                near.give_up(found.names, ticket)
            else:
                found.entry.born = born
                found.entry.tags = tuple(called(mark) for tag in tags for mark in self.shelf.marks(tag))
                evicted = near.keep(found.names, ticket, flight.slot[0], found.entry, load.runtime.now())  # type: ignore[arg-type]
                _count(load, evicted)
        return found

    async def keep(self, load: Call, flight: Flight, found: Found, entry: Entry, now: float) -> None:
        """Store an entry; a copy is made when it is read back, and so known to be the last one written."""
        if found.failed:
            return
        try:
            evicted = await self.shelf.save(load.runtime, found, entry, now)
        except Unavailable as failure:
            self._tell(load, found, failure)
        except Refused as refused:
            self._tell_refused(load, refused, entry)
            await self.release(load, found)
        else:
            if evicted:
                load.operation.book.add(EVICTIONS, ("bytes",), evicted)

    async def release(self, load: Call, found: Found, *, stopped: bool = False) -> None:
        """Let others load; `stopped`: this load was, and so one of them does."""
        if not found.failed:
            try:
                await self.shelf.release(load.runtime, found, stopped=stopped)
            except Unavailable as failure:
                self._tell(load, found, failure)

    async def peek(self, runtime: Runtime, asked: Sequence[tuple[Key, Tags]]) -> list[Entry | None]:
        """Return entries."""
        full = [(self._keys.full(key), tags) for key, tags in asked]
        return await self._asked(self.shelf.peek(runtime, full))  # type: ignore[no-any-return]

    async def put(self, call: Call, entries: Sequence[tuple[Key, Entry]], now: float) -> None:
        """Store entries by hand."""
        full = [(self._keys.full(key), entry) for key, entry in entries]
        evicted, refused = await self._asked(self.shelf.save_all(call.runtime, full, now))
        for refusal, entry in refused:
            self._tell_refused(call, refusal, entry)
        _count(call, {"bytes": evicted} if evicted else {})

    async def forget(self, runtime: Runtime, keys: Sequence[Key]) -> int:
        """Forget keys; how many were there."""
        full = [self._keys.full(key) for key in keys]
        self._written([name for each in full for name in self.shelf.names(each)])
        return await self._asked(self.shelf.delete(runtime, full))  # type: ignore[no-any-return]

    async def forget_tags(self, runtime: Runtime, tags: Iterable[str]) -> None:
        """Forget what has one of these tags, of all functions that share the cache."""
        given = tuple(tags)
        for place in list(self._beside.values()):
            await place.forget_own_tags(runtime, given)

    async def forget_own_tags(self, runtime: Runtime, tags: Tags) -> None:
        """Forget what has one of these tags, of this namespace."""
        self._written([mark for tag in tags for mark in self.shelf.marks(tag)])
        await self._asked(self.shelf.forget_tags(runtime, tags))

    async def forget_all(self, runtime: Runtime) -> None:
        """Forget every result of the namespace."""
        if self.near is not None:
            self.near.lost()
        await self._asked(self.shelf.clear(runtime))

    def _written(self, names: list[str]) -> None:
        if self.near is not None:
            self.near.written(list(map(called, names)))

    def _tell(self, load: Call, found: Found, failure: Unavailable) -> None:
        found.failed = True
        if not failure.quiet:
            load.emit(BACKEND_FAILED, backend=self.shelf.store.name, reason=failure.reason)

    def _tell_refused(self, call: Call, refused: Refused, entry: Entry) -> None:
        _tell_refused(call, self.shelf.store.name, refused.reason, entry, self.shelf.way_out(refused))

    async def _asked(self, work: Coroutine[Any, Any, Any]) -> Any:
        try:
            return await work
        except Unavailable as failure:
            raise CacheError(f"the {self.shelf.store.name} store did not answer ({failure.reason})") from failure


def _tell_refused(call: Call, backend: str, reason: str, entry: Entry, way: str) -> None:
    """Say that a value is not stored; aloud, too: it never will be, and no event may be listened to."""
    call.emit(BACKEND_FAILED, backend=backend, reason=reason)
    import warnings

    text = f"opero: a {type(entry.value).__name__} that {call.operation.name} returned is not stored ({backend}): {way}"
    warnings.warn(text, RuntimeWarning, stacklevel=3)


def _count(load: Call, evicted: dict[str, int]) -> None:
    for reason, count in evicted.items():
        load.operation.book.add(EVICTIONS, (reason,), count)
