"""A policy alone decorates, as in the libraries people come from."""

import asyncio
import functools
import inspect

import pytest

import opero as o
import opero_slo
from opero import stops, waits
from opero.policy import Policy

CALLS = []


@o.Retry(2, wait=0)
def flaky(x: int = 1) -> int:
    """Fail twice."""
    CALLS.append(x)
    if len(CALLS) < 3:
        raise OSError
    return x


def test_a_policy_is_a_decorator():
    assert flaky(7) == 7
    assert (len(CALLS), flaky.__doc__, inspect.signature(flaky).parameters["x"].default) == (3, "Fail twice.", 1)
    assert [type(policy) for policy in flaky.opero.policies] == [o.Retry]


def test_it_works_on_methods_and_coroutine_functions_and_shares_its_state():
    breaker = o.CircuitBreaker(consecutive=2)

    class Shop:
        @breaker
        async def price(self):
            raise OSError

        @breaker
        def stock(self):
            return 1

    for _ in range(2):
        with pytest.raises(OSError):
            asyncio.run(Shop().price())
    with pytest.raises(o.CircuitOpenError):
        Shop().stock()


@pytest.mark.parametrize("policy", [o.Retry(), o.RateLimit(5), o.Timeout(1), o.Fallback(0), o.Bulkhead(1)], ids=repr)
def test_what_is_no_function_is_refused_all_the_same(policy):
    for thing in (3, int, o.Retry(), "text"):
        with pytest.raises(o.ConfigurationError, match="function="):
            policy(thing)


class Shop:
    def price(self):
        """Return what it costs."""


POLICIES = [
    kind for kind in (getattr(o, name) for name in o.__all__) if isinstance(kind, type) and issubclass(kind, Policy)
]
BARE = [Shop.price, Shop().price, len, staticmethod(Shop.price), classmethod(Shop.price), Shop]


@pytest.mark.parametrize("kind", POLICIES)
def test_a_policy_without_parentheses_says_so(kind):
    assert len(POLICIES) > 9
    for function in BARE:
        if kind not in (o.Fallback, o.Cache):
            with pytest.raises(o.ConfigurationError, match=rf"go before it: @{kind.__name__}\(\.\.\.\)") as refused:
                kind(function)
            assert refused.value.value is function
    asked = {o.Fallback: o.Fallback(len), o.Cache: o.Cache(len)}.get(kind)  # a function can be what they are told
    for args, kwargs in (((3,), {}), ((), {}), ((len, 3), {}), ((), {"url": 1})):
        if asked is not None:
            with pytest.raises(o.ConfigurationError, match=rf"go before it: @{kind.__name__}\(\.\.\.\)"):
                asked(*args, **kwargs)


def test_a_policy_that_is_called_as_its_function_would_be_tells_no_arguments():
    @o.Fallback
    def login(password):
        """Forgot the answer, and so the parentheses."""

    for args, kwargs in ((["hunter2"], {}), ([], {"password": "hunter2"})):
        with pytest.raises(o.ConfigurationError, match="@Fallback") as refused:
            login(*args, **kwargs)
        assert "hunter2" not in f"{refused.value!r} {refused.value}"


def test_policies_show_their_settings_for_all_that():
    assert list(inspect.signature(o.Hedge).parameters) == ["delay", "max_hedges", "name"]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (
            lambda: o.Retry(retires=3),
            "^retires=3: retires takes nothing: .*; perhaps retries was meant; there are retries, ",
        ),
        (lambda: o.Retry(1, 2, 3), r"Retry takes its own settings \(too many positional arguments\)$"),
        (o.RateLimit, r"RateLimit takes its own settings \(missing a required argument: 'rate'\)$"),
        (lambda: o.RetryBudget(ration=0.1), "perhaps ratio was meant"),
        (lambda: o.Timeout(second=3), "perhaps seconds was meant; there are seconds, attempt, how, name$"),
        (lambda: Mine(loud=1), "perhaps louder was meant; there are louder, name$"),
        (lambda: Mine(louder=1, name=2), "^called=2: called takes nothing"),
        (lambda: waits.exponential(hihg=3), "perhaps high was meant; there are low, high, factor$"),
        (lambda: waits.sequence(delays=[1]), r"sequence takes its own settings .*'delays'\)$"),
        (lambda: stops.elapsed(second=3), "perhaps seconds was meant; there is only seconds$"),
        (lambda: o.OperoConfig(retires=3), "perhaps retries was meant"),
        (lambda: o.SLO(0.9, windw="7d"), "^windw='7d': .* perhaps window was meant"),
        (o.SLO, r"SLO takes its own settings .*'objective'\)$"),
        (
            lambda: o.Strategy("retry", limits=3),
            "^limits=3: .* perhaps limit was meant; there are action, limit, wait$",
        ),
        (lambda: o.KeyRing(key=b"hunter2"), "^key='<bytes>': .* perhaps keys was meant"),
        (lambda: o.Cache(60, signing_kye=b"hunter2"), "^signing_kye='<bytes>': .* perhaps signing_key was meant"),
        (lambda: o.opero(cache_signing=b"hunter2"), "^cache_signing='<bytes>': "),
        (lambda: o.Cache(60, stored="redis://:hunter2@host"), r"^stored='redis://\[redacted\]@host': "),
        (lambda: opero_slo.Rule(opero_slo.Log(), cooldwon=1), "perhaps cooldown was meant"),
        (lambda: opero_slo.Webhook(headers={"a": "hunter2"}), "Webhook takes its own settings .*'url'"),
    ],
)
def test_a_setting_that_a_policy_does_not_have_is_said_as_a_keyword_is(wrong, said):
    with pytest.raises(o.ConfigurationError, match=said) as refused:
        wrong()
    assert "hunter2" not in f"{refused.value!r} {refused.value.value}"
    assert refused.value.__cause__ is None
    assert refused.value.__suppress_context__ or refused.value.__context__ is None


