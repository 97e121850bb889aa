"""Many tasks, hanging servers and lost answers: what is an outage, what is done once, and how long it may take."""

import asyncio
import time

import pytest

import opero as o
from opero import events
from opero.stores import key_of
from opero.stores.guard import guard
from opero.stores.redis import RedisStore
from opero.stores.turns import Turns
from services.faults import DRIP, LOSE, Between

pytestmark = pytest.mark.service("redis")


@pytest.fixture
def between(redis_server):
    proxy = Between(redis_server.port)
    proxy.url = f"redis://127.0.0.1:{proxy.port}/0"
    yield proxy
    proxy.close()


def limited(store, **rate):
    @o.opero(o.RateLimit(**{"rate": 1e6} | rate, wait=False, store=store, name="f"))
    async def f():
        return 1

    return f


def test_a_burst_of_tasks_is_no_outage_and_keeps_the_limit(redis_server):
    store, heard = RedisStore(redis_server.url), []
    f = limited(store, rate=50, per=600)

    async def main():
        await f()
        return await asyncio.gather(*(f() for _ in range(3000)), return_exceptions=True)

    with events.subscribe(heard.append, "opero.store.*"):
        passed = asyncio.run(main()).count(1)
    assert not heard
    assert passed == 49


def test_a_server_that_hangs_holds_all_tasks_up_only_once(redis_server):
    store, heard = RedisStore(redis_server.url), []
    f = limited(store)

    async def main():
        await f()
        redis_server.pause()
        began = time.monotonic()
        assert sum(await asyncio.gather(*(f() for _ in range(500)))) == 500
        return time.monotonic() - began

    with events.subscribe(heard.append, "opero.store.lost"):
        assert asyncio.run(main()) < 0.25 + 2  # those in line one after another: 8 s
    assert [event.fields["error"] for event in heard] == ["TimeoutError"]


def test_a_turn_of_who_was_cancelled_in_line_goes_to_the_next():
    turns, went = Turns(1, 5, lambda error: True), []

    async def main():
        loop, gate = asyncio.get_running_loop(), asyncio.Event()

        async def ask(number):
            await gate.wait()
            went.append(number)

        async def first():
            await turns.take(loop, lambda: ask(0))
            tasks[2].cancel()  # when its turn was handed to it

        tasks = [asyncio.create_task(first())]
        tasks += [asyncio.create_task(turns.take(loop, lambda n=n: ask(n))) for n in range(1, 4)]
        await asyncio.sleep(0)
        tasks[1].cancel()
        gate.set()
        await asyncio.gather(*tasks, return_exceptions=True)
        await turns.take(loop, lambda: ask(5))

    asyncio.run(main())
    assert went == [0, 3, 5]


def test_a_loop_that_stands_still_is_no_outage():
    turns = Turns(1, 0.2, lambda error: True)

    async def answer():
        await asyncio.sleep(0.01)
        return 1

    async def main():
        loop = asyncio.get_running_loop()
        task = asyncio.create_task(turns.take(loop, answer))
        await asyncio.sleep(0)
        time.sleep(0.3)  # noqa: ASYNC251 - longer than the bound
        assert await task == 1
        with pytest.raises(TimeoutError):
            await turns.take(loop, asyncio.Event().wait)

    asyncio.run(main())


@pytest.mark.parametrize("suspends", [False, True])
def test_a_server_that_drips_is_away_after_the_same_time(between, suspends):
    store, heard = RedisStore(between.url), []
    f = limited(store)
    g = o.opero(o.RateLimit(1e6, wait=False, store=store, name="f"))(lambda: 1)

    async def main():
        await f()
        between.mode = DRIP
        began = time.monotonic()
        await f()
        return time.monotonic() - began

    def blocks():
        g()
        between.mode = DRIP
        began = time.monotonic()
        g()
        return time.monotonic() - began

    with events.subscribe(heard.append, "opero.store.lost"):
        took = asyncio.run(main()) if suspends else blocks()
    assert took < 0.25 + 1  # byte by byte 4 s
    assert [event.fields["error"] for event in heard] == ["TimeoutError"]


@pytest.mark.parametrize("suspends", [False, True])
def test_a_booking_whose_answer_was_lost_is_not_made_twice(between, redis_server, suspends):
    store, heard = RedisStore(between.url), []
    f = limited(store, rate=100, per=1000)
    g = o.opero(o.RateLimit(100, per=1000, wait=False, store=store, name="f"))(lambda: 1)

    async def main():
        await f()
        between.mode = LOSE
        await f()

    with events.subscribe(heard.append, "opero.store.lost"):
        if suspends:
            asyncio.run(main())
        else:
            g()
            between.mode = LOSE
            g()
    assert len(heard) == 1
    assert redis_server.cli("info", "commandstats").split("cmdstat_evalsha:calls=")[1].split(",")[0] == "2"


def test_what_came_in_is_told_once_though_the_answer_was_lost(between, redis_server):
    budget = o.RetryBudget(1.0, min_per_second=0, cap=200, store=RedisStore(between.url), name="f")
    fails = []

    @o.opero(o.Retry(1, wait=0, budget=budget))
    def f():
        if fails:
            raise fails.pop()

    for _ in range(10):
        budget.spend()
    for _ in range(50):
        f()
    between.mode = LOSE
    fails.append(OSError())
    f()  # 50 successes are told, and a token is taken
    until = time.monotonic() + 15
    while guard(budget.store).away:
        assert time.monotonic() < until
        time.sleep(0.01)
    fails.append(OSError())
    f()
    left = float(redis_server.cli("hget", key_of("retry_budget", "f", None), "left"))
    assert 45 <= left <= 50


@pytest.mark.parametrize("suspends", [False, True])
def test_connections_that_the_server_closed_meanwhile_are_made_anew(between, suspends):
    store = RedisStore(between.url, timeout=5)
    f = limited(store)
    g = o.opero(o.RateLimit(1e6, wait=False, store=store, name="f"))(lambda: 1)

    async def main():
        await f()
        between.cut()
        await asyncio.sleep(0.1)
        await f()

    if suspends:
        asyncio.run(main())
    else:
        g()
        between.cut()
        time.sleep(0.1)
        g()
    assert not guard(store).away


def test_so_are_those_to_the_nodes_of_a_cluster(redis_cluster):
    store = RedisStore(f"redis+cluster://{redis_cluster.url.partition('://')[2]}", timeout=5)
    f = limited(store)
    g = o.opero(o.RateLimit(1e6, wait=False, store=store, name="f"))(lambda: 1)

    def cut():
        for node in redis_cluster.nodes:
            node.cli("client", "kill", "type", "normal")

    async def main():
        await f()
        cut()
        await asyncio.sleep(0.1)
        await f()

    asyncio.run(main())
    g()
    cut()
    time.sleep(0.1)
    g()
    assert not guard(store).away
