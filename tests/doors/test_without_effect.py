"""A setting that nothing would read is refused where it is written, with the way out; what can be meant is done."""

import asyncio

import pytest
from aiolimiter import AsyncLimiter

import opero as o
from opero import config

UNREAD = [
    (lambda: o.Bulkhead(1, max_queue=0, max_wait=1), "max_wait", "max_queue="),
    (lambda: o.Bulkhead(1, target=0.1), "target", "control="),
    (lambda: o.Bulkhead(1, shadow=True), "shadow", "control="),
    (lambda: o.RetryBudget(shadow=True), "shadow", "control="),
    (lambda: o.RateLimit("10/s", per=60), "per", '"10/60s"'),
    (lambda: o.RateLimit("10/s; 100/min", 5), "per", '"10/60s"'),
    (lambda: o.RateLimit(1, max_keys=5), "max_keys", "key="),
    (lambda: o.RateLimit(AsyncLimiter(1), per=60), "per", "limiter"),
    (lambda: o.RateLimit(AsyncLimiter(1), burst=2), "burst", "limiter"),
    (lambda: o.RateLimit(AsyncLimiter(1), key="x"), "key", "limiter"),
    (lambda: o.RateLimit(AsyncLimiter(1), store="redis://localhost", name="shop"), "store", "limiter"),
    (lambda: o.CircuitBreaker(slow_ratio=0.5), "slow_ratio", "slow_call="),
    (lambda: o.CircuitBreaker(calls=50, window=30), "window", "calls="),
    (lambda: o.CircuitBreaker(consecutive=3, failure_ratio=0.1), "failure_ratio", "consecutive="),
    (lambda: o.CircuitBreaker(consecutive=3, min_calls=1), "min_calls", "slow_call="),
    (lambda: o.ArgFallback("x", alternatives=[1], refresh=list), "refresh", "cooldown="),
    (lambda: o.CircuitBreaker(max_keys=5), "max_keys", "key="),
    (lambda: o.CircuitBreaker(consecutive=3, calls=10, min_calls=5), "min_calls", "slow_call="),
    (lambda: o.Strategy("raise", limit=3), "limit", "gives up at once"),
    (lambda: o.Strategy("fallback", wait=3), "wait", "gives up at once"),
    (lambda: o.opero(o.Timeout(1), retry_budget=0.1)(abs), "retry_budget", "retries=3"),
    (lambda: o.CircuitBreaker(reset_after=120), "reset_after", "max_reset_after="),
]


@pytest.mark.parametrize(("make", "field", "way"), UNREAD, ids=[f"{n}-{u[1]}" for n, u in enumerate(UNREAD)])
def test_what_nothing_would_read_is_refused_with_the_way_out(make, field, way):
    with pytest.raises(o.ConfigurationError) as refused:
        make()
    assert refused.value.field == field
    assert str(refused.value).startswith(f"{field}=")
    assert way in refused.value.allowed


async def coroutine():
    return 1


async def items():
    yield 1


@pytest.mark.parametrize("how", ["signal", "cooperative"])
def test_how_to_end_a_blocking_function_is_refused_around_what_is_cancelled(how):
    for function in (coroutine, items):
        with pytest.raises(o.ConfigurationError, match="how takes nothing but 'thread' around a coroutine") as refused:
            o.opero(o.Timeout(1, how=how))(function)
        assert refused.value.field == "how"
    assert asyncio.run(o.opero(o.Timeout(1, how="thread"))(coroutine)()) == 1
    assert o.opero(o.Timeout(1, how=how))(abs)(-1) == 1


