"""Many results reduced to one, next to the workers."""

import asyncio
import operator
import threading

import pytest
import work
from hypothesis import given
from hypothesis import strategies as st

import opero as o
from opero import opmap
from opero.parallel.tree import Tree


@pytest.mark.parametrize("mode", ["thread", "process", "auto"])
def test_map_reduce_keeps_the_order_for_what_is_only_associative(mode):
    function = opmap(mode=mode, workers=3, name=f"features.letters.{mode}")(work.letter)
    assert function.map_reduce([*range(10)] * 30, operator.add) == "abcdefghij" * 30
    assert function.map_reduce(range(3), operator.add, "> ") == "> abc"
    assert function.map_reduce([], operator.add, "empty") == "empty"
    with pytest.raises(TypeError, match="no initial value"):
        function.map_reduce([], operator.add)


@pytest.mark.parametrize("mode", ["thread", "process"])
def test_map_reduce_raises_failures_together_or_leaves_them_out(mode):
    function = opmap(mode=mode, workers=2, name=f"features.raise.{mode}")(work.letter)
    with pytest.raises(o.MapError) as caught:
        function.map_reduce([0, 99, 1, 77], operator.add)
    assert {n: type(e) for n, e in caught.value.failures.items()} == {1: IndexError, 3: IndexError}
    skipping = opmap(mode=mode, workers=2, errors="skip", name=f"features.skip.{mode}")(work.letter)
    assert skipping.map_reduce([0, 99, 1, 77], operator.add) == "ab"


def test_a_reduction_that_cannot_be_sent_is_done_here():
    lock = threading.Lock()
    function = opmap(mode="process", workers=2, name="features.here")(work.letter)
    assert function.map_reduce(range(5), lambda a, b: a + b if lock else b) == "abcde"


def test_map_reduce_of_a_coroutine_function():
    @opmap
    async def f(x):
        return [x]

    assert asyncio.run(f.map_reduce(range(5), operator.add, [])) == [0, 1, 2, 3, 4]


@given(st.lists(st.text(max_size=3), min_size=1))
def test_a_tree_merges_from_left_to_right(parts):
    tree = Tree(operator.add)
    for part in parts:
        tree.add(part)
    assert tree.total() == "".join(parts)
    assert tree.total("> ") == "> " + "".join(parts)


def test_a_tree_merges_equals_so_that_nothing_is_copied_more_than_logarithmically_often():
    copied = 0

    def join(a, b):
        nonlocal copied
        copied += len(a) + len(b)
        return a + b

    tree = Tree(join)
    for n in range(1024):
        tree.add([n])
    assert tree.total() == list(range(1024))
    assert copied == 1024 * 10


@pytest.mark.parametrize("schedule", ["shared", "stealing"])
@pytest.mark.parametrize("chunk_size", [7, "auto"])
def test_map_reduce_keeps_the_order_when_workers_die_and_items_do_not_travel(schedule, chunk_size):
    settings = {"workers": 2, "errors": "skip", "schedule": schedule, "chunk_size": chunk_size}
    function = opmap(mode="process", name="reduce.deaths", **settings)(work.listed)
    items = [*range(50), "kill", *range(50, 90), threading.Lock(), *range(90, 300), "kill", *range(300, 400)]
    with function.pool:
        assert function.map_reduce(items, operator.add) == [*range(400)]


def test_map_reduce_by_priority_reduces_in_input_order():
    function = opmap(mode="process", workers=2, priority=operator.neg, name="reduce.priority")(work.letter)
    with function.pool:
        assert function.map_reduce([*range(10)] * 2, operator.add) == "abcdefghij" * 2
