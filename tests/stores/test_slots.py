"""Slots of a bulkhead that processes share, in a real server."""

import asyncio
import threading

import pytest

import opero as o
from opero.stores import guard, key_of, redis
from opero.stores.redis import RedisStore
from together import wait_for

pytestmark = pytest.mark.service("redis")


def test_slots_are_those_of_all_and_wait_in_one_line(redis_server):
    def make():
        return o.Bulkhead(2, max_queue=50, max_wait=20, store=store, name="pool")

    store = RedisStore(redis_server.url, timeout=5)
    running, most = 0, 0

    async def work(policy):
        nonlocal running, most
        async with policy:
            running += 1
            most = max(most, running)
            await asyncio.sleep(0.02)
            running -= 1

    async def main():
        policies = [make() for _ in range(3)]
        await asyncio.gather(*(work(policies[n % 3]) for n in range(24)))
        task = asyncio.create_task(work(policies[0]))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(main())
    assert most == 2
    wait_for(lambda: redis_server.cli("zcard", key_of("bulkhead", "pool", None)) == "0")
    full = o.Bulkhead(1, store=store, name="one")
    with full, pytest.raises(o.BulkheadFullError, match="queue_full"), full:
        pass


def test_a_function_that_outlives_its_timeout_keeps_its_slot_of_all(redis_server):
    go_on, key = threading.Event(), key_of("bulkhead", "outlived", None)

    @o.opero(o.Bulkhead(1, store=redis_server.url, name="outlived"), o.Timeout(attempt=0.05))
    def f():
        go_on.wait(30)

    with pytest.raises(o.CallTimeout):
        f()
    assert redis_server.cli("zcard", key) == "1"
    with pytest.raises(o.BulkheadFullError):
        f()
    go_on.set()
    wait_for(lambda: redis_server.cli("zcard", key) == "0")
    f()


def held(policy):
    """Hold a slot in a thread until told; return how to tell."""
    inside, go_on = threading.Event(), threading.Event()

    def hold():
        with policy:
            inside.set()
            go_on.wait(60)

    thread = threading.Thread(target=hold)
    thread.start()
    assert inside.wait(10)

    def end():
        go_on.set()
        thread.join(10)

    return end


def test_a_slot_that_the_server_lost_is_taken_again_while_it_is_held(redis_server, monkeypatch):
    monkeypatch.setattr(guard, "LEASE", 0.3)
    policy, key = o.Bulkhead(1, store=redis_server.url, name="lost"), key_of("bulkhead", "lost", None)
    end = held(policy)
    redis_server.cli("flushall")
    wait_for(lambda: redis_server.cli("zcard", key) == "1")
    with pytest.raises(o.BulkheadFullError), policy:
        pass
    end()
    assert redis_server.cli("zcard", key) == "0"


def test_a_slot_given_back_while_it_is_renewed_is_not_taken_again(redis_server, monkeypatch):
    class Late(RedisStore):
        renewed = False

        def renew(self, key, tokens):
            end()
            super().renew(key, tokens)
            self.renewed = redis_server.cli("zcard", key) == "1"

    monkeypatch.setattr(guard, "LEASE", 0.3)
    monkeypatch.setattr(redis, "LEASE", 60.0)
    store = Late(redis_server.url, timeout=5)
    end = held(o.Bulkhead(1, store=store, name="late"))
    wait_for(lambda: store.renewed)
    wait_for(lambda: redis_server.cli("zcard", key_of("bulkhead", "late", None)) == "0")
