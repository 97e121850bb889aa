"""A session over the batches of a function: items go straight into the lines of its gatherer, many at once."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from queue import Empty, SimpleQueue

from opero import clock
from opero.workers.direct import Direct
from opero.workers.gpu_batch import Ticket
from opero.workers.gpu_items import Unfit
from opero.workers.session import Block, Insight, left

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextvars import Context
    from typing import Any

    from opero.pipeline import Operation
    from opero.workers.gpu_batch import GpuBatch
    from opero.workers.queues import Queue


class Batches:
    """One run. Two batches a lane are in the gatherer's lines; the rest waits in the queue."""

    def __init__(self, operation: Operation, general: Callable[..., Any], queue: Queue, context: Context) -> None:
        policy: GpuBatch = operation.places["gpu_batch"]  # type: ignore[assignment]
        self._operation = operation
        self._gatherer = policy.gatherer
        self._direct = Direct(operation, {}, general)
        self._queue = queue
        self._context = context
        self._done: SimpleQueue[Ticket | None] = SimpleQueue()
        self._open: dict[int, Ticket] = {}
        self._since = clock.now()
        self.insights = [Insight(self._gatherer.where, clock.now())]

    def room(self) -> int:
        return self._ahead() - len(self._queue) - len(self._open)

    def ahead(self) -> int:
        """Four batches a lane."""
        return 2 * self._ahead()

    def submit(self, indices: Sequence[int], items: Sequence[Any]) -> None:
        self._queue.put(indices, items)
        self._feed()

    def poll(self) -> list[Block]:
        found: list[Ticket] = []
        try:
            while True:
                ticket = self._done.get_nowait()
                found += [ticket] if ticket is not None else []
        except Empty:
            pass
        return self._taken(found)

    async def next(self, until: float | None) -> list[Block]:
        try:
            ticket = self._done.get(timeout=left(until))
        except Empty:
            return []
        self._done.put(ticket)
        return self.poll()

    def chunk(self) -> int:
        return 0

    def resize(self, workers: int, chunk: int | None) -> None:
        """The gatherer has the lanes its device can use."""

    async def close(self) -> None:
        self._queue.clear()
        for ticket in list(self._open.values()):
            self._gatherer.leave(ticket)
        self._open.clear()

    def _ahead(self) -> int:
        return 2 * self._gatherer.lanes * self._gatherer.size

    def _feed(self) -> None:
        number = min(len(self._queue), self._ahead() - len(self._open))
        if number <= 0:
            return
        made = []
        for index, item in zip(*self._queue.take(0, number), strict=True):
            ticket = self._ticket(index, item)
            made += [ticket] if not ticket.settled else []
        if made:
            self._gatherer.submit(made)

    def _ticket(self, index: int, item: Any) -> Ticket:
        try:
            ticket = Ticket(self._operation, item, self._tell, context=self._context, index=index)
            self._open[index] = ticket
        except Unfit as error:
            ticket = Ticket(self._operation, 0, self._tell, context=self._context, index=index)
            self._open[index] = ticket
            ticket.item = item
            ticket.settle(None, error)
        return ticket

    def _tell(self, ticket: Ticket) -> None:
        self._done.put(ticket)

    def _taken(self, tickets: list[Ticket]) -> list[Block]:
        """Count them as calls, and return them as one block."""
        if not tickets:
            return []
        now, values, errors = clock.now(), [], {}
        for place, ticket in enumerate(tickets):
            del self._open[ticket.index]
            values.append(ticket.value)
            if ticket.error is not None:
                try:
                    values[-1] = self._direct.go_on(ticket.item, ticket.error, ticket.at, now)
                except BaseException as error:  # noqa: BLE001 - the map hands it to its caller
                    errors[place] = error
        spent, self._since = now - self._since, now
        times = [now - ticket.at for place, ticket in enumerate(tickets) if place not in errors]
        self._direct.count(len(times), sum(times), ())
        self.insights[0].name = self._gatherer.where
        self.insights[0].served(len(tickets), spent)
        self.insights[0].chunks += 1
        self._feed()
        return [Block([ticket.index for ticket in tickets], values, errors, seconds=spent)]


class AsyncBatches(Batches):
    """The same, awaited on the running loop."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._loop = asyncio.get_running_loop()
        self._waiter: asyncio.Future[None] | None = None

    async def next(self, until: float | None) -> list[Block]:
        if self._done.empty():
            waiter = self._waiter = self._loop.create_future()
            if self._done.empty():
                await (waiter if until is None else asyncio.wait([waiter], timeout=left(until)))
            self._waiter = None
        return self.poll()

    def wake(self) -> None:
        """Let `next` return: there is something to take, or to hand over."""
        self._done.put(None)
        if self._waiter is not None:
            _set(self._waiter)

    def _tell(self, ticket: Ticket) -> None:
        super()._tell(ticket)
        waiter, self._waiter = self._waiter, None  # once a batch, not once an item
        if waiter is not None:
            with suppress(RuntimeError):  # the loop is closed, and with it who waited
                self._loop.call_soon_threadsafe(_set, waiter)


def _set(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
