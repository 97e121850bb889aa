"""Where to run, found by trying.

1. The first items run in the calling thread.
2. Items of 1 ms and more that wait (less than half of their time on the CPU) go to threads, after 5 ms of waiting.
3. Items of less than 50 µs stay: handing them over costs as much as doing them.
4. Items that compute stay until they took 0.1 s together, which is what starting processes may cost; then they go to
   processes, if there is more than one core and the function can be sent to another process.
"""

from __future__ import annotations

import time

from opero import clock
from opero.errors import ConfigurationError
from opero.workers.inline import Inline
from opero.workers.place import cores

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextvars import Context
    from typing import Any

    from opero.workers.session import Block, Insight, Session

WAITS = 0.5  # share of the time on the CPU below which an item waits
WORTH_A_THREAD = 0.001
WORTH_A_PROCESS = 0.00005
WAITED = 0.005
PATIENCE = 0.1


class Auto:
    """One run that begins inline."""

    def __init__(self, plan: Any, function: Any, one: Any, context: Context, processes: Callable[[], Session]) -> None:
        self._plan = plan
        self._function = function
        self._one = one
        self._context = context
        self._processes = processes
        self._session: Session = Inline(function.one, plan.constants, plan.general, context)
        self._left: list[Insight] = []
        self._waited = self._cpu = 0.0
        self._decided = plan.item_timeout is not None
        if self._decided:
            self._go(plan.threads(one, context))

    @property
    def insights(self) -> list[Insight]:
        """Of where it ran first, and where it went."""
        return [*self._left, *self._session.insights]

    def room(self) -> int:
        return self._session.room()

    def ahead(self) -> int:
        return self._session.ahead()

    def submit(self, indices: Sequence[int], items: Sequence[Any]) -> None:
        self._session.submit(indices, items)

    def poll(self) -> list[Block]:
        return self._session.poll()

    async def next(self, until: float | None) -> list[Block]:
        if self._decided:
            return await self._session.next(until)
        began, used = clock.now(), time.thread_time()
        blocks = await self._session.next(until)
        took, worked = clock.now() - began, time.thread_time() - used
        self._decide(took / sum(len(block.indices) for block in blocks), took, worked)
        return blocks

    def chunk(self) -> int:
        return self._session.chunk()

    def resize(self, workers: int, chunk: int | None) -> None:
        self._session.resize(workers, chunk)

    async def close(self) -> None:
        await self._session.close()

    def _decide(self, item: float, took: float, worked: float) -> None:
        self._cpu += worked
        if item >= WORTH_A_THREAD and worked < WAITS * took:
            self._waited += took - worked
        if self._waited >= WAITED:
            self._go(self._plan.threads(self._one, self._context))
        elif item >= WORTH_A_PROCESS and self._cpu >= PATIENCE:
            self._decided = True
            if self._may_leave():
                self._go(self._processes())

    def _may_leave(self) -> bool:
        if cores() == 1:
            return False
        try:
            self._plan.pool(self._function).prepare()
        except ConfigurationError:
            return False
        return True

    def _go(self, session: Session) -> None:
        self._decided = True
        self._left = [*self._session.insights]
        waiting = self._session.taken() if isinstance(self._session, Inline) else []
        self._session = session
        for indices, items in waiting:
            session.submit(indices, items)
