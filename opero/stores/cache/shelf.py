"""One function's part of a store that outlasts the process: from keys to names, from values to sealed bytes and back.

1. A name is a digest of namespace and full key, keyed where there is a signing key: names tell no arguments.
2. Who finds nothing takes a lease, renewed while it loads; others wait for the value, for as long as the lease is held.
   If it just ends, as by a death, one of them takes it, and the others wait for that, once. If it ended without a
   value, by an error or by choice, they load themselves, at once and not in a row. One that is held for longer than
   any load may take, whoever holds it, they end.
3. A result is stored while its lease holds. Invalidating ends leases, so nothing older than that is stored after it.
4. A tag has a mark, a random text in the store, for each signing key: all who share a key with who ends a tag hear of
   it. An entry holds what the marks said before it was loaded, and is good while all that a reader knows say no other.
   A mark that is missing says what that of the first key says: so entries outlive the day a key is added. That of the
   first key says something new: it may be lost, and what it said with it.
5. Of an entry's names, one for each key, only that of the key that writes is left when a result is stored.
"""

from __future__ import annotations

import os
from hashlib import blake2b

from opero.stores.cache.canonical import encode
from opero.stores.cache.codecs import Codecs
from opero.stores.cache.entry import AHEAD, Entry
from opero.stores.cache.envelope import MARK, Sheet
from opero.stores.cache.leases import LONGEST, leases
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
MOST = 2  # loads of others that one waits for


class Found:
    """What a look into the store gave. `lease` is held until the result is stored, or released; `busy`: others load."""

    __slots__ = (
        "born",
        "busy",
        "entry",
        "failed",
        "full",
        "lease",
        "marks",
        "names",
        "old",
        "refused",
        "stuck",
        "tags",
    )

    def __init__(self, full: bytes, names: Sequence[str] = ()) -> None:
        self.full = full
        self.names = names  # that of the key that writes first; they stay, though keys rotate meanwhile
        self.entry: Entry | None = None
        self.old: Entry | None = None  # expired, and good for a failing function
        self.lease: bytes | None = None
        self.tags: tuple[str, ...] = ()
        self.marks: frozenset[bytes] = frozenset()  # what those of the tags say
        self.busy = False
        self.failed = False  # the store did not do its part
        self.stuck = False  # a lease had to be ended for this load
        self.born = 0
        self.refused: list[str] = []


