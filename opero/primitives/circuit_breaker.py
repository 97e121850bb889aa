"""CircuitBreaker: stop calling what is down. The state machine is in `opero.circuit`.

1. An error that `on` matches, or a result that `on_result` does, is a failure; one that `ignore` matches, a refusal of
   ours, a deadline that passed before the call and a `ConfigurationError` are no outcome at all; every other error
   shows that the dependency answers.
2. With `key` each host, tenant or shard has a circuit of its own; `max_keys` bounds how many are kept. Those that are
   open, until their pause is over, and those held by hand make room for a new key only if all are so.
3. With a store the circuit is that of all processes. While the store is away each process has a circuit of its own.
4. In shadow it decides and tells like any other, and refuses nobody.
"""

from __future__ import annotations

from math import inf

from opero import conditions, keyed, stores
from opero.blocks import Block
from opero.call import FAILURE, NONE, SUCCESS
from opero.circuit import AUTO, CLOSED, FORCED_OPEN, HALF_OPEN, OPEN, STATES, UNCOUNTED, Change, Circuit, Permit, Rules
from opero.errors import CircuitOpenError, ConfigurationError, Rejected
from opero.keyed import Keyed
from opero.policy import Fragment, Policy, boolean, duration, number, optional, unread, whole
from opero.signals import POLICY, STATE, Event, Metric, Signals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable
    from typing import Any

    from opero.breaker import Breaker
    from opero.call import Call, Layer, Next
    from opero.conditions import Condition, ConditionLike
    from opero.pipeline import Operation
    from opero.policy import Duration, Observation
    from opero.stores import StateStore
    from opero.stores.shared import SharedCircuit

OPENED = Event(
    "opero.circuit.opened",
    "error",
    "Calls are refused from here on.",
    ("failure_ratio", "slow_ratio", "calls", "pause", "shadow"),
)
HALF_OPENED = Event("opero.circuit.half_opened", "info", "A few calls may try.", ("shadow",))
SHUT = Event("opero.circuit.closed", "info", "Calls pass again.", ("shadow",))
SHADOWED = Event("opero.circuit.shadowed", "debug", "A call passed that would be refused but for shadow.", ("reason",))
STATE_IS = Metric("opero.circuit.state", "gauge", "", "1 for the state the circuit is in.", attributes=(POLICY, STATE))
TRANSITIONS = Metric(
    "opero.circuit.transitions",
    "counter",
    "{transition}",
    "Changes of state, by the new one.",
    attributes=(POLICY, STATE),
    zeros=[("", state) for state in STATES],
)
FAILURE_RATIO = Metric(
    "opero.circuit.failure.ratio", "gauge", "1", "Share of failures in the window.", attributes=(POLICY,)
)
SLOW_RATIO = Metric(
    "opero.circuit.slow.ratio", "gauge", "1", "Share of slow calls in the window.", attributes=(POLICY,)
)
SIGNALS = Signals(
    "circuit_breaker",
    (OPENED, HALF_OPENED, SHUT, SHADOWED),
    (STATE_IS, TRANSITIONS, FAILURE_RATIO, SLOW_RATIO),
    ("circuit_open", "half_open_limit"),
)
LONGEST = 60.0  # seconds
COUNTED, UNWANTED, IGNORED = (f"circuit_breaker.{field}" for field in ("on", "on_result", "ignore"))
_SAID = {CLOSED: SHUT, OPEN: OPENED, HALF_OPEN: HALF_OPENED, FORCED_OPEN: OPENED}
_WORST = (CLOSED, HALF_OPEN, OPEN, FORCED_OPEN)


_new = CircuitOpenError.__new__


def refusal(operation: Operation, circuit: str, retry_after: float | None) -> CircuitOpenError:
    """Make the error of a circuit that is open, quickly: past its `__init__`, and with no text yet."""
    error = _new(CircuitOpenError)
    error.operation, error.owner, error.circuit, error.retry_after = operation.name, operation, circuit, retry_after
    return error


