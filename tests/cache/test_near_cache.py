"""Copies in this process: as right as the store they are copies of."""

import asyncio
import time

import pytest
import redis

import opero as o
from opero.stores.cache.named import called
from services.redis_servers import RedisCluster

pytestmark = pytest.mark.service("redis")


def near(function):
    return function.opero.cache._around.place.near


def ready(function, seconds=10):
    """Wait until copies may be used."""
    until = time.monotonic() + seconds
    while not near(function).fresh(time.monotonic()):
        assert time.monotonic() < until, "the listener does not listen"
        time.sleep(0.01)


def cached(url, *, bound=1.0, namespace="near", truth=None, **more):
    truth = truth if truth is not None else [0]

    @o.opero(o.Cache(60, backend="redis", url=url, namespace=namespace, near=bound, patience=2.0, **more))
    def f(x=0):
        return truth[0]

    return f, truth


def copied(f, x=0):
    """Call until the answer comes from a copy."""
    held = near(f).memory
    for _ in range(500):
        value = f(x)
        if held.holds(f.opero.cache._key((x,), {})):
            return value
        time.sleep(0.01)
    raise AssertionError("no copy was kept")


def test_a_copy_answers_without_a_trip(redis_server):
    f, _ = cached(redis_server.url)
    ready(f)
    assert copied(f) == 0
    before = int(redis_server.cli("info", "commandstats").count("cmdstat_eval"))
    evals = redis_server.cli("info", "commandstats")
    for _ in range(50):
        f()
    after = redis_server.cli("info", "commandstats")

    def calls(text):
        line = next(line for line in text.splitlines() if line.startswith("cmdstat_eval:"))
        return int(line.partition("calls=")[2].partition(",")[0])

    assert before
    assert calls(after) == calls(evals)


def test_what_another_process_invalidates_is_gone_here_too(redis_server):
    f, truth = cached(redis_server.url)
    g = o.opero(o.Cache(60, backend="redis", url=redis_server.url, namespace="near", patience=2.0))(f.__wrapped__)
    ready(f)
    assert copied(f) == 0
    truth[0] = 1
    g.opero.cache.invalidate()
    until = time.monotonic() + 1.0
    while f() == 0:
        assert time.monotonic() < until, "older than the bound"
    assert copied(f) == 1
    truth[0] = 2
    g.opero.cache.set(2)
    until = time.monotonic() + 1.0
    while f() == 1:
        assert time.monotonic() < until, "older than the bound"


def test_a_tag_that_another_process_ends_is_gone_here_too(redis_server):
    f, truth = cached(redis_server.url, tags="t")
    g = o.opero(o.Cache(60, backend="redis", url=redis_server.url, namespace="near", patience=2.0))(f.__wrapped__)
    ready(f)
    assert copied(f) == 0
    truth[0] = 1
    g.opero.cache.invalidate_tag("t")
    until = time.monotonic() + 1.0
    while f() == 0:
        assert time.monotonic() < until, "older than the bound"


def test_flushing_the_server_drops_every_copy(redis_server):
    f, truth = cached(redis_server.url)
    ready(f)
    assert copied(f) == 0
    truth[0] = 1
    redis_server.cli("flushall")
    until = time.monotonic() + 1.0
    while f() == 0:
        assert time.monotonic() < until, "older than the bound"


@pytest.mark.parametrize("kind", ["killed", "blackholed"])
def test_after_an_outage_no_stale_copy_survives(kind, redis_server):
    f, truth = cached(redis_server.url, bound=0.5)
    ready(f)
    assert copied(f) == 0
    truth[0] = 1
    if kind == "killed":
        redis_server.kill()
    else:
        redis_server.pause()
    time.sleep(0.6)  # the bound, in real time: that is the promise
    assert f() == 1
    assert len(near(f).memory) == 0 or not near(f).fresh(time.monotonic())
    if kind == "killed":
        redis_server.start()
    else:
        redis_server.resume()
        redis_server.cli("flushall")
    ready(f)
    assert f() == 1
    assert copied(f) == 1


def test_a_copy_of_what_was_overwritten_while_it_was_read_is_not_kept(redis_server):
    f, _ = cached(redis_server.url)
    ready(f)
    f()
    held, names = near(f), f.opero.cache._around.place.shelf.names(b"x")
    ticket = held.expect(names, time.monotonic())
    held.written(list(map(called, names)))
    entry = object()
    assert held.keep(names, ticket, ("k",), entry, time.monotonic()) == {}
    assert not held.memory.holds(("k",))
    ticket = held.expect(names, time.monotonic())
    held.lost()
    assert held.keep(names, ticket, ("k",), entry, time.monotonic()) == {}
    assert not held.memory.holds(("k",))
    assert not held._awaited


