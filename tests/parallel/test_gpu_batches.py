"""What `mode="gpu"` promises, on NumPy: the same code as on a device, but for the copies."""

import asyncio
import threading

import array_api_compat
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import opero as o
from opero import catalogue, events, opmap, testing


def batched(function, **settings):
    return opmap(mode="gpu", **settings)(function)


def double(batch):
    return batch * 2


def odd_ones_fail(batch):
    if (batch % 2 == 1).any():
        raise ValueError("odd")
    return batch * 10


def gathered(function, items):
    async def main():
        return await asyncio.gather(*[function.one(item) for item in items], return_exceptions=True)

    return asyncio.run(main())


def sizes(function):
    return function.opero.operation.book.read()[1]["opero.gpu_batch.size", ()]


# ---- maps


@given(st.lists(st.integers(-50, 50), max_size=60), st.integers(1, 20))
@settings(max_examples=40, deadline=None)
def test_every_input_has_one_outcome_in_its_place(items, size):
    mapped = batched(odd_ones_fail, batch_size=size, errors="return")
    found = mapped(items)
    assert len(found) == len(items)
    for item, outcome in zip(items, found, strict=True):
        assert isinstance(outcome, ValueError) if item % 2 else outcome == item * 10
    stats = mapped.opero.stats()
    assert (stats["ok"], stats["errors"]) == (sum(i % 2 == 0 for i in items), sum(i % 2 for i in items))


@pytest.mark.parametrize("retries", [0, 2], ids=["bare", "retried"])
def test_a_map_is_the_same_lazily_reduced_and_awaited(retries):
    mapped = batched(double, retries=retries)
    assert mapped(range(100)) == list(mapped.stream(range(100))) == [2 * n for n in range(100)]
    assert mapped.map_reduce(range(100), lambda a, b: a + b) == 9900

    @opmap(mode="gpu", retries=retries)
    async def awaited(batch):
        await asyncio.sleep(0)
        return batch * 2

    async def numbers():
        for n in range(20):
            yield n

    async def main():
        return await awaited(range(100)), [x async for x in awaited.stream(numbers())]

    assert asyncio.run(main()) == ([2 * n for n in range(100)], [2 * n for n in range(20)])


def test_each_failure_is_raised_with_its_index():
    with pytest.raises(o.MapError) as caught:
        batched(odd_ones_fail, batch_size=8)(range(6))
    assert sorted(caught.value.failures) == [1, 3, 5]
    assert caught.value.results == [0, None, 20, None, 40, None]


def test_a_stream_pulls_no_further_than_its_bound():
    pulled = []

    def numbers():
        for n in range(10**9):
            pulled.append(n)
            yield n

    with batched(double, batch_size=4, max_pending=10).stream(numbers()) as stream:
        assert [next(stream) for _ in range(3)] == [0, 2, 4]
        assert len(pulled) <= 3 + 10 + 4


def test_a_flaky_batch_is_retried_item_by_item():
    failed = []

    def flaky(batch):
        if not failed:
            failed.append(1)
            raise ConnectionError
        return batch

    mapped = batched(flaky, batch_size=4, retries=3, min_delay=0.001)
    assert mapped(range(8)) == list(range(8))


# ---- what fits


def test_numbers_arrays_and_tuples_are_stacked_along_axis_0():
    seen = []

    def shapes(batch):
        seen.append([part.shape for part in batch] if isinstance(batch, tuple) else batch.shape)
        return batch

    mapped = batched(shapes, batch_size=2)
    assert mapped([1.5, 2.5]) == [1.5, 2.5]
    rows = mapped([np.arange(3), np.arange(3)])
    assert [row.tolist() for row in rows] == [[0, 1, 2], [0, 1, 2]]
    pairs = mapped([(1, np.zeros(2)), (2, np.ones(2))])
    assert [(n, row.tolist()) for n, row in pairs] == [(1, [0, 0]), (2, [1, 1])]
    assert seen == [(2,), (2, 3), [(2,), (2, 2)]]


