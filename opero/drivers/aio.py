"""The driver for coroutine functions on asyncio."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from functools import partial

from opero import clock
from opero.call import propagating
from opero.kinds import is_coroutine_function
from opero.runtime import Runtime

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from typing import Any

    from opero.call import Call, Record
    from opero.pipeline import Operation


class Aio(Runtime):
    """Waits by suspending the task. Cancellation passes through everything."""

    suspends = True

    async def sleep(self, seconds: float, flag: Any = None) -> None:
        if seconds <= 0:
            return
        if flag is None:
            await asyncio.sleep(seconds)
        elif is_coroutine_function(flag.wait):
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await flag.wait()
        else:
            await _polled(flag, seconds)

    async def invoke(self, call: Call) -> Any:
        return await self.within(call, partial(self.run, call))

    async def within(self, call: Call, start: Callable[[], Awaitable[Any]]) -> Any:
        """Await something until the call's deadline."""
        deadline = call.deadline
        if deadline is None:
            return await start()
        if deadline.inherited:
            call.begin_before(deadline)
            return await start()
        scope = asyncio.timeout_at(_on_loop(deadline.at))
        try:
            with propagating(deadline):
                async with scope:
                    return await start()
        except TimeoutError:
            if not scope.expired():
                raise
        raise deadline.expire(call.operation.name)

    async def run(self, call: Call) -> Any:
        """Call the function and nothing else."""
        return await call.operation.function(*call.args, **call.kwargs)

    async def either(self, blocking: Callable[[], Any], suspending: Callable[[], Awaitable[Any]]) -> Any:
        return await suspending()

    def home(self) -> object:
        return asyncio.get_running_loop()

    def waiter(self) -> _Waiter:
        return _Waiter()

    def fork(self, layers: Awaitable[Any], done: Callable[[], None]) -> _Branch:
        return _Branch(layers, done)

    async def let_go(self, branches: Sequence[_Branch]) -> None:
        await asyncio.wait([branch.task for branch in branches], timeout=0)

    async def park(self, waiter: _Waiter, until: float | None) -> bool:  # type: ignore[override]
        return await waiter.wait(until)

    def scope(self) -> object:
        return asyncio.get_running_loop()

    async def offload(self, function: Callable[..., Any], *args: Any) -> Any:
        return await asyncio.to_thread(function, *args)


async def _polled(flag: Any, seconds: float) -> None:
    """Look at a flag of the threads ten times a second; it cannot wake a task."""
    until = clock.now() + seconds
    while not flag.is_set() and (left := until - clock.now()) > 0:  # noqa: ASYNC110 - the flag is another thread's
        await asyncio.sleep(min(left, 0.1))


class _Branch:
    """Layers that run in a task of their own. Nothing gets out of it but `value` and `error`."""

    def __init__(self, layers: Awaitable[Any], done: Callable[[], None]) -> None:
        self.ended = False
        self.value: Any = None
        self.error: BaseException | None = None
        self._wanted = True
        self.task = asyncio.get_running_loop().create_task(self._run(layers, done))
        _running.add(self.task)
        self.task.add_done_callback(_running.discard)

    def cancel(self) -> None:
        self._wanted = False
        self.task.cancel()

    async def _run(self, layers: Awaitable[Any], done: Callable[[], None]) -> None:
        try:
            self.value = await layers
        except BaseException as error:  # noqa: BLE001 - whatever it is, the caller gets it
            if self._wanted:  # its frames hold this branch: an error nobody takes would be kept in a circle
                self.error = error
        self.ended = True
        done()


_running: set[asyncio.Task[None]] = set()  # a loop holds its tasks weakly


class _Waiter:
    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._woken: asyncio.Future[None] = self._loop.create_future()

    def wake(self) -> bool:
        try:
            self._loop.call_soon_threadsafe(self._set)
        except RuntimeError:  # the loop is closed, and with it whoever waited
            return False
        return True

    def _set(self) -> None:
        if not self._woken.done():
            self._woken.set_result(None)

    async def wait(self, until: float | None) -> bool:
        try:
            async with asyncio.timeout_at(None if until is None else _on_loop(until)):
                await self._woken
        except TimeoutError:
            return False
        return True


def _on_loop(at: float) -> float:
    """Return the same moment on the clock of the running loop, which may have one of its own."""
    return at + (asyncio.get_running_loop().time() - clock.now())


RUNTIME = Aio()


def pause(seconds: float) -> Awaitable[None]:
    """Wait, in the way of the runtime as it is now: a test may have replaced it."""
    return RUNTIME.sleep(seconds)


async def call(operation: Operation, args: tuple[Any, ...], kwargs: dict[str, Any], record: Record | None) -> Any:
    """Make one call of an operation by the general path, in this task."""
    return await operation.execute(RUNTIME, args, kwargs, record)
