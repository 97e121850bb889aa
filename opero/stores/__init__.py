"""Where state lives that processes share: a limit's quota, a breaker's circuit, a bulkhead's slots, a budget's tokens.

1. A store decides on its own clock, in one round trip, and says what it decided.
2. A store that fails, or takes longer than its timeout, is away: from then on calls go by the state of their own
   process, and nobody waits for it. That is said once. A thread looks whether it is back, and says so.
3. A store may work but for one state, under whose name lies what is not ours. Calls go by their process's in its place.
"""

from __future__ import annotations

from opero.errors import ConfigurationError
from opero.signals import Event, Signals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, Protocol

    from opero.circuit import Rules
    from opero.runtime import Runtime

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
            """Renew the leases of slots; blocks, for a bounded time."""
            raise NotImplementedError


LEASE = 30.0  # seconds for which a slot is held without a sign of life

LOST = Event(
    "opero.store.lost", "warning", "A store is away; calls go by the state of their process.", ("store", "error")
)
RETURNED = Event("opero.store.returned", "info", "The store is back, and decides again.", ("store", "after"))
UNUSABLE = Event(
    "opero.store.unusable",
    "error",
    "A state in the store cannot be used; calls go by that of their process.",
    ("store", "kind", "reason"),
)
SIGNALS = Signals("store", (LOST, RETURNED, UNUSABLE))


class Permit:
    """Leave to call, given by a circuit in a store."""

    __slots__ = ("generation", "probe")

    def __init__(self, generation: int, *, probe: bool) -> None:
        self.generation = generation
        self.probe = probe


class Admission:
    """What a circuit in a store says to a call: a permit, or in how many seconds it makes sense to ask again."""

    __slots__ = ("changed", "permit", "retry_after", "state")

    def __init__(self, permit: Permit | None, state: str, *, changed: bool, retry_after: float | None) -> None:
        self.permit = permit
        self.state = state
        self.changed = changed
        self.retry_after = retry_after


class Address(str):
    """The address of a store; shown without user and password."""

    __slots__ = ()

    def __repr__(self) -> str:
        scheme, separator, rest = self.partition("://")
        return repr(f"{scheme}{separator}***@{rest.rpartition('@')[2]}" if "@" in rest else str(self))


SCHEMES = ("redis", "rediss", "unix", "redis+cluster", "rediss+cluster", "redis+sentinel", "rediss+sentinel")
ALLOWED = (
    "None, a URL like redis://host:6379/0 (rediss://, redis+cluster://, redis+sentinel://a,b,c/service), or a store"
)


def checked(field: str, value: Any, name: str | None) -> Any:
    """Return what may stand for `store=`, or raise `ConfigurationError`."""
    if value is None:
        return None
    if isinstance(value, str):
        value = Address(value)
        if value.partition("://")[0] not in SCHEMES:
            raise ConfigurationError(field, value, ALLOWED)
    elif not hasattr(value, "reserve"):
        raise ConfigurationError(field, value, ALLOWED)
    if not name:
        raise ConfigurationError("name", name, f"a text, with {field}=: it is by the name that processes share a state")
    return value


def key_of(kind: str, name: str, key: object) -> str:
    """Return where a state is kept. The name is readable, a key only a digest; all parts lie in one cluster slot."""
    return f"opero:{{{name}{'' if key is None else ':' + _digest(key)}}}:v1:{kind}"


def _digest(key: object) -> str:
    from hashlib import blake2b

    return blake2b(_canonical(key), digest_size=12).hexdigest()


def _canonical(key: object) -> bytes:
    """Return the same bytes in every process, and others for every other key."""
    if isinstance(key, tuple):
        parts = [_canonical(part) for part in key]
        return b"t%d:" % len(parts) + b"".join(b"%d:" % len(part) + part for part in parts)
    if isinstance(key, str):
        return b"s" + key.encode("utf-8", "surrogatepass")
    if isinstance(key, bytes):
        return b"b" + key
    if isinstance(key, bool | int | float):
        return f"{type(key).__name__[0]}{key!r}".encode()
    raise ConfigurationError("key", key, "a text, bytes, a number or a tuple of them, where processes share the state")
