"""Process workers that are kept between maps: started when there is work, warm for the next one, gone at exit."""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
from _thread import allocate_lock
from multiprocessing import forkserver, util
from weakref import WeakSet

from opero import forks
from opero.errors import ConfigurationError
from opero.workers import mains, place, wire, worker
from opero.workers.process import Process, over, start_no_more

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Self

_pools: WeakSet[Pool] = WeakSet()
_lock = allocate_lock()
_closes_at_exit = 0  # the process that does


class Pool:
    """The idle workers of one function, `limit` at most. Maps running at once each have workers of their own.

    An idle worker ends by itself after a minute. As a context manager it closes at the end of the block; the next map
    starts new workers.
    """

    def __init__(self, job: Callable[[], worker.Job], name: str, limit: int, method: str | None = None) -> None:
        self._job = job
        self._name = name
        self._limit = limit
        self._method = method
        self._made: worker.Job | None = None
        self._payload: bytes | None = None
        self._alive: set[Process] = set()
        self.after_fork()
        forks.remember(self)
        _pools.add(self)

    def after_fork(self) -> None:
        """The workers are our parent's; in our hands their pipes would stay open when it dies."""
        for process in getattr(self, "_alive", ()):
            process.leave()
        self._alive = set()
        self._idle: list[Process] = []
        self._lock = allocate_lock()

    def take(self) -> Process | None:
        """Return a worker that waits for work, if there is one."""
        while True:
            with self._lock:
                process = self._idle.pop() if self._idle else None
            if process is None or process.process.is_alive():
                return process
            self.bury(process)

    def start(self) -> Process:
        """Start another worker; whoever wants one after the end of the program ends as well."""
        _close_at_exit()
        if over():
            raise SystemExit
        method, job, payload = self.prepare()
        if method == "forkserver":
            _preload()
        process = Process(multiprocessing.get_context(method), job, payload, self._name)
        with self._lock:
            self._alive.add(process)
        if over():  # meanwhile, in another thread
            process.kill()
            raise SystemExit
        return process

    def prepare(self) -> tuple[str, worker.Job, bytes | None]:
        """Return how workers start, and with what; raise `ConfigurationError` when that cannot be sent."""
        if self._made is None:
            self._made = self._job()
        method = self._method or start_method()
        if method == "fork":
            return method, self._made, None
        if self._payload is None:
            self._payload = _payload(self._made)
        return method, self._made, self._payload

    def put(self, process: Process) -> None:
        """Keep an idle worker for the next map."""
        with self._lock:
            if len(self._idle) < self._limit:
                self._idle.append(process)
                return
        process.dismiss()
        self.bury(process)

    def bury(self, process: Process, patience: float = 1.0) -> int | None:
        """End the life of a worker, and return its exit code."""
        with self._lock:
            self._alive.discard(process)
        return process.bury(patience)

    def close(self) -> None:
        """End the workers that are idle: they run their exit function first, for 5 s at most."""
        with self._lock:
            idle, self._idle = self._idle, []
        for process in idle:
            process.dismiss()
        for process in idle:
            self.bury(process, 5.0)

    def end(self) -> None:
        """End all workers now."""
        self.close()
        with self._lock:
            busy = list(self._alive)
        for process in busy:
            process.kill()

    def __len__(self) -> int:
        return len(self._idle)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def start_method() -> str:
    """Fork is quickest and takes any function, but only a process with one thread may be forked safely."""
    methods = multiprocessing.get_all_start_methods()
    if sys.platform == "linux" and _threads() == 1 + place.inside_worker and "cupy" not in sys.modules:
        return "fork"
    return "forkserver" if "forkserver" in methods else "spawn"


def _threads() -> int:
    """How many threads this process has, those of libraries included."""
    try:
        return len(os.listdir("/proc/self/task"))  # noqa: PTH208 - at every start, and pathlib is slow to import
    except OSError:
        return threading.active_count()


def _payload(job: worker.Job) -> bytes:
    try:
        return wire.dumps_far(job)
    except Exception as error:
        way_out = "" if mains.cloudpickle() else "; `pip install 'opero[map]'` lets lambdas and closures through"
        allowed = f"what can be sent to a process ({error}){way_out}"
        raise ConfigurationError("function", job.function, allowed) from error


def _preload() -> None:
    """Let the fork server import Opero once, not every worker; unless the user told it what to import."""
    server = forkserver._forkserver  # noqa: SLF001 - there is no way to ask
    if getattr(server, "_preload_modules", None) == ["__main__"]:
        multiprocessing.set_forkserver_preload(["__main__", "opero.workers.worker", "opero.parallel"])


def _leave_server() -> None:
    """A forked child cannot wait for the fork server of its parent, as multiprocessing would: it has one of its own."""
    server: Any = forkserver._forkserver  # noqa: SLF001 - as above
    if server._forkserver_pid is not None:  # noqa: SLF001
        os.close(server._forkserver_alive_fd)  # noqa: SLF001 - else it would outlive the parent with us
        preloaded, inherited = server._preload_modules, server._inherited_fds  # noqa: SLF001
        server.__init__()
        server._preload_modules, server._inherited_fds = preloaded, inherited  # noqa: SLF001


def _close_at_exit() -> None:
    """End all pools before multiprocessing waits for its children; also at the end of a worker."""
    global _closes_at_exit
    with _lock:
        if _closes_at_exit != os.getpid():
            _closes_at_exit = os.getpid()
            util.Finalize(None, _end_all, exitpriority=100)


def _end_all() -> None:
    """Idle workers run their exit functions; nobody waits any more for what the others do."""
    start_no_more(5.0)
    for pool in list(_pools):
        pool.end()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_server)
