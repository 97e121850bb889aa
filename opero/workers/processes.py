"""A session over process workers: one pipe each, at most two chunks in a worker's hands.

1. Chunks begin with one item and grow fourfold at most, to 20 ms of work, 256 KiB, 16 384 items, or an even share of
   what waits. A next one is sent ahead only where it fits into the empty pipe, so the two never block each other. What
   a worker has not begun of a chunk after 0.1 s comes back, unless the size was given.
2. A worker that dies costs the item it had begun (`WorkerLost`); what it had done is in its journal, what it had not
   begun goes to another. With `on_death="retry"` the begun item is tried again, by itself.
3. What a dead worker did not tell of its calls any more is counted here, as far as it is known (`lost`).
4. Workers that end without having done anything, five in a row, or fifty that are killed, are the end: what waits is
   lost, and says why.
"""

from __future__ import annotations

import marshal

from opero import clock, events
from opero.errors import CallTimeout, WorkerLost
from opero.workers import around, lost, wire
from opero.workers.journal import MAX_CHUNK
from opero.workers.process import why
from opero.workers.session import Block, left
from opero.workers.watch import watch
from opero.workers.worker import PATIENCE as PATIENCES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextvars import Context
    from typing import Any

    from opero.pipeline import Operation
    from opero.workers.pool import Pool
    from opero.workers.process import Process
    from opero.workers.queues import Queue
    from opero.workers.session import Insight

CHUNK_SECONDS = 0.02
BARREN, BARREN_KILLED = 5, 50  # workers in a row that ended, or were killed, before they had done anything
PATIENCE = 0.1  # seconds that workers get to end the item in hand when a run is left early
GUARD = "the function needs a name to import it by, and a script `if __name__ == '__main__':` around what it runs"


