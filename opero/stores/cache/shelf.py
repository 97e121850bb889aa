"""One function's part of a store that outlasts the process: from keys to names, from values to sealed bytes and back.

1. A name is a digest of namespace and full key, keyed where there is a signing key: names tell no arguments.
2. Who finds nothing takes a lease, renewed while it loads; others wait for the value, for as long as the lease is held.
   If it ends without a value, they load themselves, at once and not in a row.
3. A result is stored while its lease holds. Invalidating ends leases, so nothing older than that is stored after it.
4. A tag is a mark, a random text in the store; an entry holds the marks of its tags from before it was loaded. A new
   mark ends every entry with the old one.
"""

from __future__ import annotations

import os
from hashlib import blake2b

from opero.stores.cache.canonical import encode
from opero.stores.cache.codecs import Codecs
from opero.stores.cache.entry import Entry
from opero.stores.cache.envelope import Sheet
from opero.stores.cache.leases import leases
from opero.stores.cache.look import Look
from opero.stores.cache.trouble import Refused, Unavailable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Sequence
    from typing import Any

    from opero.runtime import Runtime
    from opero.stores.cache.envelope import Envelope
    from opero.stores.cache.guard import Guard
    from opero.stores.cache.keys import Key, Keys
    from opero.stores.cache.store import Store

FIRST, LAST = 0.005, 0.05  # seconds between two looks at somebody else's lease
MARKED = 16  # bytes of a mark's name, and 8 of its text


class Found:
    """What a look into the store gave. `lease` is held until the result is stored, or released; `busy`: others load."""

    __slots__ = ("born", "busy", "entry", "failed", "full", "lease", "marks", "old", "refused")

    def __init__(self, full: bytes) -> None:
        self.full = full
        self.entry: Entry | None = None
        self.old: Entry | None = None  # expired, and good for a failing function
        self.lease: bytes | None = None
        self.marks: tuple[bytes, ...] = ()
        self.busy = False
        self.failed = False  # the store did not do its part
        self.born = 0
        self.refused: list[str] = []


