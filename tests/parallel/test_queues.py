"""Who gets which items, in which order and how many at once."""

import operator

import pytest
import work
from hypothesis import given
from hypothesis import strategies as st

from opero import opmap
from opero.workers.queues import Priority, Shared, Stealing


@pytest.mark.parametrize("mode", ["thread", "process"])
@pytest.mark.parametrize("schedule", ["shared", "stealing"])
@pytest.mark.parametrize("chunk_size", [1, 7, "auto"])
def test_every_schedule_and_chunk_size_gives_the_same_results(mode, schedule, chunk_size):
    settings = {"mode": mode, "workers": 3, "schedule": schedule, "chunk_size": chunk_size}
    function = opmap(**settings, name="features.schedules")(work.hang)
    assert function([0] * 200) == [0] * 200
    assert function.last_run.items == 200


def test_priority_decides_who_is_first_among_what_was_pulled():
    ran = []
    function = opmap(mode="thread", workers=1, priority=operator.neg)(ran.append)
    function(range(20))
    assert ran == [*range(19, -1, -1)]
    ran.clear()
    list(opmap(mode="thread", workers=1, priority=operator.neg, max_pending=5)(ran.append).stream(range(20)))
    assert ran[0] == 4
    assert sorted(ran) == [*range(20)]


STEPS = st.lists(st.tuples(st.sampled_from(["put", "take", "put_back"]), st.integers(0, 3), st.integers(1, 9)))


@given(STEPS, st.sampled_from(["shared", "stealing", "priority"]))
def test_a_queue_gives_each_item_once_with_its_place(steps, kind):
    queue = {"shared": Shared, "stealing": lambda: Stealing(3), "priority": lambda: Priority(lambda x: -x)}[kind]()
    put, out = 0, {}
    for step, worker, count in steps:
        if step == "put":
            queue.put(range(put, put + count), [f"{n}" if kind != "priority" else n for n in range(put, put + count)])
            put += count
        elif step == "take" and len(queue):
            indices, items = queue.take(worker, count)
            assert 1 <= len(items) <= count
            assert [int(x) for x in items] == list(indices)
            assert out.keys().isdisjoint(indices)
            out.update(zip(indices, items, strict=True))
        elif step == "put_back" and out:
            index, item = out.popitem()
            queue.put_back([index], [item])
        assert len(queue) == put - len(out)
    queue.clear()
    assert len(queue) == 0


def test_a_worker_without_work_steals_the_back_half_of_the_longest_line():
    queue = Stealing(2)
    queue.put(range(8), list("abcdefgh"))
    assert queue.take(0, 4) == (range(4), list("abcd"))
    assert queue.take(0, 4) == (range(6, 8), list("gh"))
    assert queue.take(1, 4) == (range(4, 6), list("ef"))
