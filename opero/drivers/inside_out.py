"""A call turned inside out: where the pipeline would call the function, it stops and hands out what it has.

So a generator's consumer, or the body of a loop, stands in the innermost place of an ordinary call: every layer does
what it always does, and there is no second copy of any. The coroutine is driven by hand; what happens outside is sent
or thrown back in, and what an event loop is to wait for on the way is passed on to it.
"""

from __future__ import annotations

import sys
from contextvars import copy_context
from functools import partial
from types import coroutine

from opero import clock
from opero.drivers.aio import Aio
from opero.drivers.blocking import Blocking
from opero.errors import Stopped, bare
from opero.record import Record
from opero.shapes import shaped

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Generator
    from typing import Any

    from opero.call import Call
    from opero.pipeline import Operation

    Step = Callable[[Any], Any]


class Handed:
    """What the innermost step hands out."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value


class Ended(Handed):
    """What the whole call returned."""


class Left:
    """Says that the consumer left. Thrown, a GeneratorExit would close what is inside, which could await nothing."""

    __slots__ = ("error",)

    def __init__(self, error: GeneratorExit) -> None:
        self.error = error


@coroutine
def hand_out(value: Any) -> Generator[Any, Any, Any]:
    """Stop here; return what is sent back in, or raise what is thrown."""
    answer = yield Handed(value)
    if not isinstance(answer, Left):
        return answer
    try:
        raise answer.error
    finally:
        del answer


class Inside:
    """A call that is driven by hand, in a context of its own unless `within` says how else to run its steps."""

    def __init__(self, call: Coroutine[Any, Any, Any], within: Callable[..., Any] | None = None) -> None:
        self._call = call
        self._run = within or copy_context().run  # a span or a deadline set inside is not the consumer's
        self._step: Step = call.send
        self._value: Any = None

    def send(self, value: Any) -> None:
        """Let the innermost step return this next."""
        self._step, self._value = self._call.send, value

    def throw(self, error: BaseException) -> None:
        """Let the innermost step, which handed something out, raise this next."""
        if isinstance(error, GeneratorExit):
            self.send(Left(error))
        else:
            self._throw(error)

    def advance(self) -> Any:
        """Go on; return `Handed`, `Ended`, or what an event loop is to wait for. Raises what the call raises."""
        try:
            return self._run(self._step, self._value)
        except StopIteration as done:
            return Ended(done.value)
        finally:
            self._value = None

    @coroutine
    def forward(self) -> Generator[Any, Any, Handed]:
        """Go on until something is handed out, and let the event loop wait for what comes between."""
        out = self.advance()
        while not isinstance(out, Handed):
            try:
                self.send((yield out))
            except BaseException as error:  # noqa: BLE001 - cancellation too belongs to the call
                self._throw(error)
            out = self.advance()
        return out

    def _throw(self, error: BaseException) -> None:
        """Raise this where it waits next; a StopIteration as `Stopped`, since no coroutine may raise it."""
        self._step = self._call.throw
        self._value = Stopped(error) if isinstance(error, StopIteration) else error

    def close(self) -> None:
        """End a plain call whose consumer is gone."""
        self._run(self._call.close)

    async def aclose(self) -> None:
        """End one on an event loop, and let the generator inside clean up."""
        self.throw(GeneratorExit())
        try:
            await self.forward()
        except GeneratorExit:
            return


def plainly(step: Step, value: Any) -> Any:
    """Run a step in the consumer's own context: a deadline set inside is the block's."""
    try:
        return step(value)
    finally:
        del value  # an error that passes holds this frame


class Streaming(Blocking):
    """Hands out a generator's items."""

    async def invoke(self, call: Call) -> Any:
        call.begin()
        generator = call.operation.function(*call.args, **call.kwargs)
        step, value = generator.send, None
        try:
            while True:
                call.go_on()
                try:
                    item = self.within(call, step, value)
                except StopIteration as done:
                    return done.value
                call.record.yielded = True
                try:
                    value = await hand_out(item)
                    step = generator.send
                except GeneratorExit:
                    call.record.gone = True
                    raise
                except BaseException as error:  # noqa: BLE001 - it is the generator's to see
                    step, value = generator.throw, bare(error)
        finally:
            if not generator.gi_running:  # else a thread that outlived its timeout is in it
                generator.close()


class AioStreaming(Aio):
    """The same for an asynchronous generator."""

    async def invoke(self, call: Call) -> Any:
        call.begin()
        generator = call.operation.function(*call.args, **call.kwargs)
        following: Callable[[], Awaitable[Any]] = partial(_first, generator)
        ending: Callable[[], Awaitable[Any]] = generator.aclose
        try:
            while True:
                call.go_on()
                try:
                    item = await self.within(call, following)
                except StopAsyncIteration:
                    return None
                call.record.yielded = True
                try:
                    following = partial(generator.asend, await hand_out(item))
                except GeneratorExit:
                    call.record.gone = True
                    if call.time_for(0.0):  # else the deadline would cut off the cleanup before it began
                        ending = partial(self.within, call, generator.aclose)
                    raise
                except BaseException as error:  # noqa: BLE001 - it is the generator's to see
                    following = partial(generator.athrow, bare(error))
        finally:
            await ending()


def _first(generator: AsyncGenerator[Any, Any]) -> Awaitable[Any]:
    """Ask for the first item; no event loop is to close the generator at its own end, since we do when ours is."""
    hooks = sys.get_asyncgen_hooks()
    sys.set_asyncgen_hooks(None, None)
    try:
        return generator.asend(None)
    finally:
        sys.set_asyncgen_hooks(*hooks)


STREAMING, AIO_STREAMING = Streaming(), AioStreaming()


_STREAM = """\
def call({parameters}):
    _record = _Record(_clock.now())
    _inside = _Inside(_operation.execute(_how, {args}, {kwargs}, _record))
    try:
        while True:
            _out = _inside.advance()
            if isinstance(_out, _Ended):
                return (yield from _out.value) if _record.fell_back else _out.value
            try:
                _inside.send((yield _out.value))
            except GeneratorExit:
                raise
            except BaseException as _error:
                _inside.throw(_error)
    finally:
        _inside.close()
"""
_ASYNC_STREAM = """\
async def call({parameters}):
    _record = _Record(_clock.now())
    _inside = _Inside(_operation.execute(_how, {args}, {kwargs}, _record))
    while True:
        _out = await _inside.forward()
        if isinstance(_out, _Ended):
            break
        try:
            _inside.send((yield _out.value))
        except GeneratorExit:
            await _inside.aclose()
            raise
        except BaseException as _error:
            _inside.throw(_error)
    if _record.fell_back:
        async for _item in _items(_out.value):
            yield _item
"""


def streamer(operation: Operation) -> Callable[..., Any]:
    """Return the generator function that takes the place of the operation's own, of the same kind and parameters.

    So it refuses wrong arguments where it is called, as the function does, and no attempt is made of them.
    """
    names = {"_Record": Record, "_clock": clock, "_Inside": Inside, "_Ended": Ended, "_operation": operation}
    if operation.is_async:
        return shaped(operation, _ASYNC_STREAM, {**names, "_how": AIO_STREAMING, "_items": _items})
    return shaped(operation, _STREAM, {**names, "_how": STREAMING})


async def _items(answer: Any) -> AsyncGenerator[Any, None]:
    if hasattr(answer, "__aiter__"):
        async for item in answer:
            yield item
    else:
        for item in answer:
            yield item
