"""One short look into a store that can be asked briefly: it finds a fresh value, or leaves all else to the long way."""

from __future__ import annotations

from opero.stores.cache.quick import UNASKED, command
from opero.stores.cache.redis import key_of
from opero.stores.cache.said import REQUESTS
from opero.stores.cache.trouble import Refused, Unavailable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from opero.pipeline import Operation
    from opero.runtime import Runtime
    from opero.stores.cache.codecs import Codecs
    from opero.stores.cache.envelope import Envelope
    from opero.stores.cache.guard import Guard
    from opero.stores.cache.keys import Key
    from opero.stores.cache.redis import RedisStore

HIT = (REQUESTS.name, ("hit",))
REMEMBERED = 4096  # keys whose questions are known; one takes two encodings and two digests


class Looked:
    """What gave no fresh value. `asked`: the store was, and had none; `failure`: it did not answer."""

    __slots__ = ("asked", "failure")

    def __init__(self, *, asked: bool, failure: Unavailable | None = None) -> None:
        self.asked = asked
        self.failure = failure


NOTHING, UNLOOKED = Looked(asked=True), Looked(asked=False)


class Look:
    """The looks of one function. `place` gives, for a key, its address and the name it is written under."""

    def __init__(
        self,
        store: RedisStore,
        guard: Guard,
        envelope: Envelope,
        codecs: Codecs,
        place: Callable[[Key], tuple[bytes, str]],
    ) -> None:
        self._store, self._guard, self._envelope, self._codecs = store, guard, envelope, codecs
        self._place = place
        self._known: dict[Key, tuple[bytes, bytes]] = {}
        self._signer: object = None  # whose names those are

    async def at(self, runtime: Runtime, key: Key) -> Any:
        """Return a fresh value; else a `Looked`. It raises nothing, and a fresh error is for the long way."""
        if self._guard.doubts:
            return UNLOOKED
        address, question = self._question(key)
        try:
            data = self._store.glance(runtime, question)
            if runtime.suspends:
                data = await data
        except Exception as error:  # noqa: BLE001 - a store's own mistake is no more the caller's than its silence
            self._guard.failed(runtime.now())
            return Looked(asked=True, failure=self._store.failure(error))
        if data is None:
            return NOTHING
        return UNLOOKED if data is UNASKED else self._opened(address, data)

    async def counted(self, operation: Operation, runtime: Runtime, key: Key, began: float) -> Any:
        """Do the same as a call of its own, which a fresh value ends."""
        book = operation.book
        book.calls[0] += 1
        try:
            value = await self.at(runtime, key)
        except BaseException:  # cancelled
            book.calls[0] -= 1
            book.finish("cancelled", "", runtime.now() - began, 0)
            raise
        book.calls[0] -= 1
        if type(value) is not Looked:
            book.finish("cached", "", runtime.now() - began, 0)
            book.count(HIT)
        return value

    def _opened(self, address: bytes, data: bytes) -> Any:
        try:
            sheet, body = self._envelope.open(address, data)
            age = self._store.told() - sheet.created
            if sheet.marks or sheet.failed or age >= sheet.soft or age >= sheet.hard:
                return NOTHING
            return self._codecs.load(sheet.codec, body)
        except Refused:
            return UNLOOKED  # the long way says so, and drops it

    def _question(self, key: Key) -> tuple[bytes, bytes]:
        ring = self._envelope.signing
        signer = None if ring is None else ring.first()
        if signer is not self._signer or len(self._known) > REMEMBERED:
            self._known, self._signer = {}, signer
        known = self._known.get(key)
        if known is None:
            address, name = self._place(key)
            known = self._known[key] = address, command(key_of(name).encode())
        return known
