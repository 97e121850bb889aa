"""CircuitBreaker: stop calling what is down.

closed     Every call passes and is counted in the window. It opens when at least `min_calls` are in the window and the
           share of failures reaches `failure_ratio`, or that of slow calls `slow_ratio`. With `consecutive`, that many
           failures in a row take the place of the ratio.
open       Every call is refused, for `reset_after`, doubled each time it opens again, up to `max_reset_after`.
half-open  `half_open_probes` calls pass, the others are refused. The same ratio decides: it opens when the probes reach
           it, and closes when they no longer can. Probes that never came back are given out again after another pause.
forced     Opened by hand, until it is closed by hand.

A permit carries the generation of the state that gave it; an outcome of another generation changes nothing. A call
that was cancelled or refused further in is neither success nor failure: its probe goes back.
"""

from __future__ import annotations

from _thread import allocate_lock
from math import ceil, inf

from opero import conditions, forks
from opero.call import FAILURE, NONE, SUCCESS
from opero.errors import CircuitOpenError, ConfigurationError, Rejected
from opero.policy import Fragment, Policy, number, optional, whole
from opero.signals import POLICY, STATE, Event, Metric, Signals
from opero.windows import CountWindow, TimeWindow

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from opero.call import Call, Layer, Next
    from opero.conditions import Condition, ConditionLike
    from opero.pipeline import Operation
    from opero.policy import Observation

CLOSED, OPEN, HALF_OPEN, FORCED_OPEN = STATES = ("closed", "open", "half_open", "forced_open")

OPENED = Event(
    "opero.circuit.opened",
    "error",
    "Calls are refused from here on.",
    ("failure_ratio", "slow_ratio", "calls", "pause"),
)
HALF_OPENED = Event("opero.circuit.half_opened", "info", "A few calls may try.")
SHUT = Event("opero.circuit.closed", "info", "Calls pass again.")
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
    (OPENED, HALF_OPENED, SHUT),
    (STATE_IS, TRANSITIONS, FAILURE_RATIO, SLOW_RATIO),
    ("circuit_open", "half_open_limit"),
)
_SAID = {CLOSED: SHUT, OPEN: OPENED, HALF_OPEN: HALF_OPENED, FORCED_OPEN: OPENED}


