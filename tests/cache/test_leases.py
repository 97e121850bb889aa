"""A load that takes longer than its lease keeps it; one that is stuck, or invalidated, does not."""

import asyncio
import time

import caches
import pytest

import opero as o
from opero import testing
from opero.runtime import Runtime, run
from opero.stores.cache.disk import DiskStore
from opero.stores.cache.leases import LONGEST, leases

CACHES = {
    "disk": lambda at: {"backend": "disk", "directory": at / "c"},
    "redis": lambda at: {"backend": "redis", "url": at.url, "namespace": "leases"},
}


@pytest.fixture(params=["disk", pytest.param("redis", marks=pytest.mark.service("redis"))])
def place(request, tmp_path):
    at = tmp_path if request.param == "disk" else request.getfixturevalue("server")
    return CACHES[request.param](at)


def two_processes(place, load):
    """Two policies do not share a flight, as two processes do not."""

    def work():
        return load()

    def made():
        return o.opero(o.Cache(60, lease=0.3, patience=5.0, **place))(work)

    return made(), made()


def test_a_load_of_several_leases_is_made_once_and_kept(place):
    calls = []

    def load():
        calls.append(None)
        time.sleep(1.0)
        return 7

    first, second = two_processes(place, load)

    async def main():
        return await asyncio.gather(asyncio.to_thread(first), asyncio.to_thread(second))

    assert asyncio.run(main()) == [7, 7]
    assert len(calls) == 1
    assert second() == 7
    assert len(calls) == 1


def test_a_coroutine_function_keeps_its_lease_too(place):
    calls = []

    async def load():
        calls.append(None)
        await asyncio.sleep(1.0)
        return 7

    def made():
        return o.opero(o.Cache(60, lease=0.3, patience=5.0, **place))(load)

    async def main():
        return await asyncio.gather(made()(), made()())

    assert asyncio.run(main()) == [7, 7]
    assert len(calls) == 1


def test_invalidating_ends_a_lease_for_good(place):
    first, second = two_processes(place, lambda: time.sleep(1.0) or 7)

    async def main():
        begun = asyncio.create_task(asyncio.to_thread(first))
        await asyncio.sleep(0.2)
        second.opero.cache.invalidate()
        assert await begun == 7

    asyncio.run(main())
    assert not second.opero.cache.contains()


def held(store):
    return [lease for lease in leases._held.values() if lease.store is store]


def test_who_is_stuck_is_renewed_no_more(tmp_path):
    with testing.clock() as clock:
        store = DiskStore(tmp_path / "c", "n", max_bytes=None, max_entries=10, patience=5.0)
        leases.hold(store, "n:v1:00", b"never taken", 3.0)
        clock.sleep(1.5)
        assert held(store) == []  # the store says it is not held
        take(store, b"mine")
        leases.hold(store, "n:v1:00", b"mine", 3.0)
        clock.sleep(3.0 * (LONGEST - 1))
        assert take(store, b"other") == b"mine"
        clock.sleep(3.0 * 3)
        assert held(store) == []
        assert take(store, b"other") == b"other"
        store.close()


def take(store, token):
    work = store.lock(Runtime(), "n:v1:00", token, 3.0, False)
    with pytest.raises(StopIteration) as done:
        work.send(None)
    return done.value.value


def test_no_thread_is_left_when_nothing_is_held(place):
    first, _ = two_processes(place, lambda: 7)
    assert first() == 7
    deadline = time.monotonic() + 20
    while leases._sooner is not None and time.monotonic() < deadline:
        time.sleep(0.05)
    assert leases._sooner is None


def test_that_nothing_came_of_a_load_is_said_of_its_lease_for_a_second(place):
    store, name = caches.place(two_processes(place, lambda: 7)[0]).shelf.store, "n:v1:said"
    for token, barren in ((b"failed", True), (b"stopped", False)):
        assert run(store.lock(Runtime(), name, token, 5.0, False)) == token
        assert not run(store.barren(Runtime(), name, token))
        run(store.release(Runtime(), name, b"another", True))
        assert run(store.lock(Runtime(), name, b"another", 5.0, False)) == token
        run(store.release(Runtime(), name, token, barren))
        assert run(store.barren(Runtime(), name, token)) == barren
    assert not run(store.barren(Runtime(), name, b"another"))
    until = time.monotonic() + 20
    while run(store.barren(Runtime(), name, b"failed")):
        assert time.monotonic() < until
        time.sleep(0.05)


@pytest.mark.service("redis")
@pytest.mark.parametrize("callers", [1, 3])
def test_a_lease_without_an_end_is_ended_by_who_waits(callers, server, heard):
    import redis

    from opero.stores.cache.named import lease_of

    calls = []
    policy = {"backend": "redis", "url": server.url, "namespace": f"endless{callers}", "patience": 5.0}

    def load():
        calls.append(None)
        return 7

    made = [o.opero(o.Cache(60, lease=0.1, **policy))(load) for _ in range(callers)]
    place = caches.place(made[0])
    name = place.shelf.names(place._keys.full(place._keys.of((), {})))[0]
    with redis.Redis.from_url(server.url) as client:
        client.set(lease_of(name), b"someone's")

    async def main():
        return await asyncio.wait_for(asyncio.gather(*(asyncio.to_thread(f) for f in made)), 30)

    assert asyncio.run(main()) == [7] * callers
    assert len(calls) == 1
    assert "stuck_lease" in caches.reasons(heard)
    assert made[0].opero.cache.contains()
