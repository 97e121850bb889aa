"""Timeout: of the call, of an attempt."""

from world import Pause, stats

import opero as o


def the_total_timeout_ends_a_hanging_call(w):
    f = w.decorate([Pause(60)], timeout=2.0, retries=3)
    error, took = w.call(f)
    assert (type(error), took, error.scope) == (o.CallTimeout, 2, "timeout")
    assert w.names() == ["timeout.expired"]
    assert stats(f, calls=1, ok=0, errors=1, attempts=1, timeouts=1, active=0)


def the_attempt_timeout_costs_one_attempt(w):
    f = w.decorate([Pause(60), 7, 7], attempt_timeout=2.0, retries=2, jitter="none", min_delay=1)
    answer, took = w.call(f)
    assert took == 3
    assert answer == 7
    assert w.names() == ["timeout.expired", "retry.scheduled", "retry.succeeded"]
    assert stats(f, ok=1, attempts=2, timeouts=1)


def a_call_within_its_timeout_is_untouched(w):
    f = w.decorate([Pause(1), 7], timeout=2.0)
    assert w.call(f) == (7, 1)
    assert w.names() == []


def a_users_own_timeout_error_is_not_ours(w):
    mine = TimeoutError("mine")
    f = w.decorate([mine], timeout=2.0)
    assert w.call(f)[0] is mine
    assert stats(f, errors=1, timeouts=0)


def of_two_deadlines_at_the_same_moment_the_outer_one_is_told(w):
    f = w.decorate([Pause(60)], timeout=5, attempt_timeout=5)
    error, took = w.call(f)
    assert (error.scope, took) == ("timeout", 5)


def a_cooperative_timeout_ends_a_call_at_its_very_moment(w):
    how = "thread" if w.is_async else "cooperative"
    f = w.decorate([Pause(5), 7], policies=[o.Timeout(5, how=how)])
    assert (type(w.call(f)[0]), w.names()) == (o.CallTimeout, ["timeout.expired"])
