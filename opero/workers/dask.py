"""A session over a Dask cluster: chunks are tasks, and the scheduler decides where they run.

1. A chunk travels as one task and comes back with what its calls counted and said. Twice as many as there are threads
   in the cluster are on their way.
2. The scheduler runs a task again when its worker dies, so in this mode an item may run more than once. A chunk that
   was with several dead workers is split into its items, and each runs while nothing else does; one that ends its
   workers twice then is lost (`WorkerLost`).
3. Without a cluster given, and without a client that is already there, a `LocalCluster` is started and kept.
"""

from __future__ import annotations

import marshal
import pickle
from math import inf
from queue import Empty, SimpleQueue

from opero import clock, events
from opero.errors import ConfigurationError, WorkerLost
from opero.workers import around, wire
from opero.workers.said import Teller, flat
from opero.workers.session import NOTHING, SLOW_SECONDS, Block, Insight, left

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextvars import Context
    from typing import Any

    from opero.aggregates import Book
    from opero.workers.queues import Queue
    from opero.workers.worker import Job

CHUNK_SECONDS = 0.1  # a task costs the scheduler about a millisecond
MAX_CHUNK = 4096
LONG = 1.0  # seconds after which the rest of a task comes back, unless its size was given
DEATHS = 2
_jobs: dict[bytes, Any] = {}  # in a cluster's worker: what it was sent


class Cluster:
    """A client, and the local cluster it was started for, if there is one; kept between runs."""

    def __init__(self, where: Any, workers: int) -> None:
        try:
            import distributed
        except ImportError as error:
            raise ConfigurationError("mode", "dask", "another one, or `pip install 'opero[dask]'`") from error
        self._own: list[Any] = []
        if where is None:
            where = self._present(distributed) or self._local(distributed, workers)
        if isinstance(where, distributed.Client):
            self.client: Any = where
        else:
            connect: Any = distributed.Client
            self.client = connect(where, set_as_default=False)
            self._own.append(self.client)

    def close(self) -> None:
        """Close what was started here."""
        while self._own:
            self._own.pop().close()

    def threads(self) -> int:
        """How many items can run at once."""
        return max(1, int(sum(self.client.nthreads().values())))

    @staticmethod
    def _present(distributed: Any) -> Any:
        try:
            return distributed.default_client()
        except ValueError:
            return None

    def _local(self, distributed: Any, workers: int) -> Any:
        cluster = distributed.LocalCluster(
            n_workers=workers, threads_per_worker=1, host="127.0.0.1", dashboard_address="127.0.0.1:0"
        )
        self._own.append(cluster)
        return cluster


