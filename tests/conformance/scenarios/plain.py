"""Plain calls, and every policy in one order."""

from world import stats

import opero as o
from garbage import uncollected


def a_plain_call_counts_once(w):
    f = w.decorate([7])
    assert w.call(f) == (7, 0)
    assert stats(f, calls=1, ok=1, attempts=1, retries=0, errors=0, active=0)


def what_ends_the_program_is_never_retried_counted_or_swallowed(w):
    for stop in (KeyboardInterrupt, SystemExit, GeneratorExit):
        policy = o.CircuitBreaker(min_calls=1)
        f = w.decorate([stop()], policies=[policy, o.Retry(3), o.Fallback(0), o.Bulkhead(1)])
        assert isinstance(w.call(f)[0], stop)
        assert policy.circuit.read(w.time.now())[:2] == ("closed", 0)
        assert len(w.calls) == 1
        assert stats(f, calls=1, cancelled=1, errors=0, ok=0, fallbacks=0, active=0)


def everything_together_in_one_order(w):
    f = w.decorate(
        [OSError(), 7],
        retries=2,
        jitter="none",
        min_delay=1,
        timeout=10,
        attempt_timeout=5,
        circuit_breaker=True,
        rate_limit="100/s",
        bulkhead=2,
        fallback=0,
        arg_fallback="value",
    )
    assert w.call(f, "x") == (7, 1)
    places = [
        "fallback",
        "timeout",
        "retry",
        "arg_fallback",
        "circuit_breaker",
        "rate_limit",
        "bulkhead",
        "attempt_timeout",
    ]
    assert [policy.place for policy in f.opero.policies] == places


def an_error_leaves_no_circle_behind(w):
    import weakref

    class Mine(Exception):
        pass

    f = w.decorate([Mine, Mine], retries=1, circuit_breaker=True, jitter="none", min_delay=1)
    with uncollected():
        error, _ = w.call(f)
        first, last = weakref.ref(o.attempts(error)[0].error), weakref.ref(error)
        del error
        assert (first(), last()) == (None, None)
