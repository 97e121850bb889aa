"""Processes with other settings share a state by its name, as they do while a new version is rolled out."""

import pytest

import opero as o
from opero.runtime import run
from opero.stores import key_of
from opero.stores.redis import RedisStore
from opero.stores.shared import BY_HAND
from shared_store import opened

pytestmark = pytest.mark.service("redis")


@pytest.fixture(params=["redis", "map"])
def store(request):
    if request.param == "map":
        with opened() as store:
            yield store
    else:
        yield RedisStore(request.getfixturevalue("redis_server").url, timeout=5)


def went(store, rate, calls, **settings):
    """Return how many of so many calls a process with this rate may make at once."""
    limit = o.RateLimit(rate, wait=False, store=store, name="shop", **settings)
    done = 0
    for _ in range(calls):
        try:
            with limit:
                done += 1
        except o.RateLimitedError:
            pass
    return done


def test_a_long_rate_outlives_the_calls_of_who_does_not_have_it(redis_server):
    store = RedisStore(redis_server.url, timeout=5)
    assert went(store, "1000/s; 20/day", 25) == 20
    assert went(store, "1000/s", 1) == 1
    assert int(redis_server.cli("pttl", "opero:{shop}:v1:rate_limit")) > 80_000_000  # a day, as good as


def test_a_changed_rate_begins_with_its_burst(store):
    assert went(store, "10/day", 12) == 10
    assert went(store, "1000/s", 5) == 5
    assert went(store, "10/day", 1) == 0


def test_a_rate_goes_on_wherever_it_stands_and_whatever_its_burst(store):
    assert went(store, "1000/s; 50/day", 30) == 30
    assert went(store, "50/day; 1000/s", 30) == 20
    assert went(store, "1000/s; 100/2day", 100) == 50
    assert went(store, "50/day", 1, burst=10) == 0


def test_a_booking_is_given_back_by_each_of_its_rates(store):
    key, rates = key_of("rate_limit", "shop", None), [(60.0, 1), (3600.0, 1)]
    run(store.reserve(BY_HAND, key, rates, 1, 0.0))
    _, booking = run(store.reserve(BY_HAND, key, rates[::-1], 1, 1e9))
    run(store.give_back(BY_HAND, key, rates[::-1], 1, booking))
    wait, _ = run(store.reserve(BY_HAND, key, rates, 1, 1e9))
    assert wait == pytest.approx(3600, abs=60)