class Processes:
    """One run over the workers of a pool."""

    def __init__(
        self,
        pool: Pool,
        operation: Operation,
        queue: Queue,
        context: Context,
        *,
        workers: int,
        chunk_size: int | None = None,
        item_timeout: float | None = None,
        tries: int = 1,
        least: int = 1,
        reduce: Callable[[Any, Any], Any] | None = None,
        lazily: bool = True,
    ) -> None:
        self._pool = pool
        self._operation = operation
        self._queue = queue
        self._context = context
        self._limit = workers
        self._given_size = self._chunk_size = chunk_size
        self._item_timeout = item_timeout
        self._tries = tries
        self._folds = _fold(reduce)
        self._lazily = lazily
        self._heard: tuple[str, ...] | None = None
        self._packed = b""
        self._workers: list[Process] = []
        self._watch = watch()
        self._places: dict[Process, int] = {}  # which line of the queue is whose
        self._done: list[Block] = []
        self._deaths: dict[int, int] = {}  # of workers, by item
        self._least = self._size = least  # items a worker runs at once
        self._fits = MAX_CHUNK  # items that are as many bytes as a chunk may be
        self._barren = 0
        self._ahead = True
        self._closed = False
        self.insights: list[Insight] = []

    def room(self) -> int:
        """Two waiting chunks a worker: one may be sent ahead, and the other shared at the end."""
        return 2 * self._limit * (self._chunk_size or self._size) - len(self._queue)

    def ahead(self) -> int:
        """Six chunks a worker: two in its hands, two waiting, two to be consumed."""
        return 6 * self._limit * (self._chunk_size or self._size)

    def chunk(self) -> int:
        return self._size

    def resize(self, workers: int, chunk: int | None) -> None:
        self._limit = workers
        self._chunk_size = chunk or self._given_size
        self._feed()

    def submit(self, indices: Sequence[int], items: Sequence[Any]) -> None:
        self._queue.put(indices, items)
        self._feed()

    def poll(self) -> list[Block]:
        self._hear(0)
        return self._taken()

    async def next(self, until: float | None) -> list[Block]:
        while not self._done and (until is None or clock.now() < until):
            self._feed()
            if not self._done:
                self._hear(self._patience(until))
        return self._taken()

    def _taken(self) -> list[Block]:
        done, self._done = self._done, []
        return done

    async def close(self) -> None:
        """Keep the workers that are idle, or are soon; end the others."""
        self._closed = True
        self._queue.clear()
        busy = [worker for worker in self._workers if worker.hands]
        for worker in busy:
            worker.stop()
        deadline = clock.now() + PATIENCE
        while any(worker.hands for worker in self._workers) and clock.now() < deadline:
            self._hear(max(0.0, deadline - clock.now()))
        for worker in self._workers:
            if worker.hands:
                worker.kill()
                self._pool.bury(worker)
            else:
                self._pool.put(worker)
        self._workers = []

    def _feed(self) -> None:
        """Give every worker that waits a chunk, start more while more could be busy, and send a next one ahead."""
        for worker in self._workers:
            if len(self._queue) and worker.ready and not worker.hands and self._busy() < self._limit:
                self._send(worker)
        while len(self._queue) and len(self._workers) < min(self._limit, len(self._queue) + self._busy()):
            self._add(self._pool.take() or self._pool.start())
        for worker in self._workers:
            if self._ahead and len(self._queue) >= self._limit * self._size and worker.may_have_a_next():
                self._send(worker, ahead=True)

    def _add(self, worker: Process) -> None:
        taken = set(self._places.values())
        self._places[worker] = next(n for n in range(self._limit) if n not in taken)
        self._workers.append(worker)
        self._watch.add(worker)
        self.insights.append(worker.begin())
        if worker.ready:
            self._send(worker)

    def _send(self, worker: Process, *, ahead: bool = False) -> None:
        share = -(-len(self._queue) // self._limit)
        size = self._chunk_size or min(self._size, share)
        places, items = self._queue.take(self._places[worker], min(size, MAX_CHUNK))
        if self._deaths and len(items) > 1:
            places, items = self._apart(places, items)
        refused, taken, full = worker.send(places, items, self._settings(), ahead=ahead)
        self._done += refused
        self._queue.put_back(places[taken:], items[taken:])
        self._ahead = self._ahead and taken > 0  # long chunks are not sent ahead
        if full:
            self._fits = max(self._least, taken)
            self._size = min(self._size, self._fits)
        elif taken >= self._fits:
            self._fits *= 2

    def _apart(self, places: Sequence[int], items: list[Any]) -> tuple[Sequence[int], list[Any]]:
        """Let an item that was in hand when a worker died take no other with it."""
        alone = next((n for n, index in enumerate(places) if index in self._deaths), None)
        if alone is None:
            return places, items
        cut = max(alone, 1)
        self._queue.put_back(places[cut:], items[cut:])
        return places[:cut], items[:cut]

    def _hear(self, seconds: float | None) -> None:
        """Wait so long for something to happen, and take it in."""
        if not self._workers:
            return
        for worker, speaks in self._watch.ready(seconds).items():
            if speaks:
                self._listen(worker)
            else:
                self._lose(worker)
        if self._item_timeout is not None:
            self._expire(self._item_timeout)

    def _listen(self, worker: Process) -> None:
        try:
            block = worker.hear(self._operation.book, self._context)
        except (EOFError, OSError):
            self._lose(worker)
            return
        if block is not None:
            self._done.append(block)
            self._barren = 0
            if not worker.hands or worker.handed_back:
                self._adapt(block)
        if not self._closed:
            self._have_back(worker)
            self._feed()

    def _have_back(self, worker: Process) -> None:
        """Take the rest of a chunk that took too long."""
        while worker.handed_back:
            hand = worker.handed_back.pop()
            self._queue.put_back(hand.places[hand.answered :], hand.items[hand.answered :])

    def _adapt(self, block: Block) -> None:
        item = block.seconds / len(block.indices)
        self._size = max(self._least, min(int(CHUNK_SECONDS / max(item, 1e-7)), 4 * self._size, MAX_CHUNK, self._fits))

    def _lose(self, worker: Process, timeout: float | None = None) -> None:
        """Take in what a dead worker leaves."""
        while self._last_words(worker):
            pass
        self._workers.remove(worker)
        self._watch.remove(worker)
        del self._places[worker]
        found, begun, rest = worker.legacy() if worker.hands else (None, [], [])
        for hand in reversed(list(worker.hands)[1:]):
            self._queue.put_back(hand.places, hand.items)
        silent = worker.silent()
        exitcode = self._pool.bury(worker)
        if found is not None:
            silent -= self._inherit(worker, found, min(silent, PATIENCES[self._lazily]))
        if worker.hands:
            hand = worker.hands[0]
            for run in reversed(rest):
                self._queue.put_back(hand.places[run.start : run.stop], hand.items[run.start : run.stop])
            for n in begun:
                seconds = silent / len(begun) if timeout is None else timeout
                self._mourn(worker, n, exitcode, seconds, timed_out=timeout is not None)
        if not begun and found is None and not worker.served:
            self._barren += 1
            failed = worker.failure is not None or (not worker.ready and (exitcode or 0) > 0)
            if failed or self._barren >= (BARREN_KILLED if (exitcode or 0) < 0 else BARREN):
                self._give_up(exitcode, worker.failure)

    def _last_words(self, worker: Process) -> bool:
        try:
            if not worker.pipe.poll(0):
                return False
            block = worker.hear(self._operation.book, self._context)
        except (EOFError, OSError):
            return False
        if block is not None:
            self._done.append(block)
        self._have_back(worker)
        return True

    def _inherit(self, worker: Process, found: Block, seconds: float) -> float:
        """Take what a dead worker had done and not told; return how long it took, all together."""
        number, hand = len(found.indices), worker.hands[0]
        for place in range(number):
            told = hand.answered + place < hand.told
            lost.count(self._operation, found.errors.get(place), seconds / number, told=told)
        found.seconds = seconds
        worker.insight.served(number, seconds)
        self._done.append(found)
        return seconds

    def _mourn(self, worker: Process, place: int, exitcode: int | None, seconds: float, *, timed_out: bool) -> None:
        """Settle the item a worker died with: try it again, or lose it."""
        hand = worker.hands[0]
        index, told = hand.places[place], place < hand.told
        deaths = self._deaths[index] = self._deaths.get(index, 0) + 1
        again = f", {self._tries} times" if self._tries > 1 else ""
        error: Exception = WorkerLost(
            f"the worker with item {index} died: {why(exitcode)}{again}", index=index, exitcode=exitcode
        )
        if timed_out:
            text = f"item {index} did not finish within {seconds:g} s; its worker was ended"
            error = CallTimeout(text, seconds=seconds, scope="item_timeout")
        elif deaths < self._tries:
            lost.begun_again(self._operation, error, seconds, told=told)
            self._queue.put_back(range(index, index + 1), [hand.items[place]])
            return
        worker.insight.served(1, seconds)
        lost.count(self._operation, error, seconds, told=told)
        self._fail(index, error, seconds)

    def _give_up(self, exitcode: int | None, failure: BaseException | None) -> None:
        """Workers cannot even start: every waiting item is lost, and says why."""
        reason = f"{type(failure).__name__}: {failure}" if failure is not None else why(exitcode)
        if isinstance(failure, AttributeError | ImportError) or (failure is None and exitcode == 1):
            reason += f"; {GUARD}"
        for index in self._queue.take(0, len(self._queue))[0] if len(self._queue) else ():
            error = WorkerLost(f"a worker could not start: {reason}", index=index, exitcode=exitcode)
            error.__cause__ = failure
            lost.never_begun(self._operation, error)
            self._fail(index, error)

    def _fail(self, index: int, error: Exception, seconds: float = 0.0) -> None:
        self._done.append(Block([index], [None], {0: error}, seconds=seconds))

    def _settings(self) -> bytes:
        """What a worker must know besides the items: what to tell, and when, where it is called from, how to reduce."""
        patterns = tuple(events.patterns())
        if patterns != self._heard:
            self._heard = patterns
            told = around.told(self._context)
            timed = self._item_timeout is not None
            whole = self._given_size is not None
            self._packed = marshal.dumps((patterns, told, self._folds, timed, self._lazily, whole))
        return self._packed

    def _patience(self, until: float | None) -> float | None:
        """How long to wait: until then, or until an item takes too long."""
        busy = [worker for worker in self._workers if worker.hands]
        if self._item_timeout is not None and busy:
            ends = min(worker.in_hand_since() for worker in busy) + self._item_timeout
            until = ends if until is None else min(until, ends)
        return left(until)

    def _expire(self, timeout: float) -> None:
        """End the workers whose item takes too long."""
        for worker in list(self._workers):
            if worker.hands and clock.now() - worker.in_hand_since() >= timeout:
                worker.kill()
                worker.process.join()
                self._lose(worker, timeout)

    def _busy(self) -> int:
        return sum(bool(worker.hands) for worker in self._workers)


def _fold(reduce: Callable[[Any, Any], Any] | None) -> bytes:
    """Return how workers reduce; nothing where that cannot be sent, and then the parent does."""
    try:
        return b"" if reduce is None else wire.dumps_far(reduce)
    except wire.REFUSALS:
        return b""
