"""Faults on purpose, as tests put them upon a function."""

import asyncio

import pytest

import opero as o
from opero import testing


def test_chaos_disturbs_a_function_or_a_name_and_leaves_it_as_it_was():
    @o.opero(retries=2, name="kit.sound")
    def sound():
        return "ok"

    before = sound.opero.operation.function
    with testing.no_waits():
        assert sound() == "ok"  # warm, and on the fast path
        with testing.chaos(sound, error=TimeoutError), pytest.raises(TimeoutError):
            sound()
        with testing.chaos("kit.sound", result="other", rate=0.5, seed=3):
            assert {sound() for _ in range(30)} == {"ok", "other"}
        with testing.clock() as virtual, testing.chaos(sound, latency=5):
            assert sound() == "ok"
            assert virtual.elapsed() == 5
    assert sound.opero.operation.function is before
    assert sound() == "ok"
    with (
        pytest.raises(o.ConfigurationError, match=r"operation='nobody': .*kit\.sound"),
        testing.chaos("nobody", error=OSError),
    ):
        pass


def test_chaos_on_a_function_never_called_before_does_not_stay():
    @o.opero(retries=0)
    async def fresh():
        return 1

    with testing.chaos(fresh, error=OSError), pytest.raises(OSError):
        asyncio.run(fresh())
    assert asyncio.run(fresh()) == 1


def test_chaos_strikes_generators_before_their_first_item():
    @o.opero(retries=2, min_delay=30, name="kit.numbers")
    def numbers():
        got = yield 1
        yield got

    @o.opero(retries=2, min_delay=30, name="kit.async.numbers")
    async def async_numbers():
        try:
            got = yield 1
        except KeyError:
            got = "caught"
        yield got

    async def all_of(items):
        return [item async for item in items]

    async def talk():
        items = async_numbers()
        first = await items.asend(None)
        return [first, await items.athrow(KeyError())]

    with testing.no_waits(), testing.capture("opero.retry.*") as captured:
        with testing.chaos(numbers, error=OSError), pytest.raises(OSError):
            list(numbers())
        with testing.chaos(async_numbers, error=OSError), pytest.raises(OSError):
            asyncio.run(all_of(async_numbers()))
        assert captured.names() == [*["opero.retry.scheduled"] * 2, "opero.retry.exhausted"] * 2
        with testing.chaos(numbers, result=[7, 8]), testing.chaos(async_numbers, result=(7, 8)):
            assert list(numbers()) == asyncio.run(all_of(async_numbers())) == [7, 8]
        with testing.clock() as virtual, testing.chaos(numbers, latency=5), testing.chaos(async_numbers, latency=5):
            items = numbers()
            assert [next(items), items.send("sent")] == [1, "sent"]
            assert asyncio.run(talk()) == [1, "caught"]
            assert virtual.elapsed() == 10
    assert list(numbers()) == [1, None]
    with pytest.raises(o.ConfigurationError, match=r"result=7: .* a list of items"), testing.chaos(numbers, result=7):
        pass


def test_chaos_with_latency_on_trio():
    trio = pytest.importorskip("trio", reason="a test dependency")

    @o.opero(retries=0, name="kit.trio")
    async def f():
        return 1

    with testing.clock() as virtual, testing.chaos(f, latency=5):
        assert trio.run(f) == 1
        assert virtual.elapsed() == 5


def test_chaos_on_what_is_not_decorated_says_what_to_do():
    for operation in (len, lambda: 1, 7):
        with (
            pytest.raises(o.ConfigurationError, match=r"what @opero decorated, or the name of it; a mock"),
            testing.chaos(operation, error=OSError),
        ):
            pass


@pytest.mark.parametrize("mode", ["process", "auto"])
def test_chaos_on_a_map_in_processes_says_what_to_do(mode):
    each = o.opmap(mode=mode, name="kit.map")(abs)
    with (
        pytest.raises(o.ConfigurationError, match=r"its `one`; the map runs in other processes"),
        testing.chaos(each, error=OSError),
    ):
        pass
    with testing.chaos(each.one, error=OSError), pytest.raises(OSError):
        each.one(-1)


def test_chaos_strikes_a_map_in_threads():
    each = o.opmap(mode="thread", workers=2, errors="skip", name="kit.map")(abs)
    with testing.chaos(each, error=OSError):
        assert each([-1, -2]) == []
    assert each([-1, -2]) == [1, 2]
