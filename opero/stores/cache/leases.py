"""Leases held while results load, renewed so that a load that takes longer than its lease keeps it.

1. One thread for the process renews each lease every third of its time. It begins with the first lease, and ends when
   it wakes up and none is held.
2. A load that takes more than `LONGEST` leases is taken for stuck: it is renewed no more, and others load.
3. A lease that somebody ended, by invalidating or by force, is not taken back.
"""

from __future__ import annotations

from _thread import allocate_lock

from opero import clock, forks
from opero.runtime import Runtime, run
from opero.stores.cache.trouble import Refused, Unavailable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from threading import Event

    from opero.stores.cache.store import Store

THIRD = 3
LONGEST = 10


class Lease:
    """One of them; times in seconds on the monotonic clock."""

    __slots__ = ("due", "name", "period", "seconds", "store", "token", "until")

    def __init__(self, store: Store, name: str, token: bytes, seconds: float, now: float) -> None:
        self.store = store
        self.name = name
        self.token = token
        self.seconds = seconds
        self.period = seconds / THIRD
        self.due = now + self.period
        self.until = now + seconds * LONGEST


class Leases:
    """All that this process holds. Thread-safe."""

    def __init__(self) -> None:
        self.after_fork()
        forks.remember(self)

    def after_fork(self) -> None:
        """Hold none: the loads are the parent's."""
        self._lock = allocate_lock()
        self._held: dict[bytes, Lease] = {}
        self._sooner: Event | None = None  # of the thread that renews; set when a lease is due before it wakes
        self._wakes = 0.0

    def hold(self, store: Store, name: str, token: bytes, seconds: float) -> None:
        """Renew a lease until it is let go."""
        now = clock.now()
        lease = Lease(store, name, token, seconds, now)
        with self._lock:
            self._held[token] = lease
            if self._sooner is None:
                self._begin_locked(lease.due)
            elif lease.due < self._wakes or self._wakes < now:  # a virtual clock may have passed it by
                self._sooner.set()

    def let_go(self, token: bytes) -> None:
        """Renew it no more."""
        with self._lock:
            self._held.pop(token, None)

    def _begin_locked(self, due: float) -> None:
        try:
            from threading import Event, Thread

            self._sooner, self._wakes = Event(), due
            Thread(target=self._renew_all, args=(self._sooner,), name="opero-leases", daemon=True).start()
        except (RuntimeError, MemoryError, ImportError):  # too many threads, or the interpreter ends
            self._sooner = None  # it lasts as long as it was taken for

    def _renew_all(self, sooner: Event) -> None:
        while True:
            clock.wait(sooner, max(0.0, self._wakes - clock.now()))
            sooner.clear()
            now = clock.now()
            for lease in [lease for lease in list(self._held.values()) if lease.due <= now]:
                lease.due = now + lease.period
                if now >= lease.until or not _renew(lease):
                    self.let_go(lease.token)
            with self._lock:
                if not self._held:
                    self._sooner = None
                    return
                self._wakes = min(lease.due for lease in self._held.values())


def _renew(lease: Lease) -> bool:
    """Whether it is still held; a store that is away is asked again the next time."""
    try:
        return bool(run(lease.store.extend(Runtime(), lease.name, lease.token, lease.seconds)))
    except Refused:
        return False
    except Unavailable:
        return True  # the load itself will hear of it, and tell


leases = Leases()
