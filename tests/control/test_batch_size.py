"""What the law of the batch size does, step by step."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.simulation import s6
from opero.control.batch_size import SIZE, BatchSizeLaw, Snapshot


def driven(law, steps, cost, size=4.0, *, limit=10**6, target=0.05, free=0.0):
    """Let the law drive a device that takes `cost(items)` seconds, and return the sizes."""
    sizes, now = [], 0.0
    for _ in range(steps):
        items = max(1, int(size))
        failed = items > limit
        now += 0.02 if failed else cost(items)
        (wish,) = law.decide(
            Snapshot(now, size, items, 0.02 if failed else cost(items), target, free, 1.0 if free else 0.0, failed)
        )
        assert wish.parameter == SIZE
        size = wish.value
        sizes.append(size)
    return sizes


def line(items):
    return 0.008 + 0.00025 * items


def test_it_doubles_until_the_model_says_no_and_stays_at_the_target():
    sizes = driven(BatchSizeLaw(), 60, line)
    assert sizes[:6] == [4, 8, 16, 32, 64, 128]
    assert sizes[-1] == pytest.approx(168, rel=0.03)


def test_a_device_that_becomes_slower_is_followed_within_thirty_steps():
    law = BatchSizeLaw()
    size = driven(law, 100, line)[-1]
    assert driven(law, 30, lambda n: 2 * line(n), size)[-1] == pytest.approx(68, rel=0.05)


def test_one_late_batch_changes_next_to_nothing():
    law = BatchSizeLaw()
    size = driven(law, 100, line)[-1]
    (wish,) = law.decide(Snapshot(1e6, size, int(size), 1.0, 0.05))
    assert wish.value == pytest.approx(size, rel=0.02)


def test_batches_that_are_not_full_do_not_raise_the_size():
    law = BatchSizeLaw()
    for step in range(50):
        (wish,) = law.decide(Snapshot(step, 64.0, 3, line(3), 0.05))
        assert wish.value == 64.0


def test_it_keeps_to_the_memory_that_is_free():
    assert driven(BatchSizeLaw(), 60, line, free=100.0)[-1] == pytest.approx(92)


def test_without_memory_the_size_falls_and_comes_back_later_and_later():
    law, limit = BatchSizeLaw(), 60
    sizes = driven(law, 500, line, limit=limit)
    over = [step for step, size in enumerate(sizes) if int(size) > limit]
    assert len(over) <= 4
    gaps = [b - a for a, b in pairwise(over)]
    assert gaps == sorted(gaps)
    assert min(sizes[-100:]) > 0.8 * limit


@given(st.lists(st.tuples(st.floats(1, 1e5), st.floats(1e-6, 10), st.booleans()), min_size=1, max_size=60))
def test_whatever_it_reads_it_wishes_for_some_size(batches):
    law = BatchSizeLaw()
    for now, (items, seconds, failed) in enumerate(batches):
        (wish,) = law.decide(Snapshot(now, items, items, seconds, 0.05, failed=failed))
        assert 0 < wish.value < 1e12  # the knob has the bounds


@pytest.mark.parametrize("limits", [(400, 200, 400), (120, 60, 120)], ids=["time", "memory"])
def test_scenario_s6_meets_its_gates_in_short(limits):
    assert [figures for figures in s6.run(1, limits, phase=300) if not s6.met(figures)] == []
