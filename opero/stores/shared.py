"""What policies ask a store for, and what they do while it is away."""

from __future__ import annotations

from math import inf

from opero.call import NONE
from opero.circuit import Change
from opero.errors import RateLimitedError
from opero.stores import key_of
from opero.stores.guard import guard

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Coroutine
    from typing import Any

    from opero.call import Call
    from opero.circuit import Rules
    from opero.runtime import Runtime
    from opero.stores import Admission, Permit


class SharedLimit:
    """A quota in a store, and `local` in its place while that is away."""

    def __init__(self, store: Any, name: str, rates: list[tuple[float, float]], local: Any, delayed: Any) -> None:
        self._guard = guard(store)
        self._name = name
        self._rates = rates
        self._local = local
        self._delayed = delayed

    async def acquire(self, call: Call, key: Any, weight: float, patience: float) -> float:
        """Book in the store, and wait for the booked time."""
        place, rates, runtime = key_of("rate_limit", self._name, key), self._rates, call.runtime
        booked = await self._guard.ask(call, lambda store: store.reserve(runtime, place, rates, weight, patience))
        if booked is None:
            waited: float = await self._local.acquire(call, key, weight, patience)
            return waited
        wait, booking = booked
        if booking is None:
            text = f"{call.operation.name} is over {self._local} for another {wait:.3g} s"
            raise RateLimitedError(text, retry_after=None if wait == inf else wait)
        if wait > 0:
            call.emit(self._delayed, delay=wait)
            try:
                await runtime.sleep(wait)
            except GeneratorExit:
                raise
            except BaseException:
                await self._guard.ask(call, lambda store: store.give_back(runtime, place, rates, weight, booking))
                raise
        return wait


class SharedCircuit:
    """The circuits of a policy in a store. What is asked answers None while that is away."""

    def __init__(self, store: Any, name: str, rules: Rules) -> None:
        self._guard = guard(store)
        self._name = name
        self._rules = rules
        self.state = ""  # as last heard; empty while it is away

    async def admit(self, call: Call, key: Any) -> Admission | None:
        """Ask for leave to call."""
        place = key_of("circuit", self._name, key)
        answer = await self._guard.ask(call, lambda store: store.admit(call.runtime, place, self._rules))
        self.state = "" if answer is None else answer.state
        return answer

    async def settle(self, call: Call, key: Any, permit: Permit, outcome: str, duration: float) -> Change | None:
        """Tell how the call ended; a call without an outcome has only a probe to give back."""
        if outcome == NONE and not permit.probe:
            return None
        place, rules = key_of("circuit", self._name, key), self._rules
        slow = rules.slow_call is not None and duration > rules.slow_call
        told = await self._guard.ask(
            call, lambda store: store.settle(call.runtime, place, rules, permit, outcome, slow)
        )
        if told is None or not told[0]:
            return None
        self.state = told[0]
        return Change(told[0], **told[1])

    def hold(self, runtime: Runtime, key: Any, mode: str) -> Coroutine[Any, Any, str]:
        """Hold the circuit of a key for all processes; raises what the store raises."""
        return self._guard.store.hold(runtime, key_of("circuit", self._name, key), self._rules, mode)


class SharedSlots:
    """The slots of a bulkhead in a store, each a lease that is renewed while it is held."""

    def __init__(self, store: Any, name: str) -> None:
        self._guard = guard(store)
        self._key = key_of("bulkhead", name, None)

    async def take(self, call: Call, token: str, limit: int, room: int) -> tuple[str, int, int] | None:
        """Ask for a slot: taken, queued or full; slots in use, length of the queue. None while the store is away."""
        answer = await self._guard.ask(call, lambda store: store.take(call.runtime, self._key, token, limit, room))
        if answer is not None and answer[0] == "taken":
            self._guard.hold(self._key, token)
        return answer

    def drop(self, token: str) -> None:
        """Let the lease of a slot run out."""
        self._guard.drop(self._key, token)

    async def leave(self, call: Call, token: str) -> None:
        """Give a slot back, or leave the queue."""
        self.drop(token)
        await self._guard.ask(call, lambda store: store.leave(call.runtime, self._key, token))
