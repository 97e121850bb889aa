"""The deadline of the call around a map: items see it, and the map itself ends with it."""

import asyncio
import itertools
import time

import pytest
import work

import opero as o
from opero import opmap


def left(x):
    return o.remaining()


async def left_async(x):
    return o.remaining()


@pytest.mark.parametrize("mode", ["thread", "process", "auto"])
def test_the_callers_deadline_goes_along(mode):
    function = opmap(mode=mode, workers=2, name=f"deadlines.{mode}")(left)
    around = o.opero(timeout=1000.0, retries=0, name="deadlines.around")(lambda: function(range(4)))
    assert all(900 < seconds < 1000 for seconds in around())
    assert function([1]) == [None]


@pytest.mark.parametrize("mode", ["async", "async_process"])
def test_the_deadline_of_a_coroutine_goes_along(mode):
    function = opmap(mode=mode, workers=2, name=f"deadlines.{mode}")(left_async)

    @o.opero(timeout=1000.0, retries=0, name="deadlines.around")
    async def around():
        return await function(range(4))

    assert all(900 < seconds < 1000 for seconds in asyncio.run(around()))


def endless(function, is_async=False):
    """Map an endless input within a deadline; return the counter of items that were pulled, and the error."""
    pulled = itertools.count()
    items = (0.01 for _ in pulled)
    with pytest.raises(o.CallTimeout) as caught, o.Timeout(0.3):
        asyncio.run(function(items)) if is_async else function(items)
    return pulled, caught.value


@pytest.mark.parametrize("mode", ["thread", "process", "auto", "gpu"])
@pytest.mark.parametrize("errors", ["raise", "return"])
def test_a_map_ends_at_the_callers_deadline(mode, errors):
    work.hang(0)
    function = opmap(mode=mode, workers=2, errors=errors, name=f"deadlines.end.{mode}")(
        work.hang if mode != "gpu" else lambda batch: [work.hang(0.01) for _ in batch]
    )
    began = time.monotonic()
    pulled, error = endless(function)
    assert time.monotonic() - began < 5
    assert (error.scope, error.seconds) == ("timeout", 0.3)
    assert "items were done" in "".join(error.__notes__)
    before = next(pulled)
    while function.opero.stats()["active"] and time.monotonic() - began < 5:  # threads end what they have begun
        time.sleep(0.01)
    assert function.opero.stats()["active"] == 0
    assert next(pulled) == before + 1


@pytest.mark.parametrize("mode", ["async", "async_process"])
def test_an_async_map_ends_at_the_callers_deadline(mode):
    function = opmap(mode=mode, workers=2, name=f"deadlines.end.{mode}")(work.hang_later)
    began = time.monotonic()
    _, error = endless(function, is_async=True)
    assert time.monotonic() - began < 5
    assert error.scope == "timeout"


@pytest.mark.parametrize("mode", ["thread", "process"])
def test_a_map_does_not_wait_for_an_item_past_the_deadline(mode):
    function = opmap(mode=mode, workers=2, name=f"deadlines.hang.{mode}")(work.hang)
    began = time.monotonic()
    with pytest.raises(o.CallTimeout), o.Timeout(0.2):
        function([60.0 if mode == "process" else 2.0, 0.0])
    assert time.monotonic() - began < 1.9
    if mode == "process":
        function.pool.close()


def test_a_stream_ends_at_the_deadline_it_was_made_in():
    function = opmap(mode="thread", workers=2, name="deadlines.stream")(work.hang)
    with pytest.raises(o.CallTimeout, match=r"deadlines\.stream did not finish"), o.Timeout(0.2):
        for _ in function.stream(itertools.repeat(0.01)):
            pass
