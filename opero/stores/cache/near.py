"""The near-cache: copies in this process of what is in Redis, never older than a bound.

1. A thread listens for what is written under the namespace: by the server's own tracking (RESP3, BCAST), or where the
   server or its ACL has none, on a channel that writers publish to.
2. It asks for a sign of life every quarter of the bound. Everything written before the server took the question has
   been heard once the answer is there; so copies are good until `bound` seconds after the last answered question was
   sent, whatever happened to the connection since.
3. A lost connection drops every copy of the namespace. Reconnected, it starts with none.
4. A copy is kept only if nothing was heard about its key since before it was read.
"""

from __future__ import annotations

from _thread import allocate_lock
from math import inf
from weakref import ref

from opero import clock, forks
from opero.runtime import Runtime, run
from opero.stores.cache.named import called

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from opero.stores.cache.entry import Entry
    from opero.stores.cache.keys import Key
    from opero.stores.cache.memory import MemoryStore
    from opero.stores.cache.redis import RedisStore

QUARTER = 4
RETRY = (0.05, 1.0)  # seconds between two attempts to connect: first, longest
SPARE = 1000  # keys remembered beyond those held


class Near:
    """Keeps a `MemoryStore` coherent with Redis; `bound` in seconds."""

    def __init__(self, store: RedisStore, memory: MemoryStore, prefix: str, bound: float) -> None:
        self.store = store
        self.memory = memory
        self.prefix = prefix
        self.bound = bound
        store.publishes = True  # until the listener knows that the server tracks
        self.after_fork()
        forks.remember(self)

    def after_fork(self) -> None:
        """Begin with nothing: the thread that listened is the parent's."""
        self._lock = allocate_lock()
        self._heard: dict[str, float] = {}
        self.until = -inf  # on the monotonic clock: copies are good so long
        self._awaited: dict[bytes, set[object]] = {}
        self._held: dict[bytes, Key] = {}
        self._listening = False
        self.epoch = 0
        self.memory.clear()

    def fresh(self, now: float) -> bool:
        """Whether copies may be used; begins to listen when first asked."""
        if not self._listening:
            self._begin()
        return now <= self.until

    def expect(self, names: Sequence[str], now: float) -> object | None:
        """Return a ticket for a read that is about to begin; None while copies may not be kept."""
        if not self.fresh(now):
            return None
        ticket = object()
        with self._lock:
            for name in names:
                self._awaited.setdefault(called(name), set()).add(ticket)
        return ticket

    def keep(self, names: Sequence[str], ticket: object, key: Key, entry: Entry, now: float) -> dict[str, int]:
        """Keep a copy of what was read, if nothing was heard about it since the ticket; how many had to go for it."""
        with self._lock:
            if not self._settle_locked(names, ticket):
                return {}
            if len(self._held) > 2 * len(names) * len(self.memory) + SPARE:
                self._held = {n: k for n, k in self._held.items() if self.memory.holds(k)}
            for name in names:
                self._held[called(name)] = key
            return self.memory.put(key, entry, now)

    def give_up(self, names: Sequence[str], ticket: object | None) -> None:
        """Give a ticket back."""
        with self._lock:
            self._settle_locked(names, ticket)

    # ---- what the listener says

    def alive(self, node: str, asked: float, epoch: int) -> None:
        """Say that everything written before `asked` has been heard from this node."""
        with self._lock:
            if epoch == self.epoch:
                self._heard[node] = asked
                self.until = min(self._heard.values()) + self.bound

    def written(self, names: list[bytes] | None) -> None:
        """Drop the copies of what was written; of everything for None."""
        if names is None:
            self.lost()
            return
        with self._lock:
            for name in names:
                self._awaited.pop(name, None)
                key = self._held.pop(name, None)
                if key is not None:
                    self.memory.remove(key)
        self.memory.kill_tags([name for name in names if b":tag:" in name])

    def lost(self, *, again: bool = False) -> None:
        """Drop everything; `again` looks anew for the nodes to listen to."""
        with self._lock:
            self.until = -inf
            for node in self._heard:
                self._heard[node] = -inf
            self._awaited.clear()
            held, self._held = self._held, {}
            for key in held.values():  # no others: functions with a namespace each may share the memory
                self.memory.remove(key)
            if again:
                self.epoch += 1
                self._heard = {}
                self._listening = False

    def _settle_locked(self, names: Sequence[str], ticket: object | None) -> bool:
        """Take a ticket back; whether nothing was heard about any of the names."""
        good = True
        for name in map(called, names):
            tickets = self._awaited.get(name, set())
            good = good and ticket in tickets
            tickets.discard(ticket)
            if not tickets:
                self._awaited.pop(name, None)
        return good

    def _begin(self) -> None:
        from threading import Thread

        with self._lock:
            if self._listening:
                return
            self._listening = True
            epoch = self.epoch
        start = Thread(target=_start, args=(ref(self), epoch), name="opero-near", daemon=True)
        start.start()


