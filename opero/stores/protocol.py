"""What a store of shared states can do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from opero.circuit import Rules
    from opero.runtime import Runtime
    from opero.stores import Admission, Permit


class StateStore(Protocol):
    """What a store can do; a plugin implements it. Times in seconds; any error but `StateError` means it is away.

    A coroutine method does its I/O through `runtime.either`, so that blocking callers block and others do not.
    """

    name: str  # for telemetry: no address, no password

    def ping(self) -> None:
        """Raise if a question would not be answered either; blocks, for a bounded time."""
        raise NotImplementedError

    async def reserve(
        self, runtime: Runtime, key: str, rates: Sequence[tuple[float, float]], weight: float, patience: float
    ) -> tuple[float, Any]:
        """Book a call on a quota of (interval, burst) rates. Return the wait, and the booking, None if refused."""
        raise NotImplementedError

    async def lease(  # noqa: PLR0917 - as `reserve`
        self,
        runtime: Runtime,
        key: str,
        rates: Sequence[tuple[float, float]],
        weight: float,
        patience: float,
        more: int,
    ) -> tuple[float, Any, int]:
        """Do the same, and book up to `more` calls beside it that may go at once. Return how many, too."""
        raise NotImplementedError

    async def give_back(
        self, runtime: Runtime, key: str, rates: Sequence[tuple[float, float]], weight: float, booking: Any
    ) -> None:
        """Undo a booking, as far as that is possible."""
        raise NotImplementedError

    async def pay(  # noqa: PLR0917 - as the others
        self, runtime: Runtime, key: str, law: tuple[float, float, float], income: int, back: float, cost: float
    ) -> tuple[bool, float]:
        """Give a budget what came in (successes, tokens given back) and take a cost, which may be 0.

        Law: tokens a success, tokens a second, most. Return whether there were enough, and the share that is spent.
        """
        raise NotImplementedError

    async def admit(self, runtime: Runtime, key: str, rules: Rules) -> Admission:
        """Ask a circuit for leave to call."""
        raise NotImplementedError

    async def settle(  # noqa: PLR0917 - the same order as everywhere
        self, runtime: Runtime, key: str, rules: Rules, permit: Permit, outcome: str, slow: bool
    ) -> tuple[str, dict[str, Any]]:
        """Tell a circuit how a call ended. Return its new state, empty if it stays, and what led to that."""
        raise NotImplementedError

    async def hold(self, runtime: Runtime, key: str, rules: Rules, mode: str) -> str:
        """Hold a circuit in a mode. Return its new state, empty if it stays."""
        raise NotImplementedError

    async def take(self, runtime: Runtime, key: str, token: str, limit: int, room: int) -> tuple[str, int, int]:
        """Take a slot of a bulkhead or a place in its queue: "taken", "queued" or "full"; slots used, queue length.

        Ask again while queued. The slot is a lease of `lease` seconds, to be renewed.
        """
        raise NotImplementedError

    async def leave(self, runtime: Runtime, key: str, token: str) -> None:
        """Give a slot back, or leave the queue."""
        raise NotImplementedError

    def renew(self, key: str, tokens: Sequence[str]) -> None:
        """Renew the leases of slots, and take again what the store lost of them; blocks, for a bounded time."""
        raise NotImplementedError
