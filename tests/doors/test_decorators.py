"""What can be decorated, and what stays as it was."""

import asyncio
import inspect
import pickle
from collections.abc import Awaitable, Coroutine
from functools import partial

import pytest

import opero as o
from opero import opero


@opero(retries=0)
def by_name(x: int, /, *, y: str = "") -> str:
    """Say it."""
    return f"{x}{y}"


class Shop:
    factor = 2

    @opero(retries=0)
    def price(self, x):
        return x * self.factor

    @opero
    async def order(self, x):
        return x * self.factor

    @staticmethod
    @opero
    def outer_static(x):
        return x

    @opero
    @staticmethod
    def inner_static(x):
        return x

    @classmethod
    @opero
    def outer_class(cls, x):
        return x * cls.factor

    @opero
    @classmethod
    def inner_class(cls, x):
        return x * cls.factor


class Callable:
    def __call__(self, x):
        return x + 1


class AsyncCallable:
    async def __call__(self, x):
        return x + 1


def test_methods_of_every_kind():
    shop = Shop()
    assert (shop.price(2), Shop.price(shop, 2), asyncio.run(shop.order(2))) == (4, 4, 4)
    assert [f(2) for f in (shop.outer_static, Shop.outer_static, shop.inner_static, Shop.inner_static)] == [2] * 4
    assert [f(2) for f in (shop.outer_class, Shop.outer_class, shop.inner_class, Shop.inner_class)] == [4] * 4
    assert Shop.price.opero.stats()["calls"] == 2
    assert shop.price.opero.name == f"{__name__}.Shop.price"


def test_the_handle_of_a_method_is_that_of_its_function_and_takes_the_object_first():
    class Rates:
        @opero(retries=0, cache_ttl=60, cache_key="{x}")
        def of(self, x):
            return x

        @classmethod
        @opero
        def make(cls, x):
            return cls, x

    rates = Rates()
    handle = rates.of.opero
    assert handle is Rates.of.opero is Rates().of.opero
    assert rates.of(1) == handle.bypass(rates, 1) == handle.with_(name="variant")(rates, 1) == 1
    assert [of(rates, 1) for of in (handle.cache.contains, handle.cache.invalidate, handle.cache.get)] == [
        True,
        True,
        None,
    ]
    assert Rates.make(1) == Rates.make.opero.bypass(Rates, 1) == rates.make.opero.bypass(Rates, 1) == (Rates, 1)
    with pytest.raises(TypeError, match="missing 1 required positional argument"):
        handle.bypass(1)


def test_partials_and_callables():
    assert opero(partial(by_name, 1))(y="a") == "1a"
    assert opero(Callable())(1) == 2
    assert asyncio.run(opero(AsyncCallable())(1)) == 2
    assert asyncio.run(opero(partial(Shop().order, 2))()) == 4
    assert opero(abs)(-1) == 1
    assert opero(Callable()).opero.name == f"{__name__}.Callable"
    assert opero(partial(Callable())).opero.name == f"{__name__}.Callable"


def test_a_function_keeps_its_face():
    assert by_name.__name__ == "by_name"
    assert by_name.__doc__ == "Say it."
    assert str(inspect.signature(by_name)) == "(x: int, /, *, y: str = '') -> str"
    assert inspect.iscoroutinefunction(Shop.order)
    assert not inspect.iscoroutinefunction(Shop.price)
    assert by_name.__wrapped__(1) == "1"
    assert pickle.loads(pickle.dumps(by_name)) is by_name


@pytest.mark.parametrize(
    ("decorator", "attempts"),
    [
        (opero, 4),
        (opero(), 4),
        (opero(name="x"), 4),
        (opero(retries=0), 1),
        (opero(retries=2), 3),
        (opero(o.Timeout(5)), 1),
        (opero(o.Timeout(5), retries=1), 2),
        (opero(o.Retry(1)), 2),
    ],
    ids=["bare", "called", "named", "retries-0", "retries-2", "a-policy", "policy-and-retries", "retry-policy"],
)
def test_how_often_it_tries(decorator, attempts):
    @decorator
    def f():
        raise OSError

    with o.testing.clock(), pytest.raises(OSError):
        f()
    assert f.opero.stats()["attempts"] == attempts


def test_the_handle_has_what_the_contract_names():
    handle = opero(circuit_breaker=True, name="shop.pay")(by_name.__wrapped__).opero
    assert handle.name == "shop.pay"
    assert [policy.place for policy in handle.policies] == ["retry", "circuit_breaker"]
    wanted = {"calls", "ok", "errors", "attempts", "retries", "rejected", "fallbacks", "cached", "p50", "p95", "p99"}
    assert wanted <= handle.stats().keys()
    assert handle.bypass(1, y="a") == "1a"
    assert handle.stats()["calls"] == 0
    assert "Retry(retries=3" in repr(handle)


def test_a_variant_has_other_settings_and_shares_the_state_it_keeps():
    @opero(retries=2, min_delay=7, jitter="none", circuit_breaker=True, rate_limit="5/s")
    def f():
        raise OSError

    variant = f.opero.with_(retries=1, timeout=5)
    retry = variant.opero.policies[1]
    assert (retry.retries, retry.wait.low, retry.jitter) == (1, 7, "none")
    assert [policy.place for policy in variant.opero.policies] == ["timeout", "retry", "circuit_breaker", "rate_limit"]
    f.opero.breaker.force_open()
    assert variant.opero.breaker.state == "forced_open"
    assert len(f.opero.policies) == 3
    assert variant.opero.with_(o.CircuitBreaker()).opero.breaker.state == "closed"
    assert "retry" not in f.opero.with_(retries=0).opero.operation.places


def test_one_policy_on_two_functions_is_shared_and_a_keyword_is_not():
    shared = o.CircuitBreaker(min_calls=1)

    def down():
        raise OSError

    first, second, third = opero(shared)(down), opero(shared)(down), opero(circuit_breaker=True)(down)
    with pytest.raises(OSError):
        first()
    assert (first.opero.breaker.state, second.opero.breaker.state) == ("open", "open")
    assert third.opero.breaker.state == "closed"


def test_order_is_the_users_to_change():
    f = opero(o.Retry(1), o.RateLimit(5), o.Bulkhead(2), order=["bulkhead", "rate_limit", "retry"])(by_name.__wrapped__)
    assert [policy.place for policy in f.opero.policies] == ["bulkhead", "rate_limit", "retry"]
    assert f(1) == "1"


def test_rates_are_read_as_written():
    rates = ["100/s", "10/min", "1000/h", "5/day", 3, 2.5, "0.5/s"]
    made = [opero(retries=0, rate_limit=rate)(abs).opero.policies[0] for rate in rates]
    assert [(p.rate, p.per) for p in made] == [(100, 1), (10, 60), (1000, 3600), (5, 86400), (3, 1), (2.5, 1), (0.5, 1)]


def test_an_error_of_the_fallback_passes_with_the_first_as_its_context():
    def broken(x):
        raise KeyError(x)

    @opero(retries=0, fallback=broken)
    def f(x):
        raise OSError

    with pytest.raises(KeyError) as caught:
        f(1)
    assert isinstance(caught.value.__context__, OSError)
    assert f.opero.stats()["errors"] == 1


@pytest.mark.parametrize("annotation", [Awaitable[int], Coroutine[None, None, int], "Awaitable[int]", "t.Coroutine"])
def test_a_plain_function_that_says_it_returns_an_awaitable_is_refused(annotation):
    def f():
        return None

    f.__annotations__["return"] = annotation
    with pytest.raises(o.ConfigurationError, match="async def"):
        o.opero(f)
