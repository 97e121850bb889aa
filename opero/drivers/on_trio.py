"""How tasks wait on trio. Imported where trio runs, and nowhere else.

A branch is a system task: it ends with its call, which cancels it, and at the end of `trio.run` at the latest. What
blocks for a bounded time, a look into a store, goes to a thread.
"""

from __future__ import annotations

from contextvars import copy_context
from math import inf
from typing import TYPE_CHECKING, Any

import trio

from opero import clock, runtime

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence
    from types import TracebackType
    from typing import Self

MOMENT = 10  # turns of the loop; who shields itself from being cancelled is not waited for longer
sleep = trio.sleep
here = trio.lowlevel.current_trio_token


class cut:  # noqa: N801 - used as `async with cut(at):`
    """Cancel what is inside at a time, and raise TimeoutError; `expired()` says whether it did."""

    def __init__(self, at: float) -> None:
        self._scope = trio.CancelScope(deadline=_on_trio(at))

    def expired(self) -> bool:
        return self._scope.cancelled_caught

    async def __aenter__(self) -> Self:
        self._scope.__enter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        caught = bool(self._scope.__exit__(kind, error, trace))
        if self._scope.cancelled_caught:
            raise TimeoutError
        return caught


async def offload(function: Callable[..., Any], *args: Any) -> Any:
    """Call a function in a thread."""
    return await trio.to_thread.run_sync(function, *args)


async def either(blocking: Callable[[], Any], suspending: object) -> Any:  # noqa: ARG001 - as on_asyncio
    """Do a piece of I/O: in a thread, because clients for asyncio do not work here."""
    return await trio.to_thread.run_sync(blocking)


async def let_go(branches: Sequence[Branch]) -> None:
    """Give cancelled branches the moment they need to hear of it."""
    with trio.CancelScope(shield=True):
        for _ in range(MOMENT):
            if all(branch.ended for branch in branches):
                return
            await trio.lowlevel.checkpoint()


class Branch(runtime.Branch):
    """Layers that run in a task of their own."""

    def __init__(self, layers: Coroutine[Any, Any, Any], done: Callable[[], None]) -> None:
        self._scope = trio.CancelScope()
        self.context = copy_context()
        trio.lowlevel.spawn_system_task(self._run, layers, done, name="opero", context=self.context)

    def cancel(self) -> None:
        super().cancel()
        self._scope.cancel()

    async def _run(self, layers: Coroutine[Any, Any, Any], done: Callable[[], None]) -> None:
        try:
            with self._scope:
                self.value = await layers
        except trio.Cancelled:  # the end of trio.run
            raise
        except BaseException as error:  # noqa: BLE001 - whatever it is, the caller gets it
            self.fail(error)
        finally:
            self.ended = True
            done()


class Waiter:
    """One parked task."""

    def __init__(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        self._woken = trio.Event()

    def wake(self) -> bool:
        if trio.lowlevel.in_trio_run() and trio.lowlevel.current_trio_token() is self._token:
            self._woken.set()
            return True
        try:
            self._token.run_sync_soon(self._woken.set, idempotent=True)
        except trio.RunFinishedError:  # and with it whoever waited
            return False
        return True

    async def wait(self, until: float | None) -> bool:
        with trio.CancelScope(deadline=inf if until is None else _on_trio(until)):
            await self._woken.wait()
        return self._woken.is_set()


def _on_trio(at: float) -> float:
    """Return the same moment on trio's clock."""
    return at + (trio.current_time() - clock.now())
