"""The parent's handle of one process worker: start it, send it a chunk, hear it, bury it."""

from __future__ import annotations

import marshal
import multiprocessing
import os
import pickle
import signal
from collections import deque
from contextlib import suppress
from functools import partial
from itertools import count, pairwise

from opero import clock, forks
from opero.workers import journal as journals
from opero.workers import shared, wire, worker
from opero.workers.arena import Borrower, Lender, send_descriptors
from opero.workers.journal import CHUNK, SLOT, STOP, Journal
from opero.workers.said import Teller
from opero.workers.session import Block, Insight
from opero.workers.wire import BIG, FAILED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextvars import Context
    from multiprocessing.connection import Connection
    from multiprocessing.process import BaseProcess
    from typing import Any

    from opero.aggregates import Book

    Legacy = tuple[Block | None, list[int], list[range]]  # unsent outcomes; what it had begun, and had not, by place

CHUNK_BYTES = 256 * 1024  # of encoded items in one chunk
AHEAD_BYTES = 32 * 1024  # of a chunk that may wait in the pipe: it holds twice that, so sending never blocks
_numbers = count(1)
_starting = forks.lock()
_over = 0  # the process that starts none any more


class Hand:
    """A chunk that was sent: its items, their places in the input, how many were answered, how many told as begun."""

    __slots__ = ("answered", "items", "number", "places", "sent_at", "told")

    def __init__(self, number: int, places: Sequence[int], items: list[Any], sent_at: float) -> None:
        self.number = number
        self.places = places
        self.items = items
        self.sent_at = sent_at
        self.answered = 0
        self.told = 0  # only where several run at once


