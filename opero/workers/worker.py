"""What a process worker does: serve chunks until its pipe closes.

It answers when a chunk is done, when the journal is full, and 50 ms after the last answer; 5 ms after it where results
are taken as they come, so there an item of 5 ms or more is answered at once. What the items' calls counted and said
goes along. What it did not begin of a chunk that takes too long it hands back, for who is idle. It ignores SIGINT, ends
after a minute without work, and ends at once when its parent is gone.
"""

from __future__ import annotations

import marshal
import os
import pickle
import signal
import sys
from contextvars import Context
from functools import partial
from math import inf
from threading import Thread

from opero import clock, events, forks
from opero.deadlines import within
from opero.workers import around, direct, shared, swift, wire
from opero.workers import place as here
from opero.workers.arena import Borrower, Lender, receive_descriptors
from opero.workers.journal import STOP, Blank, Journal
from opero.workers.said import flat
from opero.workers.session import NOTHING, SLOW_SECONDS
from opero.workers.wire import BIG, FAILED, FLAT, NUMBERS, PICKLED, TEXTS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextlib import ExitStack
    from multiprocessing.connection import Connection
    from typing import Any

READY = b"R"
PATIENCE = {True: 0.005, False: 0.05}  # seconds between two answers: to one who takes results as they come, or a list
IDLE_SECONDS = 60.0
LONG = 0.1  # seconds after which the rest of a chunk is handed back, unless its size was given
BELL_SECONDS = 0.1


class Job:
    """What a worker is for; it travels to the worker once."""

    def __init__(
        self,
        function: Any,
        *,
        general: Callable[..., Any],
        constants: dict[str, Any] | None = None,
        init: Callable[[], object] | None = None,
        exit: Callable[[], object] | None = None,  # noqa: A002
        lifespan: int | None = None,
        memory: int | None = None,
        at_once: int = 1,
        shared: Mapping[str, str] | None = None,
    ) -> None:
        self.function = function
        self.general = general  # makes a call by the general path
        self.constants = constants or {}
        self.init = init
        self.exit = exit
        self.lifespan = lifespan
        self.memory = memory
        self.at_once = at_once  # of coroutine functions, in one worker
        self.shared = shared or {}  # the names of states that are one for all workers, by the policies' places


def main(pipe: Connection, lifeline: Connection, inherited: list[Connection], job: Job | bytes, shares: bool) -> None:
    """Be a worker, in no context: a forked one would stay in the deadline and the trace of the call around it."""
    within.clear()
    Context().run(_be, pipe, lifeline, inherited, job, shares=shares)


def _be(pipe: Connection, lifeline: Connection, inherited: list[Connection], job: Job | bytes, *, shares: bool) -> None:
    here.inside_worker = forks.worker = True
    events.leave()
    for connection in inherited:
        connection.close()  # else our copy of the parent's end would keep the pipe open when the parent dies
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Thread(target=_end_with_parent, args=(lifeline,), name="opero-lifeline", daemon=True).start()
    try:
        worker = Worker(pipe, pickle.loads(job) if isinstance(job, bytes) else job, shares=shares)  # noqa: S301
    except BaseException as error:  # noqa: BLE001 - the parent says it, where somebody reads it
        _try_to_send(pipe, b"E" + wire.encode_error(error))
        return
    try:
        worker.serve()
    except (EOFError, OSError):  # the parent closed the pipe, or is gone
        return
    finally:
        if worker.copied:
            os._exit(0)
        if worker.job.exit is not None:
            worker.job.exit()


