"""A setting takes what can be meant: True or False, seconds, a number, a text; all else is refused by its name."""

import inspect
from datetime import timedelta

import pytest

import opero as o
from opero import stops, waits
from opero.policy import Policy

SECOND = timedelta(seconds=1)
VALUES = {
    "no": "no", "''": "", "True": True, "None": None, "1": 1, "0.5": 0.5, "-1": -1, "nan": float("nan"), "1j": 1j,
    "timedelta": SECOND, "[]": [], "()": (), "[1]": [1], "{}": {}, "{1:1}": {1: 1}, "b'x'": b"x", "object": object(),
    "OSError": OSError, "len": len, "policy": o.Retry(1),
}  # fmt: skip
TAKEN = {  # which of them each setting takes
    "True": "Bulkhead.shadow RetryBudget.shadow CircuitBreaker.shadow Chaos.enabled ArgFallback.spread Retry.nested",
    "1 0.5 timedelta": "Timeout.seconds Timeout.attempt RateLimit.per CircuitBreaker.window CircuitBreaker.reset_after "
    "Cache.error_ttl Cache.lease Cache.patience Cache.stale_if_error CircuitBreaker.max_reset_after Hedge.delay "
    "Chaos.latency",
    "None 1 0.5 timedelta": "Retry.wait CircuitBreaker.slow_call Cache.soft_ttl Cache.near Bulkhead.max_wait "
    "ArgFallback.cooldown Bulkhead.target",
    "True 1 0.5 timedelta": "RateLimit.wait",
    "None 1 0.5 timedelta OSError len": "Cache.ttl",
    "1 0.5": "RateLimit.rate RetryBudget.ratio RetryBudget.min_per_second CircuitBreaker.failure_ratio "
    "CircuitBreaker.slow_ratio CircuitBreaker.jitter Cache.jitter Cache.early Chaos.rate",
    "1": "CircuitBreaker.half_open_probes CircuitBreaker.min_calls CircuitBreaker.max_keys RateLimit.max_keys "
    "Bulkhead.limit Cache.max_entries Cache.max_inflated Hedge.max_hedges Retry.retries RetryBudget.cap",
    "None 1": "Bulkhead.max_queue RateLimit.lease RateLimit.burst CircuitBreaker.calls CircuitBreaker.consecutive "
    "Cache.max_bytes Cache.compress_above",
    "None 1 -1": "Chaos.seed",
    "1 0.5 OSError len": "RateLimit.weight",
    "no '' 1 -1": "Cache.version",
    "no": "ArgFallback.parameter",
    "no None": "Bulkhead.name Cache.name Chaos.name CircuitBreaker.name Hedge.name RateLimit.name Retry.name "
    "RetryBudget.name Timeout.name Cache.directory Cache.namespace RetryBudget.control Bulkhead.control",
    "no None OSError len": "RateLimit.key CircuitBreaker.key Cache.key",
    "no [] () OSError len": "Cache.tags",
    "None": "Bulkhead.store RateLimit.store RetryBudget.store CircuitBreaker.store Cache.url Cache.signing_key "
    "Cache.encryption_key Retry.budget Chaos.window",
    "None [1]": "ArgFallback.alternatives",
    "OSError len": "Retry.on Fallback.on CircuitBreaker.on",
    "None OSError": "Retry.stop",
    "None OSError len": "Retry.on_result CircuitBreaker.on_result Fallback.on_result Cache.cache_if "
    "ArgFallback.on ArgFallback.refresh Chaos.error",
    "() OSError len": "CircuitBreaker.ignore",
    "() OSError": "Cache.errors",
    "None {}": "Retry.strategies Fallback.by",
    "": "Retry.jitter Retry.generator Timeout.how Cache.eviction Cache.backend",
}
ANYTHING = {"Chaos.result"}
NEEDED = {
    o.ArgFallback: {"parameter": "x"}, o.Bulkhead: {"limit": 3}, o.Cache: {"ttl": 5}, o.Chaos: {"result": 1},
    o.Hedge: {"delay": 1}, o.RateLimit: {"rate": 5}, o.Timeout: {"seconds": 3},
}  # fmt: skip
BESIDE = {  # without which nothing would read it
    "RateLimit.max_keys": {"key": "x"}, "CircuitBreaker.max_keys": {"key": "x"},
    "CircuitBreaker.slow_ratio": {"slow_call": 1}, "CircuitBreaker.calls": {"min_calls": 1},
    "CircuitBreaker.max_reset_after": {"reset_after": 0.01}, "Cache.error_ttl": {"errors": OSError},
    "Cache.lease": {"directory": "/nowhere"}, "Cache.compress_above": {"directory": "/nowhere"},
    "Cache.near": {"backend": "redis", "signing_key": b"x" * 32},
    "RateLimit.lease": {"store": "redis://127.0.0.1:1", "name": "x"},
    "Bulkhead.shadow": {"control": "adaptive"}, "RetryBudget.shadow": {"control": "adaptive"},
    "Bulkhead.target": {"control": "adaptive"}, "Bulkhead.max_wait": {"max_queue": 3},
    "ArgFallback.refresh": {"alternatives": [1], "cooldown": 1}, "Timeout.attempt": {"seconds": None},
}  # fmt: skip
KINDS = [kind for kind in (getattr(o, n) for n in o.__all__) if isinstance(kind, type) and issubclass(kind, Policy)]
SETTINGS = {
    f"{kind.__name__}.{parameter.name}": kind
    for kind in KINDS
    for parameter in inspect.signature(kind).parameters.values()
    if parameter.kind is not parameter.VAR_POSITIONAL
}
TABLE = {setting: labels.split() for labels, settings in TAKEN.items() for setting in settings.split()}


