"""What nobody awaits is refused when decorating, wherever a policy takes a function; else it is awaited."""

import asyncio
import inspect
from functools import partial

import pytest

import opero as o
from opero import conditions, events, policy, testing, waits


async def hook(*args, **kwargs):
    return False


class Callable:
    async def __call__(self, *args, **kwargs):
        return False

    async def method(self, *args, **kwargs):
        return False


class Inherits(Callable):
    pass


async def items(*args, **kwargs):
    yield False


def promises(*args, **kwargs) -> "asyncio.Future[bool] | object":
    return hook()


promises.__annotations__["return"] = "Awaitable[bool]"
HOOKS = [hook, partial(hook, 1), Callable(), Inherits(), Callable().method, items, promises]
IDS = ["function", "partial", "callable", "inherited", "method", "items", "promises"]


def plain(x=1):
    return x


async def coroutine(x=1):
    return x


async def later(x=1):
    yield x


NEVER = {  # nobody awaits these, whatever function they stand around
    "CircuitBreaker.key": lambda hook: o.CircuitBreaker(key=hook),
    "CircuitBreaker.on": lambda hook: o.CircuitBreaker(on=hook),
    "CircuitBreaker.on_result": lambda hook: o.CircuitBreaker(on_result=hook),
    "CircuitBreaker.ignore": lambda hook: o.CircuitBreaker(ignore=hook),
    "RateLimit.key": lambda hook: o.RateLimit(1, key=hook),
    "RateLimit.weight": lambda hook: o.RateLimit(1, weight=hook),
    "Retry.wait": lambda hook: o.Retry(wait=hook),
    "Retry.stop": lambda hook: o.Retry(stop=hook),
    "Retry.strategies": lambda hook: o.Retry(strategies={hook: "raise"}),
    "Strategy.wait": lambda hook: o.Strategy(wait=hook),
    "stop": lambda hook: o.stops.attempts(3) | hook,
    "by_error": lambda hook: waits.by_error({hook: 1}),
    "summed": lambda hook: waits.summed(1, hook),
    "ArgFallback.on": lambda hook: o.ArgFallback("x", on=hook),
    "Cache.ttl": o.Cache,
    "Cache.key": lambda hook: o.Cache(1, key=hook),
    "Cache.tags": lambda hook: o.Cache(1, tags=hook),
    "Cache.cache_if": lambda hook: o.Cache(1, cache_if=hook),
    "Chaos.error": lambda hook: o.Chaos(error=hook),
    "events.subscribe": events.subscribe,
    "opmap.priority": lambda hook: o.opmap(priority=hook)(plain),
    "opmap.progress": lambda hook: o.opmap(progress=hook)(plain),
}
AWAITED = {  # who awaits the function awaits these too
    "Retry.on": lambda hook: o.Retry(1, on=hook),
    "Retry.on_result": lambda hook: o.Retry(1, on_result=hook),
    "Fallback.on": lambda hook: o.Fallback([], on=hook),
    "Fallback.on_result": lambda hook: o.Fallback([], on_result=hook),
    "Fallback.by": lambda hook: o.Fallback(by={hook: []}),
    "Fallback.answers": o.Fallback,
    "ArgFallback.refresh": lambda hook: o.ArgFallback("x", alternatives=[1], cooldown=1, refresh=hook),
}
ELSEWHERE = {
    "Retry.budget", "Cache.backend", "Cache.errors", "ArgFallback.alternatives", "Chaos.result",  # no functions
    "RateLimit.rate",  # a limiter, whose own `acquire` is awaited
}  # fmt: skip


@pytest.mark.parametrize("hook", HOOKS, ids=IDS)
@pytest.mark.parametrize("make", NEVER.values(), ids=NEVER)
def test_what_nobody_awaits_is_refused_where_it_is_written(make, hook):
    with pytest.raises(o.ConfigurationError, match="nobody awaits it here") as refused:
        make(hook)
    assert refused.value.value is hook


@pytest.mark.parametrize("hook", [hook for hook in HOOKS if hook is not items], ids=[i for i in IDS if i != "items"])
@pytest.mark.parametrize("name", AWAITED)
def test_what_may_be_awaited_is_refused_around_a_plain_function_only(name, hook):
    made = AWAITED[name](hook)
    for function in (plain, plain.__get__(1), lambda x=1: (yield x)):
        with pytest.raises(o.ConfigurationError, match="nobody awaits it here") as refused:
            o.opero(made)(function)
        assert refused.value.value is hook
        assert refused.value.field == {"Fallback.answers": "fallback"}.get(name, name.partition(".")[2])
    o.opero(made)(later)
    assert asyncio.run(o.opero(made)(coroutine)()) == 1


def test_a_predicate_that_iterates_is_no_predicate():
    for kind in ("Retry.on", "Retry.on_result", "Fallback.on", "Fallback.on_result", "Fallback.by"):
        with pytest.raises(o.ConfigurationError, match="nobody awaits it here"):
            AWAITED[kind](items)


def test_a_predicate_is_awaited_by_a_fallback_around_a_coroutine_function():
    async def absent(error):
        await asyncio.sleep(0)
        return isinstance(error, KeyError)

    async def empty(result):
        await asyncio.sleep(0)
        return not result

    @o.opero(o.Fallback("other", by={absent: "absent"}, on=conditions.of("on", absent, awaits=True), on_result=empty))
    async def look(name):
        return {"a": 1, "b": 0}[name] / (name != "c")

    assert [asyncio.run(look(name)) for name in "abc"] == [1, "other", "absent"]


def test_keywords_say_it_as_policies_do():
    with pytest.raises(o.ConfigurationError, match="nobody awaits it here"):
        o.opero(retry_on=hook)(plain)
    with pytest.raises(o.ConfigurationError, match="nobody awaits it here"):
        o.opero(retry_on_result=hook)(plain)
    with pytest.raises(o.ConfigurationError, match="nobody awaits it here"):
        o.opero(fallback=hook)(plain)
    assert asyncio.run(o.opero(retry_on=hook, retry_on_result=hook, fallback=hook)(coroutine)()) == 1


def test_a_breaker_hears_conditions_on_results():
    bad = conditions.result(lambda answer: answer == "bad")
    breaker = o.CircuitBreaker(consecutive=1, on_result=bad)
    f = o.opero(breaker)(lambda answer: answer)
    assert (f("good"), breaker.state, f("bad"), breaker.state) == ("good", "closed", "bad", "open")


def test_every_setting_that_takes_a_function_is_looked_at_here():
    every = [getattr(o, name) for name in o.__all__]
    kinds = [kind for kind in every if isinstance(kind, type) and issubclass(kind, policy.Policy)]
    assert len(kinds) > 9
    functions = ("Callable", "ConditionLike", "WaitLike", "Reached", "Any", "Raises")
    found = {
        f"{kind.__name__}.{name}"
        for kind in kinds
        for name, parameter in inspect.signature(kind).parameters.items()
        if any(word in str(parameter.annotation) for word in functions)
    }
    assert found <= {*NEVER, *AWAITED, *ELSEWHERE}, found - {*NEVER, *AWAITED, *ELSEWHERE}


def test_an_attempt_whose_caller_leaves_while_its_condition_is_awaited_is_cancelled():
    asking = asyncio.Event()

    async def ask(error):
        asking.set()
        await asyncio.sleep(60)

    @o.opero(o.Retry(2, wait=0, on=ask))
    async def f():
        raise OSError

    async def main():
        task = asyncio.create_task(f())
        await asking.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    with testing.capture() as captured:
        asyncio.run(main())
    assert [span["outcome"] for span in captured.spans] == ["cancelled", "cancelled"]
