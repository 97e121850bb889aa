"""The door without a function: `for attempt in Retry(...)`, `async for attempt in Retry(...)`.

The body of the loop stands where a decorated function would: one loop is one call, with its events, metrics and spans.
"""

from __future__ import annotations

import sys
from functools import cached_property

from opero import catalogue
from opero.drivers.aio import Aio
from opero.drivers.blocking import Blocking
from opero.drivers.inside_out import Ended, Handed, Inside, hand_out, plainly
from opero.errors import ConfigurationError, Stopped, bare
from opero.pipeline import Operation
from opero.runtime import Runtime

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType, TracebackType
    from typing import Any, Self

    from opero.call import Call
    from opero.primitives.retry import Retry
    from opero.stops import Flag


class _Handing(Runtime):
    """Hands out each attempt, and the wait before it."""

    async def invoke(self, call: Call) -> Any:
        call.begin()
        return await hand_out(call.record.made)

    async def pause(self, seconds: float, flag: Flag | None = None) -> None:
        await hand_out(PAUSE)
        await super().pause(seconds, flag)


class _Body(_Handing, Blocking):
    pass


class _AioBody(_Handing, Aio):
    pass


ITERATING = ("__iter__", "__aiter__")  # functions in which a policy is iterated by somebody else's loop
PLACES = 100  # of one policy that are told apart
PAUSE = object()  # the next thing is a wait, if the loop goes on
OVER = Ended(None)
BODY, AIO_BODY = _Body(), _AioBody()


class Attempts:
    """The attempts of one loop; the loop ends after the first that succeeds.

    Its body is `with attempt:` and nothing else that can fail. The last error passes through. Where the policy has to
    await what becomes of an attempt, `async with attempt:` does; after `with attempt:` the head of the loop does.
    """

    def __init__(self, policy: Retry, name: str, *, is_async: bool) -> None:
        self._operation = _operation(policy, name, is_async=is_async)
        self._name = name
        self._policy = policy
        self._is_async = is_async
        self._out: Handed | None = None  # the next attempt, or the end, if that is known
        self._pending: LoopAttempt | None = None

    @cached_property
    def _inside(self) -> Inside:
        """The call, from its first attempt on."""
        return Inside(self._operation.execute(AIO_BODY if self._is_async else BODY, (), {}), plainly)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> LoopAttempt:
        self._check()
        if self._out is None:
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
        if self._out is None:
            self._out = OVER  # unless it goes on
            try:
                out = await self._inside.forward()
                self._out = out if self._known(out) else await self._inside.forward()
            except (Stopped, StopAsyncIteration) as error:
                raise _lasting(error) from bare(error)
        if isinstance(self._out, Ended):
            raise StopAsyncIteration
        return self._begin()

    def end(self, attempt: LoopAttempt, error: BaseException | None) -> bool:
        """Take the outcome of an attempt; whether its error is dealt with."""
        self._tell(attempt, error)
        if self._awaits(error):
            self._out = None
            return error is not None
        try:
            out = self._inside.advance()
            self._out = out if self._known(out) else None
        except BaseException as raised:
            if bare(raised) is error:
                return False
            raise
        else:
            return error is not None
        finally:
            del error

    async def aend(self, attempt: LoopAttempt, error: BaseException | None) -> bool:
        """Do the same, and await what there is to await."""
        self._tell(attempt, error)
        try:
            out = await self._inside.forward()
            self._out = out if self._known(out) else None
        except BaseException as raised:
            if bare(raised) is error:
                return False
            raise
        else:
            return error is not None
        finally:
            del error

    def _tell(self, attempt: LoopAttempt, error: BaseException | None) -> None:
        self._pending, self._out = None, OVER  # unless it goes on
        self._inside.send(attempt.result) if error is None else self._inside.throw(error)

    def _known(self, out: Handed) -> bool:
        """Whether this is what comes next, and not the wait before it, which begins with the next turn."""
        if out.value is not PAUSE:
            return True
        self._inside.send(None)
        return False

    def _awaits(self, error: BaseException | None) -> bool:
        """Whether the policy has to await something before it knows what becomes of this outcome."""
        policy, budget = self._policy, self._policy.budget
        asked = policy.condition.on_result is not None if error is None else isinstance(error, Exception)
        return self._is_async and asked and (policy.is_async or getattr(budget, "shared", None) is not None)

    def _begin(self) -> LoopAttempt:
        assert self._out is not None  # noqa: S101 - for the type checkers
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
        try:
            return attempts is not None and attempts.end(self, error)
        finally:
            del error  # its traceback leads here

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        attempts, self._attempts = self._attempts, None
        try:
            return attempts is not None and await attempts.aend(self, error)
        finally:
            del error

    def __repr__(self) -> str:
        return f"<attempt {self.number}>"


def attempts_of(policy: Retry, *, is_async: bool) -> Attempts:
    """Return the attempts of a loop that stands where its policy is iterated."""
    return Attempts(policy, policy.name or _place(sys._getframe(2)), is_async=is_async)  # noqa: SLF001 - documented


def _place(frame: FrameType | None) -> str:
    """Return `module.qualname` of the function a loop stands in, which is what a decorated one would be called."""
    while frame is not None and frame.f_code.co_name in ITERATING:
        frame = frame.f_back
    module = frame and frame.f_globals.get("__name__")
    if frame is None or not isinstance(module, str):
        return "opero.Retry"
    return module if frame.f_code.co_name == "<module>" else f"{module}.{frame.f_code.co_qualname}"


def _operation(policy: Retry, name: str, *, is_async: bool) -> Operation:
    """Return what the loops of one policy in one place are to telemetry; those of one name share one book."""
    kept: dict[tuple[str, bool], Operation] = policy.__dict__.setdefault("loop_operations", {})
    if len(kept) >= PLACES and (name, is_async) not in kept:
        name = catalogue.OTHER
    found = kept.get((name, is_async))
    if found is None:
        first = None if policy.budget else _first.get(name)
        body = _aio_body if is_async else _body
        found = Operation(body, (policy,), name=name, is_async=is_async, book=None if first is None else first.book)
        kept[name, is_async] = found
        if first is None:
            catalogue.register(found)
            if policy.budget is None and len(_first) < catalogue.NAMES:
                _first[name] = found
    return found


_first: dict[str, Operation] = {}  # by name: policies may be made for each loop


def _lasting(error: BaseException) -> RuntimeError:
    """Return what is raised where the body's last error, raised by the head of the loop, would end the loop."""
    return RuntimeError(f"the last attempt raised {type(bare(error)).__name__}")


def _body() -> None:
    """Stand for the body of a loop."""


async def _aio_body() -> None:
    """Stand for the body of an asynchronous one."""
