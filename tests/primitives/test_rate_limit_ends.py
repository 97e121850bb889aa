"""A call with a quota ends, however it waits: each is given some seconds, and no test waits for ever."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import pytest

import opero as o
from ending import ended
from opero import clock, testing


def now():
    return clock.now()


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("rate", ["1/s", "1/s; 60/min"])
def test_plain_calls_wait_for_their_turn_and_end(rate, count):
    limit = o.RateLimit(rate, burst=1)
    f = o.opero(limit, retries=0)(now)

    def calls():
        with ThreadPoolExecutor(count) as threads:
            began = clock.now()
            return sorted(round(call.result(60) - began, 3) for call in [threads.submit(f) for _ in range(count)])

    assert ended(calls) == [list(range(count)), pytest.approx(count - 1)]


@pytest.mark.parametrize("count", [1, 2, 3])
def test_coroutines_wait_for_their_turn_and_end(count):
    @o.opero(o.RateLimit("1/s", burst=1), retries=0)
    async def f():
        return now()

    async def main():
        began = clock.now()
        return sorted(round(at - began, 3) for at in await asyncio.gather(*[f() for _ in range(count)]))

    assert ended(lambda: asyncio.run(main())) == [list(range(count)), pytest.approx(count - 1)]


@pytest.mark.parametrize(
    ("wait", "outcome"), [(True, 120), (150, 120), (90, o.RateLimitedError), (False, o.RateLimitedError)]
)
def test_who_would_wait_too_long_is_refused_at_once(wait, outcome):
    limit = o.RateLimit("1/min", burst=1, wait=wait)
    f = o.opero(limit, retries=0)(now)

    def calls():
        began = f()
        limit.local.quota.book(began, 600, 1)
        return round(f() - began, 3)

    assert ended(calls) == [outcome, pytest.approx(120 if outcome == 120 else 0)]


def test_where_waits_are_left_out_all_go_at_once():
    f = o.opero(o.RateLimit("1/min", burst=1), retries=0)(lambda: 1)
    with testing.no_waits():
        assert ended(lambda: [f() for _ in range(3)]) == [[1, 1, 1], pytest.approx(0, abs=1e-3)]