class Shelf:
    """Where the entries of one function are. Every method raises `Unavailable` when the store does not do its part."""

    def __init__(
        self,
        store: Store,
        guard: Guard,
        envelope: Envelope,
        function: Callable[..., Any],
        namespace: str,
        *,
        lease: float,
    ) -> None:
        self.store = store
        self._guard = guard
        self._envelope = envelope
        self._codecs = Codecs(function, authentic=envelope.authentic)
        self.namespace = namespace
        self._lease = lease

    @property
    def way_out(self) -> str:
        """Say what to do for a value that cannot be stored."""
        if self._envelope.authentic:
            return "it cannot be pickled"
        return "it would come back as another; declare the type that is returned, or give signing_key="

    def glances(self, keys: Keys) -> Look | None:
        """Return what looks briefly, where the store can be asked so."""
        if not hasattr(self.store, "glance"):
            return None

        def place(key: Key) -> tuple[bytes, list[str], list[bytes]] | None:
            text, tags = keys.full(key), keys.tags_of(key)
            if tags is None:
                return None
            marks = [self.mark(tag) for tag in tags]
            return self._address(text), [self.names(text)[0], *marks], [_digest(mark, MARKED) for mark in marks]

        store: Any = self.store
        return Look(store, self._guard, self._envelope, self._codecs, place)

    async def find(
        self,
        runtime: Runtime,
        full: bytes,
        tags: Iterable[str],
        *,
        anew: bool,
        wait: bool = True,
        until: float | None = None,
        looked: bool = False,
    ) -> Found:
        """Look for an entry; without one, take the lease. `anew` looks for none; without `wait` it waits for nobody.

        `looked`: a moment ago there was nothing fresh.
        """
        found, address = Found(full), self._address(full)
        name, *older = self._names(address)
        marks = [self.mark(tag) for tag in tags]
        token = os.urandom(12).hex().encode()
        waited_for, delay = None, FIRST
        claim: Any = self.store.claim_unseen if looked and not marks else self.store.claim  # type: ignore[attr-defined]
        while True:
            data, holder, texts = await self._ask(runtime, claim, name, token, self._lease, marks)
            claim = self.store.claim
            found.marks = tuple(_digest(mark, MARKED) + text for mark, text in zip(marks, texts, strict=True))
            if data is None and older:
                data = _first(await self._ask(runtime, self.store.read, older))
            if data is not None and not anew:
                await self._open(runtime, found, address, data)
                if found.entry is not None:
                    if holder == token:
                        await self.release_lease(runtime, name, token)
                    return found
            if holder != token and data is not None:
                holder = await self._ask(runtime, self.store.lock, name, token, self._lease, anew and wait)
            if holder == token:
                return self._hold(found, name, token)
            if not wait or (until is not None and runtime.now() >= until):
                found.busy = not wait
                return found
            if anew or (waited_for is not None and holder != waited_for):
                await self._ask(runtime, self.store.lock, name, token, self._lease, True)
                return self._hold(found, name, token)
            waited_for = holder
            await runtime.sleep(delay)
            delay = min(LAST, delay * 1.5)

    async def peek(self, runtime: Runtime, asked: Sequence[tuple[bytes, Iterable[str]]]) -> list[Entry | None]:
        """Return entries by their full keys and tags, in one trip, and take no lease."""
        names = [self.names(full) for full, _ in asked]
        found = iter(await self._ask(runtime, self.store.read, [name for each in names for name in each]))
        data = [_first([next(found) for _ in each]) for each in names]
        marks = await self._marks(runtime, [tags for (_, tags), each in zip(asked, data, strict=True) if each])
        entries = []
        for (full, tags), each in zip(asked, data, strict=True):
            held = Found(full)
            if each:
                held.marks = tuple(marks[tag] for tag in tags)
                await self._open(runtime, held, self._address(full), each)
            entries.append(held.entry)
        return entries

    async def save_all(
        self, runtime: Runtime, entries: Sequence[tuple[bytes, Entry]], now: float
    ) -> tuple[int, list[tuple[Refused, Entry]]]:
        """Store entries by hand, whatever leases there are; return how many had to go, and what is not stored."""
        created = await self._ask(runtime, self.store.now)
        marks = await self._marks(runtime, [entry.tags for _, entry in entries])
        sealed: list[tuple[str, bytes, float]] = []
        refused: list[tuple[Refused, Entry]] = []
        for full, entry in entries:
            try:
                data = self._sealed(full, entry, now, created, tuple(marks[tag] for tag in entry.tags))
            except Refused as refusal:
                refused.append((refusal, entry))
            else:
                sealed.append((self.names(full)[0], data, entry.gone - now))
        return int(await self._ask(runtime, self.store.write_all, sealed)), refused

    async def save(self, runtime: Runtime, found: Found, entry: Entry, now: float) -> int:
        """Store an entry, unless its lease ended meanwhile; return how many had to go for it."""
        created = await self._ask(runtime, self.store.now)
        data = self._sealed(found.full, entry, now, created, found.marks)
        name = self.names(found.full)[0]
        self._let_go(found)
        return int(await self._ask(runtime, self.store.write, name, data, entry.gone - now, found.lease))

    def _sealed(self, full: bytes, entry: Entry, now: float, created: float, marks: tuple[bytes, ...]) -> bytes:
        codec, body = self._codecs.dump(entry.value)
        sheet = Sheet(
            created=created,
            soft=entry.soft - now,
            hard=entry.hard - now,
            gone=entry.gone - now,
            load=entry.load,
            failed=entry.failed,
            codec=codec,
            marks=marks,
        )
        return self._envelope.seal(self._address(full), sheet, body)

    async def _marks(self, runtime: Runtime, tags: Iterable[Iterable[Any]]) -> dict[Any, bytes]:
        """Return what entries hold of their tags."""
        names = {tag: self.mark(tag) for each in tags for tag in each}
        texts = await self._ask(runtime, self.store.marks, list(names.values())) if names else []
        return {tag: _digest(mark, MARKED) + text for (tag, mark), text in zip(names.items(), texts, strict=True)}

    async def release(self, runtime: Runtime, found: Found) -> None:
        """Let others load."""
        if found.lease is not None:
            self._let_go(found)
            await self.release_lease(runtime, self.names(found.full)[0], found.lease)

    async def release_lease(self, runtime: Runtime, name: str, token: bytes) -> None:
        """End a lease, if it is still ours."""
        await self._ask(runtime, self.store.release, name, token)

    def _hold(self, found: Found, name: str, token: bytes) -> Found:
        found.lease = token
        leases.hold(self.store, name, token, self._lease)
        return found

    @staticmethod
    def _let_go(found: Found) -> None:
        if found.lease is not None:
            leases.let_go(found.lease)

    async def delete(self, runtime: Runtime, fulls: Sequence[bytes]) -> int:
        """Forget entries, and let none that is being loaded be stored; how many there were."""
        names = [name for full in fulls for name in self.names(full)]
        return int(await self._order(runtime, self.store.delete, names))

    async def forget_tags(self, runtime: Runtime, tags: Iterable[str]) -> None:
        """End every entry with one of these tags."""
        await self._order(runtime, self.store.remark, [self.mark(tag) for tag in tags])

    async def clear(self, runtime: Runtime) -> None:
        """Forget every entry of the namespace."""
        await self._order(runtime, self.store.clear, self.namespace)

    def names(self, full: bytes) -> list[str]:
        """Return the name of an entry, then those it had under older signing keys."""
        return self._names(self._address(full))

    def _names(self, address: bytes) -> list[str]:
        ring = self._envelope.signing
        keys = (b"",) if ring is None else ring.all()
        return [f"{self.namespace}:v1:{_digest(address, 20, key).hex()}" for key in keys]

    def mark(self, tag: str) -> str:
        """Return the name of a tag's mark."""
        ring = self._envelope.signing
        key = b"" if ring is None else ring.all()[-1]
        return f"{self.namespace}:tag:{_digest(encode(tag), 20, key).hex()}"

    def _address(self, full: bytes) -> bytes:
        return encode((self.namespace, full))

    async def _open(self, runtime: Runtime, found: Found, address: bytes, data: bytes) -> None:
        """Put what an envelope holds into `found`, if it is to be trusted and not over; drop what is not."""
        try:
            sheet, body = self._envelope.open(address, data)
            age = max(0.0, await self._ask(runtime, self.store.now) - sheet.created)
            if sheet.marks != found.marks or age >= sheet.gone:
                return
            value = self._codecs.load(sheet.codec, body)
        except Refused as refused:
            found.refused.append(refused.reason)
            await self._ask(runtime, self.store.delete, self.names(found.full))
            return
        entry = self._entry(value, sheet, age, runtime.now())
        if age < sheet.hard:
            found.entry = entry
        elif not sheet.failed:
            found.old = entry

    @staticmethod
    def _entry(value: Any, sheet: Sheet, age: float, now: float) -> Entry:
        born = now - age
        entry = Entry(value, soft=born + sheet.soft, hard=born + sheet.hard, gone=born + sheet.gone)
        entry.load, entry.failed = sheet.load, sheet.failed
        return entry

    async def _ask(self, runtime: Runtime, do: Callable[..., Coroutine[Any, Any, Any]], *args: Any) -> Any:
        if not self._guard.admits(runtime.now()):
            raise Unavailable("open", quiet=True)
        try:
            return await self._order(runtime, do, *args)
        except Unavailable:
            self._guard.failed(runtime.now())
            raise

    async def _order(self, runtime: Runtime, do: Callable[..., Coroutine[Any, Any, Any]], *args: Any) -> Any:
        """Ask also a store that is left alone: what ends entries must not be put off while others may read them."""
        try:
            answer = await do(runtime, *args)
        except Unavailable:
            raise
        except Exception as error:  # a store's own mistake is no more the caller's than its silence
            raise Unavailable(type(error).__name__) from error
        self._guard.succeeded()
        return answer


def _first(found: Sequence[bytes | None]) -> bytes | None:
    return next((data for data in found if data), None)


def _digest(text: bytes | str, size: int, key: bytes = b"") -> bytes:
    data = text.encode() if isinstance(text, str) else text
    derived = blake2b(key, digest_size=32, person=b"opero names key").digest() if key else b""
    return blake2b(data, digest_size=size, key=derived, person=b"opero name").digest()
