"""A session over tasks of the running asyncio loop: fixed worker loops, and a feed for asynchronous inputs."""

from __future__ import annotations

import asyncio
from collections import deque

from opero import clock
from opero.errors import CallTimeout, ConfigurationError
from opero.workers.session import Block, Insight, left

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncIterable, AsyncIterator, Callable, Coroutine, Sequence
    from contextvars import Context
    from typing import Any

    from opero.workers.queues import Queue

    Outcome = tuple[int, Any, BaseException | None, float]


class Tasks:
    """One run; everything happens on one loop."""

    def __init__(
        self,
        function: Callable[[Any], Coroutine[Any, Any, Any]],
        queue: Queue,
        context: Context,
        *,
        workers: int,
        item_timeout: float | None = None,
    ) -> None:
        self._function = function if item_timeout is None else _bounded(function, item_timeout)
        self._queue = queue
        self._context = context
        self._limit = workers
        self._loop = asyncio.get_running_loop()
        self._done: list[Outcome] = []
        self._idle: deque[asyncio.Future[None]] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self.insights: list[Insight] = [Insight("tasks", clock.now())]

    def room(self) -> int:
        """Two items a worker, one in hand and one waiting."""
        return max(self._limit - len(self._queue), 0)

    def ahead(self) -> int:
        """Four items a worker."""
        return 4 * self._limit

    def submit(self, indices: Sequence[int], items: Sequence[Any]) -> None:
        self._queue.put(indices, items)
        self._feed()

    def chunk(self) -> int:
        return 0

    def resize(self, workers: int, chunk: int | None) -> None:
        if workers < self._limit:  # who is idle looks whether it is one too many
            while self._idle:
                self._idle.popleft().set_result(None)
        self._limit = workers
        self._feed()

    def _feed(self) -> None:
        """Wake who is idle, and start more, for what waits."""
        woken = min(len(queue := self._queue), len(self._idle))
        for _ in range(woken):
            self._idle.popleft().set_result(None)
        wanted = min(self._limit - len(self._tasks), len(queue) - woken)
        if wanted > 0:
            for number in [n for n in range(self._limit) if n not in self._tasks][:wanted]:
                self._tasks[number] = self._loop.create_task(self._work(number), context=self._context.copy())

    def poll(self) -> list[Block]:
        done, self._done = self._done, []
        if not done:
            return []
        errors: dict[int, BaseException] = {n: error for n, (_, _, error, _) in enumerate(done) if error is not None}
        slow = [(n, seconds, 1) for n, (_, _, _, seconds) in enumerate(done)]
        total = sum(seconds for _, seconds, _ in slow)
        self.insights[0].served(len(done), total)
        return [Block([d[0] for d in done], [d[1] for d in done], errors, slow=slow, seconds=total)]

    async def next(self, until: float | None) -> list[Block]:
        if not self._done:
            self._waiter = self._loop.create_future()
            try:
                await (self._waiter if until is None else asyncio.wait([self._waiter], timeout=left(until)))
            finally:
                self._waiter = None
        return self.poll()

    def wake(self) -> None:
        """Let `next` return: there is something to take, or to hand over."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def close(self) -> None:
        """Cancel what still runs, and wait until it has ended."""
        self._queue.clear()
        for task in list(self._tasks.values()):
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def _work(self, number: int) -> None:
        queue, function, now = self._queue, self._function, clock.now
        while number < self._limit:
            while len(queue) and number < self._limit:
                (index,), (item,) = queue.take(number, 1)
                began = now()
                try:
                    done: Outcome = (index, await function(item), None, now() - began)
                except asyncio.CancelledError as error:
                    if _cancelled():
                        raise
                    done = (index, None, error, now() - began)
                except BaseException as error:  # noqa: BLE001 - the map hands it to its caller
                    done = (index, None, error, now() - began)
                self._done.append(done)
                self.wake()
            if number < self._limit:
                idle = self._loop.create_future()
                self._idle.append(idle)
                await idle
        del self._tasks[number]


def want_a_loop(mode: str) -> None:
    """Raise `ConfigurationError` where no asyncio loop runs."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        allowed = "asyncio around it; on trio, a nursery over `.one(item)`, or a plain function in trio.to_thread"
        raise ConfigurationError("mode", mode, allowed) from None


def is_cancellation(error: BaseException) -> bool:
    """Whether it says that a task was cancelled."""
    return isinstance(error, asyncio.CancelledError)


class Feed:
    """An asynchronous input, pulled as far as asked, by a task of its own: a slow input holds no result back."""

    def __init__(self, items: AsyncIterable[Any], wake: Callable[[], None]) -> None:
        self._items: AsyncIterator[Any] = aiter(items)
        self._wake = wake
        self._pulled: list[Any] = []
        self._wanted = 0
        self._asked = asyncio.Event()
        self._task = asyncio.get_running_loop().create_task(self._pull())
        self.error: BaseException | None = None
        self.ended = False

    def take(self, count: int) -> list[Any]:
        """Return what has come, and ask for as much more."""
        found, self._pulled = self._pulled[:count], self._pulled[count:]
        self._wanted = max(0, count - len(found) - len(self._pulled))
        if self._wanted:
            self._asked.set()
        return found

    @property
    def exhausted(self) -> bool:
        """Whether everything was taken."""
        return self.ended and not self._pulled

    async def close(self) -> None:
        """Stop pulling."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        close: Any = getattr(self._items, "aclose", None)
        if close is not None:
            await close()

    async def _pull(self) -> None:
        try:
            while True:
                while not self._wanted:
                    self._asked.clear()
                    await self._asked.wait()
                item = await anext(self._items)
                self._pulled.append(item)
                self._wanted -= 1
                self._wake()
        except StopAsyncIteration:
            pass
        except Exception as error:  # noqa: BLE001 - the map raises it, after the items before it
            self.error = error
        self.ended = True
        self._wake()


def _cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _bounded(function: Callable[[Any], Coroutine[Any, Any, Any]], seconds: float) -> Any:
    async def call(item: Any) -> Any:
        scope = asyncio.timeout(seconds)
        try:
            async with scope:
                return await function(item)
        except TimeoutError:
            if not scope.expired():
                raise
            text = f"an item did not finish within {seconds:g} s"
            raise CallTimeout(text, seconds=seconds, scope="item_timeout") from None

    return call
