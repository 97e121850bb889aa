"""The state machine: examples for its rules, a model for its invariants."""

import threading

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from opero import CircuitBreaker
from opero.call import FAILURE, NONE, SUCCESS
from opero.primitives.circuit_breaker import CLOSED, FORCED_OPEN, HALF_OPEN, OPEN


def fill(circuit, outcomes, now=0.0, duration=0.0):
    for outcome in outcomes:
        permit, _, _ = circuit.admit(now)
        circuit.settle(permit, outcome, duration, now)


def test_it_opens_only_with_enough_calls():
    circuit = CircuitBreaker(min_calls=4).circuit
    fill(circuit, [FAILURE] * 3)
    assert circuit.state == CLOSED
    fill(circuit, [SUCCESS])
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


def test_of_twenty_threads_one_probe_is_admitted():
    circuit = CircuitBreaker(min_calls=1, half_open_probes=1, reset_after=5).circuit
    fill(circuit, [FAILURE])
    barrier, admitted = threading.Barrier(20), []

    def ask():
        barrier.wait()
        permit, _, _ = circuit.admit(5.0)
        if permit is not None:
            admitted.append(permit)

    threads = [threading.Thread(target=ask) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(admitted) == 1


def test_a_probe_that_was_cancelled_goes_back():
    circuit = CircuitBreaker(min_calls=1, half_open_probes=1, reset_after=5).circuit
    fill(circuit, [FAILURE])
    fill(circuit, [NONE], now=5.0)
    assert circuit.state == HALF_OPEN
    fill(circuit, [SUCCESS], now=5.0)
    assert circuit.state == CLOSED


def test_probes_that_never_come_back_are_given_out_again_after_a_pause():
    circuit = CircuitBreaker(min_calls=1, half_open_probes=1, reset_after=5).circuit
    fill(circuit, [FAILURE])
    lost, _, _ = circuit.admit(5.0)
    assert circuit.admit(6.0)[0] is None
    assert circuit.admit(6.0)[2] == 4.0
    again, _, _ = circuit.admit(10.0)
    assert circuit.settle(lost, FAILURE, 0, 10.0) is None
    assert circuit.settle(again, SUCCESS, 0, 10.0).state == CLOSED


def test_a_late_result_from_before_a_transition_changes_nothing():
    circuit = CircuitBreaker(min_calls=1, reset_after=5, half_open_probes=1).circuit
    late, _, _ = circuit.admit(0.0)
    fill(circuit, [FAILURE])
    fill(circuit, [SUCCESS], now=5.0)
    assert circuit.settle(late, FAILURE, 0, 6.0) is None
    assert circuit.state == CLOSED


def test_the_pause_doubles_up_to_its_maximum_and_starts_over_once_closed():
    circuit = CircuitBreaker(min_calls=1, reset_after=5, max_reset_after=12, half_open_probes=1).circuit
    now, pauses = 0.0, []
    for _ in range(4):
        fill(circuit, [FAILURE], now)
        pauses.append(circuit.pause)
        now += circuit.pause
    assert pauses == [5, 10, 12, 12]
    fill(circuit, [SUCCESS], now)
    fill(circuit, [FAILURE], now)
    assert circuit.pause == 5


def test_it_pickles_with_its_settings_and_without_its_state():
    import pickle

    policy = CircuitBreaker(min_calls=1, ignore=KeyError)
    fill(policy.circuit, [FAILURE])
    copy = pickle.loads(pickle.dumps(policy))
    assert (copy.settings, copy.circuit.state) == (policy.settings, CLOSED)


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

    @rule(state=st.sampled_from([CLOSED, FORCED_OPEN]))
    def an_operator_decides(self, state):
        self.circuit.force(state, self.now)
        assert self.circuit.state == state

    @invariant()
    def never_more_probes_out_than_allowed(self):
        alive = sum(p.probe and p.good is self.circuit.good for p in self.out)
        assert alive <= self.policy.half_open_probes
        assert alive == self.circuit.probes_out


TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
