"""The port between layers and the world: time, waiting, and calling the function. Drivers implement it."""

from __future__ import annotations

from opero import clock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Sequence
    from contextvars import Context
    from typing import Any, Protocol

    from opero.call import Call
    from opero.stops import Flag

    class Waiter(Protocol):
        """One parked call."""

        def wake(self) -> bool:
            """Let it go on; from any thread. False when there is nobody any more: its event loop is closed."""
            raise NotImplementedError


SUSPENDED = "a layer suspended on the blocking driver; it may only wait through the runtime port"


def run(work: Coroutine[Any, Any, Any], complaint: str = SUSPENDED) -> Any:
    """Run a coroutine that never suspends; one that does is an error, not a hang."""
    try:
        work.send(None)
    except StopIteration as done:
        return done.value
    work.close()
    raise RuntimeError(complaint)


def adopt(context: Context) -> None:
    """Set here what was set in a copy of this context, as if what ran in the copy had run here."""
    for variable, value in context.items():
        if variable.get(context) is not value:
            variable.set(value)


class Branch:
    """Layers that run beside their caller, in a copy of its `context`. `value` and `error` say how it `ended`."""

    context: Context
    ended = False
    wanted = True
    value: Any = None
    error: BaseException | None = None

    def fail(self, error: BaseException) -> None:
        """Keep what it raised. Its frames hold this branch: an error nobody takes would be kept in a circle."""
        if self.wanted:
            self.error = error

    def cancel(self) -> None:
        """Ask it to end; a thread is left to its end, and counted."""
        self.wanted = False


class Runtime:
    """How a driver waits. On a blocking driver no method ever suspends its coroutine."""

    suspends = False

    def now(self) -> float:
        """Seconds on the monotonic clock."""
        return clock.now()

    async def sleep(self, seconds: float, flag: Flag | None = None) -> None:
        """Wait, not longer than until the flag is set; zero or less does not yield."""
        raise NotImplementedError

    async def pause(self, seconds: float, flag: Flag | None = None) -> None:
        """Wait before the next attempt, or for a turn: what a test may leave out, and still let others run."""
        await self.sleep(0.0 if clock.hurried else seconds, flag)

    async def invoke(self, call: Call) -> Any:
        """Call the function, and raise `CallTimeout` when the call's deadline passes first."""
        raise NotImplementedError

    async def either(self, blocking: Callable[[], Any], suspending: Callable[[], Awaitable[Any]]) -> Any:
        """Do a piece of I/O, bounded by itself, in the way that fits: the one that blocks, or the one to await."""
        return blocking()

    def home(self) -> object:
        """Return what connections belong to: the running event loop; None where any thread may use them."""
        return None

    def waiter(self) -> Waiter:
        """Make something to park on; anyone may wake it, from any thread or loop."""
        raise NotImplementedError

    def may_fork(self) -> bool:
        """Whether there is room for a branch."""
        return True

    def fork(self, layers: Coroutine[Any, Any, Any], done: Callable[[], None]) -> Branch:
        """Run layers beside this call; `done` is called when they ended, from any thread."""
        raise NotImplementedError

    async def let_go(self, branches: Sequence[Any]) -> None:
        """Give cancelled branches the moment they need to hear of it."""

    async def park(self, waiter: Waiter, until: float | None) -> bool:
        """Wait for the wake-up until `until` (monotonic seconds, None for ever); False when it did not come."""
        raise NotImplementedError

    def scope(self) -> object:
        """Whose calls may wait for one another for ever: the running loop's, or the threads'."""
        return self

    async def offload(self, function: Callable[..., Any], *args: Any) -> Any:
        """Call a function that waits for disk or lock, without holding up a loop."""
        return function(*args)