def _says(_: str, condition: Condition, error: Exception) -> bool:
    return condition(error)


class CircuitBreaker(Block, Rules, Policy):
    """Refuse calls with `CircuitOpenError` while too many of the recent ones failed.

    `window` is in seconds; `calls` makes it a count instead. `consecutive` failures in a row take the place of the
    ratio. A call slower than `slow_call` seconds is slow. Errors that `ignore` matches say nothing about the dependency
    and are not counted, those that `on` does not match count as successes, results that `on_result` matches as
    failures. `key`, a function of the arguments or the name of one, gives each key a circuit of its own, `max_keys` of
    them at most. One instance on several functions is one circuit, for all threads and loops; with `store`, a Redis
    URL, and a `name` it is one for all processes.

    With the defaults it opens at 10 failures in 20 calls of the last 10 s, and tries again after 5, 10, 20 … 60 s; from
    the second on up to a tenth (`jitter`) sooner, by chance.
    """

    fills = ()
    place = "circuit_breaker"
    streams = True
    SIGNALS = SIGNALS

    key: str | Callable[..., Hashable] | None
    on: ConditionLike
    on_result: Callable[[Any], object] | None
    ignore: ConditionLike
    shadow: bool
    store: str | StateStore | None
    max_keys: int
    circuit: Circuit
    circuits: Keyed[Circuit]
    ignored: Condition | None
    counted: Condition
    unwanted: Condition | None
    shared: SharedCircuit | None

    def __init__(
        self,
        *,
        failure_ratio: float = 0.5,
        min_calls: int = 20,
        window: Duration = 10.0,
        calls: int | None = None,
        consecutive: int | None = None,
        slow_call: Duration | None = None,
        slow_ratio: float = 1.0,
        reset_after: Duration = 5.0,
        max_reset_after: Duration = LONGEST,
        jitter: float = 0.1,
        half_open_probes: int = 10,
        key: str | Callable[..., Hashable] | None = None,
        on: ConditionLike = Exception,
        on_result: Callable[[Any], object] | None = None,
        ignore: ConditionLike = (),
        shadow: bool = False,
        store: str | StateStore | None = None,
        max_keys: int = 1_000,
        name: str | None = None,
    ) -> None:
        min_calls = whole("min_calls", min_calls, low=1)
        shares = consecutive is None or slow_call is not None  # else nothing waits for `min_calls`
        if optional(whole, "calls", calls, low=1) is not None and shares and calls < min_calls:  # type: ignore[operator]
            raise ConfigurationError(
                "calls", calls, f"a whole number of at least min_calls ({min_calls}), else it never opens"
            )
        reset_after = duration("reset_after", reset_after, above=0)
        if max_reset_after == LONGEST < reset_after:
            raise ConfigurationError("reset_after", reset_after, f"up to {LONGEST:g} s, or more with max_reset_after=")
        if slow_call is None:
            unread("slow_ratio", slow_ratio, 1.0, "without slow_call=: no call is slow")
        if calls is not None:
            unread("window", window, 10.0, "beside calls=: the window is a count")
        if consecutive is not None:
            unread("failure_ratio", failure_ratio, 0.5, "beside consecutive=: it takes the place of the ratio")
            if slow_call is None:
                unread("min_calls", min_calls, 20, "beside consecutive= without slow_call=: no ratio is looked at")
        if key is None:
            unread("max_keys", max_keys, 1_000, "without key=: it bounds how many are kept")
        self.freeze(
            failure_ratio=number("failure_ratio", failure_ratio, above=0, high=1),
            min_calls=min_calls,
            window=duration("window", window, low=0.001),
            calls=calls,
            consecutive=optional(whole, "consecutive", consecutive, low=1),
            slow_call=optional(duration, "slow_call", slow_call, above=0),
            slow_ratio=number("slow_ratio", slow_ratio, above=0, high=1),
            reset_after=reset_after,
            max_reset_after=duration("max_reset_after", max_reset_after, low=reset_after),
            jitter=number("jitter", jitter, low=0, high=1),
            half_open_probes=whole("half_open_probes", half_open_probes, low=1),
            key=keyed.checked("key", key),
            on=on,
            on_result=on_result,
            ignore=ignore,
            shadow=boolean("shadow", shadow),
            store=stores.checked("store", store, name),
            max_keys=whole("max_keys", max_keys, low=1),
            name=name,
        )
        self.start()

    def start(self) -> None:
        ignored = conditions.of("ignore", self.ignore) if self.ignore != () else None
        self._keep(circuit=self._make())
        self._keep(circuits=Keyed(self._make, self.max_keys, share=False, stays=self._stays, policy="CircuitBreaker"))
        counted = conditions.of("on", self.on)
        unwanted = counted if self.on_result is None else conditions.of_result("on_result", self.on_result)
        self._keep(ignored=ignored, counted=counted, unwanted=unwanted if unwanted.on_result else None, shared=None)
        if self.store is not None:
            from opero.stores.shared import SharedCircuit

            self._keep(shared=SharedCircuit(self.store, self.name or "", self))

    def can_share(self) -> bool:
        return self.store is None

    def share(self, store: StateStore, name: str) -> None:
        from opero.stores.shared import SharedCircuit

        self._keep(store=store, shared=SharedCircuit(store, name, self))

    @property
    def reads_arguments(self) -> bool:  # type: ignore[override]
        """Whether it looks at a call's arguments."""
        return self.key is not None

    def of(self, key: Hashable, now: float) -> Circuit:
        """Return the circuit of a key."""
        return self.circuits.get(key, now)

    @property
    def breaker(self) -> Breaker:
        """Its controls, those of `f.opero.breaker`: for blocks, and for all functions it guards."""
        from importlib import import_module  # the doors stand above the policies

        controls: Breaker = import_module("opero.alone").breaker(self)
        return controls

    @property
    def state(self) -> str:
        """The state; of the circuits of many keys, the worst."""
        states = [] if self.shared is None else self.shared.states()
        every = [self.circuit, *self.circuits.values()]
        return max(states or [circuit.state for circuit in every], key=_WORST.index)

    def attach(self, function: Callable[..., Any]) -> Layer:
        key = None if self.key is None else keyed.reader("key", self.key, function)

        async def layer(call: Call, next: Next) -> Any:  # noqa: A002
            """Ask, call, and report the outcome."""
            held, made = call.record.held.pop(self.place, None), call.record.made
            started, outcome = call.record.started if held else call.runtime.now(), NONE
            of = None if key is None else key(call.args, call.kwargs)
            permit = Permit(held, probe=False) if held else await self._enter(call, of)
            try:
                result = await next(call)
                unwanted = self.unwanted is not None and call.says(UNWANTED, self.unwanted.rejects, result)
                outcome = FAILURE if unwanted else SUCCESS
            except GeneratorExit:
                if self.shared is not None and not isinstance(permit, Permit):
                    self.shared.give_back(of, permit)  # nothing may be awaited now
                    permit = UNCOUNTED
                raise
            except Exception as error:
                outcome = NONE if call.uncalled(error, made) or call.excuses(error) else self.judge(error, call.says)
                raise
            finally:
                await self._leave(call, of, permit, outcome, call.runtime.now() - started)
            return result

        return layer

    def fragment(self) -> Fragment | None:
        if self.key is not None or self.unwanted is not None or self.shared is not None:
            return None
        late = "end >= breaker.turn" if self.slow_call is None else "end >= breaker.turn or took > breaker.slow"
        refuse = "" if self.shadow else "    if now < breaker.until and not rejections_heard:\n        REFUSE\n"
        return Fragment(
            f"if now >= breaker.turn:\n{refuse}    HAND_OVER\ngood = breaker.good",
            f"if {late}:\n    circuit_breaker.settle(operation, good, took, end)\nelse:\n    good[0] += 1",
            names={"breaker": self.circuit, "circuit_breaker": self, "refusal": refusal, "circuit": self.name or ""},
            held="good",
            refuse='raise refusal(operation, circuit, breaker.until - now if breaker.state == "open" else None)',
            refused=(self.SIGNALS.kind, "circuit_open", CircuitOpenError.__name__),
        )

    def settle(self, operation: Operation, good: list[int], duration: float, now: float) -> None:
        """Take the success of a call on the fast path that the window must be told of."""
        change = self.circuit.settle(Permit(good, probe=False), SUCCESS, duration, now)
        self.say(lambda event, **fields: operation.emit(event, fields), operation.book, change)

    def observe(self, now: float) -> Iterable[Observation]:
        state, shared = self.state, self.shared and self.shared.read()
        reads = [shared] if shared else [circuit.read(now) for circuit in (self.circuit, *self.circuits.values())]
        for each in STATES:
            yield STATE_IS, (each,), float(each == state)
        yield FAILURE_RATIO, (), max(failure_ratio for _, failure_ratio, _ in reads)
        yield SLOW_RATIO, (), max(slow_ratio for _, _, slow_ratio in reads)

    def judge(self, error: Exception, says: Callable[[str, Condition, Exception], bool] = _says) -> str:
        """Say what an error means for the circuit; `says` asks a condition."""
        ours = isinstance(error, Rejected | ConfigurationError)
        if ours or (self.ignored is not None and says(IGNORED, self.ignored, error)):
            return NONE
        return FAILURE if says(COUNTED, self.counted, error) else SUCCESS

    def say(self, emit: Callable[..., None], book: Any, change: Change | None) -> None:
        """Tell a change of state."""
        if change is not None:
            book.add(TRANSITIONS, (self.name or "", change.state))
            emit(_SAID[change.state], **change.fields, shadow=self.shadow)

    async def _enter(self, call: Call, key: Hashable) -> Any:
        admission = None if self.shared is None else await self.shared.admit(call, key)
        if admission is not None:
            permit: Any = admission.permit and stores.Given(admission.permit)
            state, retry_after = admission.state, admission.retry_after
            change = Change(state) if admission.changed else None
        else:
            now = call.runtime.now()
            circuit = self.circuit if self.key is None else self.of(key, now)
            permit, change, retry_after = circuit.admit(now)
            state = circuit.state
        try:
            self.say(call.emit, call.operation.book, change)
        except BaseException:
            if permit is not None:
                await self._leave(call, key, permit, NONE, 0.0)
            raise
        return permit or self._refuse(call, state, retry_after)

    async def _leave(self, call: Call, key: Hashable, permit: Any, outcome: str, duration: float) -> None:
        if self.shared is not None and not isinstance(permit, Permit):
            change = await self.shared.settle(call, key, permit, outcome, duration)
        else:
            change = (permit.circuit or self.circuit).settle(permit, outcome, duration, call.runtime.now())
        self.say(call.emit, call.operation.book, change)

    def _refuse(self, call: Call, state: str, retry_after: float | None) -> Permit:
        """Raise, or in shadow return a permit that changes nothing."""
        limited = state == HALF_OPEN
        reason = "half_open_limit" if limited else "circuit_open"
        if self.shadow:
            call.emit(SHADOWED, reason=reason)
            return UNCOUNTED
        text = f"the circuit of {self.name or call.operation.name} has all its probes out" if limited else ""
        raise call.reject(CircuitOpenError(text, circuit=self.name or "", reason=reason, retry_after=retry_after))

    def _stays(self, circuit: Circuit) -> float:
        """Return until when a key's circuit must not be forgotten."""
        if circuit.mode != self.circuit.mode:
            return inf  # held by hand, and not with all the others
        return circuit.changed_at + circuit.pause if circuit.state in {OPEN, HALF_OPEN} else -inf

    def _make(self) -> Circuit:
        circuit, first = Circuit(self), self.__dict__.get("circuit")
        if first is not None and first.mode != AUTO:
            circuit.hold(first.mode, first.changed_at)
        return circuit
