"""A plain function that returns what has yet to run is refused where policies would have no effect."""

import asyncio
import contextlib
import functools
from concurrent.futures import Future

import pytest

import opero as o
from opero import fused, opero


def numbers():
    yield 1
    raise OSError


async def later():
    raise OSError


async def later_numbers():
    yield 1


class Lazy:
    def __await__(self):
        raise OSError
        yield


@functools.wraps(numbers)
def wrapped():
    return numbers()


DEFERRED = {
    "generator": (numbers, "yield from"),
    "wrapped generator": (wrapped, "yield from"),
    "async generator": (later_numbers, "async for"),
    "awaitable": (Lazy, "async def"),
    "context manager": (contextlib.contextmanager(numbers), "@contextmanager above"),
    "async context manager": (contextlib.asynccontextmanager(later_numbers), "@contextmanager above"),
    "concurrent future": (Future, r"\.result\(\)"),
}


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("kind", DEFERRED)
def test_what_has_yet_to_run_is_refused_at_each_call_with_the_way_out(kind, fast, monkeypatch):
    monkeypatch.setattr(fused, "enabled", fast)
    make, way = DEFERRED[kind]
    f = opero(retries=2, circuit_breaker=True)(lambda: make())  # noqa: PLW0108 - a plain function
    for _ in range(2):
        with pytest.raises(o.ConfigurationError, match=f"returns a.*{way}"):
            f()


@pytest.mark.parametrize("fast", [True, False])
def test_a_task_is_refused_and_a_future_too(fast, monkeypatch):
    monkeypatch.setattr(fused, "enabled", fast)

    async def main():
        tasks = []

        @opero(retries=2)
        def f():
            tasks.append(asyncio.ensure_future(later()))
            return tasks[-1]

        @opero(retries=0, bulkhead=1)
        def g():
            return asyncio.get_running_loop().create_future()

        for function in (f, g):
            with pytest.raises(o.ConfigurationError, match="await inside"):
                function()
        await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(main())


def test_where_nothing_would_be_without_effect_it_passes():
    for make in (numbers, wrapped, Future, Lazy, later_numbers):
        for settings in ({"retries": 0}, {"retries": 0, "rate_limit": "100/s"}):
            f = opero(**settings)(lambda make=make: make())
            assert type(f()) is type(f()) is type(make())
    made = opero(retries=2)(lambda: (numbers(),))()
    assert next(made[0]) == 1


class Query:
    """A query of an ORM: it is lazy, but no generator."""

    def __iter__(self):
        return iter([1])

    def __aiter__(self):
        return later_numbers()


def test_iterators_that_are_ordinary_values_pass(tmp_path):
    (tmp_path / "file").write_text("x")
    values = [[1], map(str, [1]), zip([1], [2], strict=True), iter([1]), (tmp_path / "file").open(), Query(), range(3)]
    for value in values:
        f = opero(retries=2, timeout=5)(lambda value=value: value)
        assert f() is f() is value
    values[4].close()


def test_a_wrapper_that_collects_a_generator_passes():
    collected = opero(retries=2)(functools.wraps(numbers)(lambda: [*range(3)]))
    assert collected() == [0, 1, 2]


def failing_first(error=OSError):
    """Return a plain function that fails at 0, and returns a coroutine at all else."""

    def f(n):
        if not n:
            raise error
        return later()

    return f


@pytest.mark.parametrize("fast", [True, False])
def test_what_follows_on_calls_that_failed_is_refused_too(fast, monkeypatch):
    monkeypatch.setattr(fused, "enabled", fast)
    f = opero(retries=0)(failing_first())
    for n in (0, 0, 1, 0, 2):
        with pytest.raises(o.ConfigurationError if n else OSError):
            f(n)


@pytest.mark.parametrize("retries", [0, 2])
@pytest.mark.parametrize("mode", ["thread", "auto"])
def test_what_a_map_is_to_return_is_looked_at_though_its_first_item_fails(mode, retries):
    f = o.opmap(mode=mode, retries=retries, backoff="constant", min_delay=0)(failing_first())
    with pytest.raises(o.MapError) as raised:
        f(range(40))
    assert [type(error) for error in raised.value.failures.values()] == [OSError] + [o.ConfigurationError] * 39


def test_a_function_that_keeps_failing_is_looked_at_no_longer():
    f = opero(retries=0)(failing_first())
    for _ in range(fused.LOOKS + 1):
        assert not fused.is_warm(f)
        with pytest.raises(OSError):
            f(0)
    assert fused.is_warm(f)


def test_a_first_call_that_calls_itself_goes_nearly_as_deep_as_a_later_one():
    def made():
        f = opero(retries=0)(lambda n: n and f(n - 1))
        return f

    later_on, depth = made(), 0
    with contextlib.suppress(RecursionError):
        while True:
            depth += 1
            later_on(depth)
    made()(depth - 1 - fused.LOOKS)
