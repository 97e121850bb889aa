"""What a map promises in every mode."""

import asyncio
import gc
import itertools
import multiprocessing
import threading
import time

import pytest
import trio
import work

import opero as o
from opero import catalogue, events, opmap, testing

ASYNC = {"async", "async_process"}


def mapped(mode, **settings):
    return opmap(mode=mode, workers=3, **settings)(work.coroutine if mode in ASYNC else work.plain)


def call(function, items):
    found = function(items)
    return asyncio.run(found) if asyncio.iscoroutine(found) else found


def listed(function, items):
    stream = function.stream(items)
    if not hasattr(stream, "__aiter__"):
        return list(stream)

    async def collect():
        return [x async for x in stream]

    return asyncio.run(collect())


MODES = pytest.mark.parametrize("mode", ["thread", "process", "async", "async_process", "auto"])


@MODES
def test_results_come_in_input_order(mode):
    assert call(mapped(mode), range(4, 50)) == [x * 10 for x in range(4, 50)]
    assert call(mapped(mode), []) == []


@MODES
def test_errors_are_raised_together_after_all_items(mode):
    with pytest.raises(o.MapError) as caught:
        call(mapped(mode), range(6))
    assert caught.value.results == [0, 10, 20, None, 40, 50]
    assert {i: type(e) for i, e in caught.value.failures.items()} == {3: KeyError}


@MODES
def test_errors_are_returned_in_place_or_skipped(mode):
    found = call(mapped(mode, errors="return"), range(5))
    assert isinstance(found[3], KeyError)
    assert found[:3] + found[4:] == [0, 10, 20, 40]
    assert call(mapped(mode, errors="skip"), range(5)) == [0, 10, 20, 40]


@MODES
def test_a_stream_ends_with_the_first_error_itself(mode):
    with pytest.raises(KeyError):
        listed(mapped(mode), range(6))
    assert listed(mapped(mode, errors="skip"), range(6)) == [0, 10, 20, 40, 50]


@MODES
def test_unordered_results_are_all_there(mode):
    assert sorted(call(mapped(mode, ordered=False), range(4, 30))) == [x * 10 for x in range(4, 30)]


@MODES
def test_an_endless_input_is_pulled_only_as_far_ahead_as_allowed(mode):
    pulled = itertools.count(4)
    taken = []

    def endless():
        for x in pulled:
            taken.append(x)
            yield x

    function = mapped(mode, max_pending=7)
    if mode in ASYNC:

        async def first():
            stream = function.stream(endless())
            found = [await anext(stream) for _ in range(3)]
            await stream.aclose()
            return found

        found = asyncio.run(first())
    else:
        stream = function.stream(endless())
        found = [next(stream) for _ in range(3)]
        stream.close()
    assert found == [40, 50, 60]
    assert len(taken) <= 3 + 7
    assert function.opero.operation.book.read()[0]["opero.map.active", ()] == 0


def test_a_reader_sees_how_many_items_are_out():
    seen = []

    @opmap(mode="thread", workers=2, name="maps.out")
    def look(_):
        (family,) = [f for f in catalogue.snapshot() if f.metric.name == "opero.map.active"]
        seen.extend(value for labels, value in family.samples.items() if "maps.out" in labels)

    look(range(20))
    assert 1 <= max(seen) <= 20
    assert look.opero.operation.book.read()[0]["opero.map.active", ()] == 0


@MODES
def test_every_item_is_counted_once(mode):
    function = mapped(mode, errors="return")
    call(function, range(20))
    stats = function.opero.stats()
    assert (stats["calls"], stats["ok"], stats["errors"], stats["active"]) == (20, 19, 1, 0)
    sums = function.opero.operation.book.read()[0]
    assert (sums["opero.map.items", ("ok",)], sums["opero.map.items", ("error",)]) == (19, 1)
    assert (sums["opero.map.active", ()], sums["opero.map.concurrency.limit", ()]) == (0, 0)


@MODES
def test_one_is_the_single_call(mode):
    function = mapped(mode)
    single = function.one(4)
    assert (asyncio.run(single) if mode in ASYNC else single) == 40


def test_an_input_that_raises_ends_the_map_with_its_error_and_leaves_nothing():
    def items():
        yield 4
        raise OSError("input")

    before = threading.active_count()
    with pytest.raises(OSError, match="input"):
        mapped("thread")(items())
    gc.collect()
    assert threading.active_count() <= before + 1


