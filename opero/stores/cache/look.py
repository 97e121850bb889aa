"""One short look into a store that can be asked briefly: it finds a fresh value, or leaves all else to the long way."""

from __future__ import annotations

from opero.call import STARTED
from opero.stores.cache.entry import AHEAD, sure
from opero.stores.cache.envelope import Sheet
from opero.stores.cache.named import called
from opero.stores.cache.quick import UNASKED, command
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
SMALL = 1024  # bytes of a key that is kept, and of an entry with it: it is not checked again while it is the same


class Looked:
    """What gave no fresh value. `asked`: the store was, and had none; `failure`: it did not answer."""

    __slots__ = ("asked", "failure")

    def __init__(self, *, asked: bool, failure: Unavailable | None = None) -> None:
        self.asked = asked
        self.failure = failure


NO_SHEET = Sheet(created=0.0, soft=0.0, hard=0.0, gone=0.0)
NOTHING, UNLOOKED = Looked(asked=True), Looked(asked=False)


class Known:
    """A key's address, the question for it, and the last entry found there: its bytes, and what they opened to.

    The question is a GET for each of `names`: of the entry first, then of the marks of its tags.
    """

    __slots__ = ("address", "count", "opened", "question")

    def __init__(self, address: bytes, names: list[str]) -> None:
        self.address = address
        self.question = b"".join([command(called(name)) for name in names])
        self.count = len(names)
        self.opened: tuple[bytes | None, Sheet, bytes] = None, NO_SHEET, b""


class Look:
    """The looks of one function. `place` gives a key's address, and the names of its entry and of its tags' marks."""

    def __init__(
        self,
        store: RedisStore,
        guard: Guard,
        envelope: Envelope,
        codecs: Codecs,
        place: Callable[[Key], tuple[bytes, list[str]] | None],
        *,
        early: float = 0.0,
    ) -> None:
        self._early = early
        self._store, self._guard, self._envelope, self._codecs = store, guard, envelope, codecs
        self._place = place
        self._known: dict[Key, Known] = {}
        self._signer: object = None  # whose names and entries those are
        self._cipher: object = None

    async def at(self, runtime: Runtime, key: Key) -> Any:
        """Return a fresh value; else a `Looked`. It raises nothing, and a fresh error is for the long way."""
        if self._guard.doubts:
            return UNLOOKED
        known = self._known_of(key)
        if known is None:
            return UNLOOKED
        try:
            answers = self._store.glance(runtime, known.question, known.count)
            if runtime.suspends:
                answers = await answers
        except Exception as error:  # noqa: BLE001 - a store's own mistake is no more the caller's than its silence
            self._guard.failed(runtime.now())
            return Looked(asked=True, failure=self._store.failure(error))
        if answers is UNASKED:
            return UNLOOKED
        return NOTHING if None in answers else self._opened(known, *answers)

    async def counted(self, operation: Operation, runtime: Runtime, key: Key, began: float) -> Any:
        """Do the same as a call of its own, which a fresh value ends."""
        book = operation.book
        book.count(STARTED.key)
        try:
            value = await self.at(runtime, key)
        except BaseException:  # cancelled
            book.finish("cancelled", "", runtime.now() - began, 0)
            raise
        if type(value) is not Looked:
            book.finish("cached", "", runtime.now() - began, 0)
            book.count(HIT)
        return value

    def _opened(self, known: Known, data: bytes, *texts: bytes) -> Any:
        try:
            same, sheet, body = known.opened
            if same != data:
                sheet, body = self._envelope.open(known.address, data)
                if len(data) <= SMALL:
                    known.opened = data, sheet, body
            age = self._store.told() - sheet.created
            if not sheet.marks.issuperset(texts) or sheet.failed:
                return NOTHING
            if not -AHEAD < age < sure(sheet.soft, sheet.hard, sheet.load, self._early):
                return NOTHING
            return self._codecs.load(sheet.codec, body)
        except Refused:
            return UNLOOKED  # the long way says so, and drops it

    def _known_of(self, key: Key) -> Known | None:
        signer, cipher = self._envelope.writers()
        if signer is not self._signer or cipher is not self._cipher or len(self._known) > REMEMBERED:
            self._known, self._signer, self._cipher = {}, signer, cipher
        kept = self._known  # once: names made before the keys rotated must not be kept among those made after
        known = kept.get(key)
        if known is None and (place := self._place(key)) is not None:
            known = Known(*place)
            if len(known.address) <= SMALL:
                kept[key] = known
        return known
