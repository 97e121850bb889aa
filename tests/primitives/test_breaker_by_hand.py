"""A circuit breaker by hand, from its policy: for blocks, functions, keys and processes."""

import asyncio
import contextlib

import pytest

import opero as o
from opero import events
from opero.stores import key_of
from opero.stores.redis import RedisStore
from shared_store import opened


def passes(block):
    try:
        with block:
            return True
    except o.CircuitOpenError:
        return False


async def passes_async(block):
    try:
        async with block:
            return True
    except o.CircuitOpenError:
        return False


def test_the_policy_is_held_for_its_blocks_and_its_functions():
    policy = o.CircuitBreaker(consecutive=1, name="by hand")
    f, heard = policy(lambda: 1), []
    with events.subscribe(heard.append, "opero.admin.acted", "opero.circuit.opened"):
        policy.breaker.force_open()
    assert [(e.name, e.operation) for e in heard] == [
        ("opero.admin.acted", "by hand"),
        ("opero.circuit.opened", "by hand"),
    ]
    assert (policy.state, policy.breaker.state, f.opero.breaker.mode) == ("forced_open", "forced_open", "forced_open")
    assert not passes(policy)
    assert not asyncio.run(passes_async(policy))
    with pytest.raises(o.CircuitOpenError):
        f()
    for hold in (policy.breaker.force_close, policy.breaker.disable):
        hold()
        with contextlib.suppress(OSError), policy:
            raise OSError
        assert (policy.state, passes(policy)) == ("closed", True)
    policy.breaker.reset()
    assert policy.breaker.mode == "auto"
    with contextlib.suppress(OSError), policy:
        raise OSError
    assert (policy.state, passes(policy)) == ("open", False)
    policy.breaker.reset()
    assert f() == 1


def test_one_key_is_held():
    policy = o.CircuitBreaker(key=lambda host: host)
    policy.breaker.of("a").force_open()
    assert [passes(policy.block(host)) for host in "ab"] == [False, True]
    assert (policy.breaker.of("a").state, policy.breaker.of("b").state, policy.state) == (
        "forced_open",
        "closed",
        "forced_open",
    )
    policy.breaker.reset()
    assert passes(policy.block("a"))


def test_in_a_store_it_is_held_for_all_processes():
    with opened() as store:
        mine, others = (o.CircuitBreaker(store=store, name="shop") for _ in range(2))
        mine.breaker.force_open()
        assert (passes(others), others.state) == (False, "forced_open")
        others.breaker.reset()
        assert passes(mine)


def test_keys_in_a_store_are_held_one_by_one():
    with opened() as store:
        mine, others = (o.CircuitBreaker(key=lambda host: host, store=store, name="shop") for _ in range(2))
        mine.breaker.of("a").force_open()
        assert [passes(others.block(host)) for host in "ab"] == [False, True]
        with pytest.raises(
            o.ConfigurationError, match=r"^key=None: key takes a key, .*: breaker\.of\(key\)\.force_open\(\)"
        ):
            mine.breaker.force_open()


@pytest.mark.service("redis")
def test_what_is_held_in_redis_stays_held_however_long_nobody_calls(redis_server):
    policy = o.CircuitBreaker(store=RedisStore(redis_server.url, timeout=5), name="shop")
    policy.breaker.force_close()
    assert passes(policy)
    assert redis_server.cli("pttl", key_of("circuit", "shop", None)) == "-1"
    policy.breaker.reset()
    assert passes(policy)
    assert int(redis_server.cli("pttl", key_of("circuit", "shop", None))) > 0