def test_what_is_read_is_taken():
    o.Bulkhead(1, max_queue=0, max_wait=0)
    o.Bulkhead(1, target=0.1, shadow=True, control="adaptive")
    o.RetryBudget(shadow=True, control="adaptive")
    o.RateLimit("10/s", 1.0)
    o.RateLimit(1, max_keys=5, key="x")
    o.CircuitBreaker(slow_ratio=0.5, slow_call=1)
    o.CircuitBreaker(consecutive=3, min_calls=1, slow_call=1)
    o.CircuitBreaker(consecutive=3, window=60)
    o.CircuitBreaker(max_keys=5, key="x")
    o.CircuitBreaker(consecutive=3, calls=10)
    o.CircuitBreaker(consecutive=30, calls=10)
    o.Strategy("retry", limit=3, wait=1)
    o.Strategy("rotate", limit=3, wait=1)
    o.opero(retry_budget=0.1)(abs)
    o.opero(o.RetryBudget(), o.Hedge(1))(abs)
    o.opero(o.RetryBudget(), o.Timeout(1))(abs)  # its successes may pay for another function's retries
    o.opero(retries=0, retry_budget=0.1)(abs)  # retries may be switched off by a configuration
    o.opero(retry_budget=0.1)(abs).opero.with_(retries=0)
    assert o.CircuitBreaker(reset_after=120, max_reset_after=120).max_reset_after == 120


def test_who_says_how_long_to_wait_for_a_slot_wants_to_wait():
    running = []

    @o.opero(o.Bulkhead(2, max_wait=5))
    async def f():
        running.append(1)
        await asyncio.sleep(0)
        return len(running)

    async def main():
        return await asyncio.gather(*(f() for _ in range(23)), return_exceptions=True)

    answers = asyncio.run(main())
    assert [type(answer) for answer in answers] == [int] * 22 + [o.BulkheadFullError]
    assert (o.Bulkhead(2, max_wait=5).max_queue, o.Bulkhead(2).max_queue, o.Bulkhead(2, max_wait=0).max_queue) == (
        20,
        0,
        0,
    )


@pytest.mark.parametrize(
    ("text", "rate", "per"),
    [
        ("10 per minute", 10, 60), ("10/minutes", 10, 60), ("10 per 2 hours", 10, 7200), ("5/10 seconds", 5, 10),
        ("1 PER day", 1, 86400), ("3/mins", 3, 60), ("3/hrs", 3, 3600),
    ],
)  # fmt: skip
def test_rates_are_read_as_people_write_them(text, rate, per):
    assert (o.RateLimit(text).rate, o.RateLimit(text).per) == (rate, per)


@pytest.mark.parametrize(
    "text", ["10 per", "per minute", "10 perminute", "10per s", "10/s/s", "10/ss", "10 minute", "10/0 seconds"]
)
def test_what_is_no_rate_stays_none(text):
    with pytest.raises(o.ConfigurationError, match="rate takes calls per second"):
        o.RateLimit(text)


def test_a_keyword_reads_rates_so_too():
    made = o.opero(retries=0, rate_limit="10 per minute")(len)
    assert made.opero.policies[0].per == 60
    with pytest.raises(o.ConfigurationError, match="rate_limit='10 per fortnight': rate_limit takes calls per second"):
        o.opero(rate_limit="10 per fortnight")


def test_several_rates_may_be_written_so_too():
    assert o.RateLimit("10 per second; 100 per minute").local.given() == [(0.1, 10), (0.6, 100)]


WRONG = [
    ({"rate_limit": "x/s"}, "rate_limit"),
    ({"min_delay": 5, "max_delay": 1}, "min_delay"),
    ({"circuit_breaker": {"failure_ratio": 7}}, "circuit_breaker.failure_ratio"),
    ({"retry_on": ["Nothing"]}, "retry_on"),
    ({"operations": {"shop": {"rate_limit": "x/s"}}}, "operations.shop.rate_limit"),
]


@pytest.mark.parametrize(("values", "field"), WRONG, ids=[w[1] for w in WRONG])
def test_a_configuration_fails_where_it_is_made_and_names_the_field(values, field):
    with pytest.raises(o.ConfigurationError) as refused:
        o.OperoConfig.from_dict(values)
    assert refused.value.field == field
    with pytest.raises(o.ConfigurationError) as refused:
        o.OperoConfig(**values)
    assert refused.value.field == field


def test_a_configuration_given_in_place_is_checked_too():
    with pytest.raises(o.ConfigurationError, match="rate_limit='x/s': rate_limit takes calls per second"):
        config.OperoConfig(operations={"shop": config.OperoConfig(rate_limit="x/s")})
