"""Absurd numbers are refused when written, or do what they say."""

import asyncio
import math

import pytest

import opero as o
from opero import conditions, stops, testing, waits

HUGE, TINY = 1e308, 5e-324


def plain():
    return 7


async def coroutine():
    return 7


@pytest.mark.parametrize("value", [0, -1, math.inf, -math.inf, math.nan, True, "1", None], ids=repr)
@pytest.mark.parametrize(
    "make",
    [
        o.RateLimit,
        lambda v: o.RateLimit(1, per=v),
        o.Timeout,
        lambda v: o.Timeout(attempt=v),
        o.Bulkhead,
        lambda v: o.CircuitBreaker(failure_ratio=v if v is not True else 2),
        lambda v: o.CircuitBreaker(window=v if v is not True else TINY),
        lambda v: o.CircuitBreaker(reset_after=v),
        lambda v: o.CircuitBreaker(min_calls=v),
        lambda v: o.CircuitBreaker(half_open_probes=v),
    ],
    ids=["rate", "per", "timeout", "attempt", "limit", "ratio", "window", "reset", "min_calls", "probes"],
)
def test_what_makes_no_sense_is_refused(make, value):
    with pytest.raises(o.ConfigurationError):
        make(value)


GOOGOL = 10**400  # an int that is no float


REFUSED = [
    lambda: o.Retry(wait=GOOGOL),
    lambda: o.Timeout(GOOGOL),
    lambda: o.Timeout(attempt=-GOOGOL),
    lambda: o.RateLimit(GOOGOL),
    lambda: o.RateLimit(1, burst=GOOGOL),
    lambda: o.RateLimit(HUGE, per=1e-308),
    lambda: o.RateLimit(f"{HUGE}/{1e-308:.400f}s"),
    lambda: o.RateLimit("1e308/0.001s"),
    lambda: o.RateLimit(TINY),
    lambda: o.RateLimit(1e-300, burst=10**300),
    lambda: conditions.status("429"),
    lambda: conditions.status([429, 503]),
    lambda: conditions.status(429.5),
    lambda: conditions.status(True),
    lambda: waits.sequence(0.0) + "5",
    lambda: "5" + waits.sequence(0.0),
    lambda: waits.sequence(0.0) + -1,
    lambda: waits.constant(1) + waits.between(0, 2),
    lambda: waits.retry_after(waits.sequence(1)) + 5,
    lambda: waits.by_error({OSError: 1}) + 5,
    lambda: 5 + waits.sequence(1),
    lambda: waits.by_error({OSError: 1, ConnectionError: 2}),
    lambda: o.Retry(strategies={(ValueError, OSError): "raise", TimeoutError: "retry"}),
    lambda: o.Fallback(by={Exception: 0, OSError | ValueError: 1}),
    lambda: stops.event(None),
    lambda: o.Fallback(by={OSError: o.Retry(2)}),
    lambda: o.Fallback(by=[OSError]),
    lambda: o.ArgFallback("key", alternatives=["a"], cooldown=1, refresh=5),
]


@pytest.mark.parametrize("make", REFUSED, ids=map(str, range(len(REFUSED))))
def test_what_cannot_be_meant_is_refused_as_everything_else(make):
    with pytest.raises(o.ConfigurationError):
        make()


def test_a_wait_without_an_end_names_the_sum():
    with pytest.raises(o.ConfigurationError, match="summed"):
        waits.exponential() + waits.between(0, 1)


def test_a_class_before_its_base_class_is_an_own_rule():
    wait = waits.by_error({ConnectionError: 1, OSError | ConnectionError: 2, Exception: 3})
    assert [wait.delay(1, 0, error) for error in (ConnectionError(), OSError(), KeyError())] == [1, 2, 3]


def test_a_wait_adds_what_may_stand_for_one():
    with testing.clock() as clock:
        for wait, total in (
            (waits.sequence(1) + 5, 11),
            (waits.sequence(1) + (lambda n, _: 7), 15),
            (sum([waits.sequence(1), waits.constant(2)], waits.sequence(3)), 6),
            (waits.sequence(1) + waits.sequence(2) + 4, 7),
        ):
            began = clock.now()
            with pytest.raises(ZeroDivisionError):
                o.opero(o.Retry(3, wait=wait, jitter="none"))(lambda: 1 / 0)()
            assert clock.now() - began == total


