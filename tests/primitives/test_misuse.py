"""What is written wrong, and shows only in a call, reaches the caller at once: not retried, counted or hidden."""

import asyncio

import pytest

import opero as o
from opero import conditions, testing

ANSWERS = {
    "retry": o.Retry(3),
    "retry on ValueError": o.Retry(3, on=ValueError),
    "retry on a union": o.Retry(3, on=OSError | RuntimeError),
    "retry on ours": o.Retry(3, on=o.OperoError),
    "retry on all but": o.Retry(3, on=~conditions.status(404) & conditions.not_types(KeyError)),
    "retry by strategy": o.Retry(3, strategies={ValueError: "retry"}),
    "fallback": o.Fallback("hidden"),
    "fallback by": o.Fallback(by={ValueError: "hidden"}),
    "arg_fallback": o.ArgFallback("n", alternatives=[1, 2]),
    "circuit_breaker": o.CircuitBreaker(consecutive=1),
    "hedge": o.Hedge(0.05),
    "cache": o.Cache(60, errors=(ValueError,), error_ttl=60),
}


def made(policy, calls):
    """Return a function in which a weight turns out to be wrong, sync and async; `calls` counts how often it did."""
    limit = o.RateLimit(1, burst=1, weight=lambda *_, **__: calls.append(1) or 5)

    @o.opero(policy)
    def f(n=0):
        with limit:
            return n

    @o.opero(policy)
    async def g(n=0):
        async with limit:
            return n

    return f, lambda: asyncio.run(g())


@pytest.mark.parametrize("which", [0, 1], ids=["sync", "async"])
@pytest.mark.parametrize("policy", ANSWERS.values(), ids=ANSWERS)
def test_a_wrong_setting_that_shows_in_a_call_passes_at_once(policy, which):
    calls = []
    f = made(policy, calls)[which]
    with testing.clock() as clock:
        for n in (1, 2):
            with pytest.raises(o.ConfigurationError, match=r"^weight=5.0: weight takes at most burst \(1\)"):
                f()
            assert len(calls) == n
        assert clock.elapsed() == 0


def test_a_half_open_circuit_and_its_window_hear_nothing_of_it():
    breaker = o.CircuitBreaker(consecutive=1, half_open_probes=1, reset_after=5)
    limit = o.RateLimit(1, burst=1, weight=lambda: 5)

    @o.opero(breaker, limit)
    def f():
        return 1

    with testing.clock() as clock:
        with pytest.raises(OSError), breaker:
            raise OSError
        clock.advance(5)
        for _ in range(2):
            with pytest.raises(o.ConfigurationError):
                f()
        with breaker:
            pass
    assert f.opero.breaker.state == "closed"


def test_an_entry_that_is_over_does_not_answer_for_it():
    weights = [1, 5]
    limit = o.RateLimit(1, burst=1, weight=lambda _: weights.pop(0))

    @o.opero(o.Cache(1, stale_if_error=60), limit)
    def f(n):
        return n

    with testing.clock() as clock:
        assert f(1) == 1
        clock.advance(2)
        with pytest.raises(o.ConfigurationError):
            f(1)


def test_who_names_it_decides_about_it():
    calls = []
    f, _ = made(o.Retry(2, wait=0, on=(o.ConfigurationError, KeyError)), calls)
    g, _ = made(o.Fallback("given", on=o.ConfigurationError), calls)
    with pytest.raises(o.ConfigurationError):
        f()
    assert len(calls) == 3
    assert g() == "given"


@pytest.mark.parametrize(
    ("key", "kind"),
    [("n", "list"), (lambda n: {n[0]: 1}, "dict"), (lambda n: (1, n), "tuple")],
    ids=["list", "dict", "tuple"],
)
@pytest.mark.parametrize(
    "policy", [o.CircuitBreaker, lambda **given: o.RateLimit(5, **given)], ids=["breaker", "limit"]
)
def test_a_key_that_cannot_be_hashed_is_said_with_the_way_out(policy, key, kind):
    made = policy(key=key)

    @o.opero(made, retries=3, fallback="hidden")
    def f(n):
        return n

    text = rf"^key=<class '{kind}'>: key takes values that can be hashed, .* {type(made).__name__} .* a str or a tuple$"
    with testing.clock() as clock, pytest.raises(o.ConfigurationError, match=text):
        f([1])
    assert clock.elapsed() == 0


@pytest.mark.parametrize("policy", ANSWERS.values(), ids=ANSWERS)
def test_a_block_that_is_entered_twice_passes_at_once(policy):
    calls, block = [], o.Bulkhead(1, name="pool").block()
    with block:
        pass

    @o.opero(policy)
    def f(n=0):
        calls.append(n)
        with block:
            return n

    with testing.clock(), pytest.raises(o.ConfigurationError, match=r"^block='pool': block takes one entry, .* before"):
        f()
    assert len(calls) == 1


@pytest.mark.parametrize("policy", ANSWERS.values(), ids=ANSWERS)
def test_a_cached_function_that_needs_its_own_result_passes_at_once(policy):
    calls = []

    @o.opero(o.Cache(60), name="shop.fib")
    def fib(n):
        return fib(n)

    @o.opero(policy)
    def f(n=0):
        calls.append(n)
        return fib(n)

    with testing.clock(), pytest.raises(o.CacheError, match=r"^cache='shop.fib': .* its own result") as raised:
        f()
    assert isinstance(raised.value, o.ConfigurationError)
    assert len(calls) == 1


@pytest.mark.parametrize("policy", ANSWERS.values(), ids=ANSWERS)
def test_a_loop_whose_body_makes_no_attempt_passes_at_once(policy):
    calls = []

    @o.opero(policy)
    def f(n=0):
        calls.append(n)
        for _attempt in o.Retry(2, name="shop.loop"):
            pass

    with testing.clock(), pytest.raises(o.ConfigurationError, match=r"^loop='shop.loop': .*`with attempt:` as its"):
        f()
    assert len(calls) == 1


@pytest.mark.parametrize("name", [3, b"x", ["x"], "", None], ids=repr)
@pytest.mark.parametrize(
    "make",
    [lambda **more: o.RateLimit("1/s", **more), o.CircuitBreaker, lambda **more: o.Bulkhead(1, **more), o.RetryBudget],
    ids=["rate_limit", "circuit_breaker", "bulkhead", "retry_budget"],
)
def test_a_state_in_a_store_has_a_name_that_is_a_text(make, name):
    with pytest.raises(o.ConfigurationError, match=r"^name=.*: name takes a text, with store="):
        make(name=name, store="redis://127.0.0.1:1/0")
