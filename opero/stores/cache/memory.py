"""The memory store: bounded, thread-safe, and exact about expiry without a thread of its own.

S3-FIFO: a newcomer enters a small queue, a tenth of the whole. If it was asked for again before it came to the front,
it moves to the main queue; else it leaves, and its key is remembered for as long as the main queue is deep: if it comes
back in that time, it goes straight there. In the main queue an entry goes round again while it is asked for. A hit only
counts up to three, and takes no lock.

Source: Yang, Zhang, Qiu, Yue, Vinayak, "FIFO queues are all you need for cache eviction", SOSP 2023.
"""

from __future__ import annotations

from collections import deque
from math import inf
from weakref import WeakValueDictionary

from opero import forks
from opero.stores.cache.entry import sure
from opero.stores.cache.keys import alone
from opero.stores.cache.weight import weigh

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable
    from typing import Any

    from opero.stores.cache.entry import Entry

TAGS = 10_000  # invalidated tags remembered; past that, entries older than the forgotten ones go with them
SMALL = 0.1  # of the entries
GHOSTS = 0.9


class View:
    """The entries of a function of one argument by that, so that none has to make a key. It lives with the function."""

    __slots__ = ("__weakref__", "entries")

    def __init__(self) -> None:
        self.entries: dict[Hashable, Entry] = {}


