"""What a map offers besides mapping."""

import asyncio
import itertools
import operator
import random
import threading
import time

import pytest
import work
from hypothesis import given
from hypothesis import strategies as st

import opero as o
from opero import opmap
from opero.parallel.insight import LastRun
from opero.parallel.source import Source
from opero.parallel.tree import Tree
from opero.workers.queues import Priority, Shared, Stealing

# ---- reducing


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


# ---- order, chunks, schedules


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


# ---- inputs


def test_a_slow_input_is_handed_over_as_it_comes():
    source = Source(iter(lambda: time.sleep(0.01), 1))
    assert len(source.take(100)) < 20
    assert not source.exhausted


def test_an_input_that_raises_keeps_what_came_before():
    def items():
        yield 1
        yield 2
        raise OSError

    source = Source(items())
    assert source.take(5) == [1, 2]
    assert source.exhausted
    assert isinstance(source.error, OSError)


def test_an_asynchronous_input_is_pulled_only_to_the_bound():
    pulled = 0

    async def numbers():
        nonlocal pulled
        for n in itertools.count():
            pulled += 1
            yield n

    @opmap(workers=3, max_pending=6)
    async def f(n):
        await asyncio.sleep(0)
        return n

    async def main():
        async with f.stream(numbers()) as stream:
            return await stream.request(5)

    assert asyncio.run(main()) == [0, 1, 2, 3, 4]
    assert pulled <= 5 + 6


def test_an_asynchronous_input_that_raises_gives_what_came_before():
    async def numbers():
        yield 1
        yield 2
        raise OSError("input")

    @opmap
    async def f(n):
        return n

    async def main():
        stream = f.stream(numbers())
        assert await stream.request(2) == [1, 2]
        with pytest.raises(OSError, match="input"):
            await stream.request(1)

    asyncio.run(main())


def test_an_asynchronous_input_wants_a_coroutine_function():
    async def numbers():
        yield 1

    with pytest.raises(o.ConfigurationError, match="items="):
        opmap(mode="thread")(work.letter)(numbers())


def test_results_do_not_wait_for_a_slow_asynchronous_input():
    got = []

    async def numbers():
        yield 1
        while not got:
            await asyncio.sleep(0.001)
        yield 2

    @opmap
    async def f(n):
        return n

    async def main():
        async for n in f.stream(numbers()):
            got.append(n)

    asyncio.run(asyncio.wait_for(main(), 10))
    assert got == [1, 2]


# ---- demand


class Subscriber:
    def __init__(self, first=0, each=0):
        self.first, self.each, self.said = first, each, []

    def on_subscribe(self, demand):
        self.demand = demand
        if self.first:
            demand.request(self.first)

    def on_next(self, value):
        self.said.append(value)
        if self.each:
            self.demand.request(self.each)

    def on_error(self, error):
        self.said.append(error)

    def on_complete(self):
        self.said.append("complete")


def stream_of(items):
    return opmap(mode="thread", workers=2, max_pending=4)(work.letter).stream(items)


def test_a_subscriber_gets_as_much_as_it_asks_for_and_no_more():
    subscriber = Subscriber(first=2)
    stream_of(range(5)).subscribe(subscriber)
    assert subscriber.said == ["a", "b"]
    subscriber.demand.request(1)
    assert subscriber.said == ["a", "b", "c"]
    subscriber.demand.request(10)
    assert subscriber.said == [*"abcde", "complete"]
    subscriber.demand.request(1)
    assert len(subscriber.said) == 6


def test_a_subscriber_that_asks_for_one_more_each_time_does_not_recurse():
    subscriber = Subscriber(first=1, each=1)
    stream_of([0] * 3000).subscribe(subscriber)
    assert subscriber.said == ["a"] * 3000 + ["complete"]


def test_a_subscriber_hears_one_error_and_nothing_after_it():
    subscriber = Subscriber(first=9)
    stream_of([0, 99, 1]).subscribe(subscriber)
    assert [str(said) for said in subscriber.said] == ["a", "string index out of range"]


