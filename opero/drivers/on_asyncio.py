"""How tasks wait on asyncio. `on_trio` has the same names."""

from __future__ import annotations

import asyncio
from contextvars import copy_context
from functools import partial

from opero import clock, runtime

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Sequence
    from typing import Any

sleep = asyncio.sleep
here = asyncio.get_running_loop
offload = asyncio.to_thread


def cut(at: float) -> asyncio.Timeout:
    """Return what is entered to be cancelled at a time: it raises TimeoutError then, and knows it by `expired()`."""
    return asyncio.timeout_at(_on_loop(at))


async def either(blocking: object, suspending: Callable[[], Awaitable[Any]]) -> Any:  # noqa: ARG001 - as on_trio
    """Do a piece of I/O."""
    return await suspending()


async def let_go(branches: Sequence[Branch]) -> None:
    """Give cancelled branches the moment they need to hear of it."""
    await asyncio.wait([branch.task for branch in branches], timeout=0)


class Branch(runtime.Branch):
    """Layers that run in a task of their own."""

    held = False

    def __init__(self, layers: Coroutine[Any, Any, Any], done: Callable[[], None]) -> None:
        self.context = copy_context()
        self.task = asyncio.get_running_loop().create_task(self._run(layers, done), context=self.context)
        self.held = True
        _running.add(self.task)
        self.task.add_done_callback(partial(_over, layers))

    def cancel(self) -> None:
        super().cancel()
        self.task.cancel()

    async def _run(self, layers: Coroutine[Any, Any, Any], done: Callable[[], None]) -> None:
        if not self.held:  # an eager task factory runs a task before its maker has it
            await asyncio.sleep(0)
        try:
            self.value = await layers
        except BaseException as error:  # noqa: BLE001 - whatever it is, the caller gets it
            self.fail(error)
        self.ended = True
        done()


_running: set[asyncio.Task[None]] = set()  # a loop holds its tasks weakly


def _over(layers: Coroutine[Any, Any, Any], task: asyncio.Task[None]) -> None:
    _running.discard(task)
    layers.close()  # of a task that was cancelled before it began


class Waiter:
    """One parked task."""

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
