"""A cache by hand: `f.opero.cache`."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import contextmanager
from typing import Generic, ParamSpec

from opero import acts
from opero.call import Call
from opero.drivers import blocking
from opero.errors import ConfigurationError
from opero.runtime import run
from opero.stores.cache.around import Around
from opero.stores.cache.keys import Unbindable, texts
from opero.stores.cache.said import EVICTIONS, INVALIDATED, REQUESTS
from opero.stores.cache.state import forced, modes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterable, Iterator
    from typing import Any, Literal

    from opero.pipeline import Operation
    from opero.primitives.cache import Cache
    from opero.runtime import Runtime
    from opero.stores.cache.keys import Key

P = ParamSpec("P")


class CacheHandle(Generic[P]):
    """The cache of one function. Its methods take the function's arguments; those of a coroutine function are awaited.

    Example:
        >>> from opero import opero
        >>> @opero(cache_ttl=60)
        ... def double(x: int) -> int:
        ...     return 2 * x
        >>> double(21), double.opero.cache.get(21), double.opero.cache.get(22)
        (42, 42, None)
        >>> double.opero.cache.invalidate(21), double.opero.cache.contains(21)
        (True, False)
    """

    def __init__(self, operation: Operation) -> None:
        policy: Any = operation.places.get("cache")
        if policy is None:
            raise ConfigurationError("cache", None, f"a cache: decorate {operation.name} with cache_ttl=60")
        self._operation = operation
        self._policy: Cache = policy
        self._around = Around(policy, operation.function)

    def get(self, /, *args: P.args, **kwargs: P.kwargs) -> Any:
        """Return what is cached for these arguments, stale or not; None without (`contains` tells them apart)."""
        return self._do(self._peek(args, kwargs, None))

    def get_many(self, items: Iterable[Any], default: Any = None) -> Any:
        """Return what is cached for each item, in their order and in one trip; a tuple is several arguments."""
        calls = self._calls(items)
        return self._do(self._around.peek(calls, self._keys(calls), default))

    def contains(self, /, *args: P.args, **kwargs: P.kwargs) -> Any:
        """Whether a call with these arguments would be answered from the cache."""
        return self._do(self._contains(args, kwargs))

    def set(self, value: Any, /, *args: P.args, **kwargs: P.kwargs) -> Any:
        """Store `value` as the result for these arguments: `f.opero.cache.set(42, 21)` lets `f(21)` return 42."""
        return self._do(self._around.put([self._call(args, kwargs)], [self._key(args, kwargs)], [value]))

    def set_many(self, values: Mapping[Any, Any] | Iterable[tuple[Any, Any]]) -> Any:
        """Store results by item, in one trip: `set_many({1: "a", (2, "en"): "b"})`, or pairs of item and result."""
        pairs = list(values.items() if isinstance(values, Mapping) else values)
        calls = self._calls(item for item, _ in pairs)
        return self._do(self._around.put(calls, self._keys(calls), [value for _, value in pairs]))

    def invalidate(self, /, *args: P.args, **kwargs: P.kwargs) -> Any:
        """Forget the result for these arguments; whether there was one. A load under way is not kept either."""
        self._operation.emit(INVALIDATED, acts.about("invalidate", target="cache"))
        return self._do(self._forget(self._key(args, kwargs)))

    def invalidate_many(self, items: Iterable[Any]) -> Any:
        """Forget the results for all of these items, in one trip; how many there were."""
        self._operation.emit(INVALIDATED, acts.about("invalidate_many", target="cache"))
        return self._do(self._around.place.forget(self._runtime(), self._keys(self._calls(items))))

    delete = invalidate

    def invalidate_tag(self, *tags: str) -> Any:
        """Forget every entry with one of these tags, in constant time; of all functions that share the cache.

        On disk and in Redis: of those that this process has decorated, for every process.
        """
        ended = texts(tags)
        self._operation.emit(INVALIDATED, acts.about("invalidate_tag", target="cache"))
        return self._do(self._around.place.forget_tags(self._runtime(), ended))

    def clear(self) -> Any:
        """Forget all results of this function; on disk and in Redis of all who share its namespace."""
        self._said_clear()
        return self._do(self._around.place.forget_all(self._runtime()))

    def clear_now(self) -> None:
        """Forget all results, of a coroutine function without its event loop: for a thread beside it. Blocks."""
        self._said_clear()
        run(self._around.place.forget_all(blocking.RUNTIME))

    def warmup(self, items: Iterable[Any], *, workers: int | Literal["auto"] = "auto") -> Any:
        """Call the function for every item, many at once, and return how many there were; a tuple is several arguments.

        Raises `MapError` after all items if some failed.
        """
        from opero import opmap

        operation = self._operation
        if operation.is_async:
            from opero.drivers import aio

            async def load_async(item: Any) -> None:
                await aio.call(operation, item if isinstance(item, tuple) else (item,), {}, None)

            warm_async = opmap(mode="async", workers=workers, name=f"{operation.name}.warmup")(load_async)

            async def count() -> int:
                return len(await warm_async(items))

            return count()

        def load(item: Any) -> None:
            blocking.call(operation, item if isinstance(item, tuple) else (item,), {}, None)

        return len(opmap(mode="thread", workers=workers, name=f"{operation.name}.warmup")(load)(items))

    def bypass(self) -> Any:
        """Return a context manager: calls inside do not ask the cache, nor store."""
        return self._mode("bypass")

    def refresh(self) -> Any:
        """Return a context manager: calls inside load anew, and store."""
        return self._mode("refresh")

    def stats(self) -> dict[str, float]:
        """Return hits, misses, stale, coalesced, evictions, entries, bytes …, and how long loads took, in seconds.

        Of this process; entries, bytes and loads of all functions that share the cache.
        """
        sums, _, _ = self._operation.book.read()
        asked = {key[1][0]: int(n) for key, n in sums.items() if key[0] == REQUESTS.name}
        state = self._policy.state
        p50, p95, p99 = state.load_times()
        return {
            "hits": asked["hit"],
            "misses": asked["miss"],
            "stale": asked["stale"],
            "coalesced": asked["coalesced"],
            "bypassed": asked["bypass"],
            "errors": asked["error"],
            "evictions": int(sum(n for key, n in sums.items() if key[0] == EVICTIONS.name)),
            "entries": state.count(),
            "bytes": state.usage(),
            "load_p50": p50,
            "load_p95": p95,
            "load_p99": p99,
        }

    def _said_clear(self) -> None:
        self._operation.emit(acts.ACTED, acts.about("clear_cache", target="cache"))

    async def _contains(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        nothing = object()
        return await self._peek(args, kwargs, nothing) is not nothing

    def _peek(self, args: tuple[Any, ...], kwargs: dict[str, Any], default: object) -> Coroutine[Any, Any, Any]:
        return _only(self._around.peek([self._call(args, kwargs)], [self._key(args, kwargs)], default))

    async def _forget(self, key: Key) -> bool:
        return bool(await self._around.place.forget(self._runtime(), [key]))

    def _calls(self, items: Iterable[Any]) -> list[Call]:
        return [self._call(item if isinstance(item, tuple) else (item,), {}) for item in items]

    def _keys(self, calls: list[Call]) -> list[Key]:
        return [self._key(call.args, call.kwargs) for call in calls]

    def _call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
        return Call(self._operation, self._runtime(), args, kwargs)

    def _key(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Key:
        try:
            return self._around.keys.of(args, kwargs)
        except Unbindable:
            raise TypeError(f"{self._operation.name} takes no such arguments") from None

    def _runtime(self) -> Runtime:
        if not self._operation.is_async:
            return blocking.RUNTIME
        from opero.drivers import aio

        return aio.RUNTIME

    def _do(self, work: Coroutine[Any, Any, Any]) -> Any:
        return work if self._operation.is_async else run(work)

    @contextmanager
    def _mode(self, mode: str) -> Iterator[None]:
        forced[:] = [True]
        token = modes.set((*modes.get(), (self._policy.state, mode)))
        try:
            yield
        finally:
            modes.reset(token)


async def _only(work: Coroutine[Any, Any, list[Any]]) -> Any:
    (value,) = await work
    return value
