"""The state machine: examples for its rules, a model for its invariants."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from child import held
from ending import ended
from opero import CircuitBreaker
from opero.call import FAILURE, NONE, SUCCESS
from opero.circuit import AUTO, CLOSED, DISABLED, FORCED_CLOSED, FORCED_OPEN, HALF_OPEN, OPEN
from together import together


def fill(circuit, outcomes, now=0.0, duration=0.0):
    for outcome in outcomes:
        permit, _, _ = circuit.admit(now)
        circuit.settle(permit, outcome, duration, now)


def test_it_opens_only_with_enough_calls():
    circuit = CircuitBreaker(min_calls=4).circuit
    fill(circuit, [FAILURE] * 3)
    assert circuit.state == CLOSED
    fill(circuit, [FAILURE])
    assert circuit.state == OPEN


def test_a_success_does_not_open_it_and_the_next_failure_does():
    circuit = CircuitBreaker(min_calls=4).circuit
    fill(circuit, [FAILURE, FAILURE, FAILURE, SUCCESS])
    assert circuit.state == CLOSED
    fill(circuit, [FAILURE])
    assert circuit.state == OPEN


def test_consecutive_failures_open_it_and_a_success_between_them_does_not():
    circuit = CircuitBreaker(consecutive=3).circuit
    fill(circuit, [FAILURE, FAILURE, SUCCESS, FAILURE, FAILURE])
    assert circuit.state == CLOSED
    fill(circuit, [FAILURE])
    assert circuit.state == OPEN


def test_probes_decide_by_the_same_ratio():
    policy = CircuitBreaker(min_calls=1, failure_ratio=0.5, half_open_probes=10, reset_after=5)
    for outcomes, state in [
        ([FAILURE] * 5, OPEN),
        ([FAILURE] * 4 + [SUCCESS] * 6, CLOSED),
        ([SUCCESS] * 6, CLOSED),
        ([SUCCESS] * 5 + [FAILURE] * 4, HALF_OPEN),
    ]:
        policy.start()
        fill(policy.circuit, [FAILURE])
        fill(policy.circuit, outcomes, now=5.0)
        assert policy.circuit.state == state, outcomes


def test_the_share_of_bad_probes_that_opens_it_is_exact():
    for ratio, probes, enough in [
        (0.07, 100, 7),
        (0.55, 100, 55),
        (0.29, 100, 29),
        (0.5, 3, 2),
        (1e-9, 10, 1),
        (1, 7, 7),
    ]:
        policy = CircuitBreaker(min_calls=1, failure_ratio=ratio, half_open_probes=probes, reset_after=5)
        for outcomes, state in [
            ([FAILURE] * (enough - 1), HALF_OPEN),
            ([FAILURE] * enough, OPEN),
            ([FAILURE] * (enough - 1) + [SUCCESS] * (probes - enough), HALF_OPEN),
            ([FAILURE] * (enough - 1) + [SUCCESS] * (probes - enough + 1), CLOSED),
        ]:
            policy.start()
            fill(policy.circuit, [FAILURE])
            fill(policy.circuit, outcomes, now=5.0)
            assert policy.circuit.state == state or (state == HALF_OPEN and not outcomes), (ratio, outcomes)


def test_of_twenty_threads_one_probe_is_admitted():
    circuit = CircuitBreaker(min_calls=1, half_open_probes=1, reset_after=5).circuit
    fill(circuit, [FAILURE])
    admitted = []

    def ask():
        permit, _, _ = circuit.admit(5.0)
        if permit is not None:
            admitted.append(permit)

    together(*[ask] * 20)
    assert len(admitted) == 1


def test_a_probe_that_was_cancelled_goes_back():
    circuit = CircuitBreaker(min_calls=1, half_open_probes=1, reset_after=5).circuit
    fill(circuit, [FAILURE])
    fill(circuit, [NONE], now=5.0)
    assert circuit.state == HALF_OPEN
    fill(circuit, [SUCCESS], now=5.0)
    assert circuit.state == CLOSED


@pytest.mark.parametrize(("longest", "lost"), [(5, 72.0), (90, 102.0)])
def test_a_probe_keeps_its_place_until_it_is_taken_for_lost(longest, lost):
    circuit = CircuitBreaker(min_calls=1, half_open_probes=2, reset_after=5, max_reset_after=longest).circuit
    fill(circuit, [FAILURE])
    first, _, _ = circuit.admit(5.0)
    last, _, _ = circuit.admit(12.0)
    assert [circuit.admit(now)[0] for now in (12.0, 17.0, lost - 0.1)] == [None] * 3
    assert [circuit.admit(now)[2] for now in (12.0, lost - 2)] == [5.0, 2.0]  # worth asking: they may be back by then
    again, change, _ = circuit.admit(lost)
    assert change.state == HALF_OPEN
    assert circuit.settle(last, FAILURE, 0, lost) is circuit.settle(first, FAILURE, 0, lost) is None
    circuit.admit(lost)
    assert circuit.settle(again, FAILURE, 0, lost).state == OPEN


def test_a_forked_child_waits_for_no_probe_of_its_parent():
    circuit = CircuitBreaker(min_calls=1, half_open_probes=1, reset_after=5).circuit
    fill(circuit, [FAILURE])
    parents, _, _ = circuit.admit(5.0)
    circuit.after_fork()
    own, _, _ = circuit.admit(6.0)
    assert circuit.admit(6.0)[0] is None
    assert circuit.settle(parents, NONE, 0, 7.0) is circuit.settle(own, NONE, 0, 7.0) is None
    assert circuit.admit(7.0)[0] is not None
    assert circuit.admit(7.0)[0] is None


def test_a_late_result_from_before_a_transition_changes_nothing():
    circuit = CircuitBreaker(min_calls=1, reset_after=5, half_open_probes=1).circuit
    late, _, _ = circuit.admit(0.0)
    fill(circuit, [FAILURE])
    fill(circuit, [SUCCESS], now=5.0)
    assert circuit.settle(late, FAILURE, 0, 6.0) is None
    assert circuit.state == CLOSED


def test_the_pause_doubles_up_to_its_maximum_and_starts_over_once_closed():
    circuit = CircuitBreaker(min_calls=1, reset_after=5, max_reset_after=12, half_open_probes=1, jitter=0).circuit
    now, pauses = 0.0, []
    for _ in range(4):
        fill(circuit, [FAILURE], now)
        pauses.append(circuit.pause)
        now += circuit.pause
    assert pauses == [5, 10, 12, 12]
    fill(circuit, [SUCCESS], now)
    fill(circuit, [FAILURE], now)
    assert circuit.pause == 5


def test_pauses_after_the_first_are_shortened_by_chance_up_to_a_tenth():
    pauses = []
    for _ in range(200):
        circuit, now = CircuitBreaker(min_calls=1, reset_after=5, half_open_probes=1).circuit, 0.0
        for _ in range(2):
            fill(circuit, [FAILURE], now)
            now += circuit.pause
        pauses.append(now - 5)
    assert 9 <= min(pauses) < 9.2
    assert 9.8 < max(pauses) <= 10
    assert len(set(pauses)) > 100


def test_slow_calls_open_it_when_they_are_enough_and_a_share():
    def state(durations, **settings):
        circuit = CircuitBreaker(slow_call=1.0, slow_ratio=0.5, min_calls=4, **settings).circuit
        for duration in durations:
            permit, _, _ = circuit.admit(0.0)
            circuit.settle(permit, SUCCESS, duration, 0.0)
        return circuit.state

    assert state([2, 2, 2]) == CLOSED  # too few
    assert state([2, 1, 1, 2]) == OPEN  # 1.0 is not slow; half of them are
    assert state([1, 1, 1, 2]) == CLOSED
    assert state([2, 2, 1, 1]) == CLOSED  # none of those that complete it was slow
    assert state([2, 1, 1, 2], consecutive=9) == OPEN
    assert CircuitBreaker(min_calls=1).circuit.slow == float("inf")


def test_a_probe_as_slow_as_allowed_is_good_and_a_slower_one_bad():
    for duration, state in [(1.0, CLOSED), (1.1, OPEN)]:
        circuit = CircuitBreaker(min_calls=1, slow_call=1.0, half_open_probes=1, reset_after=5).circuit
        fill(circuit, [FAILURE])
        fill(circuit, [SUCCESS], now=5.0, duration=duration)
        assert circuit.state == state


def test_with_consecutive_one_bad_probe_opens_it_and_all_must_be_good():
    for outcomes, state in [([SUCCESS, FAILURE], OPEN), ([SUCCESS] * 2, HALF_OPEN), ([SUCCESS] * 3, CLOSED)]:
        circuit = CircuitBreaker(consecutive=1, half_open_probes=3, reset_after=5).circuit
        fill(circuit, [FAILURE])
        fill(circuit, outcomes, now=5.0)
        assert circuit.state == state, outcomes


def test_probes_that_ended_take_the_place_of_others_too():
    circuit = CircuitBreaker(min_calls=1, half_open_probes=3, reset_after=5, failure_ratio=0.5).circuit
    fill(circuit, [FAILURE])
    fill(circuit, [SUCCESS, FAILURE], now=5.0)
    assert circuit.admit(5.0)[0].probe
    assert circuit.admit(5.0)[0] is None  # one good, one bad, one out


def test_a_failure_ratio_just_below_does_not_open_it():
    circuit = CircuitBreaker(min_calls=3, failure_ratio=0.5).circuit
    fill(circuit, [SUCCESS, SUCCESS, FAILURE])
    assert circuit.state == CLOSED
    circuit = CircuitBreaker(min_calls=2, failure_ratio=0.5).circuit
    fill(circuit, [SUCCESS, FAILURE])
    assert circuit.state == OPEN


def test_the_moment_a_pause_ends_is_the_first_in_which_it_probes():
    circuit = CircuitBreaker(min_calls=1, reset_after=5, half_open_probes=1).circuit
    assert circuit.until == float("-inf")
    fill(circuit, [FAILURE], 1.0)
    assert (circuit.until, circuit.turn) == (6.0, float("-inf"))
    assert circuit.admit(5.999)[:2] == (None, None)
    assert circuit.admit(6.0)[0].probe


def test_what_hold_says_has_changed_is_what_has():
    circuit = CircuitBreaker(min_calls=1).circuit
    assert circuit.hold(FORCED_CLOSED, 0.0) is None
    assert circuit.hold(FORCED_OPEN, 0.0).state == FORCED_OPEN
    assert circuit.hold(FORCED_OPEN, 0.0) is None
    assert circuit.until == float("inf")
    assert circuit.hold(DISABLED, 0.0).state == CLOSED
    permit, change, wait = circuit.admit(0.0)
    assert (permit.probe, permit.good, change, wait) == (False, [0], None, None)
    assert circuit.turn == float("-inf")  # the fast path asks, and so nothing is counted
    circuit.settle(permit, FAILURE, 0, 0.0)
    assert circuit.read(0.0) == (CLOSED, 0.0, 0.0)
    circuit.hold(AUTO, 7.0)
    fill(circuit, [SUCCESS], 7.0)
    assert circuit.turn == circuit.window.turn > 7.0


def test_a_forked_child_gets_a_lock_of_its_own():
    from opero import forks

    circuit = CircuitBreaker().circuit
    lock = circuit._lock
    assert any(known is circuit for known in forks._objects)
    circuit.after_fork()
    assert circuit._lock is not lock


def test_a_circuit_is_idle_while_it_is_closed_by_itself_and_holds_no_calls():
    circuit = CircuitBreaker(min_calls=1, window=10).circuit
    assert circuit.idle(0.0)
    fill(circuit, [SUCCESS])
    assert (circuit.idle(5.0), circuit.idle(20.0)) == (False, True)
    fill(circuit, [FAILURE], 20.0)
    assert not circuit.idle(100.0)
    circuit.hold(FORCED_CLOSED, 100.0)
    assert not circuit.idle(100.0)
    circuit.hold(AUTO, 100.0)
    assert circuit.idle(100.0)


class Machine(RuleBasedStateMachine):
    """Any order of admissions, outcomes and time: what may never happen does not."""

    def __init__(self):
        super().__init__()
        self.policy = CircuitBreaker(min_calls=2, window=10, reset_after=5, max_reset_after=20, half_open_probes=3)
        self.circuit = self.policy.circuit
        self.now = 0.0
        self.out = []
        self.probes = 0

    @rule(step=st.floats(0, 8))
    def time_passes(self, step):
        self.now += step

    @rule()
    def a_call_asks(self):
        state, left = self.circuit.state, self.circuit.changed_at + self.circuit.pause - self.now
        permit, change, retry_after = self.circuit.admit(self.now)
        if permit is None:
            assert state != CLOSED
            assert state == FORCED_OPEN or retry_after > 0
            return
        assert state != FORCED_OPEN
        assert state != OPEN or left <= 0
        if change is not None:
            self.probes = 0
        self.probes += permit.probe
        self.out.append(permit)

    @precondition(lambda self: self.out)
    @rule(data=st.data(), outcome=st.sampled_from([SUCCESS, FAILURE, NONE]))
    def a_call_ends(self, data, outcome):
        permit = self.out.pop(data.draw(st.integers(0, len(self.out) - 1)))
        state, good, count = self.circuit.state, self.circuit.good, self.circuit.good[0]
        change = self.circuit.settle(permit, outcome, 0.0, self.now)
        if outcome == NONE or permit.good is not good:
            assert change is None
            assert self.circuit.state == state
            assert self.circuit.good is good
            assert good[0] == count

    @rule(mode=st.sampled_from([AUTO, FORCED_OPEN, FORCED_CLOSED, DISABLED]))
    def an_operator_decides(self, mode):
        self.circuit.hold(mode, self.now)
        assert self.circuit.state == (FORCED_OPEN if mode == FORCED_OPEN else CLOSED)

    @invariant()
    def held_closed_it_never_opens(self):
        assert self.circuit.mode not in (FORCED_CLOSED, DISABLED) or self.circuit.state == CLOSED

    @invariant()
    def never_more_probes_out_than_allowed(self):
        alive = sum(p.probe and p.good is self.circuit.good for p in self.out)
        assert alive <= self.policy.half_open_probes
        assert alive == self.circuit.probes_out


TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def test_a_circuit_that_somebody_is_at_is_not_idle_and_nobody_waits_to_know():
    circuit = CircuitBreaker().circuit
    with held(circuit._lock):
        assert ended(lambda: circuit.idle(0.0))[0] is False
    assert circuit.idle(0.0)
