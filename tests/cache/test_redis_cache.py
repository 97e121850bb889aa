"""How a cache comes to its Redis: by which address, with how many connections."""

import asyncio
import threading

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
