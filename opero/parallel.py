"""The door for many items: `@opmap`, and the map it makes of a function."""

from __future__ import annotations

import os
import sys
from functools import update_wrapper

from opero import clock
from opero.decorators import decorate, is_decorable
from opero.drivers.blocking import run
from opero.errors import ConfigurationError, MapError, WorkerLost
from opero.kinds import is_coroutine_function
from opero.policy import choice, whole
from opero.signals import OUTCOME, SECONDS, Event, Metric, Signals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator
    from typing import Any, Literal, Protocol, TypeVar, Unpack, overload

    from opero.decorators import Decorated, Handle
    from opero.pipeline import Operation
    from opero.policy import Policy
    from opero.settings import Settings
    from opero.workers.session import Session

    Item = TypeVar("Item", contravariant=True)
    Result = TypeVar("Result")

    class MapSettings(Settings, total=False):
        """The keywords of `@opmap`: those of `@opero`, and these."""

        mode: Literal["thread", "process", "async"]
        workers: int | Literal["auto"]
        ordered: bool
        errors: Literal["raise", "return", "skip"]
        max_pending: int

    class Mapped(Protocol[Item, Result]):
        """A function of one item that maps. `one` is the resilient call for one item; `stream` is lazy."""

        @property
        def opero(self) -> Handle[..., Result]: ...
        def one(self, item: Item, /) -> Result: ...
        def __call__(self, items: Iterable[Item], /) -> list[Result]: ...
        def stream(self, items: Iterable[Item], /) -> Iterator[Result]: ...

    class AsyncMapped(Protocol[Item, Result]):
        """The same for a coroutine function."""

        @property
        def opero(self) -> Handle[..., Coroutine[Any, Any, Result]]: ...
        async def one(self, item: Item, /) -> Result: ...
        async def __call__(self, items: Iterable[Item], /) -> list[Result]: ...
        def stream(self, items: Iterable[Item], /) -> AsyncIterator[Result]: ...

    class MapDecorator(Protocol):
        """What `@opmap(...)` returns."""

        @overload
        def __call__(  # type: ignore[overload-overlap]
            self, function: Callable[[Item], Coroutine[Any, Any, Result]], /
        ) -> AsyncMapped[Item, Result]: ...
        @overload
        def __call__(self, function: Callable[[Item], Result], /) -> Mapped[Item, Result]: ...


STARTED = Event("opero.map.started", "info", "A map began.", ("mode", "workers"))
FINISHED = Event("opero.map.finished", "info", "A map ended.", ("items", "failures", "duration"))
LOST = Event("opero.map.worker_lost", "warning", "A worker died with an item.", ("index", "exitcode"))
ITEMS = Metric(
    "opero.map.items",
    "counter",
    "{item}",
    "Items that came back.",
    attributes=(OUTCOME,),
    zeros=[("ok",), ("error",)],
)
ITEM_DURATION = Metric(
    "opero.map.item.duration", "histogram", "s", "From handing an item over to its result.", buckets=SECONDS
)
ACTIVE = Metric("opero.map.active", "updown", "{item}", "Items handed over and not back.")
LIMIT = Metric("opero.map.concurrency.limit", "updown", "{item}", "Items that may run at once in running maps.")
SIGNALS = Signals("map", (STARTED, FINISHED, LOST), (ITEMS, ITEM_DURATION, ACTIVE, LIMIT))

MODES = ("thread", "process", "async")
ERRORS = ("raise", "return", "skip")
AUTO = {"thread": 4, "process": 1, "async": 50}  # workers for each core


