"""A store of one's own has a name, and is closed: by hand, or with its event loop, Sentinels' connections included."""

import asyncio
import gc
import pickle
import subprocess
import sys

import pytest

import opero as o
from opero import events
from opero.stores.redis import RedisStore
from together import wait_for

pytestmark = pytest.mark.service("redis")
ENDS = """
import asyncio, sys
import opero as o
from opero.stores.redis import RedisStore
store = RedisStore(sys.argv[1], timeout=2)
@o.opero(o.RateLimit(1000, burst=1000, store=store, name="ends"))
async def f():
    return 1
async def main():
    assert await f() == 1
asyncio.run(main())
"""


@pytest.fixture
def caught():
    heard = []
    with events.subscribe(heard.append, "opero.store.*"):
        yield heard


def asking(store):
    limit = o.RateLimit(10_000, burst=10_000, store=store, name="closing")

    async def suspending():
        return 1

    return o.opero(limit)(lambda: 1), o.opero(limit)(suspending)


def url_of(request, kind):
    url = request.getfixturevalue(kind).url
    return url.replace("redis://", "redis+cluster://") if kind == "redis_cluster" else url


def clients(server):
    return len(server.cli("client", "list").splitlines()) - 1  # without the one that asks


def test_a_closed_store_has_no_connections_and_connects_anew(redis_server, caught):
    with RedisStore(redis_server.url, timeout=2) as store:
        f, _ = asking(store)
        for _ in range(2):
            assert f() == 1
            assert clients(redis_server) == 1
            store.close()
            store.close()
            wait_for(lambda: clients(redis_server) == 0)
        f()
    wait_for(lambda: clients(redis_server) == 0)
    assert caught == []


def test_a_loop_closes_its_own_connections_and_those_of_threads(redis_server, caught):
    async def main():
        async with RedisStore(redis_server.url, timeout=2) as store:
            f, g = asking(store)
            for _ in range(2):
                assert (f(), await g()) == (1, 1)
                assert clients(redis_server) == 2
                await store.aclose()
                await store.aclose()
                wait_for(lambda: clients(redis_server) == 0)
            await g()
        wait_for(lambda: clients(redis_server) == 0)

    asyncio.run(main())
    assert caught == []


@pytest.mark.parametrize("kind", ["redis_server", "redis_cluster", "redis_sentinels"])
def test_a_loop_that_ends_leaves_nothing_open(kind, request):
    url = url_of(request, kind)
    command = [sys.executable, "-W", "error::ResourceWarning", "-c", ENDS, url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def limit(url):
    return o.RateLimit(10_000, burst=10_000, store=RedisStore(url, timeout=5), name="closing")


def cache(url):
    return o.Cache(60, backend="redis", url=url, namespace="closing", patience=5.0)


async def ask(url, policy):
    """Use a store that nobody has afterwards."""
    f = o.opero(policy(url))(asyncio.sleep)
    await asyncio.gather(*(f(0, n) for n in range(20)))
    await asyncio.gather(*(f(0, n) for n in range(20)))  # a cache has two ways to ask


@pytest.mark.parametrize("policy", [limit, cache])
def test_a_store_that_nobody_has_any_more_is_closed_by_its_loop(policy, redis_server):
    async def main():
        await ask(redis_server.url, policy)
        assert clients(redis_server) > 1
        gc.collect()
        until = asyncio.get_running_loop().time() + 15
        while clients(redis_server) and asyncio.get_running_loop().time() < until:
            await asyncio.sleep(0.01)
        return clients(redis_server)

    assert asyncio.run(main()) == 0


@pytest.mark.parametrize("turns", range(2))
@pytest.mark.parametrize("policy", [limit, cache])
def test_so_it_is_if_it_was_collected_while_the_loop_ended(policy, turns, redis_server, caplog):
    loop = asyncio.new_event_loop()
    loop.run_until_complete(ask(redis_server.url, policy))
    gc.collect()
    for _ in range(turns):
        loop.run_until_complete(asyncio.sleep(0))
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()
    gc.collect()  # what is open would complain
    assert clients(redis_server) == 0
    assert caplog.records == []


@pytest.mark.filterwarnings("ignore")  # asyncio says what it thinks of that
@pytest.mark.parametrize("policy", [limit, cache])
def test_a_loop_that_was_only_closed_holds_nothing_open(policy, redis_server):
    loop = asyncio.new_event_loop()
    loop.run_until_complete(ask(redis_server.url, policy))
    loop.close()
    del loop
    wait_for(lambda: gc.collect() >= 0 and clients(redis_server) == 0)


@pytest.mark.parametrize("turns", [1, 2, 4, 20])
def test_calls_that_connect_while_their_store_is_closed_leave_nothing_open(turns, redis_server):
    async def main():
        store = RedisStore(redis_server.url, timeout=5)
        _, g = asking(store)
        tasks = [asyncio.create_task(g()) for _ in range(40)]
        for _ in range(turns):
            await asyncio.sleep(0)
        await store.aclose()
        assert await asyncio.gather(*tasks) == [1] * 40
        store.close()
        wait_for(lambda: clients(redis_server) == 0)

    asyncio.run(main())


@pytest.mark.parametrize("policy", [limit, cache])
def test_what_a_generator_asks_as_the_loop_ends_is_closed_too(policy, redis_server):
    f, answers = o.opero(policy(redis_server.url))(asyncio.sleep), []

    async def numbers():
        try:
            yield 1
        finally:
            for n in range(3):
                await f(0.02, n)
                answers.append(n)

    async def main():
        await asyncio.gather(*(f(0, n) for n in range(5)))
        left = numbers()
        await anext(left)
        return left

    asyncio.run(main())
    gc.collect()  # what is open would complain
    assert answers == [0, 1, 2]


@pytest.mark.parametrize("kind", ["redis_cluster", "redis_sentinels"])
def test_a_burst_of_tasks_is_no_outage(kind, request, caught):
    async def main():
        async with RedisStore(url_of(request, kind), timeout=2) as store:
            _, g = asking(store)
            return await asyncio.gather(*(g() for _ in range(3000)))

    assert asyncio.run(main()) == [1] * 3000
    assert caught == []


def test_events_name_the_store(redis_server, caught):
    store = RedisStore(redis_server.url, name="orders")
    f, _ = asking(store)
    redis_server.kill()
    assert f() == 1
    assert [each.fields["store"] for each in caught] == ["orders"]
    assert pickle.loads(pickle.dumps(store)).name == "orders"
    assert "name='orders'" in repr(store)
    assert RedisStore(redis_server.url).name == "redis"


@pytest.mark.parametrize("name", ["", "a" * 65, "a b", "a\n", 5, None])
def test_a_name_is_a_short_word(name):
    with pytest.raises(o.ConfigurationError, match=r"name"):
        RedisStore("redis://h/0", name=name)