def made(setting, value):
    kind, name = SETTINGS[setting], setting.partition(".")[2]
    settings = {**NEEDED.get(kind, {}), **BESIDE.get(setting, {}), name: value}
    return getattr(kind(*([0] if kind is o.Fallback else []), **settings), name)


def is_taken(setting, value):
    try:
        made(setting, value)
    except o.ConfigurationError:
        return False
    return True


@pytest.mark.parametrize("setting", [setting for setting in SETTINGS if setting not in ANYTHING])
def test_a_setting_takes_what_can_be_meant(setting):
    taken = [label for label, value in VALUES.items() if is_taken(setting, value)]
    assert taken == sorted(TABLE[setting], key=[*VALUES].index)


@pytest.mark.parametrize("setting", [each for each in SETTINGS if each not in ANYTHING])
def test_what_is_taken_is_kept(setting):
    for label in TABLE[setting]:
        if label not in {"None", "timedelta", "True"}:
            kept = made(setting, VALUES[label])
            assert kept is not None, label


TRUTHS = [setting for setting, labels in TABLE.items() if labels == ["True"]]


@pytest.mark.parametrize("setting", TRUTHS)
def test_a_text_is_no_truth_and_the_message_says_what_is(setting):
    name = setting.partition(".")[2]
    assert made(setting, value=False) is False
    with pytest.raises(o.ConfigurationError, match=f"{name}='no': {name} takes True or False"):
        made(setting, "no")


@pytest.mark.parametrize("setting", [setting for setting, labels in TABLE.items() if "timedelta" in labels])
def test_a_timedelta_is_seconds(setting):
    assert repr(made(setting, SECOND)) == repr(made(setting, 1.0))


@pytest.mark.parametrize("setting", ["Chaos.latency", "Chaos.window"])
def test_a_timedelta_may_begin_and_end_a_span(setting):
    assert made(setting, (SECOND, 2)) == made(setting, [1, 2 * SECOND]) == (1.0, 2.0)


WAITS = {
    "constant": waits.constant, "sequence": waits.sequence, "linear": waits.linear, "exponential": waits.exponential,
    "fibonacci": waits.fibonacci, "decorrelated_jitter": waits.decorrelated_jitter, "summed": waits.summed,
    "between": lambda second: waits.between(second, second), "high": lambda second: waits.retry_after(high=second),
    "by_error": lambda second: waits.by_error({OSError: second}), "elapsed": stops.elapsed, "before": stops.before,
    "strategy": lambda second: o.Strategy(wait=second), "chain": lambda second: waits.sequence(0) + second,
}  # fmt: skip


@pytest.mark.parametrize("make", WAITS.values(), ids=WAITS)
def test_waits_and_stops_take_a_timedelta_too(make):
    assert repr(make(SECOND)) == repr(make(1))
    for wrong in ("1 s", True):
        with pytest.raises(o.ConfigurationError):
            make(wrong)