def test_cancelling_an_async_map_cancels_its_items():
    running, cancelled = [], []

    @opmap
    async def f(x):
        running.append(x)
        try:
            await asyncio.sleep(100)
        except asyncio.CancelledError:
            cancelled.append(x)
            raise

    async def main():
        task = asyncio.create_task(f(range(5)))
        await asyncio.sleep(1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert asyncio.all_tasks() == {asyncio.current_task()}

    with testing.clock():
        asyncio.run(main())
    assert sorted(running) == sorted(cancelled) == list(range(5))


def test_an_item_that_cancels_itself_is_that_items_end():
    @opmap(errors="return")
    async def f(x):
        if x == 1:
            raise asyncio.CancelledError
        return x

    async def main():
        return await f(range(3))

    found = asyncio.run(main())
    assert (found[0], type(found[1]), found[2]) == (0, asyncio.CancelledError, 2)


@pytest.mark.parametrize("errors", ["raise", "return", "skip"])
@pytest.mark.parametrize("error", [SystemExit, GeneratorExit])
def test_what_ends_the_program_ends_a_map_of_tasks(errors, error):
    @opmap(errors=errors)
    async def f(x):
        raise error

    async def main():
        return await f(range(3))

    with pytest.raises(error):
        asyncio.run(main())


@pytest.mark.parametrize("keyword", ["n_jobs", "max_workers", "processes"])
def test_the_names_of_other_libraries_are_answered_with_ours(keyword):
    with pytest.raises(o.ConfigurationError, match="here it is workers"):
        opmap(**{keyword: 4})


def test_async_items_run_at_once_as_many_as_there_are_workers():
    running, most = 0, 0

    @opmap(workers=4)
    async def f(x):
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(1)
        running -= 1

    with testing.clock():
        asyncio.run(f(range(20)))
    assert most == 4


# ---- coroutines in processes


def test_coroutines_of_one_worker_wait_together():
    @opmap
    async def watch(_):
        began = time.monotonic()
        found = await work.fetch([0.1] * 60)
        return found, time.monotonic() - began

    async def main():
        await work.fetch([0] * 4)
        return await watch.one(0)

    found, took = asyncio.run(main())
    assert found == [0.1] * 60
    assert took < 3  # one after the other they take 6 s on one core, 3 on two


def test_the_loop_goes_on_while_processes_work():
    async def main():
        ticks = 0

        async def tick():
            nonlocal ticks
            while True:
                await asyncio.sleep(0.01)
                ticks += 1

        ticking = asyncio.create_task(tick())
        await work.fetch([0.3])
        ticking.cancel()
        return ticks

    assert asyncio.run(main()) >= 5


def test_a_killed_worker_costs_the_coroutines_it_had_begun_and_no_other():
    async def main():
        return await work.fetch([*range(200), "kill", *range(200)])

    found = asyncio.run(main())
    lost = [n for n, x in enumerate(found) if isinstance(x, o.WorkerLost)]
    assert len(found) == 401
    assert 200 in lost
    assert len(lost) <= 50
    assert all(found[n] == (n if n < 200 else n - 201) for n in range(401) if n not in lost)


def test_cancelling_ends_coroutines_in_processes():
    async def main():
        task = asyncio.create_task(work.fetch([60.0, 60.0]))
        await asyncio.sleep(0.3)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(asyncio.wait_for(main(), 20))
    work.fetch.pool.close()


# ---- processes


@pytest.fixture(params=["fork", "forkserver"])
def started(request, monkeypatch):
    monkeypatch.setattr("opero.workers.pool.start_method", lambda: request.param)


@pytest.mark.usefixtures("started")
def test_two_thousand_items_exactly_once_each():
    assert work.square(range(2000)) == [x * x for x in range(2000)]


@pytest.mark.usefixtures("started")
@pytest.mark.parametrize(("how", "exitcode", "says"), [("kill", -9, "SIGKILL"), ("exit", 7, "exit code 7")])
def test_a_lost_worker_costs_exactly_its_item(how, exitcode, says):
    heard = []
    items = [*range(20), how, *range(20), how, 1]
    with events.subscribe(heard.append, "opero.map.worker_lost"):
        found = work.fragile(items)
    lost = [(i, e) for i, e in enumerate(found) if isinstance(e, o.WorkerLost)]
    assert [(i, e.index, e.exitcode) for i, e in lost] == [(20, 20, exitcode), (41, 41, exitcode)]
    assert says in str(lost[0][1])
    assert [x for x in found if isinstance(x, int)] == [x for x in items if x != how]
    assert sorted(e.fields["index"] for e in heard) == [20, 41]


def test_workers_that_all_die_again_and_again_do_not_hang_the_map():
    found = work.fragile(["kill"] * 12)
    assert [type(e) for e in found] == [o.WorkerLost] * 12
    assert [e.index for e in found] == list(range(12))


def test_what_cannot_travel_is_the_error_of_its_item_only():
    found = work.fragile([1, "lock", 2, "raise", 3, "bomb", 4, threading.Lock(), 5, work.Bomb(), 6])
    assert found[::2] == [1, 2, 3, 4, 5, 6]
    assert all(isinstance(e, Exception) for e in found[1::2])
    assert "does not pickle" in str(found[3])
    assert "cannot be read" in str(found[5])
    assert "cannot be read" in str(found[9])


def test_what_workers_counted_and_said_reaches_the_parent():
    heard = []
    before = work.flaky.opero.stats()
    with events.subscribe(heard.append, "opero.retry.*"):
        assert work.flaky([1, 2, 3]) == [1, 2, 3]
    after = work.flaky.opero.stats()
    gained = {key: after[key] - before[key] for key in ("calls", "ok", "attempts", "retries")}
    assert gained == {"calls": 3, "ok": 3, "attempts": 6, "retries": 3}
    assert sorted(e.name for e in heard) == ["opero.retry.scheduled"] * 3 + ["opero.retry.succeeded"] * 3


def test_large_items_and_results_do_not_block_each_other():
    data = bytes(10_000_000)
    assert [len(found) for found in work.big([data] * 6)] == [10_000_001] * 6


def test_a_function_that_cannot_be_sent_says_so(monkeypatch):
    lock = threading.Lock()
    function = opmap(mode="process", start_method="forkserver")(lambda x: (lock, x))
    with pytest.raises(o.ConfigurationError, match=r"what can be sent to a process .*cannot pickle '_thread.lock'"):
        function([1])
    monkeypatch.setattr("opero.workers.mains.cloudpickle", lambda: None)
    with pytest.raises(o.ConfigurationError, match=r"pip install 'opero\[map\]'"):
        function([1])


def test_closing_a_stream_ends_the_workers_that_are_busy():
    with work.slow.pool:
        stream = work.slow.stream([0, *[60] * 9])
        assert next(stream) == 0
        stream.close()
        assert work.slow([0] * 4) == [0] * 4


def test_workers_are_kept_between_maps_until_the_pool_is_closed():
    with work.pid.pool:
        first = set(work.pid(range(10)))
        assert len(work.pid.pool) >= len(first)
        kept = {child.pid for child in multiprocessing.active_children() if child.name == "work.pid"}
        assert first <= kept
        assert set(work.pid(range(10))) <= kept
    assert len(work.pid.pool) == 0
    assert not [child for child in multiprocessing.active_children() if child.name == "work.pid"]
    assert first.isdisjoint(work.pid(range(10)))
    work.pid.pool.close()


# ---- what is refused


@pytest.mark.parametrize("mode", ["async", "async_process"])
def test_a_map_of_coroutines_is_refused_on_trio_with_the_way_out(mode):
    function = opmap(mode=mode)(work.same_later)

    async def all_of_them():
        return await function(range(3))

    async def each():
        return [x async for x in function.stream(range(3))]

    for main in (all_of_them, each):
        with pytest.raises(o.ConfigurationError, match=r"asyncio around it; on trio, a nursery over `\.one\(item\)`"):
            trio.run(main)
    assert trio.run(function.one, 4) == 4


@MODES
def test_a_map_that_cannot_begin_is_told_as_ended_and_leaves_no_trace(mode):
    function, said = mapped(mode), []
    with events.subscribe(lambda event: said.append(event.name), "opero.map.*"), pytest.raises(TypeError):
        call(function, None)
    assert said == ["opero.map.started", "opero.map.finished"]
    assert function.opero.operation.book.read()[0]["opero.map.concurrency.limit", ()] == 0
