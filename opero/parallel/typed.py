"""What a type checker sees of `@opmap`. Nothing here exists at run time."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Callable, Coroutine, Iterable, Mapping
    from typing import Any, Literal, Protocol, TypeVar, overload

    from opero.decorators import Handle
    from opero.parallel.insight import LastRun
    from opero.parallel.kept import Kept
    from opero.parallel.stream import AsyncStream, Stream
    from opero.settings import Settings

    Item = TypeVar("Item", contravariant=True)
    Result = TypeVar("Result")
    Any1 = TypeVar("Any1")

    class MapSettings(Settings, total=False):
        """The keywords of `@opmap`: those of `@opero`, and these. Times in seconds, sizes in bytes."""

        mode: Literal["auto", "thread", "process", "async", "async_process", "dask", "gpu"]
        workers: int | Literal["auto"]
        ordered: bool
        errors: Literal["raise", "return", "skip"]
        max_pending: int
        chunk_size: int | Literal["auto"]
        schedule: Literal["shared", "stealing"]
        priority: Callable[[Any], Any]
        item_timeout: float
        progress: bool | Callable[[int, int | None], object] | None
        constants: Mapping[str, Any]
        on_death: Literal["error", "retry"]
        worker_init: Callable[[], object]
        worker_exit: Callable[[], object]
        worker_lifespan: int
        worker_memory: int
        start_method: Literal["fork", "forkserver", "spawn"]
        cluster: Any
        batch_size: int | Literal["auto"]
        batch_wait: float
        batch_target: float

    class Mapped(Protocol[Item, Result]):
        """A function of one item that maps. `one` is the resilient call for one item; `stream` is lazy."""

        last_run: LastRun | None

        @property
        def opero(self) -> Handle[..., Result]: ...
        @property
        def pool(self) -> Kept: ...
        def one(self, item: Item, /) -> Result: ...
        def __call__(self, items: Iterable[Item], /) -> list[Result]: ...
        def stream(self, items: Iterable[Item], /) -> Stream[Result]: ...
        def map_reduce(
            self, items: Iterable[Item], /, reduce: Callable[[Any, Any], Any1], initial: Any1 = ...
        ) -> Any1: ...

    class AsyncMapped(Protocol[Item, Result]):
        """The same for a coroutine function."""

        last_run: LastRun | None

        @property
        def opero(self) -> Handle[..., Coroutine[Any, Any, Result]]: ...
        async def one(self, item: Item, /) -> Result: ...
        async def __call__(self, items: Iterable[Item] | AsyncIterable[Item], /) -> list[Result]: ...
        def stream(self, items: Iterable[Item] | AsyncIterable[Item], /) -> AsyncStream[Result]: ...
        async def map_reduce(
            self,
            items: Iterable[Item] | AsyncIterable[Item],
            /,
            reduce: Callable[[Any, Any], Any1],
            initial: Any1 = ...,
        ) -> Any1: ...

    class MapDecorator(Protocol):
        """What `@opmap(...)` returns."""

        @overload
        def __call__(  # type: ignore[overload-overlap]
            self, function: Callable[[Item], Coroutine[Any, Any, Result]], /
        ) -> AsyncMapped[Item, Result]: ...
        @overload
        def __call__(self, function: Callable[[Item], Result], /) -> Mapped[Item, Result]: ...