class Process:
    """One worker process, for as long as it lives. `hands` are the chunks it has: the one in work, and a next one."""

    def __init__(self, context: Any, job: worker.Job, payload: bytes | None, name: str) -> None:
        self.number = next(_numbers)
        self.insight = Insight(f"worker {self.number}", clock.now())
        self.ready = False
        self.failure: BaseException | None = None  # why it could not start
        self.hands: deque[Hand] = deque()
        self.handed_back: list[Hand] = []
        self.served = 0
        self.answered_at = 0.0
        self.journal: Journal | None = None
        self.lender, self.borrower = Lender(), Borrower()
        self._teller = Teller(self.number)
        self._start(context, job, payload, name)

    def _start(self, context: Any, job: worker.Job, payload: bytes | None, name: str) -> None:
        ours, theirs = context.Pipe()
        listens, self._lifeline = context.Pipe(duplex=False)
        shares, forked = journals.available(), payload is None
        inherited = [ours, self._lifeline] if forked else []
        self.pipe: Connection = ours
        self.process: BaseProcess = context.Process(
            target=worker.main, args=(theirs, listens, inherited, payload or job, shares), name=name
        )
        try:
            _start(self.process)
        finally:
            theirs.close()
            listens.close()
        self.pid = self.process.pid or 0
        self._pidfd = _watch(self.pid)
        self.insight.name = f"process {self.pid}"
        if shares:
            descriptor = journals.share(journals.SIZE)
            self.journal = Journal(descriptor, os.urandom(journals.SLOT))
            try:
                send_descriptors(ours, [descriptor, *([shared.descriptor()] if job.shared else [])])
            except OSError:  # it is dead already, which its sentinel says
                return
            finally:
                os.close(descriptor)

    def begin(self) -> Insight:
        """Begin another run, and return what will be known of it."""
        self.insight = Insight(f"process {self.pid}", clock.now())
        self.handed_back.clear()
        if self.journal is not None:
            self.journal.words[STOP] = 0
        return self.insight

    def watched(self) -> list[Any]:
        """What becomes readable when it says something, or dies."""
        found: list[Any] = [self.pipe, self.process.sentinel]
        return found if self._pidfd is None else [*found, self._pidfd]

    def may_have_a_next(self) -> bool:
        """Whether it works on its only chunk, so that the pipe to it is empty."""
        return len(self.hands) == 1 and self.journal is not None and self.journal.words[CHUNK] == self.hands[0].number

    def send(
        self, places: Sequence[int], items: list[Any], settings: bytes, *, ahead: bool = False
    ) -> tuple[list[Block], int, bool]:
        """Send a chunk. Return an item that does not pickle, as its outcome; how many of all were taken; if it is full.

        One that is sent `ahead`, while the worker has another, must be small, or it is not taken.
        """
        refused: list[Block] = []
        encoded, taken, full = items, len(items), False
        plain = wire.are_plain(items)
        if not plain:
            encoded, taken, full = self._encoded(places, items, refused)
            places, items = places[: len(encoded)], items[: len(encoded)]
        if encoded:
            number = next(_numbers)
            returned, forgotten = self.borrower.collect(), self.lender.forgotten
            message = marshal.dumps((number, plain, encoded, settings, returned, forgotten), wire.FLAT)
            if ahead and len(message) > AHEAD_BYTES:
                self.borrower.returned += returned
                self.lender.take_back([n for e in encoded if type(e) is tuple for n, _ in e[1]])
                return [], 0, full  # an item that was refused is looked at once more
            self.lender.forgotten = []
            self.hands.append(Hand(number, places, items, clock.now()))
            self.insight.chunks += 1
            with suppress(OSError):  # it is dead, and began none of these: its sentinel says so next
                self.lender.announce(self.pipe)
                self.pipe.send_bytes(message)
        return refused, taken, full

    def _encoded(self, places: Sequence[int], items: list[Any], refused: list[Block]) -> tuple[list[Any], int, bool]:
        """Encode items until the chunk is full, or one refuses; return them, how many were looked at, and if it is."""
        encoded: list[Any] = []
        size = 0
        for n, item in enumerate(items):
            loans: list[tuple[int, int]] = []
            try:
                payload = wire.dumps_down(item, partial(self.lender.carry, loans) if self.journal else None)
            except Exception as error:  # noqa: BLE001 - whatever the item's __reduce__ raises is that item's error
                refused.append(Block([places[n]], [None], {0: error}))
                return encoded, n + 1, False
            if len(payload) >= BIG and self.journal and not loans:
                payload, loans = b"", [self.lender.lend(memoryview(payload))]
            encoded.append((payload, loans) if loans else payload)
            size += len(payload) + sum(length for _, length in loans)
            if size >= CHUNK_BYTES:
                return encoded, n + 1, True
        return encoded, len(items), False

    def hear(self, book: Book, context: Context) -> Block | None:
        """Read one message: outcomes, or nothing to pass on. Raises EOFError or OSError when it is gone."""
        message = self.pipe.recv_bytes()
        if message == worker.READY:
            self.ready = True
            self.insight.starting = clock.now() - self.insight.started
        elif message[:1] == b"S":
            self.borrower.learn(message, self.pipe)
        elif message[:1] == b"E":
            self.failure = pickle.loads(message[1:])  # noqa: S301 - from a process we started
        else:
            return self._answer(marshal.loads(message), book, context)  # noqa: S302 - from a process we started
        return None

    def _answer(self, answer: tuple[Any, ...], book: Book, context: Context) -> Block | None:
        place, entries, only_values, partial, slow, seconds, last, begun, cut, said, returned, forgotten = answer
        number = len(entries) if type(entries) is list else len(entries) // SLOT
        self.lender.take_back(returned)
        book.paste(cut)
        if said:
            self._teller.tell(pickle.loads(said), context)  # noqa: S301
        hand = self.hands[0]
        indices = hand.places[place : place + number]
        hand.answered, hand.told = place + number, begun
        self.answered_at = clock.now()
        self.served += number
        self.insight.served(number, seconds)
        if last:
            self.hands.popleft()
            if hand.answered < len(hand.items):
                self.handed_back.append(hand)
        if type(entries) is bytes:
            entries = memoryview(entries).cast(only_values).tolist()
        values, errors = (entries, {}) if only_values else self._decoded(entries)
        self.borrower.forget(forgotten)
        if not number:
            return None
        block = Block(indices, values, errors, slow=slow, seconds=seconds)
        if partial:
            (block.partial,), failed = self._decoded(partial)
            block.errors.update(dict.fromkeys(range(number), failed[0]) if failed else {})
        return block

    def _decoded(self, entries: Sequence[Any]) -> tuple[list[Any], dict[int, BaseException]]:
        values: list[Any] = []
        errors: dict[int, BaseException] = {}
        loads = pickle.loads
        for place, entry in enumerate(entries):
            value = entry
            if type(entry) is tuple:
                try:
                    value = loads(entry[1]) if len(entry) == 2 else self._lent(*entry[1:])
                except Exception as error:  # noqa: BLE001 - a result that cannot be read is this item's error
                    errors[place], value = error, None
                else:
                    if entry[0] == FAILED:
                        errors[place], value = value, None
            values.append(value)
        return values, errors

    def _lent(self, payload: bytes, loans: Sequence[tuple[int, int]]) -> Any:
        return wire.loads(payload, [self.borrower.view(loan) for loan in loans])

    def legacy(self) -> Legacy:
        """Return what a dead worker leaves of the chunk it worked on; what comes after that it had not begun."""
        hand = self.hands[0]
        rest = range(hand.answered, len(hand.items))
        if self.journal is None:
            return None, list(rest[:1]), [rest[1:]]
        if self.journal.words[CHUNK] != hand.number:
            return None, [], [rest]
        base, records, begun = self.journal.read(len(hand.items))
        entries = records[hand.answered - base :] if hand.answered >= base else []
        following = hand.answered + len(entries)
        found = None
        if entries:
            values, errors = self._decoded(entries)
            found = Block(hand.places[hand.answered : following], values, errors)
        begun = [n for n in begun if n >= following]
        between = [*begun, len(hand.items)]
        return found, begun, [range(start + 1, end) for start, end in pairwise([following - 1, *between])]

    def silent(self) -> float:
        """Seconds since it said something, or had something to do."""
        return clock.now() - max(self.answered_at, self.hands[0].sent_at) if self.hands else 0.0

    def in_hand_since(self) -> float:
        """Return when it began the item in hand, as far as is known."""
        began = self.journal.clock[0] if self.journal is not None else 0.0
        return max(began, self.hands[0].sent_at)

    def stop(self) -> None:
        """Let it end its chunk after the item in hand."""
        if self.journal is not None:
            self.journal.words[STOP] = 1

    def dismiss(self) -> None:
        """Let it end by itself: it has nothing in hand."""
        try:
            self.pipe.send_bytes(b"")
        except OSError:
            return

    def kill(self) -> None:
        """End it now, whatever it does."""
        self.process.kill()

    def bury(self, patience: float = 1.0) -> int | None:
        """Wait until it has ended, free what it held, and return its exit code."""
        self.process.join(patience)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        self.leave()
        return self.process.exitcode  # not closed: multiprocessing may look at it in another thread, at exit

    def leave(self) -> None:
        """Close our ends of its pipes."""
        self.pipe.close()
        self._lifeline.close()
        if self._pidfd is not None:
            os.close(self._pidfd)
            self._pidfd = None