class Waited:
    """Whom one load waits for, until when at most, and for how many loads of others it did."""

    __slots__ = ("holder", "loads", "until")

    def __init__(self) -> None:
        self.holder: bytes | None = None
        self.loads = 0
        self.until = 0.0


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

    def way_out(self, refused: Refused) -> str:
        """Say what to do for a value that cannot be stored."""
        if refused.reason == "too_large":
            return f"it takes more than max_inflated ({self._envelope.inflated} bytes)"
        if self._envelope.authentic:
            return "it cannot be pickled"
        return "it would come back as another; declare the type that is returned, or give signing_key="

    def glances(self, keys: Keys, early: float) -> Look | None:
        """Return what looks briefly, where the store can be asked so."""
        if not hasattr(self.store, "glance"):
            return None

        def place(key: Key) -> tuple[bytes, list[str]] | None:
            full, tags = keys.full(key), keys.tags_of(key)
            if tags is None:
                return None
            return self._address(full), [self.names(full)[0], *(mark for tag in tags for mark in self.marks(tag))]

        store: Any = self.store
        return Look(store, self._guard, self._envelope, self._codecs, place, early=early)

    async def find(
        self,
        runtime: Runtime,
        found: Found,
        tags: Iterable[str],
        *,
        anew: bool,
        wait: bool = True,
        until: float | None = None,
        looked: bool = False,
    ) -> None:
        """Look for an entry; without one, take the lease. `anew` looks for none; without `wait` it waits for nobody.

        `looked`: a moment ago there was nothing fresh.
        """
        name, *older = found.names
        marks = [self.marks(tag) for tag in tags]
        asked = [mark for each in marks for mark in each]
        token = os.urandom(12).hex().encode()
        waited, delay = Waited(), FIRST
        claim: Any = self.store.claim_unseen if looked and not marks else self.store.claim  # type: ignore[attr-defined]
        while True:
            data, holder, texts = await self._ask(
                runtime, claim, name, token, self._lease, asked, refused=found.refused
            )
            claim = self.store.claim
            found.marks = frozenset().union(*await self._said(runtime, marks, texts))
            if data is None and older:
                data = _first(await self._ask(runtime, self.store.read, older, refused=found.refused))
            if data is not None and not anew:
                await self._open(runtime, found, data)
                if found.entry is not None:
                    if holder == token:
                        await self._ask(runtime, self.store.release, name, token, False)
                    return
            if holder != token and data is not None:
                holder = await self._ask(runtime, self.store.lock, name, token, self._lease, anew and wait)
            if holder == token:
                self._hold(found, name, token)
                return
            if not wait or (until is not None and runtime.now() >= until):
                found.busy = not wait
                return
            if anew or await self._waited_enough(runtime, found, waited, holder):
                await self._ask(runtime, self.store.lock, name, token, self._lease, True)
                self._hold(found, name, token)
                return
            await runtime.sleep(delay)
            delay = min(LAST, delay * 1.5)

    async def _waited_enough(self, runtime: Runtime, found: Found, waited: Waited, holder: bytes | None) -> bool:
        """Whether to load without waiting further; ends a lease that is held for too long."""
        before, now, name = waited.holder, runtime.now(), found.names[0]
        if holder == before:
            if holder is not None and now >= waited.until:
                found.stuck = True
                await self._ask(runtime, self.store.release, name, holder, False)
            return False
        waited.holder, waited.until = holder, now + self._lease * LONGEST
        waited.loads += 1
        return waited.loads > MOST or (before is not None and await self._ask(runtime, self.store.barren, name, before))

    async def peek(self, runtime: Runtime, asked: Sequence[tuple[bytes, Iterable[str]]]) -> list[Entry | None]:
        """Return entries by their full keys and tags, in one trip, and take no lease."""
        found = [self.seek(full) for full, _ in asked]
        given = iter(await self._ask(runtime, self.store.read, [name for each in found for name in each.names]))
        data = [_first([next(given) for _ in each.names]) for each in found]
        said = await self._all_said(runtime, [tags for (_, tags), each in zip(asked, data, strict=True) if each])
        for held, (_, tags), each in zip(found, asked, data, strict=True):
            if each:
                held.marks = frozenset().union(*(said[tag] for tag in tags))
                await self._open(runtime, held, each)
        return [held.entry for held in found]

    async def save_all(
        self, runtime: Runtime, entries: Sequence[tuple[bytes, Entry]], now: float
    ) -> tuple[int, list[tuple[Refused, Entry]]]:
        """Store entries by hand, whatever leases there are; return how many had to go, and what is not stored."""
        created = await self._ask(runtime, self.store.now)
        said = await self._all_said(runtime, [entry.tags for _, entry in entries])
        sealed: list[tuple[str, bytes, float]] = []
        refused: list[tuple[Refused, Entry]] = []
        for full, entry in entries:
            try:
                data = self._sealed(full, entry, now, created, frozenset().union(*(said[tag] for tag in entry.tags)))
            except Refused as refusal:
                refused.append((refusal, entry))
            else:
                sealed.append((self.names(full)[0], data, entry.gone - now))
        return int(await self._ask(runtime, self.store.write_all, sealed)), refused

    async def save(self, runtime: Runtime, found: Found, entry: Entry, now: float) -> int:
        """Store an entry, unless its lease ended meanwhile; return how many had to go for it."""
        created = await self._ask(runtime, self.store.now)
        data = self._sealed(found.full, entry, now, created, found.marks)
        self._let_go(found)
        return int(await self._ask(runtime, self.store.write, found.names, data, entry.gone - now, found.lease))

    def _sealed(self, full: bytes, entry: Entry, now: float, created: float, marks: frozenset[bytes]) -> bytes:
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

    async def _all_said(self, runtime: Runtime, tags: Iterable[Iterable[Any]]) -> dict[Any, frozenset[bytes]]:
        """Return what the marks of tags say, in one trip."""
        marks = {tag: self.marks(tag) for each in tags for tag in each}
        asked = [mark for each in marks.values() for mark in each]
        texts = await self._ask(runtime, self.store.marks, asked) if asked else ()
        return dict(zip(marks, await self._said(runtime, [*marks.values()], texts), strict=True))

    async def _said(
        self, runtime: Runtime, marks: Sequence[Sequence[str]], texts: Sequence[bytes | None]
    ) -> list[frozenset[bytes]]:
        """Return what the marks say, by tag; make those that are missing."""
        given, missing = iter(texts), []
        known = [[next(given) for _ in each] for each in marks]
        for each, said in zip(marks, known, strict=True):
            text = said[0] or os.urandom(MARK)
            missing += [(mark, text) for mark, found in zip(each, said, strict=True) if found is None]
        made = iter(await self._ask(runtime, self.store.mark, missing) if missing else ())
        return [frozenset(_fit(next(made) if text is None else text) for text in said) for said in known]

    async def release(self, runtime: Runtime, found: Found, *, stopped: bool) -> None:
        """Let others load; one of them if this load was `stopped`."""
        if found.lease is not None:
            self._let_go(found)
            await self._ask(runtime, self.store.release, found.names[0], found.lease, not stopped)

    def _hold(self, found: Found, name: str, token: bytes) -> None:
        found.lease = token
        leases.hold(self.store, name, token, self._lease)

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
        texts = [(mark, text) for tag in tags for text in (os.urandom(MARK),) for mark in self.marks(tag)]
        await self._order(runtime, self.store.remark, texts)

    async def clear(self, runtime: Runtime) -> None:
        """Forget every entry of the namespace."""
        await self._order(runtime, self.store.clear, self.namespace)

    def seek(self, full: bytes) -> Found:
        """Return what is to be filled with what is found."""
        return Found(full, self.names(full))

    def names(self, full: bytes) -> list[str]:
        """Return the names of an entry, that under the key that writes first."""
        return self._named("v1", self._address(full))

    def marks(self, tag: str) -> list[str]:
        """Return the names of a tag's marks, in the same order."""
        return self._named("tag", encode(tag))

    def _named(self, kind: str, text: bytes) -> list[str]:
        ring = self._envelope.signing
        keys = (b"",) if ring is None else ring.all()
        return [f"{self.namespace}:{kind}:{_digest(text, key).hex()}" for key in keys]

    def _address(self, full: bytes) -> bytes:
        return encode((self.namespace, full))

    async def _open(self, runtime: Runtime, found: Found, data: bytes) -> None:
        """Put what an envelope holds into `found`, if it is to be trusted and not over; drop what is not."""
        try:
            sheet, body = self._envelope.open(self._address(found.full), data)
            age = await self._ask(runtime, self.store.now) - sheet.created
            if not found.marks <= sheet.marks or not -AHEAD < age < sheet.gone:
                return
            age = max(0.0, age)
            value = self._codecs.load(sheet.codec, body)
        except Refused as refused:
            found.refused.append(refused.reason)
            await self._ask(runtime, self.store.delete, found.names)
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

    async def _ask(self, runtime: Runtime, do: Callable[..., Coroutine[Any, Any, Any]], *args: Any, **more: Any) -> Any:
        if not self._guard.admits(runtime.now()):
            raise Unavailable("open", quiet=True)
        try:
            return await self._order(runtime, do, *args, **more)
        except Unavailable as failure:
            if not failure.answered:
                self._guard.failed(runtime.now())
            raise

    async def _order(
        self,
        runtime: Runtime,
        do: Callable[..., Coroutine[Any, Any, Any]],
        *args: Any,
        refused: list[str] | None = None,
    ) -> Any:
        """Ask also a store that is left alone: what ends entries must not be put off while others may read them.

        What the store met and removed as foreign is added to `refused`, and it is asked once more.
        """
        try:
            try:
                answer = await do(runtime, *args)
            except Refused as foreign:
                if refused is not None:
                    refused.append(foreign.reason)
                answer = await do(runtime, *args)
        except Unavailable:
            raise
        except Exception as error:  # a store's own mistake is no more the caller's than its silence
            raise Unavailable(type(error).__name__) from error
        self._guard.succeeded()
        return answer


def _first(found: Sequence[bytes | None]) -> bytes | None:
    return next((data for data in found if data), None)


def _fit(text: bytes) -> bytes:
    """Return a mark's text as an entry holds it: one that somebody else wrote may have any length."""
    return text if len(text) == MARK else blake2b(text, digest_size=MARK).digest()


def _digest(text: bytes, key: bytes) -> bytes:
    derived = blake2b(key, digest_size=32, person=b"opero names key").digest() if key else b""
    return blake2b(text, digest_size=20, key=derived, person=b"opero name").digest()
