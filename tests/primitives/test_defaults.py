"""What a policy does if it is told nothing: these numbers are promised."""

from datetime import timedelta

import pytest

import opero as o

PROMISED = {
    o.Retry: {"retries": 3, "jitter": "full", "on": Exception, "on_result": None, "budget": None, "nested": False},
    o.RetryBudget: {"ratio": 0.07, "min_per_second": 0.1, "cap": 200, "shadow": False},
    o.CircuitBreaker: {
        "failure_ratio": 0.5, "min_calls": 20, "window": 10, "calls": None, "consecutive": None, "slow_call": None,
        "slow_ratio": 1, "reset_after": 5, "max_reset_after": 60, "jitter": 0.1, "half_open_probes": 10, "key": None,
        "on": Exception, "ignore": (), "shadow": False, "store": None, "max_keys": 1_000,
    },
    o.RateLimit: {"per": 1, "burst": None, "wait": True, "key": None, "weight": 1, "store": None, "max_keys": 10_000},
    o.Bulkhead: {"max_queue": 0, "max_wait": None, "store": None, "shadow": False},
    o.Timeout: {"attempt": None, "how": "thread"},
    o.Hedge: {"max_hedges": 1},
    o.ArgFallback: {"alternatives": None, "on": None, "cooldown": None, "spread": False, "refresh": None},
    o.Chaos: {"latency": 0, "error": None, "rate": 1, "window": None, "seed": None, "enabled": False},
    o.Cache: {
        "soft_ttl": None, "backend": "memory", "max_entries": 10_000, "max_bytes": None, "signing_key": None,
        "encryption_key": None, "compress_above": None, "max_inflated": 64 << 20, "patience": 0.05, "lease": 10,
        "error_ttl": 1, "stale_if_error": 0, "early": 0, "jitter": 0,
    },
}  # fmt: skip
NEEDED = {o.Chaos: {"result": 1}, o.ArgFallback: {"parameter": "x"}, o.Cache: {"ttl": 5}, o.Hedge: {"delay": 1}}
NEEDED |= {o.RateLimit: {"rate": 5}, o.Bulkhead: {"limit": 5}, o.Timeout: {"seconds": 5}}
BESIDE = {"max_keys": {"key": "x"}, "slow_ratio": {"slow_call": 1}}  # without which nothing would read it


BOUNDS = [  # field, what is taken, what is just too little or too much
    (o.Retry, "retries", [0], [-1]),
    (o.RetryBudget, "ratio", [0, 1], [-0.01, 1.01]),
    (o.RetryBudget, "min_per_second", [0], [-0.01]),
    (o.RetryBudget, "cap", [1], [0.99]),
    (o.CircuitBreaker, "failure_ratio", [0.01, 1], [0, 1.01]),
    (o.CircuitBreaker, "min_calls", [1], [0]),
    (o.CircuitBreaker, "calls", [20], [0, 19]),
    (o.CircuitBreaker, "window", [0.001], [0.0009]),
    (o.CircuitBreaker, "consecutive", [1], [0]),
    (o.CircuitBreaker, "slow_call", [0.01], [0]),
    (o.CircuitBreaker, "slow_ratio", [0.01, 1], [0, 1.01]),
    (o.CircuitBreaker, "reset_after", [0.01, 60], [0]),
    (o.CircuitBreaker, "max_reset_after", [5], [4.99]),
    (o.CircuitBreaker, "jitter", [0, 1], [-0.01, 1.01]),
    (o.CircuitBreaker, "half_open_probes", [1], [0]),
    (o.CircuitBreaker, "on_result", [bool], [1]),
    (o.CircuitBreaker, "max_keys", [1], [0]),
    (o.RateLimit, "rate", [0.01], [0]),
    (o.RateLimit, "per", [0.01], [0]),
    (o.RateLimit, "burst", [1], [0]),
    (o.RateLimit, "weight", [0], [-0.01]),
    (o.RateLimit, "wait", [0, 0.01], [-0.01]),
    (o.RateLimit, "max_keys", [1], [0]),
    (o.Bulkhead, "limit", [1], [0]),
    (o.Bulkhead, "max_queue", [0], [-1]),
    (o.Bulkhead, "max_wait", [0], [-0.01]),
    (o.Timeout, "seconds", [0.01], []),
    (o.Hedge, "delay", [0], [-0.01]),
    (o.Hedge, "max_hedges", [1], [0]),
    (o.ArgFallback, "cooldown", [0], [-0.01]),
    (o.Chaos, "latency", [0.01], [-0.01]),
    (o.Chaos, "rate", [0, 1], [-0.01, 1.01]),
]


