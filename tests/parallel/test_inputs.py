"""Where items come from, and how far ahead they are pulled."""

import asyncio
import itertools
import time

import pytest
import work

import opero as o
from opero import opmap
from opero.parallel.source import Source


def test_a_slow_input_is_handed_over_as_it_comes():
    source = Source(iter(lambda: time.sleep(0.01), 1))
    assert len(source.take(100)) < 20
    assert not source.exhausted


def test_an_input_that_raises_keeps_what_came_before():
    def items():
        yield 1
        yield 2
        raise OSError

    source = Source(items())
    assert source.take(5) == [1, 2]
    assert source.exhausted
    assert isinstance(source.error, OSError)


def test_an_asynchronous_input_is_pulled_only_to_the_bound():
    pulled = 0

    async def numbers():
        nonlocal pulled
        for n in itertools.count():
            pulled += 1
            yield n

    @opmap(workers=3, max_pending=6)
    async def f(n):
        await asyncio.sleep(0)
        return n

    async def main():
        async with f.stream(numbers()) as stream:
            return await stream.request(5)

    assert asyncio.run(main()) == [0, 1, 2, 3, 4]
    assert pulled <= 5 + 6


def test_an_asynchronous_input_that_raises_gives_what_came_before():
    async def numbers():
        yield 1
        yield 2
        raise OSError("input")

    @opmap
    async def f(n):
        return n

    async def main():
        stream = f.stream(numbers())
        assert await stream.request(2) == [1, 2]
        with pytest.raises(OSError, match="input"):
            await stream.request(1)

    asyncio.run(main())


def test_an_asynchronous_input_wants_a_coroutine_function():
    async def numbers():
        yield 1

    with pytest.raises(o.ConfigurationError, match="items="):
        opmap(mode="thread")(work.letter)(numbers())


def test_results_do_not_wait_for_a_slow_asynchronous_input():
    got = []

    async def numbers():
        yield 1
        while not got:
            await asyncio.sleep(0.001)
        yield 2

    @opmap
    async def f(n):
        return n

    async def main():
        async for n in f.stream(numbers()):
            got.append(n)

    asyncio.run(asyncio.wait_for(main(), 10))
    assert got == [1, 2]


@pytest.mark.parametrize("mode", ["thread", "process", "auto"])
@pytest.mark.parametrize("size", [100_000, 1_000_000])
def test_large_items_are_pulled_ahead_by_their_bytes(mode, size):
    pulled = itertools.count()
    function = opmap(mode=mode, workers=2, name=f"features.ahead.{mode}")(len)
    stream = function.stream(bytes(size) for _ in pulled)
    assert stream.request(300) == [size] * 300
    stream.cancel()
    assert (next(pulled) - 300) * size < 9_000_000
    function.pool.close()