def test_cancelling_pulls_no_more():
    pulled = []

    def items():
        for n in itertools.count():
            pulled.append(n)
            yield 0

    subscriber = Subscriber(first=3)
    stream_of(items()).subscribe(subscriber)
    subscriber.demand.cancel()
    before = len(pulled)
    subscriber.demand.request(5)
    assert (subscriber.said, len(pulled)) == (["a"] * 3, before)
    assert before <= 3 + 4


def test_asking_for_nothing_is_an_error():
    subscriber = Subscriber(first=-1)
    stream_of(range(5)).subscribe(subscriber)
    assert [type(said) for said in subscriber.said] == [ValueError]


def test_a_stream_that_nobody_asks_pulls_nothing():
    pulled = []
    stream = stream_of(pulled.append(n) for n in range(5))
    assert pulled == []
    stream.close()
    assert list(stream) == []


# ---- workers


def test_a_worker_is_made_ready_once_and_ends_after_its_lifespan():
    pids = work.mortal(range(20))
    assert max(pids.count(pid) for pid in set(pids)) <= 3
    assert len(set(pids)) >= 7


def test_a_worker_that_grew_too_large_is_replaced():
    pids = work.hungry([200_000_000, 1, 1])
    assert pids[0] != pids[1] == pids[2]


def test_constants_travel_once_and_arrive_by_name():
    assert work.looked_up([5, 99_999] * 50) == [5, 99_999] * 50
    assert opmap(mode="thread", constants={"table": "xyz"})(lambda n, table: table[n])([2, 0]) == ["z", "x"]
    with pytest.raises(o.ConfigurationError, match="with table by name"):
        opmap(constants={"table": 1})(work.letter)


def test_lambdas_and_closures_travel_by_cloudpickle():
    secret = random.random()
    function = opmap(mode="process", workers=1, start_method="forkserver", name="features.closure")(
        lambda x: x + secret
    )
    assert function([1, 2]) == [1 + secret, 2 + secret]


@pytest.mark.parametrize("mode", ["thread", "process"])
def test_items_run_under_the_correlation_id_of_their_map(mode):
    function = opmap(mode=mode, workers=2, name=f"features.seen.{mode}")(work.seen.opero.operation.function)
    with o.correlation_id("req-7"):
        assert function(range(5)) == ["req-7"] * 5
    assert set(function(range(5))) == {""}


# ---- auto


def test_auto_runs_trivial_items_where_it_is_called(monkeypatch):
    monkeypatch.setattr("opero.workers.auto.WAITED", 60.0)  # a busy machine makes everybody wait
    threads = set()
    function = opmap(mode="auto")(lambda x: threads.add(threading.get_ident()))
    function(range(1000))
    assert threads == {threading.get_ident()}
    assert [w.name for w in function.last_run.workers] == ["inline"]


def test_auto_gives_items_that_wait_to_threads():
    function = opmap(mode="auto", workers=8)(time.sleep)
    began = time.monotonic()
    function([0.05] * 40)
    assert time.monotonic() - began < 1.5
    assert len(function.last_run.workers) == 9


def test_auto_gives_items_that_compute_to_processes(monkeypatch):
    monkeypatch.setattr("opero.workers.auto.cores", lambda: 2)
    monkeypatch.setattr("opero.workers.auto.PATIENCE", 0.01)
    monkeypatch.setattr("opero.workers.auto.WAITED", 60.0)
    function = opmap(mode="auto", workers=2, name="features.spin")(work.spin)
    assert function([0.002] * 100) == [0.002] * 100
    assert any(w.name.startswith("process") for w in function.last_run.workers)
    function.pool.close()


# ---- seen from outside


def test_the_last_run_is_told():
    function = opmap(mode="thread", workers=2, chunk_size=1)(time.sleep)
    assert function.last_run is None
    function([0, 0.05, 0, 0.02])
    run = function.last_run
    assert (run.items, [index for _, index in run.slowest][:2]) == (4, [1, 3])
    assert run.duration >= 0.05
    assert 0 < run.busy <= 1
    assert all(w.starting + w.busy + w.waiting <= run.duration + 0.001 for w in run.workers)
    assert any(w.waiting > 0 for w in run.workers)
    assert "4 items in" in str(run)
    assert "item 1 took" in str(run)