@pytest.mark.parametrize(
    ("kind", "field", "taken", "refused"), BOUNDS, ids=lambda part: getattr(part, "__name__", str(part))
)
def test_a_bound_is_where_it_is(kind, field, taken, refused):
    for value in taken:
        assert kind(**{**NEEDED.get(kind, {}), **BESIDE.get(field, {}), field: value}).settings[field] == value
    for value in refused:
        with pytest.raises(o.ConfigurationError) as caught:
            kind(**{**NEEDED.get(kind, {}), **BESIDE.get(field, {}), field: value})
        assert caught.value.field == field


@pytest.mark.parametrize("kind", PROMISED, ids=lambda kind: kind.__name__)
def test_a_default_is_what_was_promised(kind):
    settings = kind(**NEEDED.get(kind, {})).settings
    assert {name: settings[name] for name in PROMISED[kind]} == PROMISED[kind]


def test_a_fallback_and_a_retry_leave_the_fast_path_to_calls_that_succeed():
    assert o.Fallback(0).fragment() is not None
    assert o.Retry().fragment() is not None
    assert o.Fallback(0, on_result=bool).fragment() is o.Retry(on_result=bool).fragment() is None
    assert (o.Retry().minds_refusals, o.Retry.reads_arguments, o.Chaos.reads_arguments) == (False, False, False)


def test_a_circuit_may_open_at_its_first_call():
    assert o.CircuitBreaker(calls=1, min_calls=1).calls == 1


def test_a_retry_minds_refusals_where_it_might_retry_them():
    plain = [o.Retry(on=on).minds_refusals for on in (OSError, (OSError, KeyError))]
    ours = [o.Retry(on=on).minds_refusals for on in (o.CircuitOpenError, (OSError, o.CircuitOpenError), str.isdigit)]
    assert (plain, ours) == ([False] * 2, [True] * 3)
    assert o.Retry(strategies={OSError: "raise"}).minds_refusals


SECOND = timedelta(seconds=1)


def test_a_duration_may_be_a_timedelta():
    policies = [
        o.Timeout(SECOND), o.Timeout(attempt=SECOND), o.Hedge(SECOND), o.Bulkhead(1, max_queue=1, max_wait=SECOND),
        o.RateLimit(1, per=SECOND, wait=SECOND), o.ArgFallback("x", cooldown=SECOND), o.Retry(wait=SECOND),
        o.CircuitBreaker(window=SECOND, slow_call=SECOND, reset_after=SECOND, max_reset_after=SECOND),
    ]  # fmt: skip
    for policy in policies:
        seconds = [value for value in policy.settings.values() if isinstance(value, float) and value == 1.0]
        assert seconds or policy.wait.delay(1, 0, None) == 1.0
        assert not any(isinstance(value, timedelta) for value in policy.settings.values())
    waits = [o.waits.exponential(SECOND), o.waits.linear(SECOND, step=SECOND), o.waits.sequence(SECOND)]
    waits += [o.waits.fibonacci(SECOND), o.waits.between(SECOND, SECOND), o.Retry(wait=lambda n, outcome: SECOND).wait]
    assert [wait.delay(1, 0, None) for wait in waits] == [1.0] * 6
    assert (o.stops.elapsed(SECOND)(1, 1, 0), o.stops.before(SECOND)(1, 1, 1)) == (True, True)
    f = o.opero(timeout=SECOND, attempt_timeout=SECOND, hedge=SECOND, min_delay=SECOND, max_delay=2 * SECOND)(len)
    assert f("abc") == 3


@pytest.mark.parametrize("wrong", [timedelta(0), timedelta(seconds=-1)])
def test_a_timedelta_is_held_to_the_same_bounds(wrong):
    with pytest.raises(o.ConfigurationError, match="timeout takes a number of seconds, above 0"):
        o.Timeout(wrong)
