"""Arguments that a function does not take are Python's TypeError and no attempt, also where a policy reads them."""

import asyncio
import functools
from contextlib import nullcontext

import pytest

import opero as o
from opero import fused
from opero.policy import Policy

AT_ONCE = {"min_delay": 0, "max_delay": 0}
READING = {
    "rate by key": {"rate_limit": o.RateLimit(1000, key=lambda *args, **kwargs: 1)},
    "weight": {"rate_limit": o.RateLimit(1000, weight=lambda *args, **kwargs: 1)},
    "circuit by key": {"circuit_breaker": o.CircuitBreaker(consecutive=1, key=lambda *args, **kwargs: 1)},
    "fallback": {"fallback": lambda *args, **kwargs: "nothing went wrong"},
    "alternatives": {"arg_fallback": o.ArgFallback("key")},
}
WRONG = [((), {}), ((1,), {}), ((1, 2, 3, 4), {}), ((1, 2), {"begin": 1}), ((1, 2), {"key": 1}), ((1,), {"skus": 2})]


def made(kind, settings, began, speed):
    """Return a decorated function of a kind."""
    text = "def work(key, sku, /, step=1, *, last=3):\n    began.append(1)\n    {} sku, step, last"
    text = "async " * ("async" in kind) + text.format("yield" if "generator" in kind else "return")
    names = {"began": began}
    exec(text, names)
    fused.enabled = speed == "fast"
    try:
        return o.opero(retries=2, **AT_ONCE, **settings)(names["work"])
    finally:
        fused.enabled = True


async def outcome(function, kind, args, kwargs):
    if kind == "plain":
        return function(*args, **kwargs)
    if kind == "async":
        return await function(*args, **kwargs)
    return next(iter(function(*args, **kwargs))) if kind == "generator" else await anext(function(*args, **kwargs))


@pytest.mark.parametrize("speed", ["fast", "general", "heard"])
@pytest.mark.parametrize("kind", ["plain", "async", "generator", "async generator"])
@pytest.mark.parametrize("policy", READING)
def test_they_are_refused_as_by_the_function_itself(policy, kind, speed):
    began = []
    function = made(kind, READING[policy], began, speed)

    async def each():
        for first in (True, False):  # before the fast path is made, and after
            for args, kwargs in WRONG:
                with pytest.raises(TypeError) as bare:
                    function.__wrapped__(*args, **kwargs)
                with pytest.raises(TypeError) as raised:
                    await outcome(function, kind, args, kwargs)
                assert str(raised.value) == str(bare.value)
            assert len(began) == (0 if first else 1)
            if first:
                assert await outcome(function, kind, (1, 2), {"last": 5}) == (2, 1, 5)

    with o.events.subscribe(lambda event: None) if speed == "heard" else nullcontext():
        asyncio.run(each())
    stats = function.opero.stats()
    assert stats["calls"] == stats["attempts"] == 1


@pytest.mark.parametrize("kwargs", [{"sku": 2}, {"sku": 2, "key": "mine"}])
def test_a_parameter_with_alternatives_may_be_left_out(kwargs):
    @o.opero(o.ArgFallback("key", alternatives=["k-1", "k-2"]), retries=0)
    def work(key, sku):
        return key, sku

    assert work(**kwargs) == (kwargs.get("key", "k-1"), 2)
    assert work("given", 2) == ("given", 2)
    with pytest.raises(TypeError, match=r"work\(\) missing 1 required positional argument: 'sku'"):
        work()


def test_what_a_key_raises_of_right_arguments_stays_its_own():
    @o.opero(o.RateLimit(1000, key=lambda sku: sku.tenant), retries=0)
    def work(sku):
        return sku

    with pytest.raises(AttributeError, match="tenant"):
        work(1)


def test_what_takes_other_arguments_than_its_code_says_gets_them():
    from typing import Annotated

    from pydantic import Field

    @o.opero(validate=True, retries=0)
    def validated(count: Annotated[int, Field(alias="n")], more: Annotated[list, Field(default_factory=list)]):
        return count, more

    assert validated(n="3") == (3, [])

    def narrow(function):
        @functools.wraps(function)
        def wrapper(sku, *args):
            return function(sku, *args)

        return wrapper

    @o.opero(o.ArgFallback("key", alternatives=["k-1"]), fallback=lambda *args: args, retries=0)
    @narrow
    def wrapped(sku, key):
        return sku, key

    assert wrapped(5, "mine") == (5, "mine")


def test_a_policy_of_ones_own_may_add_an_argument():
    class Session(Policy):
        place, inside = "session", "retry"

        def attach(self, function):
            async def layer(call, next):  # noqa: A002
                return await next(call.branch(call.args, {**call.kwargs, "session": 7}))

            return layer

    @o.opero(Session(), fallback=lambda *args: "none", retries=0)
    def work(sku, session):
        return sku, session

    assert work(5) == work(sku=5) == (5, 7)


@pytest.mark.parametrize("kind", ["plain", "async"])
@pytest.mark.parametrize("speed", ["fast", "general", "heard"])
def test_neither_they_nor_a_type_error_of_the_functions_own_cost_a_slot(speed, kind):
    policy, began = o.Bulkhead(1), Began()
    function = made(kind, {"bulkhead": policy, "fallback": lambda *args, **kwargs: "none"}, began, speed)

    async def each():
        for began.fails in (False, True, False, True):
            with pytest.raises(TypeError, match="missing 1 required positional argument: 'sku'"):
                await outcome(function, kind, (1,), {})
            assert await outcome(function, kind, (1, 2), {}) == ("none" if began.fails else (2, 1, 3))

    with o.events.subscribe(lambda event: None) if speed == "heard" else nullcontext():
        asyncio.run(each())
    assert policy.slots.used == function.opero.stats()["active"] == 0


class Began:
    fails = False

    def append(self, _):
        if self.fails:
            raise TypeError("the function's own")
