"""The law of retry budgets, against a model that takes each step at once."""

from math import exp

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from opero import forks
from opero.tokens import Tokens
from together import together

RATIO, TRICKLE, CAP = 0.1, 0.5, 50.0


class Budget(RuleBasedStateMachine):
    """A model that takes each step at once: what came in, what was paid, and a cap that follows the success rate."""

    def __init__(self):
        super().__init__()
        self.tokens = Tokens(RATIO, TRICKLE, CAP)
        self.now = 100.0
        self.tokens.utilization(self.now)
        self.left, self.rate, self.new, self.gathered = 10.0, 0.0, 0, self.now
        self.paid, self.income, self.reserved = 0.0, 10.0, []

    def gather(self):
        passed = self.now - self.gathered
        faded = exp(-passed / 10)
        self.rate = self.rate * faded + (self.new * 10 * (1 - faded) / passed if passed else self.new)
        income = RATIO * self.new + TRICKLE * passed
        self.income += income
        self.left = min(CAP, max(10.0, RATIO * self.rate), self.left + income)
        self.new, self.gathered = 0, self.now

    @rule(seconds=st.floats(0.01, 30))
    def wait(self, seconds):
        self.now += seconds

    @rule(count=st.integers(1, 2000))
    def succeed(self, count):
        for _ in range(count):
            self.tokens.fund()
        self.new += count

    @rule(cost=st.sampled_from([1.0, 0.35]))
    def reserve(self, cost):
        self.gather()
        granted = self.tokens.reserve(self.now, cost)
        if abs(self.left - cost) > 1e-6:
            assert granted is (self.left > cost)
        if granted:
            self.left -= cost
            self.paid += cost
            self.reserved.append(cost)

    @precondition(lambda self: self.reserved)
    @rule()
    def refund(self):
        cost = self.reserved.pop()
        self.tokens.refund(cost)
        self.paid -= cost
        self.left = min(CAP, max(10.0, RATIO * self.rate), self.left + cost)

    @invariant()
    def what_was_paid_came_in(self):
        assert self.paid <= self.income + RATIO * self.new + TRICKLE * (self.now - self.gathered) + 1e-6
        assert -1e-6 <= self.tokens.left <= self.tokens.cap + 1e-6 <= CAP + 2e-6

    @invariant()
    def what_is_left_is_what_the_model_says(self):
        assert self.tokens.left == pytest.approx(self.left, abs=1e-6)


Budget.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestBudget = Budget.TestCase


def test_no_token_is_lost_or_made_by_threads():
    tokens, granted = Tokens(0.0, 0.0, 10), []

    def work():
        for _ in range(2000):
            if tokens.reserve(1.0, 1.0):
                granted.append(1)
                tokens.refund(1.0)

    together(*[work] * 8)
    assert tokens.left == 10
    assert granted


def test_successes_that_were_counted_are_gathered_once():
    tokens = Tokens(0.1, 0.0, 500)
    for _ in range(1000):
        tokens.fund()
    assert (tokens.gather(1.0), tokens.gather(1.0)) == (1000, 1000)
    assert (tokens.successes, tokens.cap, tokens.left) == (1000, 100, 100)
    for _ in range(10):
        tokens.fund()
    assert tokens.gather(0.0) == 1010  # a clock that goes back moves nothing
    assert (tokens.successes, tokens.cap) == (1010, 101)


def test_what_is_spent_is_told_as_a_share():
    tokens = Tokens(0.1, 0.0, 10)
    shares = [tokens.utilization(1.0)]
    for _ in range(10):
        tokens.reserve(1.0, 1.0)
        shares.append(tokens.utilization(1.0))
    assert shares == pytest.approx([n / 10 for n in range(11)])


def test_the_trickle_says_when_there_is_enough_again():
    tokens = Tokens(0.1, 0.5, 2)
    assert tokens.wait_for(1) == 0
    tokens.reserve(1.0, 1.5)
    assert tokens.wait_for(1) == 1
    assert Tokens(0.1, 0.0, 2).wait_for(1) is None


def test_the_ratio_may_be_turned_within_bounds_that_hold_what_was_set():
    bounds = {
        ratio: (Tokens(ratio, 0.1, 10).ratio.low, Tokens(ratio, 0.1, 10).ratio.high) for ratio in (0.01, 0.07, 0.5)
    }
    assert bounds == {0.01: (0.01, 0.2), 0.07: (0.02, 0.2), 0.5: (0.02, 0.5)}


def test_a_forked_child_gets_a_lock_of_its_own():
    tokens = Tokens(0.1, 0.1, 10)
    lock = tokens._lock
    assert any(known is tokens for known in forks._objects)
    tokens.after_fork()
    assert tokens._lock is not lock
