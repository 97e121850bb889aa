"""Loops that are not the standard library's: gevent's, whose greenlets look like threads, and uvloop."""

import asyncio
import subprocess
import sys
import textwrap

import pytest

import opero as o

pytestmark = pytest.mark.timeout(60)

GREENLETS = """
    from gevent import monkey

    monkey.patch_all()

    import time
    import gevent
    import opero as o

    failed, ticks = set(), []
    limit, pool = o.RateLimit(50, per=1), o.Bulkhead(2, max_queue=20)

    @o.opero(o.Retry(3, wait=0.02), o.CircuitBreaker(), limit, pool, timeout=20)
    def once_down(n):
        gevent.sleep(0.01)
        if n % 3 == 0 and n not in failed:
            failed.add(n)
            raise OSError
        return n

    ticking = gevent.spawn(lambda: [(ticks.append(1), gevent.sleep(0.01)) for _ in range(10)])
    calls = [gevent.spawn(once_down, n) for n in range(12)]
    gevent.joinall([ticking, *calls], raise_error=True)
    assert [each.value for each in calls] == list(range(12))
    assert (once_down.opero.stats()["attempts"], len(ticks)) == (16, 10)

    alone = o.Bulkhead(1, max_queue=10)

    @o.opero(alone)
    def long(seconds):
        gevent.sleep(seconds)
        return seconds

    calls = [gevent.spawn(long, seconds) for seconds in (9, 9, 0.01)]
    gevent.sleep(0.05)
    gevent.killall(calls[:2])
    assert calls[2].get(timeout=5) == 0.01
    assert (alone.slots.used, long.opero.stats()["cancelled"]) == (0, 2)

    @o.opero(o.Hedge(0.02), o.Cache(60))
    def computed(n):
        ticks.append(n)
        gevent.sleep(0.1)
        return n

    ticks.clear()
    calls = [gevent.spawn(computed, 7) for _ in range(5)]
    gevent.joinall(calls, raise_error=True)
    assert ([each.value for each in calls], ticks) == ([7] * 5, [7, 7])

    @o.opero(timeout=0.05)
    def hanging():
        time.sleep(0.5)

    try:
        hanging()
    except o.CallTimeout:
        print("all as with threads")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="gevent is not among the test dependencies there")
def test_greenlets_do_as_threads_do():
    program = [sys.executable, "-X", "dev", "-c", textwrap.dedent(GREENLETS)]
    done = subprocess.run(program, capture_output=True, text=True, timeout=50, check=False)
    assert (done.stdout, done.returncode) == ("all as with threads\n", 0), done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="there is no uvloop there")
def test_uvloop_does_as_asyncio_does():
    import uvloop

    failed, pool = set(), o.Bulkhead(2, max_queue=20)

    @o.opero(o.Retry(3, wait=0.01), o.CircuitBreaker(), o.RateLimit(50, per=1), pool, timeout=20)
    async def once_down(n):
        await asyncio.sleep(0.01)
        if n % 3 == 0 and n not in failed:
            failed.add(n)
            raise OSError
        return n

    @o.opero(pool)
    async def long():
        await asyncio.sleep(9)

    async def program():
        assert await asyncio.gather(*map(once_down, range(12))) == list(range(12))
        tasks = [asyncio.create_task(long()) for _ in range(4)]
        await asyncio.sleep(0.02)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await long()

    uvloop.run(program())
    assert (pool.slots.used, len(pool.slots.queue)) == (0, 0)
    assert once_down.opero.stats()["attempts"] == 16
    assert long.opero.stats()["cancelled"] == 5
