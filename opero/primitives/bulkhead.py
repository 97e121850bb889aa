"""Bulkhead: bound how many calls are in flight at once.

1. A call takes a slot; without a free one it queues, without room in the queue it is refused.
2. A slot that comes free goes to the first in the queue, be it a thread or a task; nobody can overtake.
3. The limit may be changed at any time: what runs goes on, who waits comes in when there is room.
4. With a store the slots are those of all processes. While the store is away each process has slots of its own; those
   it held before count.
5. With a law in control it turns calls away by chance, too, while the service refuses or fails most of them.
6. Who waits longer than `max_wait`, or past its deadline, is refused. Who is cancelled while waiting leaves the queue.
"""

from __future__ import annotations

import os
from _thread import start_new_thread
from math import ceil, inf

from opero import responses, stores, waits
from opero.blocks import Block
from opero.errors import BulkheadFullError, ConfigurationError
from opero.knobs import Knob
from opero.policy import Fragment, Policy, boolean, controlled, duration, optional, unread, whole
from opero.signals import POLICY, SECONDS, Event, Metric, Signals
from opero.slots import Slots
from opero.windows import LatencyHistogram

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from opero.call import Call, Layer, Next
    from opero.policy import Duration, Observation
    from opero.runtime import Waiter
    from opero.stores import StateStore
    from opero.stores.shared import SharedSlots

QUEUED = Event("opero.bulkhead.queued", "debug", "A call waits for a slot.", ("length",))
USAGE = Metric("opero.bulkhead.usage", "updown", "{call}", "Slots in use.", attributes=(POLICY,))
LIMIT = Metric("opero.bulkhead.limit", "updown", "{call}", "Slots there are.", attributes=(POLICY,))
QUEUE = Metric("opero.bulkhead.queue.length", "updown", "{call}", "Calls that wait for a slot.", attributes=(POLICY,))
WAITED = Metric(
    "opero.bulkhead.wait.duration",
    "histogram",
    "s",
    "How long calls waited for a slot.",
    attributes=(POLICY,),
    buckets=SECONDS,
    zeros=[("",)],
)
REASONS = ("queue_full", "queue_timeout", "deadline", "throttled")
SIGNALS = Signals("bulkhead", (QUEUED,), (USAGE, LIMIT, QUEUE, WAITED), REASONS)
OVERLOADED = {429, 502, 503, 504}


