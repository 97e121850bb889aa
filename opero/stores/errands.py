"""What nobody waits for: done by one thread, the latest first."""

from __future__ import annotations

from _thread import allocate_lock
from collections import deque

from opero import forks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


class Errands:
    """Errands for one server. The interpreter ends after them: each is bounded, and the first that fails is the last.

    The latest goes first: where many are cancelled at once, a booking frees its place only if nobody is booked behind.
    No lock is waited for: a generator may be collected, and give back what it held, in the middle of anything.
    """

    def __init__(self) -> None:
        self.after_fork()
        forks.remember(self)

    def after_fork(self) -> None:
        """Leave them to the parent."""
        self._waiting: deque[Callable[[], object]] = deque()
        self._running = allocate_lock()

    def add(self, work: Callable[[], object]) -> None:
        """Have it done. Where no thread can be started, the next errand takes it along."""
        self._waiting.append(work)
        if self._running.acquire(blocking=False) and not in_background(self._run, daemon=False):
            self._running.release()

    def _run(self) -> None:
        while True:
            while self._waiting:
                try:
                    self._waiting.pop()()
                except Exception:  # noqa: BLE001 - the server is away, as who asks it next will hear
                    self._waiting.clear()
            self._running.release()
            if not self._waiting or not self._running.acquire(blocking=False):
                return


def in_background(work: Callable[[], None], *, daemon: bool = True) -> bool:
    """Do it in a thread; False where none can be started: there are too many, or the interpreter ends."""
    try:
        from threading import Thread

        Thread(target=work, name="opero-store", daemon=daemon).start()
    except (RuntimeError, MemoryError, ImportError):
        return False
    return True
