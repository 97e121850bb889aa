"""What a process worker does: serve chunks until its pipe closes.

It answers when a chunk is done, when 5 ms have passed since the last answer, and when the journal is full, so an item
of 5 ms or more is answered at once. What the items' calls counted and said goes along. It ignores SIGINT, ends after a
minute without work, and ends at once when its parent is gone.
"""

from __future__ import annotations

import marshal
import os
import pickle
import signal
import sys
from pickle import PickleBuffer
from threading import Thread

from opero import clock, events
from opero.workers import place as here
from opero.workers import wire
from opero.workers.arena import Borrower, Lender, receive_descriptors
from opero.workers.journal import STOP, Journal
from opero.workers.session import NOTHING
from opero.workers.wire import BIG, FAILED, PICKLED, VALUE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.connection import Connection
    from typing import Any

READY = b"R"
FLUSH_SECONDS = 0.005
IDLE_SECONDS = 60.0
SLOW_SECONDS = 0.001  # items below are counted together: they share the lowest bucket


class Job:
    """What a worker is for; it travels to the worker once."""

    def __init__(
        self,
        function: Any,
        *,
        constants: dict[str, Any] | None = None,
        init: Callable[[], object] | None = None,
        exit: Callable[[], object] | None = None,  # noqa: A002
        lifespan: int | None = None,
        memory: int | None = None,
    ) -> None:
        self.function = function
        self.constants = constants or {}
        self.init = init
        self.exit = exit
        self.lifespan = lifespan
        self.memory = memory


def main(pipe: Connection, lifeline: Connection, inherited: list[Connection], job: Job | bytes, shares: bool) -> None:
    """Be a worker."""
    here.inside_worker = True
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
        if worker.job.exit is not None:
            worker.job.exit()


class Worker:
    """One worker process."""

    def __init__(self, pipe: Connection, job: Job, *, shares: bool) -> None:
        self.job = job
        self.pipe = pipe
        self.journal = Journal(receive_descriptors(pipe, 1)[0]) if shares else None
        self.lender, self.borrower = Lender(), Borrower()
        self.one = job.function.one
        self.book = self.one.opero.operation.book
        if job.constants:
            from functools import partial

            self.one = partial(self.one, **job.constants)
        if job.init is not None:
            job.init()
        self.book.drain()
        self.said: list[Any] = []
        self.fold: Any = None
        self._subscription = events.Subscription(lambda _: None, ())
        self._folds = b""
        self._served = 0

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
            plain, items, settings, returned, forgotten = marshal.loads(message)  # noqa: S302 - of our parent
            self.lender.take_back(returned)
            self.borrower.forget(forgotten)
            with self._as_told(settings):
                _Chunk(self, items, plain=plain).work()
            if self._worn_out(len(items)):
                return

    def _as_told(self, settings: bytes) -> Any:
        """Hear what the parent wants to hear, and be in its trace."""
        patterns, correlation, folds = marshal.loads(settings)  # noqa: S302
        if patterns != self._subscription.patterns:
            self._subscription.close()
            self._subscription = events.Subscription(lambda _: None, ())
            if patterns:
                self._subscription = events.subscribe(self._hear, *patterns)
        if folds != self._folds:
            self._folds, self.fold = folds, pickle.loads(folds) if folds else None  # noqa: S301
        return events.correlation_id(correlation)

    def _hear(self, event: events.Event) -> None:
        fields = dict(event.fields)
        self.said.append(
            (event.name, event.operation, fields, event.severity, event.call, event.at, event.correlation_id)
        )

    def _worn_out(self, served: int) -> bool:
        """Whether it is time for a fresh worker."""
        self._served += served
        job = self.job
        if job.lifespan is not None and self._served >= job.lifespan:
            return True
        return job.memory is not None and _resident() > job.memory


