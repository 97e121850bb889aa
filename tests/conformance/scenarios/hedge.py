"""Hedge: a second attempt beside a late one."""

from world import Pause, stats

import opero as o


def a_late_call_is_hedged_and_the_first_answer_taken(w):
    f = w.decorate([Pause(10), 7, 8], hedge=1)
    assert w.call(f) == (7, 1)
    assert len(w.calls) == 2
    assert f.opero.operation.book.read()[0]["opero.hedge.requests", ("won",)] == 1
    assert stats(f, calls=1, ok=1, active=0)
    launched, won = w.heard
    assert (launched.name, launched.fields) == ("opero.hedge.launched", {"number": 1, "delay": 1})
    assert (won.name, won.fields) == ("opero.hedge.won", {"number": 1, "duration": 0})


def a_call_in_time_is_not_hedged(w):
    f = w.decorate([Pause(0.5), 7], hedge=1)
    assert w.call(f) == (7, 0.5)
    assert len(w.calls) == 1


def a_hedge_that_fails_leaves_the_call_to_the_first(w):
    f = w.decorate([Pause(3), OSError(), 7], hedge=1)
    assert w.call(f) == (7, 3)
    assert f.opero.operation.book.read()[0]["opero.hedge.requests", ("lost",)] == 1


def when_all_hedges_fail_the_first_attempts_error_is_raised(w):
    f = w.decorate([Pause(3), KeyError("hedge"), OSError("first")], hedge=1)
    error, took = w.call(f)
    assert (str(error), took) == ("first", 3)
    assert [str(a.error) for a in o.attempts(error)] == ["first", "'hedge'"]
    f = w.decorate([Pause(2), Pause(2), OSError("first"), KeyError("hedge")], hedge=1)
    error, took = w.call(f)
    assert (str(error), took) == ("first", 3)


def a_failure_in_time_is_for_the_retry(w):
    f = w.decorate([OSError(), 7], hedge=5, retries=1, jitter="none", min_delay=1)
    assert w.call(f) == (7, 1)


def a_hedge_takes_a_token_and_none_is_made_without(w):
    policy = o.RetryBudget(min_per_second=0, cap=1)
    f = w.decorate([Pause(3), OSError(), 1, Pause(3), 2], policies=[policy, o.Hedge(1)])
    assert w.call(f) == (1, 3)
    assert w.call(f) == (2, 3)
    assert len(w.calls) == 3
    assert w.names() == ["hedge.launched", "retry.budget_exhausted"]


def a_hedge_that_wins_gives_its_token_back(w):
    policy = o.RetryBudget(min_per_second=0, cap=1)
    f = w.decorate([Pause(3), 1, Pause(3), 2], policies=[policy, o.Hedge(1)])
    assert [w.call(f), w.call(f)] == [(1, 1), (2, 1)]
    assert policy.tokens.left == 1


def a_hedged_call_keeps_its_deadline(w):
    f = w.decorate([Pause(60), Pause(60)], hedge=1, timeout=5)
    error, took = w.call(f)
    assert (type(error), took) == (o.CallTimeout, 5)


def what_ends_the_program_passes_a_hedge_at_once(w):
    for stop in (KeyboardInterrupt, SystemExit, GeneratorExit):
        f = w.decorate([stop()], hedge=5, fallback=0, retries=1)
        assert isinstance(w.call(f)[0], stop)
        assert stats(f, cancelled=1, attempts=1)
