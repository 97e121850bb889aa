"""The port between layers and the world: time, waiting, and calling the function. Drivers implement it."""

from __future__ import annotations

from opero import clock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Protocol

    from opero.call import Call

    class Waiter(Protocol):
        """One parked call."""

        def wake(self) -> bool:
            """Let it go on; from any thread, once. False when there is nobody any more: its event loop is closed."""
            raise NotImplementedError


class Runtime:
    """How a driver waits. On a blocking driver no method ever suspends its coroutine."""

    def now(self) -> float:
        """Seconds on the monotonic clock."""
        return clock.now()

    async def sleep(self, seconds: float) -> None:
        """Wait; zero or less does not yield."""
        raise NotImplementedError

    async def invoke(self, call: Call) -> Any:
        """Call the function, and raise `CallTimeout` when the call's deadline passes first."""
        raise NotImplementedError

    def waiter(self) -> Waiter:
        """Make something to park on; anyone may wake it, from any thread or loop."""
        raise NotImplementedError

    async def park(self, waiter: Waiter, until: float | None) -> bool:
        """Wait for the wake-up until `until` (monotonic seconds, None for ever); False when it did not come."""
        raise NotImplementedError
