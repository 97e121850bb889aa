"""A child forked in the middle of a call ends a copy of it: what the store gave is the parent's, and goes back once.

It has connections of its own.
"""

import os
import time
from contextlib import suppress

import pytest

import opero as o
from child import ending, fork
from opero.stores import key_of
from opero.stores.guard import guard
from opero.stores.redis import RedisStore
from together import wait_for

pytestmark = [
    pytest.mark.service("redis"),
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork"),
    pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning"),
]
CIRCUIT, BUDGET = key_of("circuit", "f", None), key_of("retry_budget", "f", None)


@pytest.fixture
def store(redis_server):
    return RedisStore(redis_server.url, timeout=5)


def half_open(store):
    """Return a breaker whose next three calls are probes."""
    breaker = o.CircuitBreaker(consecutive=1, reset_after=0.01, half_open_probes=3, store=store, name="f")
    with pytest.raises(OSError), breaker:
        raise OSError
    time.sleep(0.05)
    return breaker


def probes(server):
    """Return how many are out, and how many came back well and badly."""
    return server.cli("hmget", CIRCUIT, "out", "good", "bad").split()


@pytest.mark.parametrize("error", [None, OSError(), KeyboardInterrupt()])
def test_the_child_says_nothing_of_its_parents_probe(error, redis_server, store):
    seen = []

    @o.opero(half_open(store))
    def f():
        if fork():
            seen.append(probes(redis_server))
        if error is not None:
            raise error

    with ending(), suppress(OSError, KeyboardInterrupt):
        f()
    wait_for(lambda: probes(redis_server)[0] != "1")
    assert seen == [["1", "0", "0"]]


def test_nor_of_that_of_a_generator_that_it_leaves(redis_server, store):
    @o.opero(half_open(store))
    def numbers():
        yield 1

    given = numbers()
    next(given)
    with ending():
        if fork() == 0:
            del given
            wait_for(lambda: not guard(store)._errands._running.locked())
    assert probes(redis_server) == ["1", "0", "0"]


def test_a_retry_that_succeeds_in_both_gives_its_token_back_once(redis_server, store):
    budget = o.RetryBudget(min_per_second=0, store=store, name="f")
    tries = []

    @o.opero(o.Retry(1, wait=0, budget=budget))
    def f():
        tries.append(1)
        if len(tries) == 1:
            raise OSError
        fork()

    for _ in range(4):
        budget.spend()
    with ending():
        f()
        budget.shared.spend(0.0)  # which tells what there is to give back
    assert redis_server.cli("hget", BUDGET, "left") == "6"


def test_a_forked_child_has_no_part_in_a_lease(store):
    limit = o.RateLimit(1000, per=40, lease=100, store=store, name="f")
    f = o.opero(limit)(lambda: 1)
    for _ in range(3):
        f()
    assert limit.limiter.lease.left > 0
    with ending():
        if not fork():
            assert limit.limiter.lease.left == 0
    assert limit.limiter.lease.left > 0


def test_a_forked_child_uses_connections_of_its_own(store):
    f = o.opero(o.RateLimit(10_000, burst=100, store=store, name="f"))(lambda: 1)
    f()
    with ending():
        child = os.fork()
        assert sum(f() for _ in range(20)) == 20  # both at once
        assert not guard(store).away
    assert os.waitpid(child, 0)[1] == 0
