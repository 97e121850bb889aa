"""Map workers that are tasks of the running asyncio loop."""

from __future__ import annotations

import asyncio

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Any

    from opero.workers.session import Done


class Tasks:
    """A session of fixed worker loops over one queue."""

    def __init__(self, function: Callable[[Any], Coroutine[Any, Any, Any]], workers: int) -> None:
        self._function = function
        self._waiting: asyncio.Queue[tuple[int, Any]] = asyncio.Queue()
        self._done: asyncio.Queue[Done] = asyncio.Queue()
        self._workers = workers
        self._tasks: list[asyncio.Task[None]] = []

    def submit(self, index: int, item: Any) -> None:
        """Hand over an item; a worker starts while there are fewer than allowed."""
        self._waiting.put_nowait((index, item))
        if len(self._tasks) < self._workers:
            self._tasks.append(asyncio.get_running_loop().create_task(self._work()))

    async def next(self) -> Done:
        """Wait for one that is done, whichever."""
        return await self._done.get()

    async def close(self) -> None:
        """Cancel what still runs, and wait until it has ended."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _work(self) -> None:
        while True:
            index, item = await self._waiting.get()
            try:
                done: Done = (index, await self._function(item), None)
            except asyncio.CancelledError as error:
                if self._cancelled():
                    raise
                done = (index, None, error)
            except BaseException as error:  # noqa: BLE001 - the map hands it to its caller
                done = (index, None, error)
            self._done.put_nowait(done)

    @staticmethod
    def _cancelled() -> bool:
        task = asyncio.current_task()
        return task is not None and task.cancelling() > 0