def test_items_of_other_shapes_go_in_batches_of_their_own():
    mapped = batched(lambda batch: batch.sum(axis=1), batch_size=8)
    assert mapped([np.ones(2), np.ones(3), np.ones(2), np.ones(3)]) == [2, 3, 2, 3]
    assert sizes(mapped)[-1] == 4
    assert sum(sizes(mapped)[:-1]) <= 3


@pytest.mark.parametrize("item", ["text", None, [1, 2], np.array(["a"]), 2**70, ()], ids=repr)
def test_what_fits_no_batch_is_refused_with_the_way_out(item):
    found = batched(double, errors="return")([1, item, 3])
    assert (found[0], found[2]) == (2, 6)
    assert isinstance(found[1], TypeError)
    assert "array" in str(found[1]) or "float" in str(found[1])


def test_a_function_that_returns_something_else_is_told_what_to_return():
    for function in (lambda b: b.sum(), lambda b: b[:-1], lambda _: None):
        found = batched(function, batch_size=4, errors="return")(range(4))
        assert all(isinstance(error, TypeError) and "axis 0" in str(error) for error in found)
        assert len({id(error) for error in found}) == 4


def test_a_function_by_the_array_api_runs_here_too():
    def norm(batch):
        xp = array_api_compat.array_namespace(batch)
        return xp.sqrt(xp.sum(batch * batch, axis=1))

    assert batched(norm)([np.array([3.0, 4.0]), np.array([6.0, 8.0])]) == [5.0, 10.0]


@pytest.mark.parametrize(
    "wrong",
    [{"batch_size": 0}, {"batch_size": "big"}, {"batch_wait": -1}, {"batch_target": 0}, {"constants": {"k": 1}}],
)
def test_wrong_settings_are_refused(wrong):
    with pytest.raises(o.ConfigurationError):
        batched(lambda batch, k=1: batch * k, **wrong)


# ---- memory


def test_out_of_memory_splits_the_batch_and_an_item_alone_is_its_own_error():
    def small(batch):
        if len(batch) > 4 or (batch == 7).any():
            raise MemoryError
        return batch

    heard = []
    mapped = batched(small, batch_size=16, errors="return")
    with events.subscribe(heard.append, "opero.gpu_batch.out_of_memory"):
        found = mapped(range(16))
    assert [type(x) is MemoryError for x in found] == [n == 7 for n in range(16)]
    assert [event.fields["size"] for event in heard] == [16, 8, 4, 2, 1, 8]


def test_the_size_stays_below_what_did_not_fit():
    most = []

    def small(batch):
        most.append(len(batch))
        if len(batch) > 100:
            raise MemoryError
        return batch

    mapped = batched(small)
    assert mapped(range(5000)) == list(range(5000))
    failed = [size for size in most if size > 100]
    assert len(failed) <= 6
    assert mapped.opero.controllers["gpu_batch.size"].setpoint <= 100 * 1.06  # a probe


# ---- single calls


@given(st.lists(st.integers(-9, 9), min_size=1, max_size=30), st.integers(1, 8), st.integers(0, 2))
@settings(max_examples=25, deadline=None)
def test_calls_at_once_each_have_their_outcome(items, size, retries):
    @opmap(mode="gpu", batch_size=size, batch_wait=0.001, retries=retries, min_delay=0)
    async def function(batch):
        return odd_ones_fail(batch)

    for item, outcome in zip(items, gathered(function, items), strict=True):
        assert isinstance(outcome, ValueError) if item % 2 else outcome == item * 10


def test_calls_at_once_share_a_batch():
    @opmap(mode="gpu", batch_size=10, batch_wait=30)
    async def function(batch):
        return batch * 2

    assert gathered(function, range(10)) == [2 * n for n in range(10)]
    assert sum(sizes(function)[:-1]) == 1