def test_an_error_inside_a_policy_that_was_called_rightly_passes():
    with pytest.raises(TypeError, match="the length of a number"):
        Broken(louder=1)


class Mine(o.Chaos):
    """Misspells, where told a name, what it hands on."""

    def __init__(self, *, louder=1, name=None):
        super().__init__(**({"called": name} if name else {}))


class Broken(o.Chaos):
    def __init__(self, *, louder):
        raise TypeError("the length of a number")


@pytest.mark.parametrize("thing", [int, o.Timeout(1)], ids=["a class", "a policy"])
def test_what_is_no_function_is_refused_by_opero_as_before(thing):
    with pytest.raises(o.ConfigurationError, match="function="):
        o.opero(retries=1)(thing)


def test_a_policy_is_no_predicate_and_no_key():
    for make in (
        lambda policy: o.Retry(on=policy),
        lambda policy: o.Retry(on_result=policy),
        lambda policy: o.Retry(wait=policy),
        lambda policy: o.Retry(stop=policy),
        lambda policy: o.CircuitBreaker(key=policy),
        lambda policy: o.RateLimit(1, weight=policy),
        lambda policy: o.opero(fallback=policy, retries=0)(len),
        o.Fallback,
        o.Cache,
        o.RateLimit,
    ):
        with pytest.raises(o.ConfigurationError):
            make(o.Timeout(1))


@pytest.mark.parametrize("decorator", [o.opero, o.opero(retries=1), o.Retry(1)], ids=["bare", "settings", "policy"])
def test_a_property_goes_above_and_is_told_so(decorator):
    with pytest.raises(o.ConfigurationError, match="@property goes above this decorator"):
        decorator(property(lambda self: 1))


def called(*, policy):
    """Return a class whose members are decorated in every way there is."""

    class Shop:
        @policy
        def method(self, x):
            return self, x

        @policy
        @classmethod
        def above(cls, x):
            return cls, x

        @classmethod
        @policy
        def below(cls, x):
            return cls, x

        @policy
        @staticmethod
        def static(x):
            return x

        @staticmethod
        @policy
        def static_below(x):
            return x

        def __call__(self, x):
            return self, x

        def plain(self, x):
            return self, x

    return Shop


ONE_OF_EACH = [
    o.Retry(1), o.CircuitBreaker(), o.RateLimit(10_000), o.Bulkhead(5), o.Timeout(9), o.Timeout(attempt=9), o.Hedge(9),
    o.Cache(9, key="{x}"), o.Fallback(0), o.ArgFallback("x", alternatives=[7]), o.Chaos(result=1),
]  # fmt: skip


@pytest.mark.parametrize("policy", ONE_OF_EACH, ids=lambda policy: policy.place)
def test_it_decorates_whatever_can_be_called(policy):
    cls = called(policy=policy)
    shop = cls()
    for on in (cls, shop):
        assert on.above(x=7) == on.below(x=7) == (cls, 7)
        assert on.static(x=7) == on.static_below(x=7) == 7
    assert shop.method(x=7) == cls.method(shop, x=7) == (shop, 7)
    for other in (shop, shop.plain, functools.partial(cls.plain, shop), functools.partial(shop)):
        assert policy(other)(x=7) == (shop, 7)
