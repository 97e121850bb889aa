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
    """What a store can do; a plugin implements it, and `opero.testing.check_store` checks it.

    Times are in seconds, on one clock for all processes. Each method is one decision: done as a whole, or not at all.
    Threads and event loops use one object at once. A `StateError` means that one state cannot be used; any other error,
    and any answer that is not as told here, means that the store is away. Nobody else bounds what it takes: give each
    question a timeout.

    A coroutine method does its I/O through `await runtime.either(blocking, suspending)`, so that blocking callers block
    and others do not, and uses nothing else of `runtime`. It may be cancelled there.
    """

    name: str  # for telemetry: no address, no password

    def ping(self) -> None:
        """Raise if a question would not be answered either; blocks. Asked in a thread while the store is away."""
        raise NotImplementedError

    async def reserve(
        self, runtime: Runtime, key: str, rates: Sequence[tuple[float, float]], weight: float, patience: float
    ) -> tuple[float, Any]:
        """Book a call of a weight on a quota of (interval, burst) rates: one call an interval, up to `burst` at once.

        Return the wait, 0 or more, and the booking, which is for `give_back`. One that would wait for longer than
        `patience`, which may be infinite, is refused: it books on none of the rates, and its booking is None.
        """
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
        """Do the same, and book up to `more` calls of weight 1 beside it that may go at once. Return how many, too.

        It may always be 0: then each call asks.
        """
        raise NotImplementedError

    async def give_back(
        self, runtime: Runtime, key: str, rates: Sequence[tuple[float, float]], weight: float, booking: Any
    ) -> None:
        """Undo a booking, unless somebody booked behind it."""
        raise NotImplementedError

    async def peek(
        self, runtime: Runtime, key: str, rates: Sequence[tuple[float, float]], weight: float
    ) -> tuple[int, float]:
        """Return how many calls of weight 1 would go at once, and how long one of a weight would wait; write nothing.

        A store may leave this out, and `reset`: then `peek` and `reset` of a limit in it are refused.
        """
        raise NotImplementedError

    async def reset(self, runtime: Runtime, key: str) -> None:
        """Forget what was booked on a quota, by whatever rates: its whole burst may go at once again."""
        raise NotImplementedError

    async def pay(  # noqa: PLR0917 - as the others
        self, runtime: Runtime, key: str, law: tuple[float, float, float], income: int, back: float, cost: float
    ) -> tuple[bool, float]:
        """Give a budget what came in, successes and tokens given back, and take a cost, which may be 0.

        Law: tokens a success, tokens a second, most. Return whether there were enough (else none is taken), and the
        share that is spent, from 0 to 1.
        """
        raise NotImplementedError

    async def admit(self, runtime: Runtime, key: str, rules: Rules) -> Admission:
        """Ask a circuit for leave to call.

        Return a permit or None, the state, whether this question changed it (from open to half-open), and in how many
        seconds it makes sense to ask again, None if nobody knows.

        A half-open circuit gives `rules.half_open_probes` permits that are probes; they are given anew where none came
        back for `rules.lost_after`. Who was cancelled meanwhile has no permit: what it was given has to go back.
        """
        raise NotImplementedError

    async def settle(  # noqa: PLR0917 - the same order as everywhere
        self, runtime: Runtime, key: str, rules: Rules, permit: Permit, outcome: str, slow: bool
    ) -> tuple[str, dict[str, Any]]:
        """Tell a circuit how a call ended: "success", "failure", or "none" of a probe that only goes back.

        Return its new state and what led to it: for "open" `failure_ratio`, `slow_ratio`, `calls` (in the window) and
        `pause` (seconds), for others an empty dict; ("", {}) if the state stays. A permit of another generation, from
        before a change of the state, changes nothing.
        """
        raise NotImplementedError

    async def hold(self, runtime: Runtime, key: str, rules: Rules, mode: str) -> str:
        """Hold a circuit "forced_open", "forced_closed" or "disabled", or let it run by itself again ("auto").

        Return its new state, empty if it stays. It is a new generation with an empty window. One that is held does not
        expire.
        """
        raise NotImplementedError

    async def take(self, runtime: Runtime, key: str, token: str, limit: int, room: int) -> tuple[str, int, int]:
        """Take a slot of a bulkhead or a place in its queue: "taken", "queued" or "full"; slots used, queue length.

        One of the queue asks again with the same token, every 5 to 50 ms, and keeps its place. One that has been silent
        for a second is gone: it holds up and keeps out nobody. `limit` may change from question to question.

        A slot is a lease of `opero.stores.LEASE` seconds from when it is taken or renewed, and free after it.
        """
        raise NotImplementedError

    async def leave(self, runtime: Runtime, key: str, token: str) -> None:
        """Give a slot back, or leave the queue.

        Where questions may overtake one another it may come before the `take` of one that was cancelled: a token that
        has left and had nothing gets nothing, within seconds.
        """
        raise NotImplementedError

    def renew(self, key: str, tokens: Sequence[str]) -> None:
        """Begin the leases of slots anew; blocks. Told every 10 s, in a thread, while calls hold them.

        One that the store knows no longer is held all the same, and counts again.
        """
        raise NotImplementedError