class MemoryStore:
    """Entries in this process; `now` in seconds on the monotonic clock.

    `max_bytes` bounds an estimate of what keys and values weigh. The fast path looks into `entries` itself, or a view.
    """

    def __init__(self, max_entries: int, max_bytes: int | None = None, *, early: float = 0.0) -> None:
        self.early = early
        self.max_entries = max_entries
        self.max_bytes = max_bytes
        self._views: WeakValueDictionary[Hashable, View] = WeakValueDictionary()
        self._lock = forks.lock()
        self.clear()

    def get(self, key: Hashable, now: float) -> Entry | None:
        """Return the entry if it has not expired; stale ones count."""
        entry = self.entries.get(key)
        if entry is None or now >= entry.hard or (entry.tags and self._killed(entry)):
            return None
        if entry.uses < 3:
            entry.uses += 1
        return entry

    def keep(self, key: Hashable, now: float) -> Entry | None:
        """Return an expired entry that a failing function may still be answered with."""
        entry = self.entries.get(key)
        return None if entry is None or now >= entry.gone or self._killed(entry) else entry

    def put(self, key: Hashable, entry: Entry, now: float) -> dict[str, int]:
        """Keep an entry, unless it was invalidated while it was made. Return how many had to go for it, by reason."""
        entry.key = key
        entry.uses = 0
        never = entry.failed or entry.tags
        entry.fresh = -inf if never else sure(entry.soft, entry.hard, entry.load, self.early)
        entry.size = weigh(key) + weigh(entry.value) if self.max_bytes is not None else 0
        with self._lock:
            if entry.born < self._cleared or self._killed(entry):
                return {}
            if self.max_bytes is not None and entry.size > self.max_bytes:
                self._remove_locked(key)
                return {"bytes": 1}
            before = self.entries.get(key)
            self._remove_locked(key)
            gone = self._make_room_locked(entry.size, now)
            self.entries[key] = entry
            self._show_locked(key, entry)
            self.bytes += entry.size
            self._queue_locked(entry, before)
        return gone

    def view(self, own: Hashable) -> View:
        """Return what shows the entries of a function from now on."""
        with self._lock:
            view = self._views.get(own)
            if view is None:
                view = self._views[own] = View()
                for key, entry in self.entries.items():
                    self._show_locked(key, entry)
            return view

    def holds(self, key: Hashable) -> bool:
        """Whether there is an entry, be it stale or expired."""
        return key in self.entries

    def remove(self, key: Hashable) -> bool:
        """Forget one key; whether it was there."""
        with self._lock:
            return self._remove_locked(key)

    def remove_all(self, chosen: Callable[[Any], bool]) -> None:
        """Forget the keys that are chosen."""
        with self._lock:
            for key in [key for key in self.entries if chosen(key)]:
                self._remove_locked(key)

    def born(self) -> int:
        """Return what an entry that is being made from now on is born as."""
        return self._count

    def kill_tags(self, tags: Iterable[Hashable]) -> None:
        """Let every entry with one of these tags be gone, in constant time; also those that are being made."""
        with self._lock:
            for tag in tags:
                self._count += 1
                self._dead.pop(tag, None)
                self._dead[tag] = self._count
            while len(self._dead) > TAGS:
                oldest = next(iter(self._dead))
                self._floor = self._dead.pop(oldest)

    def clear(self) -> None:
        """Forget everything; also what is being made."""
        with self._lock:
            self._count = self._cleared = getattr(self, "_count", -1) + 1
            self.entries: dict[Hashable, Entry] = {}
            for view in self._views.values():
                view.entries.clear()
            self._dead: dict[Hashable, int] = {}
            self._floor = 0
            self.bytes = 0
            self._reset_order()

    def __len__(self) -> int:
        return len(self.entries)

    def _killed(self, entry: Entry) -> bool:
        if not entry.tags:
            return False
        born, dead = entry.born, self._dead
        return born < self._floor or any(dead.get(tag, 0) > born for tag in entry.tags)

    def _remove_locked(self, key: Hashable) -> bool:
        self._show_locked(key, None)
        entry = self.entries.pop(key, None)
        if entry is None:
            return False
        self.bytes -= entry.size
        return True

    def _show_locked(self, key: Any, entry: Entry | None) -> None:
        """Let the view of the key's function have what `entries` has."""
        view = self._views.get(key[0]) if self._views else None
        if view is None or len(key) != 3:
            return
        if entry is None:
            view.entries.pop(alone(*key[1:]), None)
        else:
            view.entries[alone(*key[1:])] = entry

    def _make_room_locked(self, size: int, now: float) -> dict[str, int]:
        gone: dict[str, int] = {}
        most = None if self.max_bytes is None else self.max_bytes - size
        while len(self.entries) >= self.max_entries or (most is not None and self.bytes > most):
            reason = "entries" if len(self.entries) >= self.max_entries else "bytes"
            victim = self._victim_locked(now)
            if now >= victim.gone:
                reason = "expired"
            self._remove_locked(victim.key)
            gone[reason] = gone.get(reason, 0) + 1
        return gone

    # ---- the order of eviction

    def _reset_order(self) -> None:
        self._small: deque[Entry] = deque()
        self._main: deque[Entry] = deque()
        self._ghosts: dict[int, None] = {}  # by hash: keys may be large, and who is taken for another just stays longer

    def _queue_locked(self, entry: Entry, before: Entry | None) -> None:
        ghost = hash(entry.key)
        if ghost in self._ghosts:
            del self._ghosts[ghost]
            self._main.append(entry)
        else:
            if before is not None:
                entry.uses = max(before.uses, 1)
            self._small.append(entry)
        if len(self._small) + len(self._main) > 2 * len(self.entries) + 100:
            self._sweep_locked()

    def _victim_locked(self, now: float) -> Entry:
        """Return the entry that has to go; the queues also hold what was removed or replaced meanwhile."""
        while True:
            if self._small and (len(self._small) >= SMALL * self.max_entries or not self._main):
                entry = self._small.popleft()
                if self.entries.get(entry.key) is not entry:
                    continue
                if entry.uses and now < entry.gone:
                    entry.uses = 0
                    self._main.append(entry)
                    continue
                self._remember_locked(hash(entry.key))
                return entry
            entry = self._main.popleft()
            if self.entries.get(entry.key) is not entry:
                continue
            if entry.uses and now < entry.gone:
                entry.uses -= 1
                self._main.append(entry)
                continue
            return entry

    def _remember_locked(self, ghost: int) -> None:
        self._ghosts.pop(ghost, None)
        self._ghosts[ghost] = None
        if len(self._ghosts) > GHOSTS * self.max_entries:
            del self._ghosts[next(iter(self._ghosts))]

    def _sweep_locked(self) -> None:
        for queue in (self._small, self._main):
            kept = [entry for entry in queue if self.entries.get(entry.key) is entry]
            queue.clear()
            queue.extend(kept)


class LruStore(MemoryStore):
    """The same, evicting what was longest not asked for. A hit takes the lock."""

    def get(self, key: Hashable, now: float) -> Entry | None:
        entry = super().get(key, now)
        if entry is not None:
            with self._lock:
                if self.entries.get(key) is entry:
                    del self.entries[key]
                    self.entries[key] = entry
        return entry

    def _reset_order(self) -> None:
        """Keep none but the dict's."""

    def _queue_locked(self, entry: Entry, before: Entry | None) -> None:
        """Stand last in the dict."""

    def _victim_locked(self, now: float) -> Entry:
        return next(iter(self.entries.values()))
