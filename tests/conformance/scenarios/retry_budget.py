"""RetryBudget: what retries cost and what successes bring in."""

from world import stats

import opero as o


def a_spent_retry_budget_leaves_the_error_as_it_is(w):
    policy = o.RetryBudget(min_per_second=0)
    f = w.decorate([OSError(n) for n in range(99)], policies=[o.Retry(1, budget=policy)])
    for _ in range(10):
        w.call(f)
    assert len(w.calls) == 20
    error, took = w.call(f)
    assert (str(error), took, len(w.calls)) == ("20", 0, 21)
    assert error.__notes__ == ["opero: 1 attempt in under 1 ms, the retry budget is spent"]
    assert w.names()[-1] == "retry.budget_exhausted"
    assert w.heard[-1].fields["utilization"] == 1
    assert stats(f, calls=11, attempts=21, retries=10, rejected=1)


def a_retry_that_succeeds_costs_nothing_and_a_success_brings_something_in(w):
    policy = o.RetryBudget(0.5, min_per_second=0, cap=2)
    f = w.decorate([OSError(), 7] * 50 + [OSError()] * 5 + [7, 7] + [OSError()] * 2, policies=[policy, o.Retry(1)])
    assert [w.call(f)[0] for _ in range(50)] == [7] * 50
    for attempts in (2, 2, 1):
        before = len(w.calls)
        w.call(f)
        assert len(w.calls) - before == attempts
    w.call(f)
    w.call(f)
    before = len(w.calls)
    w.call(f)
    assert len(w.calls) - before == 2


def one_budget_may_serve_several_functions(w):
    policy = o.RetryBudget(min_per_second=0, cap=1)
    f = w.decorate([OSError()] * 9, policies=[policy, o.Retry(1)])
    g = w.decorate([OSError()] * 9, policies=[policy, o.Retry(1)])
    w.call(f)
    w.call(g)
    assert [x.opero.stats()["attempts"] for x in (f, g)] == [2, 1]


def a_first_attempt_that_succeeds_refunds_nothing(w):
    policy = o.RetryBudget(0.001, min_per_second=0, cap=1)
    f = w.decorate([OSError(), OSError(), 7, OSError()], policies=[policy, o.Retry(1)])
    w.call(f)
    assert w.call(f)[0] == 7
    assert isinstance(w.call(f)[0], OSError)
    assert len(w.calls) == 4


def a_retry_that_is_called_off_gives_its_token_back(w):
    flag = w.flag()
    policy = o.RetryBudget(0.001, min_per_second=0, cap=1)
    looks = iter([False, True])
    flag.is_set = lambda: next(looks, True)
    f = w.decorate([OSError()], policies=[policy, o.Retry(1, wait=1, stop=o.stops.event(flag))])
    w.call(f)
    assert w.heard[-1].fields == {"attempts": 1, "reason": "stop", "error": "OSError"}
    g = w.decorate([OSError(), 7], policies=[policy, o.Retry(1)])
    assert w.call(g)[0] == 7
