"""asyncio loops may have clocks of their own."""

import asyncio

import pytest

import opero as o


def test_a_loop_with_a_clock_of_its_own_has_the_same_deadlines():
    class Late(asyncio.SelectorEventLoop):
        def time(self):
            return super().time() + 1e6

    @o.opero(retries=0, timeout=0.05)
    async def f():
        await asyncio.sleep(60)

    with asyncio.Runner(loop_factory=Late) as runner, pytest.raises(o.CallTimeout):
        runner.run(f())

    @o.opero(retries=0, timeout=60)
    async def g():
        await asyncio.sleep(0.01)
        return 1

    with asyncio.Runner(loop_factory=Late) as runner:
        assert runner.run(g()) == 1