class Dask:
    """One run on a cluster."""

    def __init__(
        self,
        cluster: Cluster,
        job: Job,
        book: Book,
        queue: Queue,
        context: Context,
        *,
        chunk_size: int | None = None,
        reduce: Callable[[Any, Any], Any] | None = None,
    ) -> None:
        self._client: Any = cluster.client
        self._limit = cluster.threads()
        self._job = wire.dumps_far(job)
        self._reduce = wire.dumps_far(reduce) if reduce else b""
        self._book = book
        self._queue = queue
        self._context = context
        self._chunk_size = chunk_size
        self._size = 1
        self._suspects: list[tuple[int, Any]] = []  # items that were with workers when they died
        self._alone: int | None = None  # the suspect that runs now
        self._deaths: dict[int, int] = {}  # of workers with nobody else, by item
        self._out: dict[Any, tuple[Sequence[int], list[Any]]] = {}
        self._ended: SimpleQueue[Any] = SimpleQueue()
        self._insights: dict[str, Insight] = {}
        self._told = around.told(context)

    @property
    def insights(self) -> list[Insight]:
        return list(self._insights.values())

    def room(self) -> int:
        """Two chunks a thread on their way, and one waiting."""
        return self._limit * (self._chunk_size or self._size) - len(self._queue)

    def ahead(self) -> int:
        """Six chunks a thread."""
        return 6 * self._limit * (self._chunk_size or self._size)

    def chunk(self) -> int:
        return 0

    def resize(self, workers: int, chunk: int | None) -> None:
        """The cluster has those it has."""

    def submit(self, indices: Sequence[int], items: Sequence[Any]) -> None:
        self._queue.put(indices, items)
        self._feed()

    def poll(self) -> list[Block]:
        found: list[Block] = []
        while True:
            try:
                found += self._take(self._ended.get_nowait())
            except Empty:
                self._feed()
                return found

    async def next(self, until: float | None) -> list[Block]:
        found: list[Block] = []
        while not found:
            try:
                ended = self._ended.get(timeout=left(until))
            except Empty:
                break
            found = [*self._take(ended), *self.poll()]
        return found

    async def close(self) -> None:
        self._queue.clear()
        if self._out:
            self._client.cancel(list(self._out), force=True)
        self._out.clear()

    def _feed(self) -> None:
        if self._suspects or self._alone is not None:
            if not self._out and self._suspects:
                self._alone, item = self._suspects.pop()
                self._send(range(self._alone, self._alone + 1), [item])
            return
        while len(self._out) < 2 * self._limit and len(self._queue):
            share = -(-len(self._queue) // self._limit)
            self._send(*self._queue.take(0, self._chunk_size or min(self._size, share)))

    def _send(self, places: Sequence[int], items: list[Any]) -> None:
        packed: list[bytes] = []
        for n, item in enumerate(items):
            try:
                packed.append(wire.dumps_far(item))
            except Exception as error:  # noqa: BLE001 - whatever the item's __reduce__ raises is that item's error
                self._ended.put(Block([places[n]], [None], {0: error}))
                self._queue.put_back(places[n + 1 :], items[n + 1 :])
                break
        places, items = places[: len(packed)], items[: len(packed)]
        if packed:
            settings = (tuple(events.patterns()), self._told, LONG if self._chunk_size is None else inf)
            future = self._client.submit(serve, self._job, packed, settings, self._reduce, pure=False)
            self._out[future] = (places, items)
            future.add_done_callback(self._ended.put)

    def _take(self, ended: Any) -> list[Block]:
        if isinstance(ended, Block):
            return [ended]
        if ended not in self._out:
            return []
        places, items = self._out.pop(ended)
        alone, self._alone = self._alone is not None, None
        try:
            answer = pickle.loads(ended.result())  # noqa: S301 - from the cluster the user trusts with the code
        except Exception as error:  # noqa: BLE001 - the task's end, whatever it is
            return self._killed(places, items, error, alone=alone)
        done = len(answer[0])
        self._queue.put_back(places[done:], items[done:])
        return [self._answer(places[:done], answer)]

    def _answer(self, places: Sequence[int], answer: tuple[Any, ...]) -> Block:
        entries, partial, slow, seconds, (worker, cut, said) = answer
        self._book.paste(marshal.loads(cut))  # noqa: S302 - as above
        if said:
            Teller(hash(worker) & 0xFFFFFFFF).tell(said, self._context)
        insight = self._insights.setdefault(worker, Insight(worker, clock.now()))
        insight.served(len(entries), seconds)
        insight.chunks += 1
        item = seconds / len(entries)
        self._size = max(1, min(int(CHUNK_SECONDS / max(item, 1e-7)), 4 * self._size, MAX_CHUNK))
        values: list[Any] = []
        errors: dict[int, BaseException] = {}
        for place, (good, payload) in enumerate(entries):
            value: Any = None
            try:
                value = pickle.loads(payload)  # noqa: S301 - as above
            except Exception as error:  # noqa: BLE001 - a result that cannot be read is this item's error
                errors[place] = error
            if not good and place not in errors:
                errors[place], value = value, None
            values.append(value)
        block = Block(places, values, errors, slow=slow, seconds=seconds)
        if partial is not None:
            block.partial = pickle.loads(partial)  # noqa: S301 - as above
        return block

    def _killed(self, places: Sequence[int], items: list[Any], error: Exception, *, alone: bool) -> list[Block]:
        deaths = 0
        if alone:
            deaths = self._deaths[places[0]] = self._deaths.get(places[0], 0) + 1
        if deaths < DEATHS and type(error).__name__ == "KilledWorker":
            self._suspects += zip(places, items, strict=True)
            self._feed()
            return []
        lost: dict[int, BaseException] = {}
        for n, index in enumerate(places):
            text = f"the cluster lost item {index}: {type(error).__name__}: {error}"
            lost[n] = WorkerLost(text, index=index)
            lost[n].__cause__ = error
        return [Block(places, [None] * len(items), lost)]


def serve(job: bytes, items: list[bytes], settings: tuple[tuple[str, ...], around.Told, float], reduce: bytes) -> bytes:
    """Run a chunk; in a worker of the cluster."""
    from functools import partial
    from os import getpid
    from socket import gethostname

    if job not in _jobs:
        known = pickle.loads(job)  # noqa: S301 - from the client that may run any code here
        if known.init is not None:
            known.init()
        _jobs[job] = (known.function.one, known.constants)
    bare, constants = _jobs[job]
    one = partial(bare, **constants) if constants else bare
    fold = pickle.loads(reduce) if reduce else None  # noqa: S301 - as above
    said: list[Any] = []
    patterns, called, long = settings
    subscription = events.subscribe(lambda event: said.append(flat(event)), *patterns) if patterns else None
    entries, slow, folded = [], [], NOTHING
    started = ended = clock.now()
    with around.entered(called):
        for place, item in enumerate(items):
            began = ended
            try:
                value = one(pickle.loads(item))  # noqa: S301 - as above
                entry = (True, wire.dumps(None if fold else value))
                if fold:
                    folded = value if folded is NOTHING else fold(folded, value)
            except BaseException as error:  # noqa: BLE001 - the item's outcome; let through it ends the user's worker
                entry = (False, wire.encode_error(error))
            entries.append(entry)
            ended = clock.now()
            if ended - began >= SLOW_SECONDS:
                slow.append((place, ended - began, 1))
            if ended - started >= long:
                break
    if subscription is not None:
        subscription.close()
    cut = marshal.dumps(bare.opero.operation.book.cut())
    told = (f"{gethostname()}:{getpid()}", cut, said)
    return wire.dumps((entries, None if folded is NOTHING else wire.dumps(folded), slow, ended - started, told))