def test_a_batch_that_does_not_fill_goes_at_its_deadline():
    with testing.clock() as virtual:
        mapped = batched(double, batch_size=10, batch_wait=5.0)
        began = virtual.now()
        assert mapped.one(4) == 8
        assert virtual.now() - began == pytest.approx(5.0)


def test_threads_share_a_batch():
    mapped = batched(double, batch_size=6, batch_wait=30)
    found = {}
    threads = [threading.Thread(target=lambda n=n: found.update({n: mapped.one(n)})) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert found == {n: 2 * n for n in range(6)}
    assert sum(sizes(mapped)[:-1]) == 1


def test_a_cancelled_call_leaves_its_batch_and_the_others_go_on():
    @opmap(mode="gpu", batch_size=3, batch_wait=30)
    async def function(batch):
        return batch * 2

    async def main():
        calls = [asyncio.create_task(function.one(n)) for n in range(2)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        calls[0].cancel()
        await asyncio.gather(calls[0], return_exceptions=True)
        others = [asyncio.create_task(function.one(n)) for n in (2, 3)]
        return await asyncio.wait_for(asyncio.gather(calls[1], *others), 30)

    assert asyncio.run(main()) == [2, 4, 6]
    assert sizes(function)[-1] == 3
    assert function.opero.operation.book.read()[0]["opero.gpu_batch.queue.length", ()] == 0


def test_a_call_that_is_late_gives_up_and_nothing_of_it_stays():
    with testing.clock():
        mapped = batched(double, batch_size=2, batch_wait=100.0, attempt_timeout=1.0)
        with pytest.raises(o.CallTimeout):
            mapped.one(1)
        assert mapped.opero.operation.book.read()[0]["opero.gpu_batch.queue.length", ()] == 0


def test_limits_and_breakers_stand_around_each_item():
    limited = batched(double, rate_limit=o.RateLimit(3, per=3600.0, burst=3, wait=False), errors="return", workers=2)
    found = limited(range(5))
    assert sum(isinstance(x, o.RateLimitedError) for x in found) == 2
    assert limited.opero.stats()["rejected"] == 2


# ---- what is said


def test_a_batch_says_its_size_and_whom_it_carried():
    heard, calls = [], []
    with (
        events.subscribe(heard.append, "opero.gpu_batch.flushed"),
        events.subscribe(calls.append, "opero.call.started"),
    ):

        @opmap(mode="gpu", batch_size=3, batch_wait=30, name="embed")
        async def function(batch):
            return batch

        gathered(function, range(3))
    (flushed,) = heard
    assert flushed.operation == "embed"
    assert (flushed.fields["size"], flushed.fields["outcome"]) == (3, "ok")
    assert sorted(flushed.fields["calls"]) == sorted(event.call for event in calls)


def test_its_series_are_there_from_the_start():
    sums, distributions, _ = batched(double).opero.operation.book.read()
    assert sums["opero.gpu_batch.queue.length", ()] == 0
    for name in ("size", "wait.duration", "execution.duration"):
        assert sum(distributions[f"opero.gpu_batch.{name}", ()]) == 0


def test_a_reader_sees_how_many_wait_for_their_batch():
    @opmap(mode="gpu", batch_size=3, batch_wait=30, name="waiting.room")
    async def function(batch):
        return batch * 2

    def waiting():
        (family,) = [f for f in catalogue.snapshot() if f.metric.name == "opero.gpu_batch.queue.length"]
        return [value for labels, value in family.samples.items() if "waiting.room" in labels]

    async def main():
        calls = [asyncio.create_task(function.one(n)) for n in range(2)]
        await asyncio.sleep(0.01)
        seen = waiting()
        return seen, await asyncio.gather(*calls, function.one(2)), waiting()

    assert asyncio.run(main()) == ([2], [0, 2, 4], [0])
