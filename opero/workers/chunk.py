"""One chunk of items in a process worker: served one by one, and answered as its results come."""

from __future__ import annotations

import marshal
import pickle
from functools import partial
from math import inf

from opero import clock
from opero.workers import swift, wire
from opero.workers.journal import STOP
from opero.workers.session import NOTHING, SLOW_SECONDS
from opero.workers.wire import BIG, FAILED, FLAT, NUMBERS, PICKLED, TEXTS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from opero.workers.arena import Loan
    from opero.workers.worker import Worker

LONG = 0.1  # seconds after which the rest of a chunk is handed back, unless its size was given


class Chunk:
    """One chunk on its way through the worker."""

    def __init__(self, worker: Worker, items: list[Any], *, plain: bool) -> None:
        self.worker = worker
        self.items = items
        self.plain = plain
        self._timed = worker.timed
        self._direct = worker.direct()
        self.call = worker.one if self._direct is None else self._direct.function
        self.entries: list[Any] = []
        self.only_values = True
        self.slow: list[tuple[int, float, int]] = []  # as in a block
        self._over: set[int] = set()  # places of direct calls that went on by the general path
        self.since = clock.now()
        self.over = inf if worker.whole else self.since + LONG  # then the rest is handed back
        self.place = 0  # of the first entry
        self.begun = 0  # how many were, where several run at once
        self._partial: Any = NOTHING

    def work(self) -> None:
        """Serve the items."""
        first = swift.work(self) if self._may_be_swift() else 0
        if first is not None:
            self._work(first)

    def _work(self, first: int) -> None:
        """Serve the items from this place on. The loop is as flat as it is for what it costs an item."""
        worker, plain, timed = self.worker, self.plain, self._timed
        journal, call, only_numbers = worker.journal, self.call, NUMBERS if worker.fold is None else ()
        marks, words, note = journal.marks, journal.words, journal.map.write
        now, dumps, entries, ended = clock.now, marshal.dumps, self.entries, self.since
        due, room = ended + worker.patience, journal.rewind()
        for place, item in enumerate(self.items[first:], first):
            if words[STOP]:
                break
            began = ended
            if timed:
                journal.clock[0] = began
            marks[place] = 1
            if plain:
                try:
                    value = call(item)
                except BaseException as error:  # noqa: BLE001 - whatever it is, it goes back as the item's outcome
                    entry = self.raised(item, error, began)
                else:
                    entry = value if type(value) in only_numbers else self.returned(value)
                    value = None
            else:
                entry = self._of_pickled(item, began)
            entries.append(entry)
            ended = now()
            if ended - began >= SLOW_SECONDS:
                self.slow.append((place - self.place, ended - began, 1))
            record = dumps(entry, FLAT)
            room -= len(record)
            if room < 0 or ended >= due:
                if ended >= self.over:
                    break
                self.flush(ended)
                due, room, entries = ended + worker.patience, journal.rewind(), self.entries
            else:
                note(record)
        worker.numbers = None if first else self._numbers(ended)
        self.flush(ended, last=True)

    def _may_be_swift(self) -> bool:
        worker = self.worker
        direct = self.plain and self._direct is not None and not self._timed and worker.fold is None
        return direct and worker.numbers in worker.journal.slots

    def _numbers(self, now: float) -> type | None:
        """Return of which type all results since the last flush are, if it has slots, and they came quickly."""
        if not self.entries or now - self.since > swift.SECONDS * len(self.entries):
            return None
        kinds = set(map(type, self.entries))
        return kinds.pop() if len(kinds) == 1 else None

    def decoded(self, item: Any) -> Any:
        """Return an item that did not travel as it is."""
        if isinstance(item, bytes):
            return pickle.loads(item)  # noqa: S301 - from our parent, over our own pipe
        return wire.loads(item[0], [self.worker.borrower.view(loan) for loan in item[1]])

    def _of_pickled(self, item: Any, began: float) -> Any:
        try:
            item = self.decoded(item)
        except BaseException as error:  # noqa: BLE001 - an item that cannot be read is its own error
            return self.error(error)
        try:
            value = self.call(item)
        except BaseException as error:  # noqa: BLE001 - as above
            return self.raised(item, error, began)
        return self.returned(value)

    def raised(self, item: Any, error: BaseException, began: float) -> Any:
        """Return what becomes of a call that raised; a direct one goes on by the general path."""
        if self._direct is None:
            return self.error(error)
        self._over.add(len(self.entries))
        try:
            return self.returned(self._direct.go_on(item, error, began, clock.now()))
        except BaseException as final:  # noqa: BLE001 - as above
            return self.error(final)

    def error(self, error: BaseException) -> Any:
        """Return an error as it travels."""
        self.only_values = False
        return FAILED, wire.encode_error(error)

    def returned(self, value: Any) -> Any:
        """Return a result as it travels: itself if it is plain, else pickled. Fold it in, where that is asked for."""
        worker = self.worker
        if worker.fold is None and type(value) in TEXTS and len(value) < BIG:
            return value
        try:
            entry = self._encoded(value, shares=worker.fold is None)
            if worker.fold is not None:
                self._partial = value if self._partial is NOTHING else worker.fold(self._partial, value)
        except BaseException as error:  # noqa: BLE001 - as above
            return self.error(error)
        self.only_values = self.only_values and type(entry) is not tuple
        return entry

    def _encoded(self, value: Any, *, shares: bool) -> Any:
        if type(value) in wire.PLAIN and (type(value) in NUMBERS or len(value) < BIG):
            return value
        loans: list[Loan] = []
        lender = self.worker.lender
        carry = partial(lender.carry, loans) if shares and self.worker.shares else None
        try:
            payload = pickle.dumps(value, protocol=5, buffer_callback=carry)
        except wire.REFUSALS:
            payload = wire.dumps(value, carry)
        if len(payload) >= BIG and carry and not loans:
            return PICKLED, b"", [lender.lend(memoryview(payload))]
        return (PICKLED, payload, loans) if loans else (PICKLED, payload)

    def flush(self, now: float, *, last: bool = False) -> None:
        """Send what is there to say."""
        entries = self.entries
        partial: tuple[Any, ...] = ()
        if self._partial is not NOTHING:
            partial = (self._encoded(self._partial, shares=True),)
            entries = [entry if type(entry) is tuple and entry[0] == FAILED else None for entry in entries]
        self.send(len(entries), entries, now, only_values=self.only_values, partial=partial, last=last)
        self.entries, self._over, self.only_values = [], set(), True
        self._partial = NOTHING

    def send(
        self, number: int, entries: Any, now: float, *, only_values: Any, partial: tuple[Any, ...] = (), last: bool
    ) -> None:
        """Send these outcomes, and what is there to say besides."""
        worker = self.worker
        self._count(number, now - self.since)
        message = marshal.dumps(
            (
                self.place,
                entries,
                only_values,
                partial,
                self.slow,
                now - self.since,
                last,
                self.begun,
                worker.book.cut(),
                _packed(worker.said),
                worker.borrower.collect(),
                worker.lender.forgotten,
            ),
            FLAT,
        )
        worker.lender.announce(worker.pipe)
        worker.pipe.send_bytes(message)
        worker.said.clear()
        worker.lender.forgotten = []
        self.place += number
        worker.journal.restart(self.place)
        self.slow, self.since = [], now

    def _count(self, calls: int, seconds: float) -> None:
        """Count the direct calls since the last time."""
        if self._direct is None or calls == len(self._over):
            return
        slow = [each for place, each, _ in self.slow if place not in self._over]
        over = sum(each for place, each, _ in self.slow if place in self._over)
        self._direct.count(calls - len(self._over), max(0.0, seconds - over), slow)


def _packed(said: list[Any]) -> bytes:
    if not said:
        return b""
    try:
        return pickle.dumps(said, protocol=5)
    except Exception:  # noqa: BLE001 - a field of an event that does not pickle must not lose the result
        return b""