def _start(near: Callable[[], Near | None], epoch: int) -> None:
    """Listen to every primary there is, one thread each."""
    from threading import Thread

    owner = near()
    if owner is None:
        return
    try:
        nodes = run(owner.store.nodes(Runtime()))
    except Exception:  # noqa: BLE001 - away, or refusing; the next call that asks tries again after a pause
        clock.sleep(RETRY[1])
        with owner._lock:  # noqa: SLF001 - its own starter
            owner._listening = False  # noqa: SLF001
        return
    with owner._lock:  # noqa: SLF001
        if epoch != owner.epoch:
            return
        owner._heard = dict.fromkeys(nodes, -inf)  # noqa: SLF001
    for node, connect in nodes.items():
        Thread(target=_listen, args=(near, epoch, node, connect), name="opero-near", daemon=True).start()


def _listen(near: Callable[[], Near | None], epoch: int, node: str, connect: Callable[..., Any]) -> None:
    """Listen for as long as the near-cache lives and its epoch lasts."""
    pause = RETRY[0]
    while (owner := near()) is not None and owner.epoch == epoch:
        ear, bound = Ear(owner.store, owner.prefix, connect), owner.bound
        del owner  # held only while it is told something
        try:
            ear.open(bound)
            pause = RETRY[0]
            _hear(near, ear, node, epoch)
        except Exception:  # noqa: BLE001 - whatever it was, nothing heard so far may be relied on
            _lose(near, epoch)
        finally:
            ear.close()
        clock.sleep(pause)
        pause = min(RETRY[1], pause * 2)
        if ear.one_of_many:
            _lose(near, epoch, again=True)  # another node may be the primary now


def _lose(near: Callable[[], Near | None], epoch: int, *, again: bool = False) -> None:
    owner = near()
    if owner is not None and owner.epoch == epoch:
        owner.lost(again=again)


def _hear(near: Callable[[], Near | None], ear: Ear, node: str, epoch: int) -> None:
    while (owner := near()) is not None and owner.epoch == epoch:
        owner.store.publishes = not ear.tracks
        if not ear.hear(owner, node, epoch):
            owner.lost(again=True)
        del owner


class Ear:
    """One connection that hears what is written."""

    def __init__(self, store: RedisStore, prefix: str, connect: Callable[..., Any]) -> None:
        self._store, self._prefix, self._connect = store, prefix, connect
        self._connection: Any = None
        self._said: list[list[bytes] | None] = []
        self._topology: bytes | None = None
        self.tracks = True

    def open(self, bound: float) -> None:
        """Connect, and ask to be told."""
        from redis.exceptions import AuthenticationError, ResponseError

        try:
            self._connection = self._connect(protocol=3, socket_timeout=bound)
            self._connection.connect()
            self._connection._parser.set_invalidation_push_handler(self._invalidated)  # noqa: SLF001 - no public way
            prefixes = [part for kind in ("v1", "tag") for part in ("PREFIX", f"{self._prefix}:{kind}:")]
            self._ask("CLIENT", "TRACKING", "ON", "BCAST", *prefixes)
        except AuthenticationError:
            raise
        except ResponseError:
            self.close()
            self.tracks = False
            self._connection = self._connect(protocol=2, socket_timeout=bound)
            self._connection.connect()
            self._ask("SUBSCRIBE", channel(self._prefix))

    def hear(self, near: Near, node: str, epoch: int) -> bool:
        """Ask for a sign of life, and tell for a quarter of the bound what is heard; False if the cluster changed."""
        asked = clock.now()
        if not self._sign_of_life():
            return False
        self._tell(near)
        near.alive(node, asked, epoch)
        until = asked + near.bound / QUARTER
        while (left := until - clock.now()) > 0 and self._connection.can_read(left):
            self._take(self._connection.read_response(**({"push_request": True} if self.tracks else {})))
            self._tell(near)
        return True

    @property
    def one_of_many(self) -> bool:
        """Whether it listens to a node of a cluster."""
        return self._store.is_cluster

    def close(self) -> None:
        """End the connection."""
        if self._connection is not None:
            self._connection.disconnect()

    def _sign_of_life(self) -> bool:
        if self.one_of_many and self.tracks:
            said = bytes(self._ask("CLUSTER", "INFO"))
            epoch = next(line for line in said.split() if line.startswith(b"cluster_current_epoch"))
            before, self._topology = self._topology, epoch
            return before in {None, epoch}
        answer = self._ask("PING")
        while not self.tracks and answer[0] != b"pong":
            self._take(answer)
            answer = self._connection.read_response()
        return True

    def _ask(self, *command: str) -> Any:
        self._connection.send_command(*command)
        return self._connection.read_response()

    def _take(self, message: Any) -> None:
        if not self.tracks and message[0] == b"message":
            self._said.append(message[2].split(b" ") if message[2] else None)

    def _invalidated(self, message: Any) -> None:
        self._said.append(None if message[1] is None else [bytes(name) for name in message[1]])

    def _tell(self, near: Near) -> None:
        said, self._said = self._said, []
        for names in said:
            near.written(names)


def channel(prefix: str) -> str:
    """Return the channel that writers publish to where there is no tracking."""
    return f"{prefix}:written"
