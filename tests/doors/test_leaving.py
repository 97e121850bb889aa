"""Who leaves an asynchronous generator early lets it clean up, which may take a while, as a bare one does."""

import asyncio
import contextlib
import gc

import pytest
import trio

import opero as o
from opero import fused, testing

pytestmark = pytest.mark.timeout(60)
LAYERS = {
    "bare": lambda function: function,
    "retried": o.opero(retries=2, min_delay=0),
    "restarted": o.opero(o.Retry(2, wait=0, generator="restart"), fallback=list),
    "layered": o.opero(retries=1, circuit_breaker=True, bulkhead=1, timeout=30, attempt_timeout=20),
}


class Kit:
    """A generator whose cleanup awaits, and what was seen of it."""

    def __init__(self, layer, library):
        self.seen, self.sleep = [], library.sleep
        self.items = layer(self._items)

    async def _items(self, error=None, more=0):
        self.seen.append("began")
        try:
            for number in range(3):
                yield number
        finally:
            await self.sleep(0.01)
            self.seen.append("clean")
            if error is not None:
                raise error
            for number in range(more):
                yield number

    async def close(self, **how):
        async with contextlib.aclosing(self.items(**how)) as items:
            async for _ in items:
                break

    async def throw(self):
        items = self.items()
        await anext(items)
        with pytest.raises(GeneratorExit):
            await items.athrow(GeneratorExit())

    async def wait_between(self):
        async with contextlib.aclosing(self.items()) as items:
            async for _ in items:
                await self.sleep(60)


@pytest.fixture(params=LAYERS)
def layer(request):
    return LAYERS[request.param]


@pytest.fixture(params=[asyncio, trio], ids=["asyncio", "trio"])
def kit(request, layer):
    kit = Kit(layer, request.param)
    kit.run = trio.run if request.param is trio else lambda function, *args: asyncio.run(function(*args))
    return kit


@pytest.fixture(params=[True, False], ids=["fast", "general"], autouse=True)
def _speed(request, monkeypatch):
    monkeypatch.setattr(fused, "enabled", request.param)


def ended(kit):
    """Return how many calls there were, how they ended, and whether a slot is still taken."""
    stats = kit.items.opero.stats() if hasattr(kit.items, "opero") else {"calls": 1, "cancelled": 1}
    return stats["calls"], stats["cancelled"], stats.get("active", 0)


@pytest.mark.parametrize("leave", [Kit.close, Kit.throw])
def test_it_cleans_up_before_the_consumer_goes_on(kit, leave):
    kit.run(leave, kit)
    assert (kit.seen, ended(kit)) == (["began", "clean"], (1, 1, 0))


@pytest.mark.parametrize("error", [ValueError("unclean"), OSError("unclean")])
def test_what_the_cleanup_raises_is_the_consumers_and_is_not_retried(kit, error):
    with pytest.raises(type(error)) as raised:
        kit.run(lambda: kit.close(error=error))
    assert raised.value is error
    assert kit.seen == ["began", "clean"]


def test_a_cleanup_that_yields_is_refused_as_python_does(kit):
    with pytest.raises(RuntimeError, match="async generator ignored GeneratorExit"):
        kit.run(lambda: kit.close(more=1))
    assert kit.seen == ["began", "clean"]


def test_a_consumer_that_is_cancelled_between_two_items_lets_it_clean_up(kit):
    async def on_asyncio():
        task = asyncio.create_task(kit.wait_between())
        await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    async def on_trio():
        with trio.move_on_after(0.02):
            await kit.wait_between()

    kit.run(on_trio if kit.run is trio.run else on_asyncio)
    clean = ["clean"] if kit.run is not trio.run else []  # where a scope is cancelled, trio lets nobody sleep
    assert (kit.seen, ended(kit)) == (["began", *clean], (1, 1, 0))


@pytest.mark.parametrize("collected", [True, False], ids=["collected", "at the end"])
def test_a_loop_cleans_up_what_was_left_behind_and_reports_nothing(layer, collected):
    kit, reported = Kit(layer, asyncio), []

    async def main():
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: reported.append(context))
        items = kit.items()
        async for _ in items:
            break
        if collected:
            del items
            gc.collect()
            await asyncio.sleep(0.05)
            assert kit.seen == ["began", "clean"]
        return None if collected else items

    items = asyncio.run(main())
    del items
    gc.collect()
    assert (kit.seen, reported, ended(kit)) == (["began", "clean"], [], (1, 1, 0))


@pytest.mark.parametrize("policy", [o.Timeout(5.0), o.Timeout(attempt=5.0)], ids=["total", "attempt"])
def test_a_timeout_ends_a_cleanup_that_hangs(policy):
    @o.opero(policy, o.Retry(2, generator="restart"))
    async def items():
        try:
            yield 1
        finally:
            await asyncio.Event().wait()

    async def leave():
        async with contextlib.aclosing(items()) as left:
            await anext(left)

    with testing.clock() as virtual:
        with pytest.raises(o.CallTimeout):
            asyncio.run(leave())
        assert virtual.elapsed() == 5
    assert (items.opero.stats()["timeouts"], items.opero.stats()["attempts"]) == (1, 1)


def test_a_timeout_that_passed_between_two_items_leaves_the_cleanup_its_time():
    kit = Kit(o.opero(retries=0, timeout=5), asyncio)

    async def leave():
        async with contextlib.aclosing(kit.items()) as items:
            await anext(items)
            await asyncio.sleep(10)

    with testing.clock():
        asyncio.run(leave())
    assert kit.seen == ["began", "clean"]


def test_slot_and_probe_are_given_back_when_the_cleanup_is_done():
    slots, breaker, seen = o.Bulkhead(1), o.CircuitBreaker(consecutive=1, reset_after=5, half_open_probes=1), []

    @o.opero(slots, breaker)
    async def items():
        try:
            yield 1
        finally:
            await asyncio.sleep(1)
            seen.append(slots.slots.used)

    async def leave_twice():
        for _ in range(2):  # the first would keep the probe, and the second be refused
            async with contextlib.aclosing(items()) as left:
                await anext(left)

    with testing.clock() as virtual:
        with pytest.raises(OSError, match="down"), breaker:
            raise OSError("down")
        virtual.advance(5)
        asyncio.run(leave_twice())
    assert (seen, slots.slots.used) == ([1, 1], 0)
