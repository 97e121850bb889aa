"""How a cache comes to its Redis: by which address, with how many connections."""

import asyncio
import gc
import re
import threading
import weakref

import pytest

import opero as o

pytestmark = pytest.mark.service("redis")


def test_a_thousand_tasks_with_keys_of_their_own_need_few_connections(redis_server):
    import redis

    policy = o.Cache(60, backend="redis", url=redis_server.url, namespace="many", patience=5.0)
    made = []

    @o.opero(policy)
    async def f(x):
        made.append(x)
        return x

    async def main():
        for _ in range(2):
            assert await asyncio.gather(*(f(n) for n in range(1000))) == list(range(1000))
        with redis.Redis.from_url(redis_server.url) as client:
            return len(client.client_list())

    assert asyncio.run(main()) <= 5
    assert len(made) == 1000


def test_a_loop_that_has_ended_is_not_kept(redis_server):
    loops = weakref.WeakSet()

    @o.opero(o.Cache(60, backend="redis", url=redis_server.url, namespace="ends", patience=5.0))
    async def f(x):
        return x

    async def main():
        loops.add(asyncio.get_running_loop())
        assert await asyncio.gather(*map(f, range(20))) == [*range(20)]

    for _ in range(5):
        asyncio.run(main())
    gc.collect()
    assert len(loops) == 1  # until the next one connects


def test_who_may_not_ask_what_the_server_is_leaves_no_connection_behind(redis_server):
    redis_server.cli("acl", "setuser", "poor", "on", ">secret", "~*", "&*", "+@all", "-info")
    url = redis_server.url.replace("redis://", "redis://poor:secret@")

    @o.opero(o.Cache(60, backend="redis", url=url, namespace="poor", patience=5.0))
    async def f(x):
        return x

    async def main():
        assert await asyncio.gather(*map(f, range(5))) == [*range(5)]
        gc.collect()  # an open connection would complain
        return redis_server.cli("client", "list")

    assert "user=poor" not in asyncio.run(main())


def test_the_tasks_that_are_cancelled_in_line_ask_for_nothing(redis_server):
    @o.opero(o.Cache(60, backend="redis", url=redis_server.url, namespace="line", patience=5.0))
    async def f(x):
        return x

    async def main():
        await f(0)
        await f.opero.cache.invalidate(0)
        redis_server.pause()
        tasks = [asyncio.create_task(f.opero.cache.invalidate(n)) for n in range(20)]
        await asyncio.sleep(0.1)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        redis_server.resume()
        await f.opero.cache.invalidate(0)

    asyncio.run(main())
    stats = redis_server.cli("info", "commandstats")
    assert int(re.search(r"cmdstat_del:calls=(\d+)", stats)[1]) < 10


def test_the_address_of_redis_is_given_by_keyword_or_by_the_environment(redis_server, monkeypatch):
    made = []
    monkeypatch.setenv("OPERO_REDIS_URL", redis_server.url)
    for backend in ("redis", redis_server.url):

        @o.opero(cache_ttl=60, cache_backend=backend, cache_namespace="short", retries=0)
        def f(x):
            made.append(x)
            return x

        assert f(1) == 1
    assert made == [1]
    assert redis_server.cli("dbsize") == "1"


def test_clear_leaves_nothing_of_a_load_under_way(redis_server):
    begun, clearing, value = threading.Event(), threading.Event(), [1]

    @o.opero(o.Cache(60, backend="redis", url=redis_server.url, namespace="clearing", patience=5.0))
    def f():
        read = value[0]
        if read == 1:
            begun.set()
            assert clearing.wait(30)
        return read

    store = f.opero.cache._around.place.shelf.store
    unlink, loading = store._unlink, threading.Thread(target=f)

    async def unlink_slowly(runtime, pattern):
        await unlink(runtime, pattern)
        if ":v1:" in pattern:
            clearing.set()
            loading.join(30)

    store._unlink = unlink_slowly
    loading.start()
    assert begun.wait(30)
    value[0] = 2
    f.opero.cache.clear()
    assert f() == 2