def _start(process: BaseProcess) -> None:
    """Start it, also where we are a daemon: it ends when we do, which is what multiprocessing forbids it for."""
    ours: Any = multiprocessing.current_process()._config  # type: ignore[attr-defined]  # noqa: SLF001 - no other way
    with _starting:
        if over():
            raise SystemExit
        daemon, ours["daemon"] = ours.get("daemon"), False
        try:
            process.start()
        finally:
            ours["daemon"] = daemon


def over() -> bool:
    """Whether this process starts none any more: it ends."""
    return _over == os.getpid()


def start_no_more(seconds: float) -> None:
    """Let none be started from now on. Who is being started is waited for: half of it would miss the other half."""
    global _over
    _over = os.getpid()
    if _starting.acquire(timeout=seconds):
        _starting.release()


def _watch(pid: int) -> int | None:
    """Return a descriptor that tells of its end also when a grandchild keeps its pipes open."""
    if not hasattr(os, "pidfd_open"):
        return None
    try:
        return os.pidfd_open(pid)
    except OSError:
        return None


def why(exitcode: int | None) -> str:
    """Say what an exit code means."""
    if exitcode is not None and exitcode < 0:
        try:
            return f"killed by {signal.Signals(-exitcode).name}"
        except ValueError:
            return f"killed by signal {-exitcode}"
    return f"exit code {exitcode}"
