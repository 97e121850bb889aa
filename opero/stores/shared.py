"""What policies ask a store for, and what they do while it is away."""

from __future__ import annotations

from math import inf

from opero import clock, forks
from opero.call import NONE
from opero.circuit import CLOSED, Change
from opero.exclusive import new_lock
from opero.stores import answers, key_of
from opero.stores.by_hand import BY_HAND, at_hand, by_hand
from opero.stores.guard import guard
from opero.tokens import gathered, spent

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Coroutine
    from typing import Any

    from opero.call import Call
    from opero.circuit import Rules
    from opero.runtime import Runtime
    from opero.stores import Admission, Given, Permit, StateStore

HEARD = 10_000  # keys whose circuits are not closed, the last ones heard of
PATIENCE = 1.0  # seconds that a probe waits until the store has heard of it, at most
TELLS = 1.0  # seconds between two times that successes are told without a question


class SharedCircuit:
    """The circuits of a policy in a store. What is asked answers None while that is away."""

    def __init__(self, store: Any, name: str, rules: Rules) -> None:
        self._guard = guard(store)
        self._name = name
        self._rules = rules
        self._answers = False  # whether the store did when it was last asked
        self._heard: dict[Any, str] = {}  # by key, what is not closed
        self._look = at_hand(self._guard.store, "look")

    def read(self) -> tuple[str, float, float] | None:
        """State, failure ratio and slow ratio as they are, where looking costs nothing."""
        return self._look and self._look(key_of("circuit", self._name, None), self._rules)

    def states(self) -> list[str]:
        """Return those of all keys: as they are, where looking costs nothing; else as last heard; none while away."""
        found = self.read()
        heard = [state for key, state in list(self._heard.items()) if not (found and key is None)]
        return [*heard, found[0] if found else CLOSED] if found or self._answers else []

    def state_of(self, key: Any) -> str:
        """Return that of one key; empty while the store is away."""
        found = self._look and self._look(key_of("circuit", self._name, key), self._rules)
        if found:
            return str(found[0])
        return self._heard.get(key, CLOSED) if self._answers else ""

    def _hear(self, key: Any, state: str) -> None:
        self._answers = bool(state)
        if not state:
            self._heard.clear()
        elif state == CLOSED:
            self._heard.pop(key, None)
        else:
            self._heard[key] = state
            if len(self._heard) > HEARD:
                self._heard.pop(next(iter(self._heard)), None)

    async def admit(self, call: Call, key: Any) -> Admission | None:
        """Ask for leave to call."""
        place = key_of("circuit", self._name, key)
        answer = await self._guard.ask(
            call, place, lambda store: store.admit(call.runtime, place, self._rules), answers.admit
        )
        self._hear(key, "" if answer is None else answer.state)
        return answer

    async def settle(self, call: Any, key: Any, given: Given, outcome: str, duration: float) -> Change | None:
        """Tell how the call ended; a call without an outcome has only a probe to give back."""
        if not given.ours:
            return None
        permit = given.permit
        if outcome == NONE:
            if permit.probe:
                await self._guard.soon(call.runtime, lambda: self._by_hand(key, permit, NONE))
            return None
        slow = self._rules.slow_call is not None and duration > self._rules.slow_call
        tell = self._tell_of_probe if permit.probe else self._tell
        told = await tell(call, key, permit, outcome, slow=slow)
        if told is None or not told[0]:
            return None
        self._hear(key, told[0])
        return Change(told[0], **told[1])

    def give_back(self, key: Any, given: Given) -> None:
        """Tell in the background, for who may not wait, that the call has no outcome."""
        if given.ours and given.permit.probe:
            self._guard.owe(lambda: self._by_hand(key, given.permit, NONE))

    def _by_hand(self, key: Any, permit: Permit, outcome: str, *, slow: bool = False) -> Any:
        """Tell it of a probe where there is no call; what a store that is away does not hear goes back once it does."""
        told = by_hand(self._tell(BY_HAND, key, permit, outcome, slow=slow))
        if told is None and self._guard.away:
            self._guard.owe(lambda: self._by_hand(key, permit, NONE))
        return told

    async def _tell_of_probe(self, call: Any, key: Any, permit: Permit, outcome: str, *, slow: bool) -> Any:
        """Tell it in the background, and wait for the answer: who is cancelled meanwhile must not tell it twice."""
        told: list[Any] = []

        def tell() -> None:
            told.append(self._by_hand(key, permit, outcome, slow=slow))

        if call.runtime.suspends:
            await self._guard.soon(call.runtime, tell, PATIENCE)
        else:
            tell()
        return told[0] if told else None

    def _tell(self, call: Any, key: Any, permit: Permit, outcome: str, *, slow: bool) -> Coroutine[Any, Any, Any]:
        place, rules = key_of("circuit", self._name, key), self._rules
        return self._guard.ask(
            call, place, lambda store: store.settle(call.runtime, place, rules, permit, outcome, slow), answers.settle
        )

    async def hold(self, runtime: Runtime, key: Any, mode: str) -> str:
        """Hold the circuit of a key for all processes; raises what the store raises."""
        state = await self._guard.store.hold(runtime, key_of("circuit", self._name, key), self._rules, mode)
        answers.check(answers.hold, state, ())
        if state:
            self._hear(key, state)
        return state


