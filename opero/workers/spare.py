"""Threads that run a function while its caller waits, and go on when the caller stops waiting. Reused when done."""

from __future__ import annotations

import sys
from contextvars import copy_context
from threading import Event, Thread

from opero import clock, forks
from opero.exclusive import new_lock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from contextvars import Context
    from typing import Any


KEPT = 16  # idle threads that wait for the next function; others end


class Job:
    """A function on its way in another thread, in a copy of the caller's context."""

    def __init__(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._work: tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]] | None = (function, args, kwargs)
        self.context: Context = copy_context()
        self._done = Event()
        self.ended = False
        self._value: Any = None
        self._error: BaseException | None = None
        self.after: list[Callable[[], object]] = []  # that it has ended

    def wait(self, seconds: float) -> bool:
        """Whether it ended in time; when not, it is abandoned."""
        try:
            in_time = clock.wait(self._done, max(0.0, seconds))
        except BaseException:
            _threads.leave(self)
            raise
        return in_time or not _threads.leave(self)

    def leave(self) -> None:
        """Wait for it no longer."""
        _threads.leave(self)

    def then(self, work: Callable[[], object]) -> None:
        """Do this when the function has ended, in its thread; at once if it has."""
        if not _threads.leave(self, work):
            work()

    def result(self) -> Any:
        """Return what the function returned, or raise what it raised."""
        error, self._error = self._error, None
        if error is None:
            return self._value
        try:
            raise error
        finally:
            del error

    def run(self) -> None:
        """Do the work; in the other thread."""
        assert self._work is not None  # noqa: S101 - for the type checkers; a job runs once
        function, args, kwargs = self._work
        self._work = None
        try:
            self._value = self.context.run(function, *args, **kwargs)
        except BaseException as error:  # noqa: BLE001 - whatever it is, the caller gets it
            self._error = error
        for work in _threads.end(self):
            work()
        self._done.set()
        _threads.forget(self)


class _Threads:
    def __init__(self) -> None:
        self.after_fork()
        forks.remember(self)

    def after_fork(self) -> None:
        """The threads stayed in the parent."""
        self._lock = new_lock()
        self._idle: list[_Thread] = []
        self.running: dict[Job, _Thread] = {}
        self.abandoned: set[Job] = set()

    def start(self, job: Job, limit: int) -> bool:
        """Whether there was room for it: fewer than so many were left behind."""
        with self._lock:
            if len(self.abandoned) >= limit:
                return False
            thread = self._idle.pop() if self._idle else _Thread()
            self.running[job] = thread
        try:
            thread.give(job)
        except RuntimeError:  # the system has no more threads
            self.end(job)
            self.forget(job)
            raise
        return True

    def leave(self, job: Job, *then: Callable[[], object]) -> bool:
        """Whether the job still runs, and is abandoned now; what is to be done then is kept for its end."""
        with self._lock:
            if not job.ended:
                self.abandoned.add(job)
                job.after += then
                return True
            return False

    def end(self, job: Job) -> list[Callable[[], object]]:
        """Let it be over; return what is to be done then."""
        with self._lock:
            job.ended = True
            self.abandoned.discard(job)
            return job.after

    def forget(self, job: Job) -> None:
        """Let go of it: whoever waits for it knows."""
        self.running.pop(job, None)

    def rest(self, thread: _Thread) -> bool:
        """Whether the thread is kept for the next job."""
        with self._lock:
            kept = len(self._idle) < KEPT
            if kept:
                self._idle.append(thread)
            return kept


class _Thread(Thread):
    def __init__(self) -> None:
        super().__init__(name="opero-timeout", daemon=True)
        self._ready = Event()
        self._job: Job | None = None

    def give(self, job: Job) -> None:
        self._job = job
        self._ready.set()
        if self.ident is None:
            self.start()

    def run(self) -> None:
        kept = True
        while kept:
            self._ready.wait()
            self._ready.clear()
            job, self._job = self._job, None
            if job is not None:
                job.run()
            del job
            kept = _threads.rest(self)


_threads = _Threads()


def start(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Job:
    """Run a function in a spare thread."""
    job = Job(function, args, kwargs)
    _threads.start(job, sys.maxsize)
    return job


def start_within(limit: int, function: Callable[..., Any]) -> Job | None:
    """Do the same, unless so many functions still run that were left behind."""
    job = Job(function, (), {})
    return job if _threads.start(job, limit) else None


def abandoned() -> int:
    """How many functions still run after their callers' timeouts."""
    return len(_threads.abandoned)


def at_work() -> dict[Job, _Thread]:
    """The functions that run, whether somebody waits for them or not, and their threads."""
    return {job: thread for job, thread in unheard().items() if not job.ended}


def unheard() -> dict[Job, _Thread]:
    """Those, and the ones that have ended and are about to say so."""
    return _threads.running.copy()
