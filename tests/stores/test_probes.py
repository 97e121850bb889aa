"""A half-open circuit in Redis: a probe keeps its place while it lives, and its state outlives it."""

import contextlib

import pytest

import opero as o
from opero.stores import key_of
from opero.stores.redis import RedisStore

pytestmark = pytest.mark.service("redis")
KEY = key_of("circuit", "slow", None)


def test_a_slow_probe_keeps_its_place_and_its_state_for_a_minute(redis_server):
    store = RedisStore(redis_server.url, timeout=5)
    rules = {"consecutive": 1, "reset_after": 0.001, "max_reset_after": 1, "window": 0.001, "half_open_probes": 1}
    mine, others = (o.CircuitBreaker(**rules, store=store, name="slow") for _ in range(2))

    def older(seconds):
        """Let the server's time be so much later for the probe."""
        redis_server.cli("hincrby", KEY, "probed", str(round(-seconds * 1e6)))

    with contextlib.suppress(ConnectionError), mine:
        raise ConnectionError
    redis_server.cli("pexpire", KEY, "1000")  # the pause was long, as far as the server knows
    with mine:
        assert float(redis_server.cli("pttl", KEY)) > 60_000
        for _ in range(2):
            with pytest.raises(o.CircuitOpenError, match="all its probes out"), others:
                pass
            older(29)
        older(3)
        with others:
            pass
    assert mine.circuit.read(0.0)[0] == "closed"  # nothing was decided in this process
    assert redis_server.cli("hget", KEY, "state") == "closed"