class CircuitBreaker(Policy):
    """Refuse calls with `CircuitOpenError` while too many of the recent ones failed.

    `window` is in seconds; `calls` makes it a count instead. A call slower than `slow_call` seconds is slow. `ignore`
    says which errors are none of the dependency's. One instance on several functions is one circuit, for all threads
    and loops.

    With the defaults it opens at 10 failures in 20 calls of the last 10 s, and tries again after 5, 10, 20 … 60 s.

    Source: Michael Nygard, "Release It!", 2007.
    """

    place = "circuit_breaker"
    reads_arguments = False
    SIGNALS = SIGNALS

    failure_ratio: float
    min_calls: int
    window: float
    calls: int | None
    consecutive: int | None
    slow_call: float | None
    slow_ratio: float
    reset_after: float
    max_reset_after: float
    half_open_probes: int
    ignore: ConditionLike
    circuit: Circuit

    def __init__(
        self,
        *,
        failure_ratio: float = 0.5,
        min_calls: int = 20,
        window: float = 10.0,
        calls: int | None = None,
        consecutive: int | None = None,
        slow_call: float | None = None,
        slow_ratio: float = 1.0,
        reset_after: float = 5.0,
        max_reset_after: float = 60.0,
        half_open_probes: int = 10,
        ignore: ConditionLike = (),
        name: str | None = None,
    ) -> None:
        min_calls = whole("min_calls", min_calls, low=1)
        if optional(whole, "calls", calls, low=1) is not None and calls < min_calls:  # type: ignore[operator]
            raise ConfigurationError(
                "calls", calls, f"a whole number of at least min_calls ({min_calls}), else it never opens"
            )
        reset_after = number("reset_after", reset_after, above=0)
        self._freeze(
            failure_ratio=number("failure_ratio", failure_ratio, above=0, high=1),
            min_calls=min_calls,
            window=number("window", window, above=0),
            calls=calls,
            consecutive=optional(whole, "consecutive", consecutive, low=1),
            slow_call=optional(number, "slow_call", slow_call, above=0),
            slow_ratio=number("slow_ratio", slow_ratio, above=0, high=1),
            reset_after=reset_after,
            max_reset_after=number("max_reset_after", max_reset_after, low=reset_after),
            half_open_probes=whole("half_open_probes", half_open_probes, low=1),
            ignore=ignore,
            name=name,
        )
        self.start()

    def start(self) -> None:
        ignored = conditions.of("ignore", self.ignore) if self.ignore != () else None
        self.__dict__.update(circuit=Circuit(self), ignored=ignored)

    ignored: Condition | None

    def attach(self, function: Callable[..., Any]) -> Layer:
        return self.layer

    def fragment(self) -> Fragment:
        late = "end >= breaker.turn" if self.slow_call is None else "end >= breaker.turn or took > breaker.slow"
        return Fragment(
            "if now >= breaker.turn:\n    HAND_OVER\ngood = breaker.good",
            f"if {late}:\n    circuit_breaker.settle(operation, good, took, end)\nelse:\n    good[0] += 1",
            names={"breaker": self.circuit, "circuit_breaker": self},
            permit="good",
        )

    def settle(self, operation: Operation, good: list[int], duration: float, now: float) -> None:
        """Take the success of a call on the fast path that the window must be told of."""
        change = self.circuit.settle(Permit(good, probe=False), SUCCESS, duration, now)
        self.say(lambda event, **fields: operation.emit(event, fields), operation.book, change)

    def observe(self, now: float) -> Iterable[Observation]:
        state, failure_ratio, slow_ratio = self.circuit.read(now)
        for each in STATES:
            yield STATE_IS, (each,), float(each == state)
        yield FAILURE_RATIO, (), failure_ratio
        yield SLOW_RATIO, (), slow_ratio

    async def layer(self, call: Call, next: Next) -> Any:  # noqa: A002
        """Ask, call, and report the outcome."""
        held = call.record.permits.pop(self.place, None)
        permit = Permit(held, probe=False) if held else self._enter(call)
        started, outcome = call.record.started if held else call.runtime.now(), NONE
        try:
            result = await next(call)
            outcome = SUCCESS
        except Exception as error:
            outcome = self.judge(error)
            raise
        finally:
            now = call.runtime.now()
            self.say(call.emit, call.operation.book, self.circuit.settle(permit, outcome, now - started, now))
        return result

    def judge(self, error: Exception) -> str:
        """Say what an error means for the circuit."""
        if isinstance(error, Rejected):
            return NONE
        return SUCCESS if self.ignored is not None and self.ignored(error) else FAILURE

    def say(self, emit: Callable[..., None], book: Any, change: Change | None) -> None:
        """Tell a change of state."""
        if change is not None:
            book.add(TRANSITIONS, (self.name or "", change.state))
            emit(_SAID[change.state], **change.fields)

    def _enter(self, call: Call) -> Permit:
        permit, change, retry_after = self.circuit.admit(call.runtime.now())
        self.say(call.emit, call.operation.book, change)
        if permit is not None:
            return permit
        limited = self.circuit.state == HALF_OPEN
        text = (
            "has all its probes out"
            if limited
            else "is open"
            if retry_after is None
            else f"is open for another {retry_after:.3g} s"
        )
        raise call.reject(
            CircuitOpenError(
                f"the circuit of {self.name or call.operation.name} {text}",
                primitive="circuit_breaker",
                reason="half_open_limit" if limited else "circuit_open",
                retry_after=retry_after,
            )
        )


class Permit:
    """Leave to call, given by one generation of the state: it is known by the list that counts its successes."""

    __slots__ = ("good", "probe")

    def __init__(self, good: list[int], *, probe: bool) -> None:
        self.good = good
        self.probe = probe


class Change:
    """A transition, with what led to it."""

    __slots__ = ("fields", "state")

    def __init__(self, state: str, **fields: Any) -> None:
        self.state = state
        self.fields = fields