def test_only_the_slowest_are_kept():
    run = LastRun("thread", 0.0)
    for n in range(100):
        run.note(n, float(n))
    assert [index for _, index in run.slowest] == [99, 98, 97, 96, 95]


def test_progress_calls_back_and_a_callback_that_fails_is_no_failure_of_the_map():
    told = []
    opmap(mode="thread", chunk_size=1, progress=lambda done, total: told.append((done, total)))(work.letter)(range(5))
    assert told[-1] == (5, 5)
    assert told == sorted(set(told))

    def broken(done, total):
        raise ValueError

    with pytest.warns(UserWarning, match="progress callback failed"):
        assert opmap(mode="thread", progress=broken)(work.letter)(range(5)) == list("abcde")


@pytest.mark.parametrize("rich", [True, False])
def test_progress_is_shown_where_it_is_wanted(capsys, monkeypatch, rich):
    if not rich:
        monkeypatch.setitem(__import__("sys").modules, "rich", None)
    opmap(mode="thread", progress=True, errors="skip", name="features.shown")(work.letter)([0, 1, 99])
    shown = capsys.readouterr().err
    assert "features.shown" in shown
    assert "3" in shown
    assert "1 failed" in shown


def test_progress_is_quiet_in_a_pipe(capsys):
    opmap(mode="thread")(work.letter)(range(5))
    assert capsys.readouterr() == ("", "")


def test_a_map_error_tells_causes_and_where():
    with pytest.raises(o.MapError) as caught:
        opmap(mode="thread", name="shop.parse")(lambda x: {}[x] if x % 2 else 1 / (x - 4))(range(6))
    text = str(caught.value)
    assert "4 of 6 items of shop.parse failed" in text
    assert "3 × KeyError, first at item 1: 1" in text
    assert "1 × ZeroDivisionError, first at item 4: division by zero" in text


@pytest.mark.parametrize("mode", ["thread", "process", "auto"])
@pytest.mark.parametrize("size", [100_000, 1_000_000])
def test_large_items_are_pulled_ahead_by_their_bytes(mode, size):
    pulled = itertools.count()
    function = opmap(mode=mode, workers=2, name=f"features.ahead.{mode}")(len)
    stream = function.stream(bytes(size) for _ in pulled)
    assert stream.request(300) == [size] * 300
    stream.cancel()
    assert (next(pulled) - 300) * size < 9_000_000
    function.pool.close()


# ---- deadlines


def left(x):
    return o.remaining()


async def left_async(x):
    return o.remaining()


@pytest.mark.parametrize("mode", ["thread", "process", "auto"])
def test_the_callers_deadline_goes_along(mode):
    function = opmap(mode=mode, workers=2, name=f"features.deadline.{mode}")(left)
    around = o.opero(timeout=1000.0, retries=0, name="features.deadline")(lambda: function(range(4)))
    assert all(900 < seconds < 1000 for seconds in around())
    assert function([1]) == [None]


@pytest.mark.parametrize("mode", ["async", "async_process"])
def test_the_deadline_of_a_coroutine_goes_along(mode):
    function = opmap(mode=mode, workers=2, name=f"features.deadline.{mode}")(left_async)

    @o.opero(timeout=1000.0, retries=0, name="features.deadline.around")
    async def around():
        return await function(range(4))

    assert all(900 < seconds < 1000 for seconds in asyncio.run(around()))


# ---- settings that do nothing


@pytest.mark.parametrize(
    ("setting", "mode", "text"),
    [
        ({"item_timeout": 1.0}, "dask", "attempt_timeout="),
        ({"worker_exit": print}, "dask", "WorkerPlugin"),
        ({"worker_memory": 1 << 30}, "dask", "--memory-limit"),
        ({"worker_lifespan": 9}, "dask", "--lifetime"),
        ({"worker_init": print}, "thread", "mode='process'"),
        ({"worker_init": print}, "auto", "mode='process'"),
        ({"cluster": "tcp://127.0.0.1:1"}, "process", "mode='dask'"),
    ],
)
def test_a_setting_that_does_nothing_in_a_mode_is_refused(setting, mode, text):
    with pytest.raises(o.ConfigurationError, match=text):
        opmap(mode=mode, **setting)(work.plain)
