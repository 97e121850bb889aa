"""Generators: retried until the first item, then as they are; every layer stands around the whole iteration."""

import asyncio
import inspect

import pytest

import opero as o
from opero import clock, testing
from opero.workers import spare
from streams import generators, items


class World:
    """The same generator for both kinds: plays scripts, one a run; an error is raised, anything else yielded."""

    def __init__(self, kind):
        self.kind = kind
        self.runs = []
        self.closed = 0

    def decorate(self, *scripts, policies=(), **settings):
        runs = iter(scripts)
        if not policies and "retries" not in settings:
            settings["retries"] = 0
        return o.opero(*policies, **settings)(self._sync(runs) if self.kind == "sync" else self._async(runs))

    def _sync(self, runs):
        def play(value=None):
            self.runs.append(value)
            try:
                for step in next(runs):
                    if isinstance(step, tuple):
                        clock.sleep(step[0])
                    else:
                        yield raised(step)
            finally:
                self.closed += 1

        return play

    def _async(self, runs):
        async def play(value=None):
            self.runs.append(value)
            try:
                for step in next(runs):
                    if isinstance(step, tuple):
                        await asyncio.sleep(step[0])
                    else:
                        yield raised(step)
            finally:
                self.closed += 1

        return play

    def items(self, function, *args):
        return items(self.kind, function, *args)


def raised(step):
    if isinstance(step, Exception):
        raise step
    return step


@pytest.fixture(params=["sync", "async"])
def w(request):
    with testing.clock():
        yield World(request.param)


def test_it_is_retried_until_the_first_item_and_then_the_error_passes(w):
    late = KeyError("late")
    f = w.decorate([OSError()], [OSError()], [1, 2, late], policies=[o.Retry(3, wait=1, jitter="none")])
    assert w.items(f, "x") == [1, 2, late]
    assert w.runs == ["x"] * 3
    assert len(o.attempts(late)) == 3
    stats = f.opero.stats()
    assert (stats["calls"], stats["attempts"], stats["errors"], stats["active"]) == (1, 3, 1, 0)


def test_it_restarts_from_the_first_item_where_asked_to(w):
    f = w.decorate([1, 2, OSError()], [1, 2, 3], policies=[o.Retry(1, wait=1, generator="restart")])
    assert w.items(f) == [1, 2, 1, 2, 3]


def test_a_fallback_gives_its_items_only_before_the_first(w):
    f = w.decorate([OSError()], [1, OSError("late")], fallback=[7, 8])
    assert w.items(f) == [7, 8]
    found = w.items(f)
    assert (found[0], str(found[1])) == (1, "late")
    assert f.opero.stats()["fallbacks"] == 1


def test_a_fallback_may_be_a_generator_itself(w):
    f = w.decorate([OSError()], fallback=w.decorate([5, 6]))
    assert w.items(f) == [5, 6]


def test_a_fallback_without_items_or_that_has_them_once_is_refused_when_decorating(w):
    for policy in (o.Fallback(5), o.Fallback([], None), o.Fallback(iter([5])), o.Fallback([], by={OSError: 5})):
        with pytest.raises(o.ConfigurationError, match=r"fallback=.*: fallback takes what has items that a generator"):
            w.decorate([OSError()], policies=[policy])


def test_a_function_without_items_is_no_answer_and_the_next_is_asked(w):
    assert w.items(w.decorate([OSError()], policies=[o.Fallback(lambda: 5, [7])])) == [7]
    (error,) = w.items(w.decorate([OSError()], fallback=lambda: 5))
    assert str(error).startswith("fallback=5: fallback takes what has items")
    assert isinstance(error.__context__, OSError)


async def ticks():
    yield 7


def test_asynchronous_items_are_for_an_asynchronous_generator(w):
    class Ticks:
        def __aiter__(self):
            return ticks()

    for answer in (ticks, Ticks()):
        if w.kind == "async":
            assert w.items(w.decorate([OSError()], fallback=answer)) == [7]
        else:
            with pytest.raises(o.ConfigurationError, match="items that a generator may yield"):
                w.decorate([OSError()], fallback=answer)


def test_alternatives_are_tried_until_the_first_item(w):
    f = w.decorate([OSError()], [1, OSError("late")], arg_fallback="value")
    found = w.items(f, ["a", "b"])
    assert (found[0], str(found[1]), w.runs) == (1, "late", ["a", "b"])


def test_a_slot_is_held_until_the_last_item(w):
    policy = o.Bulkhead(1)
    f = w.decorate([1, 2], [3], policies=[policy])
    if w.kind == "sync":
        iterator = f()
        assert next(iterator) == 1
        assert policy.slots.used == 1
        assert isinstance(w.items(f)[0], o.BulkheadFullError)
        assert list(iterator) == [2]
    else:

        async def main():
            iterator = f()
            assert await anext(iterator) == 1
            assert policy.slots.used == 1
            with pytest.raises(o.BulkheadFullError):
                await anext(f())
            assert [item async for item in iterator] == [2]

        asyncio.run(main())
    assert policy.slots.used == 0
    assert w.items(f) == [3]


def test_a_failure_after_the_first_item_counts_for_the_breaker(w):
    f = w.decorate([1, OSError()], [2], policies=[o.CircuitBreaker(min_calls=1)])
    w.items(f)
    assert f.opero.breaker.state == "open"
    assert isinstance(w.items(f)[0], o.CircuitOpenError)


