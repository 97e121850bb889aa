"""The state machine of a circuit breaker, without anybody who calls. Pure: time and chance are arguments.

closed     Every call passes and is counted in the window. It opens on a failure or a slow call, when at least
           `min_calls` are in the window and the share of failures reaches `failure_ratio`, or that of slow calls
           `slow_ratio`. With `consecutive`, that many failures in a row take the place of the ratio.
open       Every call is refused, for `reset_after`; doubled each time it opens again, up to `max_reset_after`, and then
           shortened by up to a `jitter`th, so that many processes do not probe at the same moment.
half-open  `half_open_probes` calls pass, the others are refused. The same ratio decides: it opens when the probes reach
           it, and closes when they no longer can. Where all are out and none came back for `max_reset_after`, and not
           for a minute, they are taken for lost, and given out again.
held       By hand: forced open, or closed whatever happens, or disabled, where nothing is counted either.

A permit carries the generation of the state that gave it; an outcome of another generation changes nothing. A call
that was cancelled, ignored or refused further in is neither success nor failure: its probe goes back.

Source: Michael Nygard, "Release It!", 2007.
"""

from __future__ import annotations

from math import inf

from opero import forks
from opero.call import FAILURE, NONE
from opero.exclusive import hand_back, new_lock
from opero.waits import uniform
from opero.windows import CountWindow, TimeWindow

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


CLOSED, OPEN, HALF_OPEN, FORCED_OPEN = STATES = ("closed", "open", "half_open", "forced_open")
AUTO, FORCED_CLOSED, DISABLED = "auto", "forced_closed", "disabled"
SLOW = 60.0  # seconds that a probe may take at least before it is taken for lost


class Rules:
    """What a circuit must be told; a `CircuitBreaker` is one that was checked."""

    failure_ratio: float
    min_calls: int
    window: float
    calls: int | None
    consecutive: int | None
    slow_call: float | None
    slow_ratio: float
    reset_after: float
    max_reset_after: float
    jitter: float
    half_open_probes: int

    @property
    def lost_after(self) -> float:
        """Seconds after which probes that did not come back are taken for lost."""
        return max(self.max_reset_after, SLOW)


class Permit:
    """Leave to call, given by one generation of the state: it is known by the list that counts its successes."""

    __slots__ = ("circuit", "good", "probe")

    def __init__(self, good: list[int], *, probe: bool, circuit: Circuit | None = None) -> None:
        self.good = good
        self.probe = probe
        self.circuit = circuit


UNCOUNTED = Permit([0], probe=False)  # of no generation: its outcome changes nothing


class Change:
    """A transition, with what led to it."""

    __slots__ = ("fields", "state")

    def __init__(self, state: str, **fields: Any) -> None:
        self.state = state
        self.fields = fields


