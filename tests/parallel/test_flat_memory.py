"""A long stream needs no more memory than a short one."""

import asyncio
import tracemalloc

import numpy as np
import pytest
import work

from opero import opmap

ITEMS, BYTES = 20_000, 2_000  # 40 MB, and twice that with the results
MOST = 12_000_000


async def counted(stream):
    return sum([1 async for _ in stream])


def items(mode):
    for n in range(ITEMS):
        yield np.full(BYTES // 4, n, dtype=np.float32) if mode == "gpu" else bytes(BYTES) + n.to_bytes(4, "big")


@pytest.mark.parametrize("mode", ["thread", "process", "async", "auto", "gpu"])
def test_the_memory_of_a_stream_does_not_grow_with_its_input(mode):
    function = opmap(mode=mode, workers=2, max_pending=1000)(work.same_later if mode == "async" else work.same)
    tracemalloc.start()
    try:
        stream = function.stream(items(mode))
        number = asyncio.run(counted(stream)) if mode == "async" else sum(1 for _ in stream)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert number == ITEMS
    assert peak < MOST
