"""Which promises of a store `check_store` finds kept, and broken."""

import asyncio
import os
import time
import weakref

import pytest

import opero as o
from opero import testing
from opero.stores import Permit, mapped
from opero.stores.redis import RedisStore
from shared_store import MappedStore


def check(kind):
    """Check one in memory, where waits take no time."""
    store = kind()
    weakref.finalize(store, os.close, store.descriptor)
    with testing.clock():
        testing.check_store(lambda: store)


@pytest.mark.service("redis")
def test_a_store_in_redis_keeps_all_promises(redis_server):
    testing.check_store(lambda: RedisStore(redis_server.url, timeout=5))


def test_that_of_a_map_keeps_them_too():
    check(MappedStore)


class Generous(MappedStore):
    async def reserve(self, *_):
        return 0.0, "booked"


class Greedy(MappedStore):
    async def reserve(self, runtime, key, rates, weight, patience):
        wait, booking = await super().reserve(runtime, key, rates, weight, float("inf"))
        return wait, booking if wait <= patience else None


class Racing(MappedStore):
    def __init__(self):
        super().__init__()
        self.gone = {}

    async def reserve(self, runtime, key, rates, weight, patience):
        gone = self.gone.get(key, 0)
        await runtime.either(lambda: time.sleep(0.005), lambda: asyncio.sleep(0))
        self.gone[key] = gone + 1
        return (0.0, gone) if gone < rates[0][1] else (rates[0][0], None)


class Lavish(MappedStore):
    async def lease(self, *args):
        wait, booking, _ = await super().lease(*args)
        return wait, booking, args[-1]


class Final(MappedStore):
    async def give_back(self, *_):
        pass


class Spying(MappedStore):
    async def peek(self, runtime, key, rates, weight):
        found = await super().peek(runtime, key, rates, weight)
        await self.reserve(runtime, key, rates, weight, 0.0)
        return found


class Forgetful(MappedStore):
    async def reset(self, *_):
        pass


class Rich(MappedStore):
    async def pay(self, *_):
        return True, 0.0


class Gullible(MappedStore):
    async def settle(self, runtime, key, rules, permit, *told):
        with self._circuit(key, rules) as found:
            now = Permit(found.generation, probe=permit.probe)
        return await super().settle(runtime, key, rules, now, *told)


class Lasting(MappedStore):
    async def hold(self, runtime, key, rules, mode):
        return await super().hold(runtime, key, rules, "forced_closed" if mode == "auto" else mode)


class Unfair(MappedStore):
    async def take(self, runtime, key, token, limit, room):
        await self.leave(runtime, key, token)  # who asks again goes to the end
        return await super().take(runtime, key, token, limit, room)


class Shouting(MappedStore):
    async def take(self, *args):
        verdict, used, length = await super().take(*args)
        return verdict.upper(), used, length


class Suspending(MappedStore):
    async def admit(self, *args):
        await asyncio.sleep(0)
        return await super().admit(*args)


class Away(MappedStore):
    def ping(self):
        raise ConnectionError("no route")


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        (Generous, "a quota lets its burst go and no more, asked by a function: more went than the burst"),
        (Greedy, "a refused call books on none of the rates, asked by a function: after three refusals"),
        (Racing, r"of a crowd as many go as may, asked by a function: \d+ of 24 went where 10 may"),
        (Racing, r"of a crowd as many go as may, asked by a coroutine function: 24 of 24 went where 10 may"),
        (Lavish, "leased calls are of the burst, asked by a function: 6 went of a burst of 5, 3 of them leased"),
        (Final, "a booking is undone unless .*: the last booking, given back, freed nothing"),
        (Spying, "a look at a quota books nothing, asked by a function: 0 were to go at once after 1"),
        (Forgetful, "a quota is reset, asked by a coroutine function: after a reset the burst could not go"),
        (Rich, "a budget pays what came in, asked by a function: of the ten tokens"),
        (Gullible, "an outcome from before a change changes nothing, asked by a function: a late failure opened it"),
        (Lasting, "a circuit is held by hand, asked by a function: let go it does not run by itself"),
        (Unfair, "its queue is served in order, asked by a function: the first of the queue was not served"),
        (Shouting, r"a bulkhead has its slots and its room, asked by a function: take\(\) answered \('TAKEN', 1, 0\)"),
        (Suspending, "a circuit opens by its rules, asked by a function: RuntimeError: "),
        (Away, "it answers a look, asked by a coroutine function: ConnectionError: no route"),
    ],
)
def test_a_store_that_breaks_a_promise_is_told_which(kind, told):
    with pytest.raises(AssertionError, match=f"^{kind.__name__} is no StateStore:\n(.*\n)*- {told}"):
        check(kind)


def test_who_stays_in_the_queue_for_ever_without_a_sign_of_life_is_found(monkeypatch):
    monkeypatch.setattr(mapped, "SILENCE", 1e9)
    with pytest.raises(AssertionError, match=r"who is silent has left the queue, .* held up the next"):
        check(MappedStore)


def test_stores_that_share_nothing_are_found():
    made = []

    def make():
        made.append(MappedStore())
        weakref.finalize(made[-1], os.close, made[-1].descriptor)
        return made[-1]

    with testing.clock(), pytest.raises(AssertionError, match="more went than the burst"):
        testing.check_store(make)


@pytest.mark.parametrize(("make", "why"), [(MappedStore.__new__(MappedStore), "a function"), (lambda: 5, "or a store")])
def test_what_makes_no_store_is_refused(make, why):
    with pytest.raises(o.ConfigurationError, match=f"make.*{why}"):
        testing.check_store(make)
