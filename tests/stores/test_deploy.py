"""Processes with other settings share a state by its name, as they do while a new version is rolled out."""

import pytest

import opero as o
from opero.runtime import run
from opero.stores import key_of
from opero.stores.by_hand import BY_HAND
from opero.stores.redis import RedisStore, _rules
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


class Circuit:
    """One in Redis, which processes of other settings tell how their calls ended."""

    def __init__(self, server):
        self.store = RedisStore(server.url, timeout=5)
        self.key = key_of("circuit", "shop", None)

    def settle(self, policy, outcome, now, generation=0):
        told = [(1_750_000_000 + now) * 1e6, generation, 0, outcome, 0, 0.5, *_rules(policy)]
        state, ratio, _, calls, _ = self.store._evaluate(
            self.store._script("settle"), [self.key, f"{self.key}:ring"], told
        )
        return state.decode(), float(ratio), calls


def test_windows_of_other_lengths_leave_each_other_alone(redis_server):
    circuit, quiet = Circuit(redis_server), ("", 0.0, 0)
    long, short = o.CircuitBreaker(window=60, min_calls=10), o.CircuitBreaker(window=1, min_calls=10)
    for n in range(9):
        assert circuit.settle(long, "failure", n) == quiet
        for part in (0.2, 0.4):
            assert circuit.settle(short, "success", n + part) == quiet
    assert int(redis_server.cli("pttl", circuit.key)) > 2 * 60_000 + 60_000  # of the longer, whoever told the last
    assert circuit.settle(long, "failure", 9) == ("open", 1.0, 10)


def test_of_windows_that_count_calls_the_shortest_holds(redis_server):
    circuit = Circuit(redis_server)
    long, short = o.CircuitBreaker(calls=20, min_calls=10), o.CircuitBreaker(calls=10, min_calls=10)
    for n in range(20):
        assert circuit.settle(long, "failure" if n % 3 == 2 else "success", n)[0] == ""
    assert circuit.settle(short, "failure", 20) == ("", 0.0, 0)  # 4 of 10
    assert circuit.settle(long, "failure", 21) == ("", 0.0, 0)  # 5 of 11
    assert circuit.settle(short, "failure", 22) == ("open", 0.5, 10)