class Bulkhead(Block, Policy):
    """Let `limit` calls run at once and `max_queue` more wait, for `max_wait` seconds at most (None: for ever).

    Nobody waits unless one of the two is given; with `max_wait` alone ten times `limit` may. Refuses with
    `BulkheadFullError`. One instance on several functions is one pool, shared by threads and tasks; with `store`, a
    Redis URL, and a `name` it is one for all processes. There a slot is a lease of 30 s, renewed while it is held: that
    of a process that died comes back.

    With `control="adaptive"` the limit, from where it begins, follows what the service can bear: `target` is how many
    seconds a call should take at most, by default the latency of the function's `slo=`; in `shadow` that is only told.

    Example:
        >>> Bulkhead(20, max_queue=10).limit
        20
    """

    place = "bulkhead"
    turned = ("limit",)
    reads_arguments = False
    streams = True
    SIGNALS = SIGNALS

    max_queue: int
    max_wait: float | None
    store: str | StateStore | None
    control: str | None
    target: float | None
    shadow: bool
    slots: Slots
    seen: Seen | None
    shared: SharedSlots | None

    def __init__(
        self,
        limit: int,
        *,
        max_queue: int | None = None,
        max_wait: Duration | None = None,
        store: str | StateStore | None = None,
        control: str | None = None,
        target: Duration | None = None,
        shadow: bool = False,
        name: str | None = None,
    ) -> None:
        limit = whole("limit", limit, low=1)
        patience = optional(duration, "max_wait", max_wait, low=0)
        if max_queue is None:
            max_queue = 10 * limit if patience else 0
        if patience and max_queue == 0:
            raise ConfigurationError("max_wait", max_wait, "nothing but 0 without a queue: max_queue= is its length")
        if control is None:
            unread("target", target, None, "without control=: it is what a law aims at")
            unread("shadow", shadow, False, "without control=: nothing turns the limit")
        self.freeze(
            limit=limit,
            max_queue=whole("max_queue", max_queue, low=0),
            max_wait=patience,
            store=stores.checked("store", store, name),
            control=controlled(control),
            target=optional(duration, "target", target, above=0),
            shadow=boolean("shadow", shadow),
            name=name,
        )
        self.start()

    def start(self) -> None:
        seen = Seen() if self.control else None
        self._keep(slots=Slots(self.settings["limit"], self.max_queue), shared=None, seen=seen)
        if self.store is not None:
            from opero.stores.shared import SharedSlots

            self._keep(shared=SharedSlots(self.store, self.name or ""))

    def can_share(self) -> bool:
        return self.store is None and self.control is None

    def share(self, store: StateStore, name: str) -> None:
        from opero.stores.shared import SharedSlots

        self._keep(store=store, shared=SharedSlots(store, name))

    @property
    def limit(self) -> int:
        """How many calls may run at once now."""
        return ceil(self.slots.limit.value)

    def resize(self, limit: int) -> None:
        """Change how many calls may run at once, from now on."""
        self.slots.limit.set(whole("limit", limit, low=1))

    def attach(self, function: Callable[..., Any]) -> Layer:
        return self.layer

    def fragment(self) -> Fragment | None:
        if self.shared is not None:
            return None
        throttled = " or throttle.value" if self.seen is not None else ""
        return Fragment(
            "taken = slots.taken\n"
            f"if taken[0] >= slots.limit.value or slots.queue{throttled}:\n    HAND_OVER\ntaken[0] += 1",
            "if slots.queue:\n    slots.release(taken)\nelse:\n    taken[0] -= 1",
            owed="taken[0] -= 1\nif slots.queue:\n    elsewhere(slots.serve, ())",
            names={
                "slots": self.slots,
                "elsewhere": start_new_thread,
                **({"throttle": self.seen.throttle} if self.seen is not None else {}),
            },
            held="taken",
            passed=[(WAITED, (self.name or "",))],
        )

    def observe(self, now: float) -> Iterable[Observation]:
        found = self.shared and self.shared.read()
        used, waiting = found or (self.slots.used, len(self.slots.queue))
        yield USAGE, (), used
        yield LIMIT, (), self.limit
        yield QUEUE, (), waiting

    async def layer(self, call: Call, next: Next) -> Any:  # noqa: A002
        """Hold a slot while the call runs."""
        if self.seen is not None:
            next = self.seen.watching(next)  # noqa: A001
            if self.place not in call.record.held:
                self._ask(call, self.seen)
        if self.shared is not None:
            return await self._share(call, next, self.shared)
        taken = call.passed(self.place, WAITED, self.name or "") or await self._enter(call)
        call = call.watched()
        try:
            return await next(call)
        finally:
            call.afterwards(lambda: self.slots.release(taken))

    def _ask(self, call: Call, seen: Seen) -> None:
        """Raise where the throttle, by chance, turns the call away."""
        chance = seen.throttle.value
        if chance and waits.uniform(0.0, 1.0) < chance:
            seen.throttled += 1
            raise call.reject(self._full(call, "throttled"))

    async def _share(self, call: Call, next: Next, shared: SharedSlots) -> Any:  # noqa: A002
        """Hold a slot of all processes while the call runs; one of this process while the store is away."""
        started = call.runtime.now()
        token = await self._enter_shared(call, shared)
        if token:
            self.slots.add()
            taken = self.slots.taken
            call.operation.book.observe(WAITED, (self.name or "",), call.runtime.now() - started)
        else:
            taken = await self._enter(call)
        call, leave = call.watched(), shared.leave_soon
        try:
            result = await next(call)
            leave = shared.leave
        except GeneratorExit:  # nothing may be awaited now
            if token and not call.left and taken is self.slots.taken:
                shared.give_back(token)
                token = ""
            raise
        except Exception:
            leave = shared.leave
            raise
        finally:
            if call.left:
                call.afterwards(lambda: self._end(shared, token, taken))
            elif self.slots.release(taken) and token:
                await leave(call, token)
        return result

    def _end(self, shared: SharedSlots, token: str, taken: list[int]) -> None:
        """Give a slot back in the thread of a function that outlived its call."""
        if self.slots.release(taken) and token:
            shared.end(token)

    async def _enter_shared(self, call: Call, shared: SharedSlots) -> str:
        """Return the token of a slot; empty if the store is away."""
        token, pause = os.urandom(8).hex(), 0.005
        until, late = self._until(call, call.runtime.now())
        while True:
            answer = await shared.take(call, token, int(self.slots.limit.value), self.max_queue)
            if answer is None or answer[0] == "taken":
                return token if answer else ""
            left = inf if until is None else until - call.runtime.now()
            if answer[0] == "full" or left <= 0:
                reason = "queue_full" if answer[0] == "full" else "deadline" if late else "queue_timeout"
                await shared.leave(call, token)
                raise call.reject(self._full(call, reason, answer[1], answer[2] - (answer[0] == "queued")))
            try:
                if pause == 0.005:
                    call.emit(QUEUED, length=answer[2])
                await call.runtime.sleep(min(left, pause))
            except BaseException:
                shared.give_back(token)
                raise
            pause = min(pause * 1.5, 0.05)  # the queue is in the store, and has to be looked at

    async def _enter(self, call: Call) -> list[int]:
        """Take a slot, and return what it is counted in."""
        waited = 0.0
        if not self.slots.take():
            if self.seen is not None:
                self.seen.pressed += 1
            waiter = call.runtime.waiter()
            length = self.slots.join(waiter)
            if length is None:
                raise call.reject(self._full(call, "queue_full"))
            started = call.runtime.now()
            await self._wait(call, waiter, started, length)
            waited = call.runtime.now() - started
        call.operation.book.observe(WAITED, (self.name or "",), waited)
        return self.slots.taken

    def _until(self, call: Call, now: float) -> tuple[float | None, bool]:
        """Return when a wait ends, and whether the deadline ends it."""
        until = None if self.max_wait is None else now + self.max_wait
        if call.deadline is not None and (until is None or call.deadline.at < until):
            return call.deadline.at, True
        return until, False

    async def _wait(self, call: Call, waiter: Waiter, now: float, length: int) -> None:
        until, late = self._until(call, now)
        try:
            if length:
                call.emit(QUEUED, length=length)
            woken = await call.runtime.park(waiter, until)
        except BaseException:
            if not self.slots.leave(waiter):
                self.slots.release(self.slots.taken)
            raise
        if not woken and self.slots.leave(waiter):
            raise call.reject(self._full(call, "deadline" if late else "queue_timeout"))

    def _full(self, call: Call, reason: str, used: int | None = None, waiting: int | None = None) -> BulkheadFullError:
        used = self.slots.used if used is None else used
        waiting = len(self.slots.queue) if waiting is None else waiting
        text = f"no slot for {call.operation.name}: {used} in flight, {waiting} waiting ({reason})"
        return BulkheadFullError(text, primitive="bulkhead", reason=reason)


class Seen:
    """What a law reads besides the books: how calls of the general path went, inside of the limit.

    Counts are no ledger: two threads at once may lose one of a thousand. `throttle` is the chance of being turned away.
    """

    def __init__(self) -> None:
        self.throttle = Knob("bulkhead.throttle", 0.0, low=0.0, high=0.95)
        self.latencies = LatencyHistogram()
        self.other = self.late = self.refused = self.throttled = self.pressed = 0

    def watching(self, next: Next) -> Next:  # noqa: A002
        """Return what calls `next`, and counts how that ended."""

        async def watched(call: Call) -> Any:
            started, made = call.runtime.now(), call.record.made
            try:
                result = await next(call)
            except Exception as error:
                if call.uncalled(error, made):
                    raise
                if isinstance(error, TimeoutError):
                    self.late += 1
                elif isinstance(error, ConnectionError) or responses.status(error) in OVERLOADED:
                    self.refused += 1
                else:
                    self.other += 1
                raise
            if responses.status(result) in OVERLOADED:
                self.refused += 1
            else:
                self.latencies.add(call.runtime.now() - started)
            return result

        return watched