POLICIES = {
    "rate": lambda: o.RateLimit(HUGE),
    "burst": lambda: o.RateLimit(1, burst=10**300),
    "per": lambda: o.RateLimit(1, per=HUGE),
    "tiny rate": lambda: o.RateLimit(TINY, burst=1),
    "wait": lambda: o.RateLimit(1, wait=HUGE),
    "several": lambda: o.RateLimit("1e300/s; 1e-300/day"),
    "timeout": lambda: o.Timeout(HUGE),
    "attempt timeout": lambda: o.Timeout(attempt=HUGE),
    "tiny timeout": lambda: o.Timeout(TINY),
    "tiny cooperative timeout": lambda: o.Timeout(TINY, how="cooperative"),
    "bulkhead": lambda: o.Bulkhead(10**300, max_queue=10**300, max_wait=HUGE),
    "breaker": lambda: o.CircuitBreaker(window=HUGE, reset_after=HUGE, max_reset_after=HUGE, min_calls=10**300),
    "tiny breaker": lambda: o.CircuitBreaker(window=0.001, reset_after=TINY, slow_call=TINY, min_calls=1),
    "chaos": lambda: o.Chaos(latency=TINY, rate=TINY, enabled=True),
}


@pytest.mark.parametrize("make", POLICIES.values(), ids=POLICIES.keys())
@pytest.mark.parametrize("function", [plain, coroutine], ids=["plain", "coroutine"])
def test_huge_and_tiny_settings_work_or_refuse(make, function):
    for _ in range(3):
        try:
            f = o.opero(make())(function)
            answer = asyncio.run(f()) if function is coroutine else f()
        except (o.ConfigurationError, o.Rejected, o.CallTimeout):
            continue
        assert answer == 7
        break


def test_a_call_that_would_wait_for_ages_waits_so_long_on_a_virtual_clock():
    f = o.opero(o.RateLimit(1, per=1e9, burst=1))(plain)
    with testing.clock(start=0) as time:
        assert (f(), f()) == (7, 7)
        assert time.elapsed() == pytest.approx(1e9)


def test_a_wall_clock_that_jumps_changes_nothing(monkeypatch):
    limit, breaker = o.RateLimit(1, per=60, burst=1, wait=False), o.CircuitBreaker(min_calls=1, reset_after=60)
    limited = o.opero(limit)(plain)

    @o.opero(breaker)
    def down():
        raise OSError

    assert limited() == 7
    with pytest.raises(OSError):
        down()
    for jump in (1e9, -1e9):
        monkeypatch.setattr("opero.clock.wall", lambda jump=jump: 1.7e9 + jump)
        with pytest.raises(o.RateLimitedError):
            limited()
        with pytest.raises(o.CircuitOpenError):
            down()


@pytest.mark.parametrize(
    ("make", "takes"),
    [
        (o.Timeout, "a number of seconds, above 0, "),
        (waits.constant, "a number of seconds, 0 or more, "),
        (stops.elapsed, "a number of seconds, 0 or more, "),
        (o.RateLimit, "calls per second as a number above 0, .*; numbers are "),
        (lambda value: o.opero(rate_limit=value), "calls per second as a number above 0, .*; numbers are "),
    ],
    ids=["timeout", "constant", "elapsed", "rate", "rate_limit"],
)
def test_what_has_no_end_is_told_to_be_finite_and_how_to_have_no_limit(make, takes):
    for value in (math.inf, GOOGOL):
        with pytest.raises(o.ConfigurationError, match=f" takes {takes}finite; for no limit leave it out"):
            make(value)
    for value in (-math.inf, -1, "x"):
        with pytest.raises(o.ConfigurationError) as caught:
            make(value)
        assert "finite" not in str(caught.value)


def test_what_is_no_number_is_told_to_be_finite_and_a_bounded_one_its_bound():
    with pytest.raises(o.ConfigurationError, match=r"timeout=nan: timeout takes a number of seconds, above 0, finite$"):
        o.Timeout(math.nan)
    with pytest.raises(o.ConfigurationError, match=r"ratio=inf: ratio takes a number, 0 or more, up to 1$"):
        o.RetryBudget(math.inf)
