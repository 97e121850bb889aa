"""The driver for coroutine functions, on asyncio and on trio."""

from __future__ import annotations

import sys
from functools import partial

from opero import clock
from opero.deadlines import propagating
from opero.drivers import on_asyncio
from opero.kinds import is_coroutine_function
from opero.runtime import Runtime

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Sequence
    from typing import Any

    from opero.call import Call
    from opero.pipeline import Operation
    from opero.record import Record
    from opero.runtime import Branch, Waiter


def ways() -> Any:
    """Return how to wait on what runs here: a module, `on_asyncio` or `on_trio`."""
    trio = sys.modules.get("trio")
    if trio is None or not trio.lowlevel.in_trio_task():
        return on_asyncio
    from opero.drivers import on_trio

    return on_trio


class Aio(Runtime):
    """Waits by suspending the task. Cancellation passes through everything."""

    suspends = True

    async def sleep(self, seconds: float, flag: Any = None) -> None:
        if seconds <= 0:
            return
        if flag is None:
            await ways().sleep(seconds)
        elif is_coroutine_function(flag.wait):
            await _told(flag, seconds)
        else:
            await _polled(flag, seconds)

    async def pause(self, seconds: float, flag: Any = None) -> None:
        if clock.hurried:
            await ways().sleep(0)
        else:
            await self.sleep(seconds, flag)

    async def invoke(self, call: Call) -> Any:
        call.begin()
        return await self.within(call, partial(self.run, call))

    async def within(self, call: Call, start: Callable[[], Awaitable[Any]]) -> Any:
        """Await something until the call's deadline."""
        deadline = call.deadline
        if deadline is None or deadline.inherited:
            return await start()
        scope = ways().cut(deadline.at)
        try:
            with propagating(deadline):
                async with scope:
                    return await start()
        except TimeoutError:
            if not scope.expired():
                raise
        raise deadline.expire(call.operation)

    async def run(self, call: Call) -> Any:
        """Call the function and nothing else."""
        return await call.operation.function(*call.args, **call.kwargs)

    async def either(self, blocking: Callable[[], Any], suspending: Callable[[], Awaitable[Any]]) -> Any:
        return await ways().either(blocking, suspending)

    def home(self) -> object:
        return ways().here()

    def waiter(self) -> Waiter:
        waiter: Waiter = ways().Waiter()
        return waiter

    def fork(self, layers: Coroutine[Any, Any, Any], done: Callable[[], None]) -> Branch:
        branch: Branch = ways().Branch(layers, done)
        return branch

    async def let_go(self, branches: Sequence[Any]) -> None:
        await ways().let_go(branches)

    async def park(self, waiter: Any, until: float | None) -> bool:
        woken: bool = await waiter.wait(until)
        return woken

    def scope(self) -> object:
        return ways().here()

    async def offload(self, function: Callable[..., Any], *args: Any) -> Any:
        return await ways().offload(function, *args)


async def _told(flag: Any, seconds: float) -> None:
    scope = ways().cut(clock.now() + seconds)
    try:
        async with scope:
            await flag.wait()
    except TimeoutError:
        if not scope.expired():
            raise


async def _polled(flag: Any, seconds: float) -> None:
    """Look at a flag of the threads ten times a second; it cannot wake a task."""
    until = clock.now() + seconds
    while not flag.is_set() and (left := until - clock.now()) > 0:
        await ways().sleep(min(left, 0.1))


RUNTIME = Aio()


def pause(seconds: float) -> Awaitable[None]:
    """Wait before the next attempt."""
    return RUNTIME.pause(seconds)


async def call(operation: Operation, args: tuple[Any, ...], kwargs: dict[str, Any], record: Record | None) -> Any:
    """Make one call of an operation by the general path, in this task."""
    return await operation.execute(RUNTIME, args, kwargs, record)