class SharedSlots:
    """The slots of a bulkhead in a store, each a lease that is renewed while it is held."""

    def __init__(self, store: Any, name: str) -> None:
        self._guard = guard(store)
        self._key = key_of("bulkhead", name, None)
        self._look = at_hand(self._guard.store, "slots")

    def read(self) -> tuple[int, int] | None:
        """Slots in use, and the length of the queue, where looking costs nothing."""
        return self._look and self._look(self._key)

    async def take(self, call: Call, token: str, limit: int, room: int) -> tuple[str, int, int] | None:
        """Ask for a slot: taken, queued or full; slots in use, length of the queue. None while the store is away."""
        place = self._key
        try:
            answer = await self._guard.ask(
                call, place, lambda store: store.take(call.runtime, place, token, limit, room), answers.take
            )
        except BaseException:  # cancelled: the store may have given a slot, and nobody waits here to hear of it
            self.give_back(token)
            raise
        if answer is not None and answer[0] == "taken":
            self._guard.hold(self._key, token, self.end)
        return answer

    async def leave(self, call: Any, token: str) -> None:
        """Give a slot back, or leave the queue."""
        self._guard.drop(self._key, token)
        heard = False

        async def question(store: StateStore) -> None:
            nonlocal heard
            await store.leave(call.runtime, self._key, token)
            heard = True

        try:
            await self._guard.ask(call, self._key, question)
        except BaseException:  # cancelled: nobody knows whether the store has heard of it
            self.give_back(token)
            raise
        if not heard and self._guard.away:
            self.give_back(token)

    async def leave_soon(self, call: Any, token: str) -> None:
        """Do the same for who was cancelled."""
        self._guard.drop(self._key, token)
        await self._guard.soon(call.runtime, lambda: self.end(token))

    def give_back(self, token: str) -> None:
        """Do the same in the background, for who may not wait."""
        self._guard.drop(self._key, token)
        self._guard.owe(lambda: self.end(token))

    def end(self, token: str) -> None:
        """Do the same where there is no call; blocks for a round trip."""
        by_hand(self.leave(BY_HAND, token))


class Paid(float):
    """Tokens that the store gave to this process; they go back to it, but not from the copy in a forked child."""

    __slots__ = ("process",)

    def __init__(self, _: float) -> None:
        self.process = forks.pid


class SharedTokens:
    """The tokens of a budget in a store. Successes and refunds travel with the next question, or in the background."""

    def __init__(self, store: Any, name: str, local: Any) -> None:
        self._guard = guard(store)
        self._key = key_of("retry_budget", name, None)
        self._local = local
        self._told = 0  # successes
        self._back = 0.0  # tokens to give back
        self._share: float | None = None
        self.after_fork()
        forks.remember(self)

    def after_fork(self) -> None:
        """Make the lock anew; what was not told yet is the parent's to tell."""
        self._lock = new_lock()
        self._back, self._told, self._tells = 0.0, self._local.gathered + self._local.funding[0], -inf

    @property
    def utilization(self) -> float | None:
        """The share that is spent, where looking costs nothing; else when last heard, None while the store is away."""
        known = at_hand(self._guard.store, "known")
        if found := known and known(self._key):
            left, successes, since = found
            left, _, cap = gathered(self._law(), left, successes, max(0.0, clock.common() - since), 0)
            return spent(left, cap)
        return None if self._guard.away else self._share

    def _law(self) -> tuple[float, float, float]:
        return self._local.ratio.value, self._local.min_per_second, self._local.most

    async def reserve(self, call: Any, cost: float) -> Paid | None:
        """Take tokens: none (0) if there are too few, None while the store is away."""
        income, back = self._collect()
        law = self._law()
        told = False

        def question(store: StateStore) -> Awaitable[tuple[bool, float]]:
            nonlocal told
            told = True
            return store.pay(call.runtime, self._key, law, income, back, cost)

        answer = await self._guard.ask(call, self._key, question, answers.pay)
        if answer is None:
            if not told:  # else the store may know: what is lost makes fewer retries, what is told twice too many
                self._keep(income, back)
            return None
        granted, self._share = answer
        return Paid(cost if granted else 0.0)

    def refund(self, cost: float) -> None:
        """Put tokens back where they came from."""
        if not isinstance(cost, Paid):
            self._local.refund(cost)
        elif cost.process == forks.pid:
            with self._lock:
                self._back += cost

    def spend(self, cost: float) -> Paid | None:
        """Take tokens where there is no call; blocks for a round trip."""
        paid: Paid | None = by_hand(self.reserve(BY_HAND, cost))
        return paid

    def tell(self) -> None:
        """Tell the store of many successes in the background, once a second at most."""
        now = clock.now()
        self._local.gather(now)
        with self._lock:
            if now - self._tells < TELLS:
                return
            self._tells = now
        self._guard.later(self._tell)

    def _tell(self) -> None:
        self.spend(0.0)

    def _collect(self) -> tuple[int, float]:
        """Return what the store is to be told."""
        total = self._local.gather(clock.now())
        with self._lock:
            income, self._told = total - self._told, total
            back, self._back = self._back, 0.0
        return income, back

    def _keep(self, income: int, back: float) -> None:
        with self._lock:
            self._told -= income
            self._back += back
