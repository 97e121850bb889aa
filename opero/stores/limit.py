"""A rate limit in a store, and what it does while that is away."""

from __future__ import annotations

from math import inf

from opero import clock
from opero.errors import StateError
from opero.keyed import Keyed
from opero.quota import LATE, due_by, left_at_once
from opero.stores import answers, key_of
from opero.stores.by_hand import AWAITED, BY_HAND, at_hand, by_hand, offered
from opero.stores.guard import guard
from opero.stores.lease import Lease

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from typing import Any

    from opero.call import Call
    from opero.runtime import Runtime
    from opero.stores import StateStore

LENT = 4.0  # calls are leased for the time in which a 4th of the burst comes in
UNHEARD = (
    "only this process's own was reset; reset it again once the store is back (opero.store.returned), or "
    "what lies under its key is deleted (opero.store.unusable)"
)


class SharedLimit:
    """A quota in a store, and `local` in its place while that is away."""

    def __init__(self, store: Any, name: str, local: Any, delayed: Any, *, lease: int | None, max_keys: int) -> None:
        self._guard = guard(store)
        self._name = name
        self._rates = local.given()
        self._local = local
        self._delayed = delayed
        self.lease: Lease | None = None
        if lease is not None:
            life = min(interval * burst for interval, burst in self._rates) / LENT
            self._rates = [(interval, burst - life / interval) for interval, burst in self._rates]
            self.lease = Lease(lease, life)
            self._leases = Keyed(lambda: Lease(lease, life), max_keys, share=False, policy="RateLimit")

    def available(self, now: float) -> int | None:
        """How many calls would go at once, where looking costs nothing."""
        known = at_hand(self._guard.store, "known")
        held = known and known(key_of("rate_limit", self._name, None))
        now -= clock.ahead
        return left_at_once(self._rates, due_by(self._rates, held, now), now) if held else None

    async def peek(self, key: Any, weight: float, *, awaits: bool) -> tuple[int, float]:
        """Ask how it stands; of what is leased, this process has that beside it."""
        offered(self._guard.store, "peek")
        self._local.check(weight)
        call, place, rates = AWAITED if awaits else BY_HAND, key_of("rate_limit", self._name, key), self._rates
        told = await self._guard.ask(
            call, place, lambda store: store.peek(call.runtime, place, rates, weight), answers.peek
        )
        if told is None:
            here: tuple[int, float] = await self._local.peek(key, weight, awaits=awaits)
            return here
        count, wait = told
        lease = self._lease_of(key)
        if lease is not None:
            leased = lease.holds(clock.now())
            count, wait = count + int(leased), 0.0 if 0 < leased >= weight else wait
        return count, wait

    async def reset(self, keys: Sequence[Any], *, awaits: bool) -> None:
        """Forget what was used, first here, then in the store; `StateError` if that does not hear of it."""
        offered(self._guard.store, "reset")
        places = [key_of("rate_limit", self._name, key) for key in keys or (None,)]
        await self._local.reset(keys, awaits=awaits)
        for lease in map(self._lease_of, keys or (None,)):
            if lease is not None:
                lease.end()
        call = AWAITED if awaits else BY_HAND
        heard = [await self._guard.ask(call, place, self._resetting(call.runtime, place)) for place in places]
        if not all(heard):
            raise StateError("rate_limit", UNHEARD)

    def _resetting(self, runtime: Runtime, place: str) -> Callable[[StateStore], Awaitable[bool]]:
        async def reset(store: StateStore) -> bool:
            await store.reset(runtime, place)
            return True

        return reset

    def _lease_of(self, key: Any) -> Lease | None:
        if self.lease is None or key is None:
            return self.lease
        lease: Lease = self._leases.get(key, clock.now())
        return lease

    async def acquire(self, call: Call, key: Any, weight: float, patience: float) -> float:
        """Book in the store, and wait for the booked time."""
        place, rates, runtime = key_of("rate_limit", self._name, key), self._rates, call.runtime
        lease = self._lease_of(key)
        if lease is None:
            booked = await self._guard.ask(
                call,
                place,
                lambda store: store.reserve(runtime, place, rates, weight, patience),
                answers.reserve,
                patience,
            )
        else:
            now = runtime.now()
            if lease.take(now, weight):
                return 0.0
            with lease.asking(now) as more:
                told = await self._guard.ask(
                    call,
                    place,
                    lambda store: store.lease(runtime, place, rates, weight, patience, more),
                    *(answers.lease, patience, more),
                )
                booked = told and told[:2]
                if told and told[2]:
                    lease.fill(now, told[2])
        if booked is None:
            waited: float = await self._local.acquire(call, key, weight, patience)
            return waited
        wait, booking = booked
        if booking is None:
            raise self._local.refusal(call.operation.name, wait)
        if wait <= 0:
            return wait
        at = runtime.now() + wait
        await self._pause(call, place, weight, wait, booking, at - wait + patience)
        late = runtime.now() - at
        if late > LATE + min(interval * (burst - weight) for interval, burst in rates):
            left = max(0.0, patience - wait - late)
            return wait + late + await self.acquire(call, key, weight, left)  # its place is gone
        return wait

    async def _pause(  # noqa: PLR0917 - all of a booking
        self, call: Call, place: str, weight: float, wait: float, booking: Any, until: float
    ) -> None:
        """Wait for the booked time; give it back if that ends before, or too late."""
        rates, runtime = self._rates, call.runtime

        def undo(store: StateStore) -> Awaitable[None]:
            return store.give_back(BY_HAND, place, rates, weight, booking)

        def give_back() -> None:
            by_hand(self._guard.ask(BY_HAND, place, undo))

        try:
            call.emit(self._delayed, delay=wait)
            await runtime.pause(wait)
            self._begin(call, until)
        except GeneratorExit:  # nothing may be awaited now
            self._guard.later(give_back)
            raise
        except BaseException:
            await self._guard.soon(runtime, give_back)
            raise

    def _begin(self, call: Call, until: float) -> None:
        """Refuse what comes after its deadline, or too late."""
        call.begin()
        if call.runtime.now() > until + LATE:
            raise self._local.refusal(call.operation.name, inf)
