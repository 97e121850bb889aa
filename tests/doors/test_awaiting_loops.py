"""Asynchronous loops whose policy awaits what becomes of an attempt."""

import asyncio

import pytest
import trio

import opero as o


@pytest.mark.parametrize("block", ["with", "async with"])
def test_what_a_condition_awaits_ends_before_the_rest_of_the_turn(block):
    async def on(error):
        async with asyncio.timeout(0.05):
            await asyncio.sleep(0)
        return True

    async def work():
        async for attempt in o.Retry(2, wait=0, on=on):
            if block == "with":
                with attempt:
                    if attempt.number < 3:
                        raise OSError
            else:
                async with attempt:
                    if attempt.number < 3:
                        raise OSError
            await asyncio.sleep(0.1)
        return attempt.number

    assert asyncio.run(work()) == 3


def test_a_scope_around_an_attempt_whose_condition_is_awaited_is_left_in_order():
    async def on(error):
        with trio.move_on_after(1):
            await trio.lowlevel.checkpoint()
        return True

    async def work():
        async for attempt in o.Retry(2, wait=0, on=on):
            with trio.move_on_after(10):
                async with attempt:
                    if attempt.number < 3:
                        raise OSError
        return attempt.number

    assert trio.run(work) == 3


def test_an_error_that_an_awaited_condition_lets_pass_is_raised_by_the_block_that_awaits_it():
    async def on(error):
        return False

    after = []

    async def work():
        async for attempt in o.Retry(2, wait=0, on=on):
            async with attempt:
                raise OSError
            after.append(attempt.number)

    with pytest.raises(OSError):
        asyncio.run(work())
    assert after == []


def test_cancelling_the_body_passes_though_the_condition_has_to_be_awaited():
    async def on(error):
        return True

    async def work():
        async for attempt in o.Retry(2, wait=0, on=on):
            with attempt:
                await asyncio.sleep(60)

    async def main():
        task = asyncio.create_task(work())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel()
        await task

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(main())
