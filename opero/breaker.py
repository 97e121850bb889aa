"""A circuit breaker by hand."""

from __future__ import annotations

from opero import acts, clock
from opero.circuit import AUTO, FORCED_OPEN, Change
from opero.drivers import blocking
from opero.errors import ConfigurationError
from opero.runtime import run

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Hashable
    from typing import Any

    from opero.circuit import Circuit
    from opero.pipeline import Operation
    from opero.primitives.circuit_breaker import CircuitBreaker


class Breaker:
    """A circuit breaker by hand: `f.opero.breaker`, `policy.breaker`; with `key=`, that of one key: `.of(key)`.

    With a store it is held for all processes: each act is a round trip, which blocks, and raises what the store raises.
    This process's own circuit, by which calls go while the store is away, is held first.
    """

    def __init__(self, operation: Operation, policy: CircuitBreaker, *keys: Hashable) -> None:
        self._operation = operation
        self._policy = policy
        self._keys = keys  # one, or none: then it is about all circuits

    def __repr__(self) -> str:
        return f"<breaker of {self._operation.name}: {self.state}>"

    @property
    def state(self) -> str:
        """One of closed, open, half_open, forced_open; of the circuits of many keys, the worst.

        Where processes share circuits, as last heard by this one.
        """
        policy = self._policy
        if not self._keys:
            return policy.state
        return (policy.shared and policy.shared.state_of(self._keys[0])) or self._circuits()[0].state

    @property
    def mode(self) -> str:
        """One of auto, forced_open, forced_closed, disabled.

        Where processes share circuits, what this one set, but for what it last heard of forced_open.
        """
        own = (self._circuits()[0] if self._keys else self._policy.circuit).mode
        if self._policy.shared is None:
            return own
        return FORCED_OPEN if self.state == FORCED_OPEN else AUTO if own == FORCED_OPEN else own

    def of(self, key: Hashable) -> Breaker:
        """Return the breaker of one key."""
        return Breaker(self._operation, self._policy, key)

    def force_open(self) -> None:
        """Refuse every call, until `force_close` or `reset`."""
        self._hold("force_open", "forced_open")

    def force_close(self) -> None:
        """Let every call pass, whatever happens, until `force_open` or `reset`. Outcomes are counted and told."""
        self._hold("force_close", "forced_closed")

    def disable(self) -> None:
        """Let every call pass and count nothing, until `reset`."""
        self._hold("disable", "disabled")

    def reset(self) -> None:
        """Close it, forget what it counted, and let it go on by itself."""
        self._hold("reset", "auto")

    def _hold(self, act: str, mode: str) -> None:
        policy = self._policy
        if policy.shared is not None and policy.key is not None and not self._keys:
            raise ConfigurationError("key", None, f"a key, where processes share circuits: breaker.of(key).{act}()")
        self._operation.emit(acts.ACTED, acts.about(act, target="circuit_breaker"))
        changes = [circuit.hold(mode, clock.now()) for circuit in self._circuits()]
        if policy.shared is not None:
            state = run(policy.shared.hold(blocking.RUNTIME, self._keys[0] if self._keys else None, mode))
            changes = [Change(state) if state else None]
        for change in changes:
            policy.say(self._emit, self._operation.book, change)

    def _circuits(self) -> list[Circuit]:
        """Return those it is about: a key's may have been forgotten meanwhile, and is made anew."""
        if self._keys:
            return [self._policy.of(self._keys[0], clock.now())]
        return [self._policy.circuit, *self._policy.circuits.release()]

    def _emit(self, event: Any, **fields: Any) -> None:
        self._operation.emit(event, fields)