class Plan:
    """How to map: the settings of one `@opmap`."""

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        mode: str | None = None,
        workers: int | str = "auto",
        ordered: bool = True,
        errors: str = "raise",
        max_pending: int | None = None,
    ) -> None:
        is_async = is_coroutine_function(function)
        self.mode = choice("mode", mode or ("async" if is_async else "thread"), MODES)
        if is_async != (self.mode == "async"):
            fit = "'async' for a coroutine function" if is_async else "'thread' or 'process' for a plain function"
            raise ConfigurationError("mode", self.mode, fit)
        if workers != "auto" and (not isinstance(workers, int) or isinstance(workers, bool) or workers < 1):
            raise ConfigurationError("workers", workers, "'auto' or a whole number, 1 or more")
        self.workers: int = AUTO[self.mode] * _cores() if workers == "auto" else int(workers)
        self.ordered = bool(choice("ordered", ordered, (True, False)))
        self.errors = choice("errors", errors, ERRORS)
        self.max_pending = self.workers * 4 if max_pending is None else whole("max_pending", max_pending, low=1)

    def session(self, function: Any) -> Session:
        """Start the workers, lazily: they come with the items."""
        if self.mode == "thread":
            from opero.workers.threads import Threads

            return Threads(function.one, self.workers)
        if self.mode == "process":
            from opero.workers.processes import Processes

            return Processes(function, _portable(function), self.workers)
        from opero.workers.tasks import Tasks

        return Tasks(function.one, self.workers)


class Run:
    """One pass over an input: hands items over as results are taken, and keeps them in order."""

    def __init__(self, function: Any, plan: Plan) -> None:
        self._function = function
        self._plan = plan
        self._operation = function.opero.operation
        self._book = self._operation.book
        self._since: dict[int, float] = {}
        self.failures: dict[int, BaseException] = {}

    async def outcomes(self, items: Iterable[Any]) -> AsyncIterator[tuple[int, Any, BaseException | None]]:
        """Yield (index, result, error) for every item, in input order unless the plan says otherwise."""
        plan, started = self._plan, clock.now()
        self._operation.emit(STARTED, {"mode": plan.mode, "workers": plan.workers})
        self._book.add(LIMIT, (), plan.workers)
        session = plan.session(self._function)
        held: dict[int, tuple[Any, BaseException | None]] = {}
        source, count, following = enumerate(items), 0, 0
        try:
            while True:
                while len(self._since) + len(held) < plan.max_pending and (pair := next(source, None)) is not None:
                    self._hand_over(session, *pair)
                    count += 1
                if not self._since and not held:
                    break
                if following in held or (held and not plan.ordered):
                    index = following if plan.ordered else next(iter(held))
                    following += 1
                    yield index, *held.pop(index)
                else:
                    index, value, error = await session.next()
                    self._take_back(index, error)
                    held[index] = (value, error)
        finally:
            self._book.add(ACTIVE, (), -len(self._since))
            self._book.add(LIMIT, (), -plan.workers)
            await session.close()
            fields = {"items": count, "failures": len(self.failures), "duration": clock.now() - started}
            self._operation.emit(FINISHED, fields)

    def _hand_over(self, session: Session, index: int, item: Any) -> None:
        self._since[index] = clock.now()
        self._book.add(ACTIVE, ())
        session.submit(index, item)

    def _take_back(self, index: int, error: BaseException | None) -> None:
        self._book.add(ACTIVE, (), -1)
        self._book.add(ITEMS, ("error" if error else "ok",))
        self._book.observe(ITEM_DURATION, (), clock.now() - self._since.pop(index))
        if isinstance(error, WorkerLost):
            self._operation.emit(LOST, {"index": index, "exitcode": error.exitcode})
        if error is not None and not isinstance(error, Exception) and self._plan.mode != "async":
            raise error

    async def results(self, items: Iterable[Any], *, lazily: bool) -> AsyncIterator[Any]:
        """Yield results by the plan's way with errors; lazily, "raise" ends with the first error."""
        outcomes = self.outcomes(items)
        try:
            async for index, value, error in outcomes:
                if error is None:
                    yield value
                elif lazily and self._plan.errors == "raise":
                    raise error
                elif self._plan.errors == "return":
                    yield error
                elif self._plan.errors == "raise":
                    self.failures[index] = error
                    yield None
        finally:
            await outcomes.aclose()  # type: ignore[attr-defined]

    async def gather(self, items: Iterable[Any]) -> list[Any]:
        """Return all results, or raise `MapError` after all items."""
        found = [value async for value in self.results(items, lazily=False)]
        if self.failures:
            failures = {index: error for index, error in self.failures.items() if isinstance(error, Exception)}
            for error in self.failures.values():
                if not isinstance(error, Exception):
                    raise error
            text = f"{len(failures)} of {len(found)} items of {self._operation.name} failed, first {min(failures)}"
            raise MapError(text, failures, found)
        return found