class Circuit:
    """The state machine. Time is an argument; the lock is held for arithmetic only.

    While `now < turn` it is closed, and a success is worth no more than `good[0] += 1`.
    """

    def __init__(self, policy: CircuitBreaker) -> None:
        self.policy = policy
        self.slow = inf if policy.slow_call is None else policy.slow_call
        self.window = CountWindow(policy.calls) if policy.calls else TimeWindow(policy.window)
        self.state = CLOSED
        self.good = self.window.good
        self.turn = self.window.turn
        self.failed_in_a_row = 0
        self.good_at_failure = 0
        self.opened_in_a_row = 0
        self.changed_at = 0.0
        self.pause = 0.0
        self.probes_out = 0
        self.probes_good = 0
        self.probes_bad = 0
        self.after_fork()
        forks.remember(self)

    def after_fork(self) -> None:
        """Make the lock anew."""
        self._lock = allocate_lock()

    def admit(self, now: float) -> tuple[Permit | None, Change | None, float | None]:
        """Return a permit or None, a change of state if there was one, and seconds until it is worth asking again."""
        with self._lock:
            change = None
            if self.state == CLOSED:
                self.window.roll(now)
                self.turn = self.window.turn
                return Permit(self.good, probe=False), None, None
            if self.state == FORCED_OPEN:
                return None, None, None
            left = self.changed_at + self.pause - now
            if self.state == OPEN or self._probes_given() >= self.policy.half_open_probes:
                if left > 0:
                    return None, None, left
                change = self._change_locked(HALF_OPEN, now)
            self.probes_out += 1
            return Permit(self.good, probe=True), change, None

    def settle(self, permit: Permit, outcome: str, duration: float, now: float) -> Change | None:
        """Take the outcome of a permitted call; return a change of state if it led to one."""
        with self._lock:
            if permit.good is not self.good:
                return None
            if permit.probe:
                return self._settle_probe_locked(outcome, duration, now)
            return None if outcome == NONE else self._settle_closed_locked(outcome, duration, now)

    def force(self, state: str, now: float) -> Change | None:
        """Open it until further notice, or close it with a clean window."""
        with self._lock:
            self.opened_in_a_row = 0
            return None if state == self.state == FORCED_OPEN else self._change_locked(state, now)

    def read(self, now: float) -> tuple[str, float, float]:
        """State, failure ratio, slow ratio."""
        with self._lock:
            totals = self.window.totals(now)
            return self.state, totals.failure_ratio(), totals.slow_ratio()

    def _settle_closed_locked(self, outcome: str, duration: float, now: float) -> Change | None:
        policy = self.policy
        failed = outcome == FAILURE
        self.window.add(now, failed=failed, slow=duration > self.slow)
        self.turn = self.window.turn
        if failed:
            self.failed_in_a_row = 1 + (self.failed_in_a_row if self.good[0] == self.good_at_failure else 0)
            self.good_at_failure = self.good[0]
        totals = self.window.totals(now)
        if policy.consecutive is not None:
            tripped = failed and self.failed_in_a_row >= policy.consecutive
        else:
            tripped = totals.calls >= policy.min_calls and totals.failure_ratio() >= policy.failure_ratio
        if policy.slow_call is not None:
            tripped |= totals.calls >= policy.min_calls and totals.slow_ratio() >= policy.slow_ratio
        return self._change_locked(OPEN, now) if tripped else None

    def _settle_probe_locked(self, outcome: str, duration: float, now: float) -> Change | None:
        self.probes_out -= 1
        if outcome == NONE:
            return None
        bad = outcome == FAILURE or duration > self.slow
        self.probes_bad += bad
        self.probes_good += not bad
        probes = self.policy.half_open_probes
        enough = 1 if self.policy.consecutive is not None else ceil(self.policy.failure_ratio * probes)
        if self.probes_bad >= enough:
            return self._change_locked(OPEN, now)
        return self._change_locked(CLOSED, now) if self.probes_good > probes - enough else None

    def _change_locked(self, state: str, now: float) -> Change:
        totals = self.window.totals(now)
        fields: dict[str, Any] = {}
        if state == OPEN:
            self.pause = min(
                self.policy.reset_after * 2.0 ** min(self.opened_in_a_row, 60), self.policy.max_reset_after
            )
            self.opened_in_a_row += 1
            fields = {
                "failure_ratio": totals.failure_ratio(),
                "slow_ratio": totals.slow_ratio(),
                "calls": totals.calls,
                "pause": self.pause,
            }
        elif state == CLOSED:
            self.opened_in_a_row = 0
            self.window.clear()
        self.window.renew()
        self.good = self.window.good
        self.turn = self.window.turn if state == CLOSED else -inf
        self.state, self.changed_at = state, now
        self.failed_in_a_row = self.good_at_failure = self.probes_out = self.probes_good = self.probes_bad = 0
        return Change(state, **fields)

    def _probes_given(self) -> int:
        return self.probes_out + self.probes_good + self.probes_bad
