"""Map workers that are threads of this process."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from queue import SimpleQueue

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future
    from typing import Any

    from opero.workers.session import Done


class Threads:
    """A session over an executor; `submit` and `next` are called by one thread."""

    def __init__(self, function: Callable[[Any], Any], workers: int) -> None:
        self._function = function
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="opero-map")
        self._out = 0
        self._done: SimpleQueue[tuple[int, Future[Any]]] = SimpleQueue()

    def submit(self, index: int, item: Any) -> None:
        """Hand over an item."""
        self._out += 1
        future = self._pool.submit(copy_context().run, self._function, item)
        future.add_done_callback(lambda done: self._done.put((index, done)))

    async def next(self) -> Done:
        """Wait for one that is done, whichever."""
        index, future = self._done.get()
        self._out -= 1
        error = future.exception()
        return index, None if error else future.result(), error

    async def close(self) -> None:
        """Drop what has not begun; what has begun goes on to its end."""
        self._pool.shutdown(wait=not self._out, cancel_futures=True)
