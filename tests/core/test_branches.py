"""What runs beside a call, in a task of its own."""

import asyncio
import gc

from opero.drivers.aio import Aio


def test_a_branch_that_is_cancelled_before_it_begins_is_no_coroutine_that_nobody_awaited():
    async def layers(): ...

    async def main():
        asyncio.get_running_loop().call_soon(lambda: Aio().fork(layers(), list))  # its last turn

    asyncio.run(main())
    gc.collect()  # it would complain
