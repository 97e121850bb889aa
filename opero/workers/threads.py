"""A session over threads of this process. Threads are reused between maps; what has begun goes on to its end."""

from __future__ import annotations

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


class Threads:
    """One run; `submit`, `poll` and `next` are called by one thread, and it alone touches the queue."""

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
        self._function = function if item_timeout is None else _bounded(function, item_timeout)
        self._queue = queue
        self._context = context
        self._limit = workers
        self._given_size = self._chunk_size = chunk_size
        self._size = 1
        self._threads: list[_Thread] = []
        self._idle: list[_Thread] = []
        self._done: SimpleQueue[tuple[_Thread, Block]] = SimpleQueue()
        self.closed = False
        self.insights: list[Insight] = []

    def room(self) -> int:
        """Two chunks a thread, one in hand and one waiting."""
        return self._limit * (self._chunk_size or self._size) - len(self._queue)

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
        self._queue.put(indices, items)
        self._feed()

    def poll(self) -> list[Block]:
        found: list[Block] = []
        while True:
            try:
                found.append(self._take(*self._done.get_nowait()))
            except Empty:
                self._feed()
                return found

    async def next(self, until: float | None) -> list[Block]:
        try:
            first = self._done.get(timeout=left(until))
        except Empty:
            return []
        return [self._take(*first), *self.poll()]

    async def close(self) -> None:
        self.closed = True
        self._queue.clear()
        for thread in self._threads:
            thread.inbox.put(None)

    def _feed(self) -> None:
        while len(self._queue) and len(self._threads) - len(self._idle) < self._limit:
            thread = self._idle.pop() if self._idle else self._start()
            share = -(-len(self._queue) // self._limit)
            thread.insight.chunks += 1
            thread.inbox.put(self._queue.take(thread.number, self._chunk_size or min(self._size, share)))

    def _start(self) -> _Thread:
        thread = _Thread(self, len(self._threads), self._function, self._context, self._done)
        self._threads.append(thread)
        self.insights.append(thread.insight)
        spare.start(thread.work, (), {})
        return thread

    def _take(self, thread: _Thread, block: Block) -> Block:
        thread.insight.served(len(block.indices), block.seconds)
        self._idle.append(thread)
        item = block.seconds / max(1, len(block.indices))
        self._size = max(1, min(int(CHUNK_SECONDS / max(item, 1e-7)), 4 * self._size, MAX_CHUNK))
        return block


class _Thread:
    """One thread's part in a run."""

    def __init__(self, session: Threads, number: int, function: Any, context: Context, done: Any) -> None:
        self._session = session
        self._function = function
        self._context = context
        self._done = done
        self.number = number
        self.insight = Insight(f"thread {number}", clock.now())
        self.inbox: SimpleQueue[Taken | None] = SimpleQueue()

    def work(self) -> None:
        """Serve chunks until told to end; each item in a context of its own."""
        self.insight.starting = clock.now() - self.insight.started
        while (chunk := self.inbox.get()) is not None:
            self._done.put((self, self._served(*chunk)))

    def _served(self, places: Sequence[int], items: list[Any]) -> Block:
        function, context, session = self._function, self._context, self._session
        values: list[Any] = []
        errors: dict[int, BaseException] = {}
        slow: list[tuple[int, float]] = []
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
                slow.append((place, ended - began))
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
