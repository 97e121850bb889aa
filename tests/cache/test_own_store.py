"""A store as a user would write one."""

import asyncio

import pytest
from caches import counted, reasons

import opero as o
from opero import events


class Plain:
    """A store as a user would write one."""

    def __init__(self):
        self.held = {}

    def get(self, name):
        return self.held.get(name)

    def set(self, name, data, seconds):
        assert isinstance(data, bytes)
        assert seconds > 0
        self.held[name] = data

    def delete(self, name):
        self.held.pop(name, None)


class Async:
    def __init__(self):
        self.inner = Plain()

    async def get(self, name):
        await asyncio.sleep(0)
        return self.inner.get(name)

    async def set(self, name, data, seconds):
        self.inner.set(name, data, seconds)

    async def delete(self, name):
        self.inner.delete(name)


def test_a_store_of_ones_own_needs_three_methods():
    f, made = counted(o.Cache(60, tags="t", backend=Plain(), signing_key=b"k" * 32))
    assert (f(1), f(1), made) == (1, 1, [1])
    assert f.opero.cache.invalidate(1)
    assert (f(1), f(1)) == (2, 2)
    f.opero.cache.invalidate_tag("t")
    assert f(1) == 3
    with pytest.raises(o.CacheError, match=r"no clear\(prefix\)"):
        f.opero.cache.clear()


@pytest.mark.parametrize("kind", [Plain, Async])
def test_a_coroutine_function_takes_plain_and_async_stores(kind):
    made = []

    @o.opero(o.Cache(60, backend=kind()))
    async def f(x):
        made.append(x)
        return x

    async def main():
        return await asyncio.gather(*(f(1) for _ in range(10))), await f(1)

    assert asyncio.run(main()) == ([1] * 10, 1)
    assert made == [1]


def test_a_store_of_ones_own_that_fails_is_told_and_the_function_runs():
    class Broken(Plain):
        def get(self, name):
            raise ZeroDivisionError

    heard = []
    f, made = counted(o.Cache(60, backend=Broken()))
    with events.subscribe(heard.append, "opero.cache.backend_failed"):
        assert [f(1), f(1)] == [1, 2]
    assert [(e.fields["backend"], e.fields["reason"]) for e in heard] == [("Broken", "ZeroDivisionError")] * 2
    assert made == [1, 1]
    with pytest.raises(o.ConfigurationError, match="get, set and delete"):
        o.Cache(60, backend=object())


@pytest.mark.parametrize("wrap", [bytearray, memoryview])
def test_a_store_of_ones_own_may_answer_with_any_kind_of_bytes(wrap):
    class Other(Plain):
        def get(self, name):
            return None if name not in self.held else wrap(self.held[name])

    f, made = counted(o.Cache(60, tags="t", backend=Other()))
    assert (f(1), f(1), made) == (1, 1, [1])
    f.opero.cache.invalidate_tag("t")
    assert f(1) == 2


@pytest.mark.parametrize("answer", [5, "text", object(), []])
def test_what_is_no_bytes_is_foreign_and_the_function_runs(answer, heard):
    class Odd(Plain):
        def get(self, name):
            return answer

    f, made = counted(o.Cache(60, tags="t", backend=Odd()))
    assert [f(1), f(1)] == [1, 2]
    assert made == [1, 1]
    assert f.opero.cache.get(1) is None
    assert reasons(heard, "entry_refused") == ["foreign"] * 2


def test_a_clear_that_takes_no_prefix_is_told():
    class Whole(Plain):
        def clear(self):
            self.held.clear()

    f, _ = counted(o.Cache(60, backend=Whole()))
    f(1)
    with pytest.raises(o.CacheError, match="clear of Whole takes no prefix"):
        f.opero.cache.clear()
    assert f.opero.cache.contains(1)
