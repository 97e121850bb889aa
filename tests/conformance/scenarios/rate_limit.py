"""RateLimit: waiting for a turn, or being refused."""

from world import stats

import opero as o


def a_limited_call_waits_for_its_turn(w):
    f = w.decorate([1, 2, 3], policies=[o.RateLimit(1, burst=1)])
    assert [w.call(f) for _ in range(3)] == [(1, 0), (2, 1), (3, 1)]
    assert stats(f, ok=3, rejected=0)


def a_limited_call_may_be_refused(w):
    f = w.decorate([1, 2], policies=[o.RateLimit(1, burst=1, wait=False)])
    assert w.call(f)[0] == 1
    error = w.call(f)[0]
    assert (type(error), error.retry_after, error.reason) == (o.RateLimitedError, 1, "rate_limited")
    w.time.advance(1)
    assert w.call(f)[0] == 2


def a_limit_never_waits_past_the_deadline(w):
    f = w.decorate([1, 2], policies=[o.RateLimit(1, per=60, burst=1), o.Timeout(5)])
    w.call(f)
    error, took = w.call(f)
    assert (type(error), error.reason, took) == (o.RateLimitedError, "deadline", 0)