class Worker:
    """One worker process."""

    def __init__(self, pipe: Connection, job: Job, *, shares: bool) -> None:
        self.job = job
        self.pipe = pipe
        self.shares = shares
        journal, *state = receive_descriptors(pipe, 1 + bool(job.shared)) if shares else (None,)
        self.journal = Blank() if journal is None else Journal(journal)
        self.lender, self.borrower = Lender(), Borrower()
        self._bare = job.function.one
        self.one = partial(self._bare, **job.constants) if job.constants else self._bare
        self.book = self._bare.opero.operation.book
        if state:
            shared.join(self._bare, job.shared, *state)
        if job.init is not None:
            job.init()
        self.book.cut()
        self.said: list[Any] = []
        self.fold: Any = None
        self.timed = self.whole = False
        self.patience = PATIENCE[True]
        self.numbers: type | None = None  # of which type the last chunk's results were, if they came quickly
        self._subscription = events.Subscription(lambda _: None, ())
        self._folds = b""
        self._served = 0
        self.copied = False
        forks.remember(self)

    def after_fork(self) -> None:
        """End what an item forked, if it comes back here: one of us is enough."""
        self.copied = True
        self.pipe.close()
        self.journal.close()

    def serve(self) -> None:
        """Take chunks and answer them."""
        pipe = self.pipe
        pipe.send_bytes(READY)
        while pipe.poll(IDLE_SECONDS):
            message = pipe.recv_bytes()
            if not message:
                return
            if message[:1] == b"S":
                self.borrower.learn(message, pipe)
                continue
            number, plain, items, settings, returned, forgotten = marshal.loads(message)  # noqa: S302 - of our parent
            self.journal.begin(number, len(items))
            self.lender.take_back(returned)
            self.borrower.forget(forgotten)
            with self._as_told(settings):
                chunk = Chunk(self, items, plain=plain)
                if self.job.at_once == 1:
                    chunk.work()
                else:
                    from opero.workers import looped

                    looped.work(chunk, self.job.at_once)
            if self._worn_out(chunk.place):
                return

    def direct(self) -> direct.Direct | None:
        """Return the quick way to call, if there is one now."""
        return None if self.job.at_once > 1 else direct.of(self._bare, self.job.constants, self.job.general)

    def _as_told(self, settings: bytes) -> ExitStack:
        """Hear what the parent wants to hear, and be where it called."""
        patterns, told, folds, self.timed, lazily, self.whole = marshal.loads(settings)  # noqa: S302
        self.patience = PATIENCE[lazily]
        if patterns != self._subscription.patterns:
            self._subscription.close()
            self._subscription = events.Subscription(lambda _: None, ())
            if patterns:
                self._subscription = events.subscribe(lambda event: self.said.append(flat(event)), *patterns)
        if folds != self._folds:
            self._folds, self.fold = folds, pickle.loads(folds) if folds else None  # noqa: S301
        return around.entered(told)

    def _worn_out(self, served: int) -> bool:
        """Whether it is time for a fresh worker."""
        self._served += served
        job = self.job
        if job.lifespan is not None and self._served >= job.lifespan:
            return True
        return job.memory is not None and _resident() > job.memory


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
        self._loans: list[tuple[int, int]] = []
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
        self._loans = []
        carry = self._carry if shares and self.worker.shares else None
        try:
            payload = pickle.dumps(value, protocol=5, buffer_callback=carry)
        except wire.REFUSALS:
            payload = wire.dumps(value, carry)
        if len(payload) >= BIG and carry and not self._loans:
            return PICKLED, b"", [self.worker.lender.lend(memoryview(payload))]
        return (PICKLED, payload, self._loans) if self._loans else (PICKLED, payload)

    def _carry(self, buffer: pickle.PickleBuffer) -> bool:
        try:
            raw = buffer.raw()
        except BufferError:  # not contiguous
            return True
        if raw.nbytes < BIG:
            return True
        self._loans.append(self.worker.lender.lend(raw))
        return False

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


def _end_with_parent(lifeline: Connection) -> None:
    """The parent holds the other end, and says nothing."""
    try:
        while not lifeline.poll(BELL_SECONDS):
            swift.ring()
    except OSError:
        return
    os._exit(1)


def _try_to_send(pipe: Connection, message: bytes) -> None:
    try:
        pipe.send_bytes(message)
    except OSError:
        return


def _resident() -> int:
    """Bytes of memory this process has in use."""
    try:
        with open("/proc/self/statm", "rb") as file:  # noqa: PTH123 - read after every chunk
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:  # no Linux; there is only the peak, in kilobytes or bytes
        from resource import RUSAGE_SELF, getrusage

        return getrusage(RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
