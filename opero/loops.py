"""The door without a function: `for attempt in Retry(...)`, `async for attempt in Retry(...)`.

The body of the loop stands where a decorated function would: one loop is one call, with its events, metrics and spans.
"""

from __future__ import annotations

from opero import catalogue
from opero.drivers.aio import Aio
from opero.drivers.blocking import Blocking
from opero.drivers.inside_out import GO_ON, Ended, Handed, Inside, hand_out
from opero.errors import ConfigurationError, Stopped, bare
from opero.pipeline import Operation

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Any, Self

    from opero.call import Call
    from opero.primitives.retry import Retry
    from opero.stops import Flag


class _Body(Blocking):
    async def invoke(self, call: Call) -> Any:
        call.begin()
        return await hand_out(call.record.made)

    async def pause(self, seconds: float, flag: Flag | None = None) -> None:
        await hand_out(PAUSE)
        await super().pause(seconds, flag)


class _AioBody(Aio):
    async def invoke(self, call: Call) -> Any:
        call.begin()
        return await hand_out(call.record.made)

    async def pause(self, seconds: float, flag: Flag | None = None) -> None:
        await hand_out(PAUSE)
        await super().pause(seconds, flag)


PAUSE = object()  # the next thing is a wait, if the loop goes on
OVER = Ended(None)
BODY, AIO_BODY = _Body(), _AioBody()


class Attempts:
    """The attempts of one loop; the loop ends after the first that succeeds.

    Its body is `with attempt:` and nothing else that can fail. The last error passes through.
    """

    def __init__(self, policy: Retry, *, is_async: bool) -> None:
        operation = _operation(policy, is_async=is_async)
        self._name = operation.name
        self._inside = Inside(operation.execute(AIO_BODY if is_async else BODY, (), {}), _plainly)
        self._out: Any = GO_ON  # or what the call said last: Handed, Ended, or something the event loop is to wait for
        self._pending: LoopAttempt | None = None

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> LoopAttempt:
        self._check()
        if self._out is GO_ON:
            self._out = OVER  # unless it goes on
            try:
                self._out = self._inside.advance()
            except Stopped as stopped:
                raise _lasting(stopped.error) from stopped.error
        if isinstance(self._out, Ended):
            raise StopIteration
        return self._begin()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> LoopAttempt:
        self._check()
        if not isinstance(self._out, Handed):
            out, self._out = self._out, OVER  # unless it goes on
            try:
                self._out = await self._ahead(out)
            except (Stopped, StopAsyncIteration) as error:
                raise _lasting(error) from bare(error)
        if isinstance(self._out, Ended):
            raise StopAsyncIteration
        return self._begin()

    def end(self, attempt: LoopAttempt, error: BaseException | None) -> bool:
        """Take the outcome of an attempt; whether its error is dealt with."""
        self._pending = None
        if error is None:
            self._inside.send(attempt.result)
        else:
            self._inside.throw(error)
        try:
            self._out = self._inside.advance()
        except BaseException as raised:
            self._out = OVER
            if bare(raised) is error:
                return False
            raise
        if _pauses(self._out):
            self._inside.send(None)
            self._out = GO_ON
        return error is not None

    async def _ahead(self, out: Any) -> Any:
        """Go on to the next attempt, through what was yet to be decided about the last one."""
        out = await self._inside.forward(out)
        if _pauses(out):
            self._inside.send(None)
            out = await self._inside.forward()
        return out

    def _begin(self) -> LoopAttempt:
        self._pending = LoopAttempt(self, self._out.value)
        return self._pending

    def _check(self) -> None:
        if self._pending is not None:
            raise ConfigurationError("loop", self._name, "`with attempt:` as its body; this attempt was never made")


class LoopAttempt:
    """One attempt: `with` it, or `async with`. `number` counts from 1; put into `result` what `on_result` is to see."""

    def __init__(self, attempts: Attempts, number: int) -> None:
        self.number = number
        self.result: Any = None
        self._attempts: Attempts | None = attempts  # until it is over: the loop ends when nothing holds it

    def __enter__(self) -> Self:
        if self._attempts is None:
            raise ConfigurationError("loop", self, "`with attempt:` once in each turn; this attempt was made")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        attempts, self._attempts = self._attempts, None
        return attempts is not None and attempts.end(self, error)

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        return self.__exit__(kind, error, traceback)

    def __repr__(self) -> str:
        return f"<attempt {self.number}>"


def _operation(policy: Retry, *, is_async: bool) -> Operation:
    """Return what the loops of one policy are to telemetry; those of one name share one book."""
    kept = "aio_loop_operation" if is_async else "loop_operation"
    found: Operation | None = policy.__dict__.get(kept)
    if found is None:
        name = policy.name or "opero.Retry"
        first = None if policy.budget else _first.get(name)
        body = _aio_body if is_async else _body
        found = Operation(body, (policy,), name=name, is_async=is_async, book=None if first is None else first.book)
        policy.__dict__[kept] = found
        if first is None:
            catalogue.register(found)
            if policy.budget is None and len(_first) < KEPT_NAMES:
                _first[name] = found
    return found


KEPT_NAMES = 100
_first: dict[str, Operation] = {}  # by name: policies may be made for each loop


def _pauses(out: Any) -> bool:
    return isinstance(out, Handed) and out.value is PAUSE


def _lasting(error: BaseException) -> RuntimeError:
    """Return what is raised where the body's last error, raised by the head of the loop, would end the loop."""
    return RuntimeError(f"the last attempt raised {type(bare(error)).__name__}")


def _plainly(step: Any, value: Any) -> Any:
    return step(value)


def _body() -> None:
    """Stand for the body of a loop."""


async def _aio_body() -> None:
    """Stand for the body of an asynchronous one."""
