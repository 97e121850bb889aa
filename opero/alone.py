"""The door for a block of code: a policy alone, where the block takes the place of the function.

The layers are the same as around a function. Their coroutine runs until it would call the function, rests there while
the block runs, and goes on with how the block ended.
"""

from __future__ import annotations

from functools import cache, partial

from opero import catalogue
from opero.call import propagating
from opero.drivers.blocking import Blocking
from opero.errors import Stopped
from opero.pipeline import Operation

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator
    from types import TracebackType
    from typing import Any, Self

    from opero.call import Call
    from opero.policy import Policy
    from opero.runtime import Runtime

    Step = Callable[[], Any]


class _Here:
    """What the layers wait for where they would call the function."""

    def __await__(self) -> Generator[_Here, None, None]:
        yield self


HERE = _Here()


class Guarded:
    """One block under a policy: a context manager for `with` or `async with`, to be entered once."""

    def __init__(self, operation: Operation, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._operation = operation
        self._given = args, kwargs
        self._run: Coroutine[Any, Any, Any] | None = None

    def __enter__(self) -> Self:
        _blocking(self._begin(_Held()))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        wrapped = Stopped(error) if isinstance(error, StopIteration) else error
        try:
            _blocking(self._end(wrapped))
        except BaseException as raised:
            if raised is not wrapped:
                raise
            return False
        return error is not None

    async def __aenter__(self) -> Self:
        await _Suspending(self._begin(_held_aio()))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        try:
            await _Suspending(self._end(error))
        except BaseException as raised:
            if raised is not error:
                raise
            return False
        return error is not None

    def _begin(self, runtime: Runtime) -> Step:
        if self._run is not None:
            raise RuntimeError("this block was entered before; ask for another one by policy.block()")
        self._run = self._operation.execute(runtime, *self._given)
        return partial(self._run.send, None)

    def _end(self, error: BaseException | None) -> Step:
        if self._run is None:
            raise RuntimeError("this block was never entered")
        return partial(self._run.send, None) if error is None else partial(self._run.throw, error)


def guard(policy: Policy, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Guarded:
    """Return a guard for one block; all blocks of a policy are calls of one operation, of its name or kind."""
    operation: Operation | None = policy.__dict__.get("_alone")
    if operation is None:
        name = policy.name or f"opero.{type(policy).__name__}"
        operation = policy.__dict__["_alone"] = Operation(_block, [policy], name=name, is_async=False)
        catalogue.register(operation)
    return Guarded(operation, args, kwargs)


def _block(*args: Any, **kwargs: Any) -> None:
    """Stand for a block where a function is asked for."""


class _Held(Blocking):
    """Rests where a function would be called. A deadline is cooperative: nobody can stop a block in its own thread."""

    async def invoke(self, call: Call) -> Any:
        deadline = call.deadline
        if deadline is None:
            return await HERE
        call.begin_before(deadline)
        with propagating(deadline):
            await HERE
        call.begin_before(deadline)  # what comes too late is of no use
        return None


@cache
def _held_aio() -> Runtime:
    from opero.drivers.aio import Aio

    class Held(Aio):
        async def run(self, call: Call) -> Any:
            await HERE

    return Held()


def _blocking(step: Step) -> None:
    """Run a coroutine until it rests, or to its end."""
    try:
        if step() is HERE:
            return
    except StopIteration:
        return
    step.func.__self__.close()  # type: ignore[attr-defined]
    raise RuntimeError("a layer suspended on the blocking driver; use `async with`")


class _Suspending:
    """The same on an event loop, which sees everything it waits for on the way."""

    def __init__(self, step: Step) -> None:
        self._step = step

    def __await__(self) -> Generator[Any, Any, None]:
        step, run = self._step, self._step.func.__self__  # type: ignore[attr-defined]
        while True:
            try:
                waited = step()
            except StopIteration:
                return
            if waited is HERE:
                return
            try:
                sent = yield waited
            except BaseException as error:  # noqa: BLE001 - it is for the layers to take
                step = partial(run.throw, error)
            else:
                step = partial(run.send, sent)
