"""A parameter of the user's may have any name, also one that Opero uses itself."""

import asyncio
from contextlib import nullcontext

import pytest

from opero import ArgFallback, CircuitBreaker, RateLimit, Timeout, events, fused, opero, opmap

NAMES = [
    *("args", "call", "cls", "context", "deadline", "end", "error", "event", "f", "fn", "func", "function", "general"),
    *("index", "item", "job", "key", "kwargs", "me", "name", "next", "now", "operation", "record", "result", "runtime"),
    *("self", "slots", "started", "took", "value", "waiter"),
]
AT_ONCE = {"min_delay": 0, "max_delay": 0}
POLICIES = {
    "bare": {"retries": 0},
    "retries": {"retries": 1, **AT_ONCE},
    "retry_budget": {"retries": 1, "retry_budget": 0.5, **AT_ONCE},
    "timeout": {"timeout": 5},
    "attempt_timeout": {"retries": 1, "attempt_timeout": 5, **AT_ONCE},
    "circuit_breaker": {"retries": 0, "circuit_breaker": True},
    "circuit by key": {"retries": 0, "circuit_breaker": CircuitBreaker(key=lambda **given: 1)},
    "rate_limit": {"retries": 0, "rate_limit": "1000/s"},
    "rate by key": {"rate_limit": RateLimit(1000, key=lambda **given: 1, weight=lambda **given: 1), "retries": 0},
    "bulkhead": {"retries": 0, "bulkhead": 5},
    "fallback": {"retries": 0, "fallback": lambda **given: given.values()},
    "record": {"retries": 0, "record": "{name}"},
}
OF_FUNCTIONS = POLICIES | {
    "retry_on_result": {"retries": 1, "retry_on_result": lambda result: False, **AT_ONCE},
    "hedge": {"retries": 0, "hedge": 5},
    "cache_ttl": {"retries": 0, "cache_ttl": 5},
    "cache_key": {"retries": 0, "cache_ttl": 5, "cache_key": lambda **given: tuple(given.items())},
    "validate": {"retries": 0, "validate": True},
    "everything": {
        "retries": 1,
        "timeout": 5,
        "attempt_timeout": 4,
        "hedge": 3,
        "circuit_breaker": True,
        "bulkhead": 5,
        "rate_limit": "1000/s",
        "cache_ttl": 5,
        "validate": True,
        **AT_ONCE,
    },
}
OF_PLAIN_ONES = {f"timeout by {how}": {"timeout": Timeout(5, how=how)} for how in ("signal", "cooperative")}
KINDS = {
    "plain": ("def work({shape}):\n    begin()\n    return {value}", OF_FUNCTIONS | OF_PLAIN_ONES),
    "async": ("async def work({shape}):\n    begin()\n    return {value}", OF_FUNCTIONS),
    "generator": ("def work({shape}):\n    begin()\n    yield {value}", POLICIES),
    "async generator": ("async def work({shape}):\n    begin()\n    yield {value}", POLICIES),
}
TABLE = [(kind, policy) for kind, (_, policies) in KINDS.items() for policy in policies]


def made(kind, name, failures=(), *, loose=False):
    """Make a function with a parameter of this name, or with `**` that takes it; it raises what is in `failures`."""

    def begin():
        if failures:
            raise failures.pop()

    shape, value = ("**given", f"given[{name!r}]") if loose else (name, name)
    names = {"begin": begin}
    exec(KINDS[kind][0].format(shape=shape, value=value), names)
    return names["work"]


def decorated(function, name, settings, speed):
    settings = {k: name if k == "record" else v for k, v in settings.items()}
    fused.enabled = speed != "general"
    try:
        return opero(**settings)(function)
    finally:
        fused.enabled = True


async def outcome(function, kind, given):
    """Call it with keywords, and return its result or its only item."""
    if kind == "plain":
        return function(**given)
    if kind == "async":
        return await function(**given)
    (item,) = list(function(**given)) if kind == "generator" else [item async for item in function(**given)]
    return item


@pytest.mark.parametrize("speed", ["fast", "general", "heard"])
@pytest.mark.parametrize(("kind", "policy"), TABLE)
def test_by_keyword_it_reaches_the_function(kind, policy, speed):
    settings, failures = KINDS[kind][1][policy], []

    async def each():
        for name in NAMES:
            for loose in [False] if policy == "record" else [False, True]:
                function = decorated(made(kind, name, failures, loose=loose), name, settings, speed)
                for value in (1, 2, 3):  # the first call makes the fast path, the third one is retried
                    failures.extend([ValueError()] if value == 3 and settings.get("retries") else [])
                    assert await outcome(function, kind, {name: value}) == value, (name, loose)
                    assert not failures

    with events.subscribe(lambda event: None) if speed == "heard" else nullcontext():
        asyncio.run(each())


@pytest.mark.parametrize("name", NAMES)
def test_another_argument_takes_its_place(name):
    function = opero(ArgFallback(name, on=KeyError), retries=0)(made("plain", name, [KeyError()]))
    assert function(**{name: [1, 2]}) == 2


@pytest.mark.parametrize("name", NAMES)
def test_handles_and_blocks_take_it(name):
    cached = opero(retries=0, cache_ttl=5)(made("plain", name))
    assert cached.opero.bypass(**{name: 1}) == cached(**{name: 1}) == cached.opero.cache.get(**{name: 1}) == 1
    assert cached.opero.cache.contains(**{name: 1})
    cached.opero.cache.set(2, **{name: 1})
    assert cached(**{name: 1}) == 2
    assert cached.opero.cache.invalidate(**{name: 1})
    with RateLimit(10, key=lambda **given: given[name]).block(**{name: 1}):
        pass


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("mode", ["thread", "async"])
def test_maps_take_it_as_a_constant(mode, name):
    shape = f"one, *, {name}"
    names = {}
    exec(f"{'async ' * (mode == 'async')}def work({shape}): return one + {name}", names)
    mapped = opmap(mode=mode, workers=1, timeout=5, constants={name: 1})(names["work"])
    assert (asyncio.run(mapped([1, 2])) if mode == "async" else mapped([1, 2])) == [2, 3]


@pytest.mark.parametrize("kind", KINDS)
def test_arguments_that_do_not_fit_are_refused_where_they_are_given_and_are_no_attempt(kind):
    for name in NAMES:
        function = opero(retries=3)(made(kind, name))
        assert asyncio.run(outcome(function, kind, {name: 1})) == 1
        with pytest.raises(TypeError, match=rf"missing 1 required positional argument: '{name}'"):
            function()
        with pytest.raises(TypeError, match=r"takes 1 positional argument but 2 were given"):
            function(1, 2)
        assert function.opero.stats()["attempts"] == 1


def test_the_text_of_the_fast_path_shows_the_names_that_it_does_not_use_itself():
    text = opero(retries=1)(lambda sku, result, *, colour: 1).opero.source()
    assert text.startswith("def call(sku, _1, *, colour):")
    assert "result = function(sku, _1, colour=colour)" in text