def test_the_deadline_covers_the_whole_iteration(w):
    f = w.decorate([1, (60,), 2], timeout=5)
    found = w.items(f)
    assert found[0] == 1
    assert isinstance(found[1], o.CallTimeout)
    assert f.opero.stats()["timeouts"] == 1


def test_a_consumer_that_leaves_closes_it_and_nothing_is_counted(w):
    policy = o.CircuitBreaker(min_calls=1)
    f = w.decorate([1, 2, 3], policies=[policy, o.Retry(3), o.Bulkhead(1), o.Fallback([0])])
    if w.kind == "sync":
        iterator = f()
        assert next(iterator) == 1
        iterator.close()
    else:

        async def main():
            iterator = f()
            assert await anext(iterator) == 1
            await iterator.aclose()
            assert w.closed == 1

        asyncio.run(main())
    assert w.closed == 1
    stats = f.opero.stats()
    assert (stats["cancelled"], stats["errors"], stats["fallbacks"], stats["active"]) == (1, 0, 0, 0)
    assert policy.circuit.read(clock.now())[:2] == ("closed", 0)


def test_one_that_is_never_iterated_never_began(w):
    f = w.decorate([1])
    f()
    assert f.opero.stats()["calls"] == 0


def test_cancelling_the_consumer_passes_at_once():
    started = []

    @o.opero(retries=3, fallback=[0])
    async def f():
        started.append(1)
        await asyncio.sleep(100)
        yield 1

    async def main():
        task = asyncio.create_task(anext(f()))
        await asyncio.sleep(1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return clock.now()

    with testing.clock(start=0):
        assert asyncio.run(main()) == 1
    assert started == [1]
    assert f.opero.stats()["cancelled"] == 1


def test_values_and_errors_go_in_and_the_last_value_comes_out():
    seen = []

    @o.opero(retries=2)
    def f():
        seen.append((yield 1))
        try:
            yield 2
        except KeyError as error:
            seen.append(error)
            yield 3
        return "end"

    iterator = f()
    assert next(iterator) == 1
    assert iterator.send("in") == 2
    assert iterator.throw(KeyError("thrown")) == 3
    with pytest.raises(StopIteration) as end:
        next(iterator)
    assert end.value.value == "end"
    assert [str(each) for each in seen] == ["in", "'thrown'"]


def test_values_and_errors_go_into_an_asynchronous_one():
    seen = []

    @o.opero(retries=2)
    async def f():
        seen.append((yield 1))
        try:
            yield 2
        except KeyError as error:
            seen.append(error)
            yield 3

    async def main():
        iterator = f()
        return [await anext(iterator), await iterator.asend("in"), await iterator.athrow(KeyError("thrown"))]

    assert asyncio.run(main()) == [1, 2, 3]
    assert [str(each) for each in seen] == ["in", "'thrown'"]


def test_it_stays_what_it_was():
    @o.opero
    def f(x: int):
        """Count."""
        yield x

    @o.opero
    async def g(x: int):
        yield x

    assert inspect.isgeneratorfunction(f)
    assert inspect.isasyncgenfunction(g)
    assert (f.__doc__, str(inspect.signature(f))) == ("Count.", "(x: int)")
    assert list(f.opero.bypass(3)) == [3]
    assert list(f.opero.with_(retries=0)(4)) == [4]


def test_a_method_may_be_a_generator():
    class Shop:
        @o.opero(retries=1)
        def items(self, n):
            yield from range(n)

    assert list(Shop().items(3)) == [0, 1, 2]


def test_what_the_body_sets_is_not_the_consumers():
    from contextvars import ContextVar

    variable = ContextVar("variable", default="outside")

    @o.opero(retries=0)
    def f():
        variable.set("inside")
        yield variable.get()
        yield variable.get()

    assert list(f()) == ["inside", "inside"]
    assert variable.get() == "outside"


def test_a_generator_whose_thread_hangs_is_left_and_counted():
    import threading

    go = threading.Event()

    @o.opero(retries=0, timeout=0.5)
    def f():
        yield 1
        go.wait(10)
        yield 2

    before = spare.abandoned()
    iterator = f()
    assert next(iterator) == 1
    with pytest.raises(o.CallTimeout):
        next(iterator)
    assert spare.abandoned() == before + 1
    go.set()


def test_a_generator_sees_the_very_stop_iteration_that_is_thrown_into_it():
    seen = []

    @o.opero
    def items():
        try:
            yield 1
        except StopIteration as stopped:
            seen.append(stopped)
            yield 2

    @o.opero
    async def later():
        try:
            yield 1
        except StopIteration as stopped:
            seen.append(stopped)
            yield 2

    async def through():
        running = later()
        return await anext(running), await running.athrow(thrown[1])

    thrown = [StopIteration(5), StopIteration(6)]
    running = items()
    assert (next(running), running.throw(thrown[0])) == (1, 2)
    assert asyncio.run(through()) == (1, 2)
    assert seen == thrown


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_what_a_generator_returns_is_no_reason_to_give_its_items_again(kind):
    world = World(kind)
    again, other = o.Retry(2, wait=0, on_result=lambda _: True), o.Fallback([9], on_result=lambda _: True)
    for policies in ((again,), (other,), (other, again)):
        made, began = generators(policies, **({"retries": 0} if policies == (other,) else {}))
        assert world.items(made[kind], 0) == [0, 1, 2]
        assert began == [1]


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_one_without_items_is_judged_by_its_result(kind):
    made, began = generators((o.Retry(2, wait=0, on_result=lambda _: True), o.Fallback([9], on_result=lambda _: True)))
    assert World(kind).items(made[kind], 3) == [9]
    assert began == [1, 1, 1]