if TYPE_CHECKING:

    @overload
    def opmap(  # type: ignore[overload-overlap]
        function: Callable[[Item], Coroutine[Any, Any, Result]], /
    ) -> AsyncMapped[Item, Result]: ...
    @overload
    def opmap(function: Callable[[Item], Result], /) -> Mapped[Item, Result]: ...
    @overload
    def opmap(*policies: Policy, **settings: Unpack[MapSettings]) -> MapDecorator: ...


def opmap(*given: Any, **keywords: Any) -> Any:
    """Map a function of one item over many: `parse(paths)`, `parse.stream(paths)`, `parse.one(path)`.

    `mode` is "thread", "process" or "async" (coroutine functions); `workers` how many at once; `max_pending` how many
    items are taken from the input ahead of what was consumed (4 a worker); `errors` "raise" (`MapError`, after all
    items), "return" (the error in the item's place) or "skip". Each item is a resilient call with everything `@opero`
    takes; nothing is retried unless asked for. Every input yields one result or one error, also when a worker dies.

    Example:
        >>> @opmap(mode="thread", workers=2)
        ... def square(x: int) -> int:
        ...     return x * x
        >>> square(range(4))
        [0, 1, 4, 9]
    """
    if len(given) == 1 and not keywords and is_decorable(given[0]):
        return _mapped(given[0], (), {}, {})
    of_map: dict[str, Any] = {
        k: keywords.pop(k) for k in ("mode", "workers", "ordered", "errors", "max_pending") if k in keywords
    }

    def decorator(function: Callable[..., Any]) -> Any:
        return _mapped(function, given, keywords, of_map)

    return decorator


def _mapped(function: Any, given: Any, keywords: dict[str, Any], of_map: dict[str, Any]) -> Any:
    if isinstance(function, staticmethod):
        return staticmethod(_mapped(function.__func__, given, keywords, of_map))
    one: Decorated[..., Any] = decorate(function, given, keywords, retries=0)
    _takes_one(function)
    plan = Plan(function, **of_map)
    one.opero.operation.book.declare(SIGNALS)
    mapped: Any = _async_map(plan) if plan.mode == "async" else _map(plan)
    update_wrapper(mapped, function)
    mapped.one, mapped.opero, mapped.__wrapped__ = one, one.opero, function
    return mapped


def _map(plan: Plan) -> Any:
    def mapped(items: Iterable[Any], /) -> list[Any]:
        return run(Run(mapped, plan).gather(items))  # type: ignore[no-any-return]

    def stream(items: Iterable[Any], /) -> Iterator[Any]:
        results = Run(mapped, plan).results(items, lazily=True)
        try:
            while True:
                try:
                    yield run(results.__anext__())  # type: ignore[arg-type]
                except StopAsyncIteration:
                    return
        finally:
            run(results.aclose())  # type: ignore[attr-defined]

    mapped.stream = stream  # type: ignore[attr-defined]
    return mapped


def _async_map(plan: Plan) -> Any:
    async def mapped(items: Iterable[Any], /) -> list[Any]:
        return await Run(mapped, plan).gather(items)

    async def stream(items: Iterable[Any], /) -> AsyncIterator[Any]:
        results = Run(mapped, plan).results(items, lazily=True)
        try:
            async for value in results:
                yield value
        finally:
            await results.aclose()  # type: ignore[attr-defined]

    mapped.stream = stream  # type: ignore[attr-defined]
    return mapped


class _Recipe:
    """How to make the single-item call again, in a process that cannot find it by its name."""

    def __init__(self, operation: Operation) -> None:
        self._function, self._policies, self._name = operation.function, operation.policies, operation.name

    @property
    def one(self) -> Any:
        """Make it."""
        return decorate(self._function, self._policies, {"name": self._name}, retries=0)


def _portable(function: Any) -> Any:
    """Return what pickles: the decorated function where its name leads to it, else how to make it."""
    found: Any = sys.modules.get(function.__module__)
    for part in function.__qualname__.split("."):
        found = getattr(found, part, None)
    return function if found is function else _Recipe(function.opero.operation)


def _takes_one(function: Callable[..., Any]) -> None:
    from inspect import signature

    try:
        signature(function).bind(None)
    except TypeError as error:
        raise ConfigurationError(
            "function", function, "a function that can be called with one item, by position"
        ) from error


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