class _Chunk:
    """One chunk on its way through the worker."""

    def __init__(self, worker: Worker, items: list[Any], *, plain: bool) -> None:
        self._worker = worker
        self._items = items
        self._plain = plain
        self._entries: list[Any] = []
        self._only_values = True
        self._slow: list[tuple[int, float]] = []
        self._since = clock.now()
        self._place = 0  # of the first entry
        self._loans: list[tuple[int, int]] = []
        self._partial: Any = NOTHING

    def work(self) -> None:
        worker, journal, plain = self._worker, self._worker.journal, self._plain
        one, now, entries, slow = worker.one, clock.now, self._entries, self._slow
        marks = journal.marks if journal else bytearray(len(self._items))
        words = journal.words if journal else [0, 0, 0]
        times = journal.clock if journal else [0.0]
        fold = worker.fold
        if journal is not None:
            journal.restart(0)  # the parent cleared it, perhaps before we restarted it after the answer it then had
        ended = now()
        for place, item in enumerate(self._items):
            if words[STOP]:
                break
            times[0] = began = ended
            marks[place] = 1
            try:
                value = one(item) if plain else one(self._decoded(item))
                entry = (VALUE, value) if type(value) in wire.NUMBERS else self._encoded(value, folds=fold)
                if fold:
                    self._partial = value if self._partial is NOTHING else fold(self._partial, value)
            except BaseException as error:  # noqa: BLE001 - the item's error, whatever it is, goes back as its outcome
                entry = (FAILED, wire.encode_error(error))
            item = value = None  # noqa: PLW2901 - what it borrowed goes back with the answer
            self._only_values = self._only_values and entry[0] == VALUE
            entries.append((VALUE, None) if fold and entry[0] != FAILED else entry)
            ended = now()
            if ended - began >= SLOW_SECONDS:
                slow.append((place - self._place, ended - began))
            if (
                ended - self._since >= FLUSH_SECONDS
                or journal is None
                or not journal.write(marshal.dumps((entry, ended - began)))
            ):
                self._flush()
                entries, slow = self._entries, self._slow
        self._flush(last=True)

    def _decoded(self, item: Any) -> Any:
        if isinstance(item, bytes):
            return pickle.loads(item)  # noqa: S301 - from our parent, over our own pipe
        return wire.loads(item[0], [self._worker.borrower.view(loan) for loan in item[1]])

    def _encoded(self, value: Any, *, folds: bool = False) -> tuple[Any, ...]:
        if type(value) in wire.PLAIN and len(value) < BIG:
            return VALUE, value
        self._loans = []
        shares = self._worker.journal is not None and not folds
        payload = wire.dumps(value, self._carry if shares else None)
        if len(payload) >= BIG and shares and not self._loans:
            return PICKLED, b"", [self._worker.lender.lend(memoryview(payload))]
        return (PICKLED, payload, self._loans) if self._loans else (PICKLED, payload)

    def _carry(self, buffer: PickleBuffer) -> bool:
        try:
            raw = buffer.raw()
        except BufferError:  # not contiguous
            return True
        if raw.nbytes < BIG:
            return True
        self._loans.append(self._worker.lender.lend(raw))
        return False

    def _flush(self, *, last: bool = False) -> None:
        """Send what is there to say."""
        worker, entries = self._worker, self._entries
        now = clock.now()
        partial = () if self._partial is NOTHING else self._encoded(self._partial)
        message = marshal.dumps(
            (
                self._place,
                len(entries),
                None if self._only_values else entries,
                [entry[1] for entry in entries] if self._only_values and not worker.fold else None,
                partial,
                self._slow,
                now - self._since,
                last,
                pickle.dumps(worker.book.drain(), protocol=5),
                _packed(worker.said),
                worker.borrower.collect(),
                worker.lender.forgotten,
            )
        )
        worker.lender.announce(worker.pipe)
        worker.pipe.send_bytes(message)
        worker.said.clear()
        worker.lender.forgotten = []
        self._place += len(entries)
        if worker.journal is not None:
            worker.journal.restart(self._place)
        self._entries, self._slow, self._only_values, self._since = [], [], True, now
        self._partial = NOTHING


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
        lifeline.poll(None)
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
