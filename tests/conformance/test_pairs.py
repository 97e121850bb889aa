"""Every two primitives around every kind of function, on every driver and at both speeds: they work, or say why not."""

import asyncio
from functools import partial
from inspect import isawaitable
from itertools import combinations

import pytest
import samples
import trio
from world import on_trio

import opero as o
from opero import fused, testing

POLICIES = samples.samples()
PAIRS = list(combinations(sorted(POLICIES), 2))


class Fails:
    """Makes functions of one kind that return or yield 7, or raise; and counts how often they ran."""

    def __init__(self, error=None):
        self.error = error
        self.runs = 0

    def answer(self):
        self.runs += 1
        if self.error is not None:
            raise self.error
        return 7


async def turn():
    """Let others run, on whatever loop this is."""
    if trio.lowlevel.in_trio_task():
        await trio.lowlevel.checkpoint()
    else:
        await asyncio.sleep(0)


def plain(fails):
    def function(x=None):
        return fails.answer()

    return lambda decorate: decorate(function)


def coroutine(fails):
    async def function(x=None):
        await turn()
        return fails.answer()

    return lambda decorate: decorate(function)


def generator(fails):
    def function(x=None):
        yield fails.answer()

    return lambda decorate: decorate(function)


def async_generator(fails):
    async def function(x=None):
        await turn()
        yield fails.answer()

    return lambda decorate: decorate(function)


def partially(fails):
    def function(y, x=None):
        return fails.answer()

    return lambda decorate: decorate(partial(function, 1))


def callable_object(fails):
    class Function:
        def __call__(self, x=None):
            return fails.answer()

    return lambda decorate: decorate(Function())


def method(fails):
    def make(decorate):
        class Shop:
            @decorate
            def function(self, x=None):
                return fails.answer()

        return Shop().function

    return make


def coroutine_method(fails):
    def make(decorate):
        class Shop:
            @decorate
            async def function(self, x=None):
                return fails.answer()

        return Shop().function

    return make


def static_method(fails):
    def make(decorate):
        class Shop:
            @decorate
            @staticmethod
            def function(x=None):
                return fails.answer()

        return Shop.function

    return make


def class_method(fails):
    def make(decorate):
        class Shop:
            @classmethod
            @decorate
            def function(cls, x=None):
                return fails.answer()

        return Shop.function

    return make


KINDS = [
    plain, coroutine, generator, async_generator, partially, callable_object, method, coroutine_method, static_method,
    class_method,
]  # fmt: skip
SUSPENDS = {coroutine, async_generator, coroutine_method}


def outcome(call, run):
    """Return what a call gave, in whichever way it gives it; an error is an outcome too."""
    try:
        given = call()
        if hasattr(given, "__anext__"):
            return run(_last, given)
        if isawaitable(given):
            return run(_awaited, given)
        return list(given)[-1] if hasattr(given, "__next__") else given
    except BaseException as error:
        return error


async def _last(items):
    return [item async for item in items][-1]


async def _awaited(given):
    return await given


@pytest.fixture(params=["general", "fast"])
def speed(request, monkeypatch):
    monkeypatch.setattr(fused, "enabled", request.param == "fast")
    return request.param


def on_asyncio(function, *args):
    return asyncio.run(function(*args))


@pytest.mark.parametrize("pair", PAIRS, ids=" + ".join)
def test_a_pair(pair, speed):
    with testing.clock():
        for kind in KINDS:
            refused = _refusal(kind, pair)
            if refused is not None:
                assert refused.allowed
                continue
            for run in (on_asyncio, on_trio) if kind in SUSPENDS else (on_asyncio,):
                _succeeds(kind, pair, run)
                _fails(kind, pair, run)
                _ends(kind, pair, run)


def _make(kind, fails, pair):
    return kind(fails)(o.opero(*(POLICIES[name]() for name in pair), name="pair"))


def _refusal(kind, pair):
    try:
        _make(kind, Fails(), pair)
    except o.ConfigurationError as error:
        return error
    return None


def _succeeds(kind, pair, run):
    fails = Fails()
    function = _make(kind, fails, pair)
    assert outcome(function, run) in {7, (7,)}, kind.__name__
    _adds_up(function, fails, ok=1)


def _fails(kind, pair, run):
    mine = OSError("mine")
    fails = Fails(mine)
    function = _make(kind, fails, pair)
    answer = outcome(function, run)
    assert answer is mine or ("Fallback" in pair and answer in {7, (7,)}), (kind.__name__, answer)
    assert fails.runs == (3 if "Retry" in pair else 1)
    _adds_up(function, fails, **{"fallbacks" if "Fallback" in pair else "errors": 1})


def _ends(kind, pair, run):
    for stop in (KeyboardInterrupt, SystemExit, asyncio.CancelledError):
        fails = Fails(stop())
        function = _make(kind, fails, pair)
        assert isinstance(outcome(function, run), stop), kind.__name__
        assert fails.runs == 1
        _adds_up(function, fails, cancelled=1)


def _adds_up(function, fails, **expected):
    stats = function.opero.stats()
    assert {name: stats[name] for name in expected} == expected
    assert (stats["calls"], stats["active"], stats["attempts"]) == (1, 0, fails.runs)
