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
from threading import Thread

from opero import events, forks
from opero.deadlines import within
from opero.workers import around, direct, shared, swift, wire
from opero.workers import place as here
from opero.workers.arena import Borrower, Lender, receive_descriptors
from opero.workers.chunk import Chunk
from opero.workers.journal import Blank, Journal
from opero.workers.said import flat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextlib import ExitStack
    from multiprocessing.connection import Connection
    from typing import Any

READY = b"R"
PATIENCE = {True: 0.005, False: 0.05}  # seconds between two answers: to one who takes results as they come, or a list
IDLE_SECONDS = 60.0
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
