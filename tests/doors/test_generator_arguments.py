"""What a generator is given: its arguments, and the context of its consumer."""

import asyncio
import contextlib
import contextvars
import inspect

import pytest

import opero as o
from opero import testing
from streams import generators, items


@pytest.mark.parametrize("heard", [False, True])
@pytest.mark.parametrize("kind", ["sync", "async"])
def test_wrong_arguments_are_refused_where_it_is_called_as_by_the_function_itself(kind, heard):
    made, began = generators(retries=3, circuit_breaker=o.CircuitBreaker(consecutive=1))
    f = made[kind]
    with testing.clock() as time, testing.capture() if heard else contextlib.nullcontext():
        for args, keywords in [((), {}), ((1, 2, 3), {}), ((1,), {"begin": 1}), ((), {"first": 1})]:
            with pytest.raises(TypeError) as bare:
                f.__wrapped__(*args, **keywords)
            with pytest.raises(TypeError) as raised:
                f(*args, **keywords)
            assert str(raised.value) == str(bare.value)
        assert time.elapsed() == 0
    assert not began
    assert f.opero.stats()["calls"] == f.opero.stats()["attempts"] == 0
    assert f.opero.breaker.state == "closed"


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_right_arguments_arrive_and_defaults_hold(kind):
    f = generators(retries=1)[0][kind]
    assert items(kind, f, 0) == [0, 1, 2]
    assert items(kind, f, 0, 2) == [0, 2]
    assert items(kind, lambda: f(1, last=5)) == [1, 2, 3, 4]
    assert inspect.signature(f) == inspect.signature(f.__wrapped__)


def test_a_fallback_of_a_generator_gets_the_arguments_in_their_original_shape():
    @o.opero(retries=0, fallback=lambda *args, **keywords: [(args, keywords)])
    def items(a, b=2, *, c=3):
        yield from ()
        raise OSError

    assert list(items(1)) == [((1,), {})]


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_parameters_named_as_ours_arrive(kind):
    if kind == "sync":

        @o.opero
        def f(_out, _inside=2):
            yield _out, _inside
    else:

        @o.opero
        async def f(_out, _inside=2):
            yield _out, _inside

    assert items(kind, f, 1) == [(1, 2)]


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_it_has_the_context_of_its_consumer_at_the_first_item_and_its_own_from_then_on(kind):
    variable = contextvars.ContextVar("variable", default=0)

    def step(n):
        seen = variable.get()
        variable.set(100 + n)
        return seen

    if kind == "sync":

        @o.opero
        def f():
            yield from map(step, range(3))
    else:

        @o.opero
        async def f():
            for n in range(3):
                yield step(n)

    async def consume():
        variable.set(1)
        items = f()
        for _ in range(3):
            found.append(next(items) if kind == "sync" else await anext(items))
            assert variable.get() == 1 + len(found) - 1
            variable.set(1 + len(found))

    found = []
    asyncio.run(consume())
    assert found == [1, 100, 101]
