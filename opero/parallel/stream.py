"""Results as they are asked for: `parse.stream(items)`. Nothing is pulled before the first is asked for."""

from __future__ import annotations

from opero.runtime import run

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from typing import Any, Generic, Protocol, Self, TypeVar

    Result = TypeVar("Result")
    Heard = TypeVar("Heard", contravariant=True)

    class Subscriber(Protocol[Heard]):
        """Who is told the results of a stream, as in Reactive Streams."""

        def on_subscribe(self, demand: Any) -> object: ...
        def on_next(self, value: Heard) -> object: ...
        def on_error(self, error: BaseException) -> object: ...
        def on_complete(self) -> object: ...

else:

    class _Subscriptable:
        def __class_getitem__(cls, _: object) -> type:
            return cls

    Generic = {"Result": _Subscriptable}
    Result = "Result"


class Stream(Generic[Result]):
    """A lazy iterator over results. `close()` or `cancel()` ends it, and its workers' work on it.

    `request(n)` returns the next results, n at most. `subscribe` tells them to a subscriber, who asks for as many as it
    wants.
    """

    def __init__(self, results: AsyncIterator[list[Result]]) -> None:
        self._values = self._iterate(results)

    def __iter__(self) -> Iterator[Result]:
        return self._values

    def __next__(self) -> Result:
        return next(self._values)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End it."""
        self._values.close()  # type: ignore[attr-defined]

    cancel = close

    def request(self, n: int) -> list[Result]:
        """Wait for the next n results; fewer are the end of the stream."""
        from itertools import islice

        return list(islice(self._values, _asked(n)))

    def subscribe(self, subscriber: Subscriber[Result]) -> None:
        """Tell a subscriber the results it asks for, in this thread, and return when it asks for no more.

        It gets `on_subscribe(demand)` first; `demand.request(n)` and `demand.cancel()` may be called at any time, also
        later: then the results are told before `request` returns.
        """
        demand = Demand(self, subscriber)
        subscriber.on_subscribe(demand)
        demand.serve()

    @staticmethod
    def _iterate(results: AsyncIterator[list[Result]]) -> Iterator[Result]:
        try:
            while True:
                try:
                    values = run(results.__anext__())  # type: ignore[arg-type]
                except StopAsyncIteration:
                    return
                yield from values
        finally:
            run(results.aclose())  # type: ignore[attr-defined]


class Demand:
    """What a subscriber of a stream may ask for: `request(n)`, `cancel()`.

    Source: Reactive Streams 1.0.4, 2022: never more `on_next` than requested, one `on_error` or `on_complete`, and
    nothing after it.
    """

    def __init__(self, stream: Stream[Any], subscriber: Subscriber[Any]) -> None:
        self._stream = stream
        self._subscriber = subscriber
        self._wanted = 0
        self._serving = self._ended = False
        self._subscribed = False

    def request(self, n: int) -> None:
        """Ask for n more results; n is 1 or more, else the subscriber gets a ValueError by `on_error`."""
        if self._ended:
            return
        try:
            _asked(n)
        except ValueError as error:
            self._end(error)
            return
        self._wanted += n
        if self._subscribed:
            self.serve()

    def cancel(self) -> None:
        """Want no more; nothing is told from here on."""
        self._ended = True
        if not self._serving:
            self._stream.close()

    def serve(self) -> None:
        """Tell what is asked for."""
        self._subscribed = True
        if self._serving:
            return
        self._serving = True
        try:
            while self._wanted and not self._ended:
                self._wanted -= 1
                self._tell_one()
        finally:
            self._serving = False
            if self._ended:
                self._stream.close()

    def _tell_one(self) -> None:
        try:
            value = next(self._stream)
        except StopIteration:
            self._ended = True
            self._subscriber.on_complete()
        except Exception as error:  # noqa: BLE001 - the subscriber is who hears of it
            self._end(error)
        else:
            self._subscriber.on_next(value)

    def _end(self, error: BaseException) -> None:
        self._ended = True
        self._subscriber.on_error(error)


class AsyncStream(Generic[Result]):
    """The same for coroutine functions: an asynchronous iterator."""

    def __init__(self, results: AsyncIterator[list[Result]]) -> None:
        self._values = self._iterate(results)

    def __aiter__(self) -> AsyncIterator[Result]:
        return self._values

    async def __anext__(self) -> Result:
        return await anext(self._values)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """End it, and cancel what still runs."""
        await self._values.aclose()  # type: ignore[attr-defined]

    cancel = aclose

    async def request(self, n: int) -> list[Result]:
        """Wait for the next n results; fewer are the end of the stream."""
        found: list[Result] = []
        _asked(n)
        while len(found) < n:
            try:
                found.append(await anext(self._values))
            except StopAsyncIteration:
                break
        return found

    @staticmethod
    async def _iterate(results: AsyncIterator[list[Result]]) -> AsyncIterator[Result]:
        try:
            async for values in results:
                for value in values:
                    yield value
        finally:
            await results.aclose()  # type: ignore[attr-defined]


def _asked(n: int) -> int:
    if n < 1:
        raise ValueError(f"request({n}): ask for 1 or more")
    return n
