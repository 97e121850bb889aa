"""Large buffers cross to workers and back in shared memory."""

import gc

import numpy as np
import work

from opero.workers.arena import IDLE_BYTES, Lender
from opero.workers.wire import BIG


def test_arrays_come_back_right_and_may_be_changed_in_place():
    arrays = [np.full(BIG, n, dtype="f8") for n in range(20)]
    found = work.doubled(arrays)
    assert all((out == 2 * n).all() for n, out in enumerate(found))
    assert all((array == n).all() for n, array in enumerate(arrays))
    found[0][:] = 7
    assert found[0].flags.writeable


def test_results_live_on_while_segments_are_used_again():
    kept = work.doubled([np.full(BIG, n, dtype="f8") for n in range(6)])
    for _ in range(3):
        work.doubled([np.full(BIG, -1.0) for _ in range(6)])
        gc.collect()
    assert [out[0] for out in kept] == [0, 2, 4, 6, 8, 10]
    assert [out[-1] for out in kept] == [0, 2, 4, 6, 8, 10]
    work.doubled.pool.close()
    assert [out.sum() for out in kept] == [2 * n * BIG for n in range(6)]


def test_what_is_not_contiguous_small_or_no_array_comes_back_right():
    grid = np.arange(4 * BIG, dtype="f8").reshape(4, -1)
    items = [grid[:, ::2].copy(order="F"), grid.T, np.arange(3.0), grid[::2, ::2]]
    expected = [2 * item for item in items]
    assert all((a == b).all() for a, b in zip(work.doubled([i.copy() for i in items]), expected, strict=True))
    assert all((a == b).all() for a, b in zip(work.doubled(items), expected, strict=True))


def test_a_returned_segment_is_lent_again_and_idle_ones_are_bounded():
    lender = Lender()
    first, size = lender.lend(memoryview(bytes(BIG)))
    assert size == BIG
    second, _ = lender.lend(memoryview(bytes(BIG)))
    assert second != first
    lender.take_back([first])
    assert lender.lend(memoryview(bytes(BIG)))[0] == first
    large = [lender.lend(memoryview(bytes(IDLE_BYTES // 2)))[0] for _ in range(3)]
    lender.take_back(large)
    assert lender.forgotten == large[:1]
