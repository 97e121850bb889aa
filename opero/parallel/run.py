"""One pass over an input: hands items over as results are taken, and keeps them in order."""

from __future__ import annotations

from contextvars import copy_context
from itertools import count
from sys import getsizeof

from opero import clock
from opero.deadlines import deadline
from opero.errors import MapError, WorkerLost
from opero.parallel import source as sources
from opero.parallel.insight import LastRun
from opero.parallel.signals import ACTIVE, FINISHED, ITEM_DURATION, ITEMS, LIMIT, LOST, PROGRESS, STARTED
from opero.workers.session import NOTHING, Block

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from typing import Any

    from opero.parallel.plan import Plan
    from opero.parallel.tuning import Tuning
    from opero.workers.session import Session

EVERYTHING = 1 << 60
AHEAD_BYTES = 8 * 1024 * 1024  # of items pulled and not consumed, in a list not done; as `sys.getsizeof` counts them
PROGRESS_SECONDS = 1.0
INTERVAL = 0.25  # seconds between two looks of the controllers
_ids = count(1)


class Run:
    """One run of a map. `reduce` lets workers fold what they can where they are."""

    def __init__(
        self, function: Any, plan: Plan, *, lazily: bool, reduce: Callable[[Any, Any], Any] | None = None
    ) -> None:
        self._function = function
        self._plan = plan
        self._lazily = lazily
        self._reduce = reduce
        self._operation = function.opero.operation
        self._book = self._operation.book
        self._context = copy_context()
        self._id = next(_ids)
        self._held: dict[int, Block] = {}
        self._ready: list[Block] = []
        self._following = 0
        self._pulled = self._given = self._back = 0
        self._item_bytes = 1
        self._said_at = self._tune_at = 0.0
        self._limit = plan.workers
        self._deadline = deadline.get()
        self.failures: dict[int, BaseException] = {}
        self.insight = LastRun(plan.mode, clock.now())

    async def blocks(self, items: Any) -> AsyncIterator[Block]:
        """Yield the outcomes of all items, in input order unless the plan says otherwise."""
        plan, started = self._plan, clock.now()
        self._said_at = started
        total = len(items) if hasattr(items, "__len__") else None
        until = self._deadline.at if self._deadline else None
        self._say(STARTED, {"mode": plan.mode, "workers": plan.workers})
        self._book.add(LIMIT, (), self._limit)
        if plan.tuning is not None:
            plan.tuning.begin()
        progress = plan.shown(self._operation.name, total)
        opened: list[Any] = []
        try:
            session = plan.session(self._function, self._context, self._reduce, lazily=self._lazily)
            opened.append(session)
            self.insight.begin(session)
            self._function.last_run = self.insight
            source = plan.feed(items, session) if hasattr(items, "__aiter__") else sources.of(items)
            opened.append(source)
            while True:
                while self._ready:
                    block = self._ready.pop(0)
                    self._given += len(block.indices)
                    yield block
                self._check_deadline(source, total)
                pulled = self._pull(session, source)
                if self._given == self._pulled and source.exhausted:
                    break
                more = pulled and not source.exhausted
                self._take_back(session.poll() if more else await session.next(until))
                self._tell(progress, total)
                if plan.tuning is not None:
                    self._tune(session, plan.tuning)
            if source.error is not None:
                raise source.error
        finally:
            self._book.add(ACTIVE, (), self._back - self._pulled)
            self._book.add(LIMIT, (), -self._limit)
            try:
                for each in opened:
                    await each.close()
            finally:
                progress.close(self._back, len(self.failures))
                self.insight.end(clock.now())
                fields = {"items": self._pulled, "failures": len(self.failures), "duration": clock.now() - started}
                self._say(FINISHED, fields)

    def _check_deadline(self, source: Any, total: int | None) -> None:
        """End it at the deadline of the call around the map, unless everything is done."""
        limit = self._deadline
        if limit is None or clock.now() < limit.at or (source.exhausted and self._given == self._pulled):
            return
        late = limit.expire(self._operation)
        late.add_note(f"{self._back} of {total or 'its'} items were done")
        raise late

    def _pull(self, session: Session, source: Any) -> bool:
        """Hand over as much as the workers want, within the bound; whether that was anything."""
        if source.exhausted:
            return False
        wanted = min(self._wish(session), self._bound(session) - (self._pulled - self._given))
        found = source.take(wanted) if wanted > 0 else []
        if found:
            self._item_bytes = max(getsizeof(found[0], 1), getsizeof(found[-1], 1))
            first, self._pulled = self._pulled, self._pulled + len(found)
            self._book.add(ACTIVE, (), len(found))
            session.submit(range(first, self._pulled), found)
        return bool(found)

    def _wish(self, session: Session) -> int:
        """As much as the workers can use, in items and in bytes; everything there may be, for a queue that compares."""
        if self._plan.priority is not None:
            return EVERYTHING
        at_hand = self._pulled - (self._given if self._lazily else self._back)
        return min(session.room(), self._fitting() - at_hand)

    def _bound(self, session: Session) -> int:
        """How many items may be pulled and not consumed. A list of results holds them all anyway."""
        bound: int | None = self._plan.max_pending
        if bound is not None:
            return bound
        return session.ahead() if self._lazily else EVERYTHING

    def _fitting(self) -> int:
        """How many items are as many bytes as may be at hand, unless the user says; three a worker in any case."""
        plan = self._plan
        if plan.max_pending is not None or plan.batching is not None:
            return EVERYTHING
        return max(3 * self._limit, AHEAD_BYTES // self._item_bytes)

    def _take_back(self, blocks: list[Block]) -> None:
        for block in blocks:
            if not block.indices:
                continue
            self._count(block)
            if self._plan.ordered:
                self._hold(block)
            else:
                self._ready.append(block)

    def _hold(self, block: Block) -> None:
        """Keep a block until everything before it is there."""
        held = self._held
        if isinstance(block.indices, range):
            held[block.indices[0]] = block
        else:
            for run in _runs(block):
                held[run.indices[0]] = run
        while (following := held.pop(self._following, None)) is not None:
            self._following += len(following.indices)
            self._ready.append(following)

    def _count(self, block: Block) -> None:
        number, failed = len(block.indices), len(block.errors)
        book = self._book
        self._back += number
        book.add(ACTIVE, (), -number)
        if number > failed:
            book.add(ITEMS, ("ok",), number - failed)
        quick, quick_seconds = number, block.seconds
        for place, seconds, among in block.slow:
            quick, quick_seconds = quick - 1, quick_seconds - seconds
            book.observe(ITEM_DURATION, (), seconds)
            self.insight.note(block.indices[place : place + among], seconds)
        if quick:
            book.observe_many(ITEM_DURATION, (), max(0.0, quick_seconds) / quick, quick)
        if failed:
            book.add(ITEMS, ("error",), failed)
            self._judge(block)

    def _judge(self, block: Block) -> None:
        for place, error in block.errors.items():
            index = block.indices[place]
            self.failures[index] = error
            if isinstance(error, WorkerLost):
                self._say(LOST, {"index": index, "exitcode": error.exitcode})
            if not isinstance(error, Exception) and not self._is_cancelled_task(error):
                raise error

    def _is_cancelled_task(self, error: BaseException) -> bool:
        """Whether only an item that is a task was cancelled, which says nothing of who maps, as in `asyncio.gather`."""
        if self._plan.mode != "async":
            return False
        from opero.workers.tasks import is_cancellation

        return is_cancellation(error)

    def _tell(self, progress: Any, total: int | None) -> None:
        progress.show(self._back, len(self.failures))
        now = clock.now()
        if now - self._said_at >= PROGRESS_SECONDS:
            self._said_at = now
            self._say(PROGRESS, {"items": self._back, "failures": len(self.failures), "total": total})

    def _tune(self, session: Session, tuning: Tuning) -> None:
        """Let the controllers look, once in a while."""
        now = clock.now()
        if now >= self._tune_at:
            self._tune_at = now + INTERVAL
            limit = tuning.step(session, now)
            self._book.add(LIMIT, (), limit - self._limit)
            self._limit = limit

    def _say(self, event: Any, fields: dict[str, Any]) -> None:
        """Speak in the context the items run in, so that who listens can make it theirs."""
        self._context.run(self._operation.emit, event, fields, self._id)

    async def results(self, items: Any) -> AsyncIterator[list[Any]]:
        """Yield results, some at a time, by the plan's way with errors; "raise" ends with the first error."""
        errors = self._plan.errors
        blocks = self.blocks(items)
        try:
            async for block in blocks:
                if not block.errors:
                    yield block.values
                elif errors == "skip":
                    yield [v for place, v in enumerate(block.values) if place not in block.errors]
                elif errors == "return":
                    yield [block.errors.get(place, v) for place, v in enumerate(block.values)]
                else:
                    first = min(block.errors)
                    yield block.values[:first]
                    raise block.errors[first]
        finally:
            await blocks.aclose()  # type: ignore[attr-defined]

    async def gather(self, items: Any) -> list[Any]:
        """Return all results, or raise `MapError` after all items."""
        if self._plan.errors != "raise":
            return [value async for values in self.results(items) for value in values]
        found: list[Any] = []
        async for block in self.blocks(items):
            found += block.values
        self._raise_failures(found)
        return found

    async def fold(self, items: Any, initial: Any) -> Any:
        """Return all results reduced to one; failed items are left out, or raised together after all."""
        from opero.parallel.tree import Tree

        reduce = self._reduce
        assert reduce is not None  # noqa: S101 - for the type checkers
        tree = Tree(reduce)
        async for block in self.blocks(items):
            if block.partial is not NOTHING:
                tree.add(block.partial)
            else:
                for place, value in enumerate(block.values):
                    if place not in block.errors:
                        tree.add(value)
        if self._plan.errors == "raise":
            self._raise_failures([])
        return tree.total(initial)

    def _raise_failures(self, results: list[Any]) -> None:
        if not self.failures:
            return
        failures = {index: error for index, error in self.failures.items() if isinstance(error, Exception)}
        for error in self.failures.values():
            if not isinstance(error, Exception):
                raise error
        raise MapError.of(self._operation.name, dict(sorted(failures.items())), results, self._pulled)


def _runs(block: Block) -> Iterator[Block]:
    """Yield the runs of neighbours in a block."""
    indices, values, errors = block.indices, block.values, block.errors
    start, number = 0, len(indices)
    for end in range(1, number + 1):
        if end == number or indices[end] != indices[end - 1] + 1:
            failed = {place - start: errors[place] for place in range(start, end) if place in errors} if errors else {}
            yield Block(range(indices[start], indices[end - 1] + 1), values[start:end], failed)
            start = end
