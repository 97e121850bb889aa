"""Event loops that run the beginning of a task while it is made: `asyncio.eager_task_factory`, since Python 3.12."""

import asyncio
import contextvars
import types
from collections.abc import Coroutine, Generator

import pytest

import opero as o

pytestmark = pytest.mark.timeout(60)


@types.coroutine
def go_on(task: Coroutine, waited: object) -> Generator:
    yield waited
    return (yield from task)


def eager(loop, task, *, context=None, **named):
    """Return a finished future for a task that never waits, as Python 3.12 does."""
    try:
        waited = (context or contextvars.copy_context()).run(task.send, None)
    except StopIteration as ended:
        done = loop.create_future()
        done.set_result(ended.value)
        return done

    async def rest():
        return await go_on(task, waited)

    return asyncio.Task(rest(), loop=loop, context=context, **named)


factory = getattr(asyncio, "eager_task_factory", eager)


def play(work):
    async def main():
        asyncio.get_running_loop().set_task_factory(factory)
        async with asyncio.timeout(20):
            return await work

    return asyncio.run(main())


def test_a_cached_load_that_never_waits_gives_its_result():
    calls = []

    @o.opero(cache_ttl=60, retries=0)
    async def load(n):
        calls.append(n)
        return n * 10

    async def work():
        first = await asyncio.gather(*(load(1) for _ in range(5)))
        warmed = await load.opero.cache.warmup([2, 3])
        return first, warmed, await load(1), await load(3)

    first, warmed, again, third = play(work())
    assert (first, warmed, again, third, calls) == ([10] * 5, 2, 10, 30, [1, 2, 3])


def test_a_cached_load_that_fails_at_once_raises_its_error():
    @o.opero(cache_ttl=60, retries=0)
    async def load():
        raise OSError("down")

    with pytest.raises(OSError, match="down"):
        play(load())
    assert (load.opero.stats()["ok"], load.opero.stats()["errors"]) == (0, 1)


def test_a_load_of_its_own_key_is_told():
    @o.opero(cache_ttl=60, retries=0)
    async def load():
        return await load()

    with pytest.raises(o.CacheError, match="needs its own result"):
        play(load())


def test_a_stale_value_is_given_and_refreshed():
    loads = []

    @o.opero(o.Cache(0.01, stale_if_error=60), retries=0)
    async def load():
        loads.append(None)
        if len(loads) > 1:
            raise OSError
        return "old"

    async def work():
        first = await load()
        await asyncio.sleep(0.03)
        return first, await load()

    assert play(work()) == ("old", "old")
    assert len(loads) == 2


def test_a_hedge_that_answers_at_once_wins():
    waits = iter([5, 0])

    @o.opero(hedge=0.01, retries=0)
    async def fetch():
        seconds = next(waits)
        if seconds:
            await asyncio.sleep(seconds)
        return seconds

    assert play(fetch()) == 0


def test_a_map_gives_each_item_its_result_though_its_function_never_waits():
    @o.opmap(mode="async", workers=3, retries=0)
    async def double(n):
        return n * 2

    async def work():
        return await double(range(20))

    assert list(play(work())) == [n * 2 for n in range(20)]
