"""The door for many items: `@opmap`, and the map it makes of a function."""

from __future__ import annotations

from opero import settings
from opero.decorators import decorate, is_decorable
from opero.errors import ConfigurationError
from opero.kinds import dress
from opero.parallel.kept import Kept
from opero.parallel.plan import Plan
from opero.parallel.run import Run
from opero.parallel.signals import SIGNALS
from opero.parallel.stream import AsyncStream, Stream
from opero.runtime import run
from opero.workers.session import NOTHING

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable
    from typing import Any, TypeVar, Unpack, overload

    from opero.decorators import Decorated
    from opero.parallel.typed import AsyncMapped, MapDecorator, Mapped, MapSettings
    from opero.policy import Policy

    Item = TypeVar("Item", contravariant=True)
    Result = TypeVar("Result")

__all__ = ["SIGNALS", "AsyncStream", "Plan", "Stream", "opmap"]

OF_MAP = frozenset(Plan.__init__.__kwdefaults__ or ())
ELSEWHERE = {"n_jobs": "workers", "processes": "workers", "max_workers": "workers", "chunksize": "chunk_size"}

if TYPE_CHECKING:

    @overload
    def opmap(*policies: Policy, **settings: Unpack[MapSettings]) -> MapDecorator: ...  # type: ignore[overload-overlap]
    @overload
    def opmap(  # type: ignore[overload-overlap]
        function: Callable[[Item], Coroutine[Any, Any, Result]], /
    ) -> AsyncMapped[Item, Result]: ...
    @overload
    def opmap(function: Callable[[Item], Result], /) -> Mapped[Item, Result]: ...


def opmap(*given: Any, **keywords: Any) -> Any:
    """Map a function of one item over many: `parse(paths)`, `parse.stream(paths)`, `parse.one(path)`.

    `mode` is "thread", "process", "async" (coroutine functions), "gpu" (batches) or "auto", which tries; `workers` how
    many at once; `max_pending` how many items are taken from the input ahead of what was consumed; `errors` "raise"
    (`MapError`, after all items), "return" (the error in the item's place) or "skip". Each item is a resilient call
    with everything `@opero` takes; nothing is retried unless asked for. Every input yields one result or one error,
    also when a worker dies or hangs.

    Example:
        >>> @opmap(mode="thread", workers=2)
        ... def square(x: int) -> int:
        ...     return x * x
        >>> square(range(4))
        [0, 1, 4, 9]
    """
    if len(given) == 1 and not keywords and is_decorable(given[0]):
        return _mapped(given[0], (), {}, {})
    of_map: dict[str, Any] = {keyword: keywords.pop(keyword) for keyword in list(keywords) if keyword in OF_MAP}
    for keyword in ELSEWHERE.keys() & keywords:
        raise ConfigurationError(keyword, keywords[keyword], f"nothing: here it is {ELSEWHERE[keyword]}")
    settings.check_names(keywords, OF_MAP)

    def decorator(function: Callable[..., Any]) -> Any:
        return _mapped(function, given, keywords, of_map)

    return decorator


def _mapped(function: Any, given: Any, keywords: dict[str, Any], of_map: dict[str, Any]) -> Any:
    if isinstance(function, staticmethod):
        return staticmethod(_mapped(function.__func__, given, keywords, of_map))
    plan = Plan(function, **of_map)
    given = given if plan.batching is None else (*given, plan.batching)
    one: Decorated[..., Any] = decorate(function, given, keywords, retries=False)
    one.opero.operation.book.declare(SIGNALS)
    if plan.tunes_workers or plan.tunes_chunks:
        from opero.parallel.tuning import Tuning

        plan.tuning = Tuning(plan, one.opero.operation)
    mapped: Any = _async_map(plan) if plan.is_async else _map(plan)
    dress(mapped, function)
    mapped.one, mapped.opero, mapped.last_run = one, one.opero, None
    mapped.pool = Kept(mapped, plan)
    return mapped


def _map(plan: Plan) -> Any:
    def mapped(items: Iterable[Any], /) -> list[Any]:
        return run(Run(mapped, plan, lazily=False).gather(items))  # type: ignore[no-any-return]

    def stream(items: Iterable[Any], /) -> Stream[Any]:
        return Stream(Run(mapped, plan, lazily=True).results(items))

    def map_reduce(items: Iterable[Any], /, reduce: Callable[[Any, Any], Any], initial: Any = NOTHING) -> Any:
        return run(Run(mapped, plan, lazily=True, reduce=reduce).fold(items, initial))

    mapped.stream, mapped.map_reduce = stream, map_reduce  # type: ignore[attr-defined]
    return mapped


def _async_map(plan: Plan) -> Any:
    async def mapped(items: Any, /) -> list[Any]:
        return await Run(mapped, plan, lazily=False).gather(items)

    def stream(items: Any, /) -> AsyncStream[Any]:
        return AsyncStream(Run(mapped, plan, lazily=True).results(items))

    async def map_reduce(items: Any, /, reduce: Callable[[Any, Any], Any], initial: Any = NOTHING) -> Any:
        return await Run(mapped, plan, lazily=True, reduce=reduce).fold(items, initial)

    mapped.stream, mapped.map_reduce = stream, map_reduce  # type: ignore[attr-defined]
    return mapped