class Circuit:
    """The state machine. Time is an argument; the lock is held for arithmetic only.

    While `now < turn` it is closed, and a success is worth no more than `good[0] += 1`. While `now < until` it is open.
    """

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self.mode = AUTO
        self.slow = inf if rules.slow_call is None else rules.slow_call
        self.window = CountWindow(rules.calls) if rules.calls else TimeWindow(rules.window)
        self.state = CLOSED
        self.good = self.window.good
        self.turn = self.window.turn
        self.until = -inf
        self.failed_in_a_row = 0
        self.good_at_failure = 0
        self.opened_in_a_row = 0
        self.changed_at = 0.0
        self.pause = 0.0
        self.probed_at = 0.0
        self.probes_good = 0
        self.probes_bad = 0
        self.after_fork()
        forks.remember(self)

    def after_fork(self) -> None:
        """Make the lock anew, and wait for no probe of the parent's."""
        self._lock = new_lock()
        self.probes_out = 0

    def admit(self, now: float) -> tuple[Permit | None, Change | None, float | None]:
        """Return a permit or None, a change of state if there was one, and seconds until it is worth asking again."""
        with self._lock:
            change = None
            if self.mode == DISABLED:
                return UNCOUNTED, None, None
            if self.state == CLOSED:
                self.window.roll(now)
                self.turn = self.window.turn
                return Permit(self.good, probe=False, circuit=self), None, None
            if self.state == FORCED_OPEN:
                return None, None, None
            given = self.probes_out + self.probes_good + self.probes_bad
            if self.state == OPEN or given >= self.rules.half_open_probes:
                left = self._until_probes_locked(now)
                if left > 0:
                    return None, None, min(left, self.pause)
                change = self._change_locked(HALF_OPEN, now)
            self.probes_out += 1
            self.probed_at = now
            return Permit(self.good, probe=True, circuit=self), change, None

    def settle(self, permit: Permit, outcome: str, duration: float, now: float) -> Change | None:
        """Take the outcome of a permitted call; return a change of state if it led to one."""
        if outcome == NONE:
            if permit.probe:
                hand_back(self._lock, self._give_back_locked, permit)
            return None
        with self._lock:
            if permit.good is not self.good:
                return None
            if permit.probe:
                self._give_back_locked(permit)
                return self._settle_probe_locked(outcome, duration, now)
            return self._settle_closed_locked(outcome, duration, now)

    def hold(self, mode: str, now: float) -> Change | None:
        """Hold it `forced_open`, `forced_closed` or `disabled`, or let it run by itself (`auto`); empty the window."""
        with self._lock:
            state = FORCED_OPEN if mode == FORCED_OPEN else CLOSED
            self.mode, same = mode, state == self.state
            change = self._change_locked(state, now)
            if mode == DISABLED:
                self.turn = -inf
            return None if same else change

    def idle(self, now: float) -> bool:
        """Whether it is as good as new; who asks holds another lock, and does not wait for this one."""
        if not self._lock.acquire(blocking=False):
            return False
        try:
            return self.state == CLOSED and self.mode == AUTO and not self.window.totals(now).calls
        finally:
            self._lock.release()

    def read(self, now: float) -> tuple[str, float, float]:
        """State, failure ratio, slow ratio."""
        with self._lock:
            totals = self.window.totals(now)
            return self.state, totals.failure_ratio(), totals.slow_ratio()

    def _settle_closed_locked(self, outcome: str, duration: float, now: float) -> Change | None:
        rules = self.rules
        failed, slow = outcome == FAILURE, duration > self.slow
        self.window.add(now, failed=failed, slow=slow)
        self.turn = self.window.turn
        if not failed and not slow:
            return None
        if failed:
            self.failed_in_a_row = 1 + (self.failed_in_a_row if self.good[0] == self.good_at_failure else 0)
            self.good_at_failure = self.good[0]
        totals = self.window.totals(now)
        if rules.consecutive is not None:
            tripped = failed and self.failed_in_a_row >= rules.consecutive
        else:
            tripped = totals.calls >= rules.min_calls and totals.failure_ratio() >= rules.failure_ratio
        if rules.slow_call is not None:
            tripped |= totals.calls >= rules.min_calls and totals.slow_ratio() >= rules.slow_ratio
        return self._change_locked(OPEN, now) if tripped and self.mode == AUTO else None

    def _give_back_locked(self, permit: Permit) -> None:
        if permit.good is self.good:
            self.probes_out -= self.probes_out > 0  # that of a forked child counts in its parent

    def _settle_probe_locked(self, outcome: str, duration: float, now: float) -> Change | None:
        bad = outcome == FAILURE or duration > self.slow
        self.probes_bad += bad
        self.probes_good += not bad
        probes = self.rules.half_open_probes
        ratio = self.rules.failure_ratio if self.rules.consecutive is None else 1 / probes
        if self.probes_bad / probes >= ratio:  # divided, as in the window: .07 * 100 is more than 7
            return self._change_locked(OPEN, now)
        return self._change_locked(CLOSED, now) if (probes - self.probes_good) / probes < ratio else None

    def _change_locked(self, state: str, now: float) -> Change:
        totals = self.window.totals(now)
        fields: dict[str, Any] = {}
        if state == OPEN:
            rules = self.rules
            self.pause = min(rules.reset_after * 2.0 ** min(self.opened_in_a_row, 60), rules.max_reset_after)
            if self.opened_in_a_row:
                self.pause *= uniform(1 - rules.jitter, 1.0)
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
        self.until = {OPEN: now + self.pause, FORCED_OPEN: inf}.get(state, -inf)
        self.state, self.changed_at = state, now
        self.failed_in_a_row = self.good_at_failure = self.probes_out = self.probes_good = self.probes_bad = 0
        return Change(state, **fields)

    def _until_probes_locked(self, now: float) -> float:
        """Seconds until probes are given out: the first, or others for those that were lost."""
        since, pause = self.probed_at, self.rules.lost_after
        if self.state == OPEN:
            since, pause = self.changed_at, self.pause
        return since + pause - now