def test_functions_that_share_a_cache_have_copies_of_their_own(redis_server):
    policy = o.Cache(60, backend="redis", url=redis_server.url, near=1.0, patience=2.0)
    truth = {"f": 0, "g": 0}

    @o.opero(policy)
    def f(x=0):
        return ["f", truth["f"]]

    @o.opero(policy)
    def g(x=0):
        return ["g", truth["g"]]

    ready(f)
    ready(g)
    assert (copied(f), copied(g)) == (["f", 0], ["g", 0])
    copy = near(g).memory.entries[g.opero.cache._key((0,), {})]
    truth.update(f=1, g=1)
    f.opero.cache.clear()
    near(f).lost()
    assert (f(), g()) == (["f", 1], ["g", 0])
    assert near(g).memory.entries[g.opero.cache._key((0,), {})] is copy
    hits = g.opero.cache.stats()["hits"]
    assert g() == ["g", 0]
    assert (g.opero.cache.stats()["hits"], f.opero.cache.stats()["entries"]) == (hits + 1, 1)
    g.opero.cache.invalidate()
    assert (copied(f), copied(g)) == (["f", 1], ["g", 1])


def test_tasks_use_the_same_copies(redis_server):
    @o.opero(o.Cache(60, backend="redis", url=redis_server.url, namespace="near", near=1.0, patience=2.0))
    async def f(x=0):
        return x

    async def main():
        while not near(f).fresh(time.monotonic()):
            await asyncio.sleep(0.01)
        for _ in range(200):
            assert await f() == 0
            if len(near(f).memory):
                break
            await asyncio.sleep(0.01)
        hits = f.opero.cache.stats()["hits"]
        assert await f() == 0
        assert f.opero.cache.stats()["hits"] == hits + 1

    asyncio.run(main())


def test_the_listener_ends_with_its_cache(redis_server):
    import gc
    import threading

    def listeners():
        return {thread for thread in threading.enumerate() if thread.name == "opero-near"}

    before = listeners()
    f, _ = cached(redis_server.url, bound=0.2)
    ready(f)
    mine = listeners() - before
    assert mine
    del f
    gc.collect()
    for thread in mine:
        thread.join(10)
        assert not thread.is_alive()


# ---- Redis Cluster


def until_it_works(work, seconds=20):
    """A cluster that is electing refuses for a while."""
    until = time.monotonic() + seconds
    while True:
        try:
            return work()
        except o.CacheError:
            assert time.monotonic() < until, "the cluster did not come back"
            time.sleep(0.1)


def test_a_cluster_is_found_to_be_one_and_serves_all_the_same(redis_cluster):
    made = []

    @o.opero(o.Cache(60, tags="t", backend="redis", url=redis_cluster.url, namespace="c", patience=5.0))
    def f(x):
        made.append(x)
        return x

    assert [f(n) for n in range(40)] == [f(n) for n in range(40)] == list(range(40))
    assert len(made) == 40
    with redis.RedisCluster.from_url(redis_cluster.url) as client:
        names = list(client.scan_iter(match="opero:c:*"))
    assert len([name for name in names if b":v1:" in name]) == 40
    f.opero.cache.invalidate(3)
    assert f(3) == 3
    assert len(made) == 41
    f.opero.cache.invalidate_tag("t")
    f(5)
    assert len(made) == 42
    f.opero.cache.clear()
    assert not f.opero.cache.contains(5)


def test_tasks_are_served_by_a_cluster(redis_cluster):
    @o.opero(o.Cache(60, backend="redis", url=redis_cluster.url, namespace="ca", patience=5.0))
    async def f(x):
        f.calls += 1
        return x

    f.calls = 0

    async def main():
        assert await asyncio.gather(*(f(n % 40) for n in range(200))) == [n % 40 for n in range(200)]
        assert [await f(n) for n in range(40)] == list(range(40))
        await f.opero.cache.clear()
        assert not await f.opero.cache.contains(5)

    asyncio.run(main())
    assert f.calls == 40


def test_copies_are_kept_right_over_a_cluster(redis_cluster):
    f, truth = cached(redis_cluster.url, namespace="cn")
    g = o.opero(o.Cache(60, backend="redis", url=redis_cluster.url, namespace="cn", patience=5.0))(f.__wrapped__)
    ready(f)
    for x in range(12):
        assert copied(f, x) == 0
    truth[0] = 1
    for x in range(12):
        until_it_works(lambda x=x: g.opero.cache.invalidate(x))
    time.sleep(1.0)  # the bound
    assert [f(x) for x in range(12)] == [1] * 12


def test_copies_are_right_after_a_primary_of_the_cluster_died(tmp_path):
    cluster = RedisCluster(tmp_path, patience=1)
    try:
        f, truth = cached(cluster.url, namespace="cf")
        g = o.opero(o.Cache(60, backend="redis", url=cluster.url, namespace="cf", patience=5.0))(f.__wrapped__)
        ready(f)
        for x in range(12):
            assert copied(f, x) == 0
        cluster.nodes[1].kill()
        for x in range(12):
            assert f(x) == 0  # whoever answers, nothing was written yet
        truth[0] = 1
        for x in range(12):
            until_it_works(lambda x=x: g.opero.cache.invalidate(x))
        settled = time.monotonic() + 1.0 + 5.0  # the bound, and what the cluster takes to agree
        while time.monotonic() < settled and [f(x) for x in range(12)] != [1] * 12:
            time.sleep(0.05)
        ready(f, 20)
        assert [copied(f, x) for x in range(12)] == [1] * 12  # copies are kept again, those of the new primary too
        truth[0] = 2
        for x in range(12):
            until_it_works(lambda x=x: g.opero.cache.invalidate(x))
        time.sleep(1.0)
        assert [f(x) for x in range(12)] == [2] * 12
    finally:
        cluster.stop()
