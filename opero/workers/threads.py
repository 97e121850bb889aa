"""A session over threads of this process. Threads are reused between maps; what has begun goes on to its end."""

from __future__ import annotations

from _thread import allocate_lock
from queue import Empty, SimpleQueue

from opero import clock
from opero.errors import CallTimeout
from opero.workers import spare
from opero.workers.session import SLOW_SECONDS, Block, Insight, left

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextvars import Context
    from typing import Any

    from opero.workers.queues import Queue, Taken

CHUNK_SECONDS = 0.002  # short: the threads share one interpreter, and what waits could run elsewhere
MAX_CHUNK = 256
LONG = 0.1  # seconds after which the rest of a chunk goes back to the queue, unless its size was given


class Threads:
    """One run. `submit`, `poll` and `next` are called by one thread; whoever touches the queue holds the lock.

    A call is an entry of `calls`: whichever thread gets it takes a chunk by itself. There are as many calls as chunks
    wait, two a thread at most, so a thread that is done finds the next without anybody's help.
    """

    def __init__(
        self,
        function: Callable[[Any], Any],
        queue: Queue,
        context: Context,
        *,
        workers: int,
        chunk_size: int | None = None,
        item_timeout: float | None = None,
    ) -> None:
        self.function = function if item_timeout is None else _bounded(function, item_timeout)
        self.context = context
        self.queue = queue
        self.lock = allocate_lock()
        self.calls: SimpleQueue[bool] = SimpleQueue()
        self.done: SimpleQueue[Block] = SimpleQueue()
        self.closed = False
        self.insights: list[Insight] = []
        self._limit = workers
        self._given_size = self._chunk_size = chunk_size
        self._size = 1
        self._threads = 0  # that did not end
        self._called = 0  # calls without an answer

    def room(self) -> int:
        """Two chunks a thread, one in hand and one waiting."""
        return self._limit * (self._chunk_size or self._size) - len(self.queue)

    def ahead(self) -> int:
        """Four times what is in the threads' hands."""
        return 4 * self._limit * (self._chunk_size or self._size)

    def chunk(self) -> int:
        return self._size

    def resize(self, workers: int, chunk: int | None) -> None:
        self._limit = workers
        self._chunk_size = chunk or self._given_size
        self._feed()

    def submit(self, indices: Sequence[int], items: Sequence[Any]) -> None:
        with self.lock:
            self.queue.put(indices, items)
        self._feed()

    def poll(self) -> list[Block]:
        found: list[Block] = []
        while True:
            try:
                found.append(self._take(self.done.get_nowait()))
            except Empty:
                self._feed()
                return found

    async def next(self, until: float | None) -> list[Block]:
        try:
            first = self.done.get(timeout=left(until))
        except Empty:
            return []
        return [self._take(first), *self.poll()]

    async def close(self) -> None:
        self.closed = True
        with self.lock:
            self.queue.clear()
            for _ in range(self._threads):
                self.calls.put(False)

    def called(self, number: int) -> Taken | None:
        """Return a chunk for the thread that was called; None if it is one too many, and shall end."""
        with self.lock:
            if self._threads > self._limit:
                self._threads -= 1
                self.calls.put(True)
                return None
            waiting = len(self.queue)
            if not waiting:
                return (), []
            return self.queue.take(number, self._chunk_size or min(self._size, -(-waiting // self._limit)))

    def hand_back(self, places: Sequence[int], items: list[Any]) -> bool:
        """Let whoever is idle have the rest of a chunk that takes too long; whether that may be."""
        if self._given_size is not None or self.closed:
            return False
        with self.lock:
            self.queue.put_back(places, items)
        return True

    def _feed(self) -> None:
        waiting = len(self.queue)
        if not waiting:
            return
        chunks = -(-waiting // (self._chunk_size or self._size))
        for _ in range(min(chunks - self.calls.qsize(), 2 * self._limit - self._called)):
            self._called += 1
            self.calls.put(True)
        while self._threads < min(self._limit, self._called):
            self._threads += 1
            thread = _Thread(self, len(self.insights))
            self.insights.append(thread.insight)
            spare.start(thread.work, (), {})

    def _take(self, block: Block) -> Block:
        self._called -= 1
        if block.indices:
            item = block.seconds / len(block.indices)
            self._size = max(1, min(int(CHUNK_SECONDS / max(item, 1e-7)), 4 * self._size, MAX_CHUNK))
        return block


class _Thread:
    """One thread's part in a run."""

    def __init__(self, session: Threads, number: int) -> None:
        self._session = session
        self._number = number
        self.insight = Insight(f"thread {number}", clock.now())

    def work(self) -> None:
        """Serve chunks until told to end; each item in a context of its own."""
        session, insight = self._session, self.insight
        insight.starting = clock.now() - insight.started
        while session.calls.get() and (chunk := session.called(self._number)) is not None:
            block = self._served(*chunk)
            insight.served(len(block.indices), block.seconds)
            insight.chunks += bool(block.indices)
            session.done.put(block)

    def _served(self, places: Sequence[int], items: list[Any]) -> Block:
        session = self._session
        function, context = session.function, session.context
        values: list[Any] = []
        errors: dict[int, BaseException] = {}
        slow: list[tuple[int, float, int]] = []
        started = ended = clock.now()
        for place, item in enumerate(items):
            if session.closed:
                break
            began = ended
            try:
                values.append(context.copy().run(function, item))
            except BaseException as error:  # noqa: BLE001 - the map hands it to its caller
                values.append(None)
                errors[place] = error
            ended = clock.now()
            if ended - began >= SLOW_SECONDS:
                slow.append((place, ended - began, 1))
            if ended - started >= LONG and session.hand_back(places[place + 1 :], items[place + 1 :]):
                break
        return Block(places[: len(values)], values, errors, slow=slow, seconds=ended - started)


def _bounded(function: Callable[[Any], Any], seconds: float) -> Callable[[Any], Any]:
    """Leave an item behind that takes too long; its thread goes on, and is one of the counted abandoned ones."""

    def call(item: Any) -> Any:
        job = spare.start(function, (item,), {})
        if job.wait(seconds):
            return job.result()
        text = f"an item did not finish within {seconds:g} s; its thread goes on"
        raise CallTimeout(text, seconds=seconds, scope="item_timeout")

    return call
