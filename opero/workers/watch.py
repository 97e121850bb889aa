"""Which workers say something, or have died: the kernel is told once whom to watch, not at each look."""

from __future__ import annotations

import select
from math import ceil
from multiprocessing.connection import wait

TYPE_CHECKING = False
if TYPE_CHECKING:
    from opero.workers.process import Process


class Watch:
    """The workers of one run."""

    def __init__(self) -> None:
        self._poll = select.poll()
        self._watched: dict[int, tuple[Process, bool]] = {}  # by descriptor: whose, and whether it is the pipe

    def add(self, worker: Process) -> None:
        """Watch it."""
        for thing in worker.watched():
            descriptor = thing if isinstance(thing, int) else thing.fileno()
            self._watched[descriptor] = (worker, thing is worker.pipe)
            self._poll.register(descriptor, select.POLLIN)

    def remove(self, worker: Process) -> None:
        """Watch it no longer; before it is buried."""
        for descriptor in [d for d, (whose, _) in self._watched.items() if whose is worker]:
            del self._watched[descriptor]
            self._poll.unregister(descriptor)

    def ready(self, seconds: float | None) -> dict[Process, bool]:
        """Wait so long at most; return who has something to say (True) or is only dead (False)."""
        found: dict[Process, bool] = {}
        for descriptor, _ in self._poll.poll(None if seconds is None else ceil(1000 * seconds)):
            worker, speaks = self._watched[descriptor]
            found[worker] = found.get(worker, False) or speaks
        return found


class PlainWatch(Watch):
    """The same where there is no `poll`, as on Windows."""

    def __init__(self) -> None:
        self._workers: list[Process] = []

    def add(self, worker: Process) -> None:
        self._workers.append(worker)

    def remove(self, worker: Process) -> None:
        self._workers.remove(worker)

    def ready(self, seconds: float | None) -> dict[Process, bool]:
        there = set(wait([thing for worker in self._workers for thing in worker.watched()], seconds))
        return {w: w.pipe in there for w in self._workers if there.intersection(w.watched())}


def watch() -> Watch:
    """Make one that works here."""
    return Watch() if hasattr(select, "poll") else PlainWatch()
