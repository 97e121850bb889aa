"""What is built never changes, and has a step for each keyword; a preset is a builder to begin with."""

import pytest

import opero as o
from opero import OperoConfig, opero
from opero.policy import Policy
from opero.settings import known


def double(x):
    return 2 * x


def kinds(function):
    return {policy.place: policy for policy in function.opero.policies}


def test_a_builder_adds_policies_and_never_changes():
    base = o.build().retry(2).rate_limit("5/s")
    more = base.timeout(10.0).attempt_timeout(2.0).circuit_breaker().bulkhead(3).fallback(0).with_(name="built")

    @more
    def f(x):
        return x

    assert [policy.place for policy in f.opero.policies] == [
        "fallback", "timeout", "retry", "circuit_breaker", "rate_limit", "bulkhead", "attempt_timeout",
    ]  # fmt: skip
    assert f.opero.name == "built"
    assert f(3) == 3
    assert set(kinds(base(double))) == {"retry", "rate_limit"}
    assert "rate_limit" not in kinds(o.build().timeout(3)(double))
    first, second = base.circuit_breaker()(double), opero(base.circuit_breaker(), retries=5)(double)
    assert kinds(second)["retry"].retries == 5
    assert kinds(first)["rate_limit"] is not kinds(base(double))["rate_limit"]
    shared = o.Bulkhead(3)
    assert kinds(base.policy(shared)(double))["bulkhead"] is shared
    with pytest.raises(o.ConfigurationError, match="failure_ratio takes"):
        base.circuit_breaker(failure_ratio=5)
    with pytest.raises(o.ConfigurationError, match="timeout takes"):
        base.with_(timeout=-1)
    with pytest.raises(o.ConfigurationError, match="a function to decorate"):
        base(5)
    assert "Retry(retries=2" in repr(base)


BUILT_BY = dict.fromkeys(
    ("retries", "backoff", "backoff_factor", "min_delay", "max_delay", "jitter", "retry_on", "retry_on_result"), "retry"
) | dict.fromkeys(("cache_ttl", "cache_backend", "cache_key", "cache_namespace"), "cache")


@pytest.mark.parametrize("keyword", sorted(known()))
def test_each_keyword_has_a_step_of_the_builder(keyword):
    assert callable(getattr(o.build(), BUILT_BY.get(keyword, keyword)))


def test_steps_of_the_builder_are_keywords_and_policies():
    built = o.build().validate().name("shop").order("retry", "validate").record("x").slo(0.9).tags("a", "b").retry(1)

    @built
    def f(x: int) -> int:
        return x

    assert f("3") == 3
    assert (f.opero.name, f.opero.tags, [*kinds(f)]) == ("shop", ("a", "b"), ["retry", "validate"])
    assert kinds(o.build().retry(1).retry_budget(0.2)(double))["retry_budget"].ratio == 0.2


VALUES = {
    "retry_budget": [0.2, "adaptive", o.RetryBudget(0.3), None],
    "timeout": [3, o.Timeout(3), None],
    "attempt_timeout": [3, o.Timeout(attempt=3), None],
    "circuit_breaker": [True, False, None, o.CircuitBreaker(consecutive=3)],
    "rate_limit": ["10/s", 5.0, o.RateLimit("3/s"), None],
    "bulkhead": [3, "adaptive", o.Bulkhead(3), None],
    "hedge": [0.1, "p95", "adaptive", o.Hedge(3), None],
    "fallback": [0, o.Fallback(0), None],
    "arg_fallback": ["x", o.ArgFallback("x"), None],
    "cache": [True, False, None, o.Cache(60)],
    "validate": [True, False],
}


@pytest.mark.parametrize(("keyword", "value"), [(k, v) for k, values in VALUES.items() for v in values], ids=repr)
def test_a_step_takes_what_its_keyword_takes(keyword, value):
    first, second = o.build().retry(3), opero(retries=3, **{keyword: value})(double)
    built = getattr(first, keyword)(value)
    assert str(built(double).opero.policies) == str(second.opero.policies)
    if isinstance(value, Policy):
        assert kinds(built(double))[keyword] is value


@pytest.mark.parametrize("value", [o.Retry(5), o.Chaos(latency=1)], ids=lambda value: value.place)
def test_a_step_without_a_keyword_takes_a_policy_of_its_name(value):
    assert kinds(getattr(o.build(), value.place)(value)(double))[value.place] is value


def test_a_retry_takes_its_keywords_beside_its_settings():
    built = o.build().retry(5, min_delay=1, max_delay=3, retry_on=OSError, retry_on_result=bool, nested=True)
    made = o.Retry(5, wait=o.waits.exponential(1, 3), on=OSError, on_result=bool, nested=True)
    assert str(kinds(built(double))["retry"]) == str(made)
    assert str(kinds(o.build().retry(backoff="constant")(double))["retry"]) == str(o.Retry(3, wait=0.1))


def test_a_cache_takes_its_keywords_beside_its_settings():
    made = str(o.Cache(60, key="n:{x}", tags="shop", namespace="n"))
    for built in (
        o.build().cache(60, cache_key="n:{x}", tags="shop", cache_namespace="n"),
        o.build().cache(cache_ttl=60, key="n:{x}", tags="shop", cache_namespace="n"),
    ):
        assert str(kinds(built(double))["cache"]) == made
    assert kinds(o.build().cache(True, cache_key="n:{x}")(double))["cache"].ttl is None


def test_a_step_that_says_none_takes_away_what_came_before_and_a_later_step_brings_it_back():
    base = o.build().circuit_breaker().cache(60).timeout(3)
    none = base.circuit_breaker(False).cache(None, cache_key="{x}").timeout(None)
    assert none(double).opero.policies == ()
    assert [*kinds(none.circuit_breaker().cache(cache_ttl=5)(double))] == ["cache", "circuit_breaker"]
    assert kinds(none.with_(timeout=4)(double))["timeout"].seconds == 4
    endless = o.build().with_(cache_ttl=5, cache_namespace="n").cache(None, key="{x}", max_entries=5)
    assert str(kinds(endless(double))["cache"]) == str(o.Cache(None, key="{x}", max_entries=5, namespace="n"))
    assert "circuit_breaker" not in kinds(opero(o.presets.http, o.build().circuit_breaker(False))(double))


def test_what_is_said_later_of_a_policy_goes_before_what_was_said_earlier():
    http = o.presets.http()
    assert kinds(http.timeout(5)(double))["timeout"].seconds == 5
    assert kinds(http.timeout(5).with_(timeout=6)(double))["timeout"].seconds == 6
    assert "timeout" not in kinds(http.timeout(None)(double))
    assert kinds(http.attempt_timeout(5)(double))["timeout"].seconds == 30
    assert kinds(http.timeout(attempt=5)(double))["attempt_timeout"].attempt == 5
    assert str(kinds(http.retry(o.Retry(5))(double))["retry"]) == str(o.Retry(5))
    before = kinds(http(double))["retry"]
    for after in (kinds(http.retry(5)(double))["retry"], kinds(http.retry(5, wait=before.wait)(double))["retry"]):
        assert str(after) == str(o.Retry(**{**before.settings, "retries": 5}))
    assert kinds(http.policy(o.Retry(6)).with_(retries=7)(double))["retry"].retries == 7
    assert http.timeout(5).with_(name="a").name("b")(double).opero.name == "b"


def test_steps_take_a_list_as_well_as_several():
    for built in (
        o.build().retry(2).hedge(1).order("hedge", "retry").tags("a", "b").record("x").slo(0.9, 0.99),
        o.build().retry(2).hedge(1).order(["hedge", "retry"]).tags(["a", "b"]).record(["x"]).slo([0.9, 0.99]),
    ):
        f = built(double)
        assert ([*kinds(f)], f.opero.tags) == (["hedge", "retry"], ("a", "b"))
        assert f.opero.operation.slos == (o.SLO(0.9), o.SLO(0.99))
    assert o.build().slo(0.999, latency=0.3)(double).opero.operation.slos == (o.SLO(0.999, latency=0.3),)


@pytest.mark.parametrize("made", [o.build, o.build().retry, o.build()], ids=["build", "step", "builder"])
def test_a_builder_that_is_decorated_is_told_where_it_goes(made):
    with pytest.raises(o.ConfigurationError, match=r"a function; a builder is made first: @opero\(build"):
        opero(retries=1)(made)


def test_a_keyword_beside_the_policy_it_is_a_setting_of_is_told_where_it_goes():
    for given, keywords, said in (
        (o.Retry(2), {"min_delay": 4}, r"min_delay=4: .* nothing beside Retry\(...\): give it there, as wait="),
        (o.Retry(2), {"retries": 4}, r"retries=4: .* as retries="),
        (o.Cache(2), {"cache_key": "{x}"}, r"cache_key='\{x\}': .* beside Cache\(...\): give it there, as key="),
    ):
        with pytest.raises(o.ConfigurationError, match=said):
            opero(given, **keywords)
        with pytest.raises(o.ConfigurationError, match=said):
            opero(double).opero.with_(given, **keywords)


def test_a_preset_that_is_called_with_a_policy_says_where_that_goes():
    with pytest.raises(o.ConfigurationError, match=r"goes beside this in @opero\(\.\.\., Retry"):
        o.presets.http(o.Retry(7))
    assert kinds(opero(o.presets.http, o.Retry(7))(double))["retry"].retries == 7


def test_a_cache_without_a_lifetime_is_none():
    for keywords in ({"cache_ttl": None}, {"cache_ttl": None, "cache_key": "{x}"}):
        f = opero(retries=0, **keywords)(double)
        assert f.opero.policies == ()
        for cached in (opero(cache_ttl=60), o.Cache(60), o.build().cache(60)):
            assert "cache" not in kinds(cached(double).opero.with_(**keywords))
        assert "cache" not in kinds(opero(o.build().cache(60), **keywords)(double))
        assert kinds(f.opero.with_(cache_ttl=5))["cache"].ttl == 5
    assert "cache" not in kinds(opero(OperoConfig.from_dict({"cache_ttl": None}))(double))


def test_a_cache_that_is_asked_for_may_have_no_end():
    for keywords in ({"cache": True}, {"cache": True, "cache_ttl": None}, {"cache_key": "{x}"}):
        assert kinds(opero(**keywords)(double))["cache"].ttl is None


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda b: b.retry(retires=2), "retires=2: retires takes nothing: .*perhaps retries was meant"),
        (lambda b: b.retry(1, 2, 3), "Retry takes its own settings .too many positional arguments"),
        (lambda b: b.rate_limit(), "RateLimit takes its own settings .missing a required argument: 'rate'"),
        (lambda b: b.timeout(secs=2), "secs takes nothing: .*there are seconds"),
        (lambda b: b.tags(3), "tags takes a text"),
        (lambda b: b.slo(3), "the share of good calls"),
        (lambda b: b.slo(0.9, 0.99, latency=3), "SLO takes its own settings .too many positional arguments"),
        (lambda b: b.attempt_timeout(), "attempt_timeout takes its own settings .missing a required argument"),
        (lambda b: b.validate("no"), "validate takes True or False"),
        (lambda b: b.hedge(o.Retry(3)), "hedge takes seconds"),
        (lambda b: b.retry(5, on=OSError, retry_on=OSError), "retry_on takes nothing beside on=, which says the same"),
        (lambda b: b.retry(cache_ttl=3), "cache_ttl takes nothing: there is no such keyword"),
        (lambda b: b.cache(60, cache_ttl=5), "Cache takes its own settings .multiple values for argument 'ttl'"),
        (lambda b: b.name(3), "name takes a text"),
        (
            lambda b: b.order("retri"),
            r"order=\('retri',\): .*'retri' nothing: there is no such place; perhaps retry was meant",
        ),
        (lambda b: b.order("retry", "retry"), "each place once"),
        (lambda b: b.with_(order="retry"), "a list of places"),
        (lambda b: b.record(3), "record takes the name of a parameter"),
        (lambda b: b.with_(retires=2), "perhaps retries was meant"),
    ],
)
def test_a_wrong_step_is_refused_where_it_is_written(wrong, said):
    with pytest.raises(o.ConfigurationError, match=said):
        wrong(o.build())


def test_a_variant_takes_configurations_and_builders():
    f = opero(retries=1, circuit_breaker=True)(double)
    config = OperoConfig.from_dict({"timeout": 9, "operations": {f.opero.name: {"timeout": 5}}})
    g = f.opero.with_(config, o.build().bulkhead(3), retries=4)
    places = kinds(g)
    assert (places["timeout"].seconds, places["bulkhead"].limit, places["retry"].retries) == (5, 3, 4)
    assert places["circuit_breaker"] is kinds(f)["circuit_breaker"]
    with pytest.raises(o.ConfigurationError, match="policies takes policy objects"):
        f.opero.with_(5)


RETRIED = o.Retry(5, wait=3, jitter="equal", on=OSError)


@pytest.mark.parametrize(
    ("keywords", "changed"),
    [
        ({"jitter": "none"}, {"jitter": "none"}),
        ({"retries": 1, "retry_on": KeyError}, {"retries": 1, "on": KeyError}),
        ({"backoff": o.waits.constant(7)}, {"wait": o.waits.constant(7)}),
        ({"min_delay": 1}, {"wait": o.waits.exponential(1, 30, 1.5)}),
    ],
)
def test_a_keyword_changes_one_setting_of_a_retry_and_keeps_the_others(keywords, changed):
    built = o.build().policy(RETRIED)
    for f in (
        RETRIED(double).opero.with_(**keywords),
        built.with_(**keywords)(double),
        opero(built, **keywords)(double),
    ):
        assert str(kinds(f)["retry"]) == str(o.Retry(**{**RETRIED.settings, **changed}))
    assert kinds(RETRIED(double).opero.with_(timeout=3))["retry"] is RETRIED


def test_a_keyword_changes_one_setting_of_a_cache_and_keeps_the_others():
    cached = o.Cache(60, key="n:{x}", tags="shop")(double)
    for f in (
        cached.opero.with_(cache_ttl=5),
        opero(o.build().cache(60, key="n:{x}", tags="shop"), cache_ttl=5)(double),
    ):
        cache = kinds(f)["cache"]
        assert (cache.ttl, cache.key, cache.settings["tags"]) == (5, "n:{x}", ("shop",))
    assert kinds(cached.opero.with_(cache=False)) == {}
    assert kinds(cached.opero.with_(cache=True))["cache"].key is None


@pytest.mark.parametrize("keywords", [{"retries": 3}, {"timeout": 5}, {"min_delay": 2}], ids=str)
def test_a_variant_retries_as_before_where_only_its_delays_change(keywords):
    bare = opero(**keywords)(double)
    retry = kinds(bare.opero.with_(max_delay=9))["retry"]
    assert (retry.retries, retry.wait.high) == (3, 9)
    assert "retry" not in kinds(bare.opero.with_(retries=0))


def test_who_says_how_to_wait_wants_to_retry():
    assert kinds(o.build().with_(backoff="linear")(double))["retry"].retries == 3
    assert "retry" not in kinds(opero(retries=0)(double).opero.with_(backoff="linear"))


@pytest.mark.parametrize(
    ("backoff", "unread"),
    [
        ("constant", ("backoff_factor", "max_delay")),
        *((backoff, ("backoff_factor",)) for backoff in ("linear", "fibonacci", "decorrelated_jitter")),
    ],
)
def test_a_delay_that_the_backoff_does_not_read_is_refused_and_one_from_further_away_is_left_out(backoff, unread):
    for delay in unread:
        with pytest.raises(o.ConfigurationError, match=f"{delay}=7: {delay} takes nothing beside '{backoff}'"):
            opero(backoff=backoff, **{delay: 7})
    far = opero(backoff="exponential", min_delay=2, max_delay=9, backoff_factor=3)(double)
    near = far.opero.with_(backoff=backoff)
    wait = kinds(near)["retry"].wait
    assert repr(wait) == repr(o.waits.constant(2) if backoff == "constant" else getattr(o.waits, backoff)(2, 9))


def test_a_strategy_brings_its_own_delays():
    own = o.waits.constant(3)
    made = (lambda **more: opero(backoff=own, **more), o.build().with_(backoff=own).with_, o.presets.http().with_)
    for make in (*made, opero(backoff=own)(double).opero.with_):
        for delay in ("min_delay", "max_delay", "backoff_factor"):
            with pytest.raises(
                o.ConfigurationError, match=f"{delay}=1: {delay} takes nothing beside .*give it the delays"
            ):
                make(**{delay: 1})
    delayed, config = opero(min_delay=1)(double), OperoConfig(min_delay=1)
    for f in (delayed.opero.with_(backoff=own), opero(config, backoff=own)(double)):
        assert kinds(f)["retry"].wait is own


def test_what_is_built_is_the_same_in_opero_and_by_itself():
    for built in (o.build(), o.build().timeout(3), o.build().with_(timeout=3), o.presets.http):
        assert str(opero(built)(double).opero.policies) == str(built(double).opero.policies)


PRESETS = [o.presets.http, o.presets.database, o.presets.llm, o.presets.queue]


@pytest.mark.parametrize("preset", PRESETS, ids=lambda preset: preset.__name__)
def test_a_preset_decorates_takes_keywords_and_shares_nothing(preset):
    first, second = preset()(double), opero(preset(), retries=1, timeout=7)(double)
    assert first(2) == second(2) == 4
    assert (kinds(second)["retry"].retries, kinds(second)["timeout"].seconds) == (1, 7)
    assert kinds(preset(bulkhead=2, name="mine")(double))["bulkhead"].limit == 2
    assert not {id(p) for p in first.opero.policies} & {id(p) for p in second.opero.policies}


@pytest.mark.parametrize("preset", PRESETS, ids=lambda preset: preset.__name__)
def test_delays_of_a_preset_are_keywords_like_any_other(preset):
    waits = kinds(preset(min_delay=0.25, max_delay=3)(double))["retry"].wait
    waits = getattr(waits, "otherwise", waits)
    assert (waits.low, waits.high) == (0.25, 3)
    own = o.waits.constant(3)
    assert kinds(preset(backoff=own)(double))["retry"].wait is own
    with pytest.raises(o.ConfigurationError, match=r"min_delay=99\.0: min_delay takes 0 to 3 seconds here"):
        preset(min_delay=99, max_delay=3)


@pytest.mark.parametrize("preset", PRESETS, ids=lambda preset: preset.__name__)
def test_a_preset_decorates_without_parentheses(preset):
    f = preset(double)
    assert f(3) == 6
    named = opero(preset, name="mine")(double)
    assert named.opero.name == "mine"
    for other in (preset()(double), named, opero(double).opero.with_(preset)):
        assert str(f.opero.policies) == str(other.opero.policies)
    assert repr(preset) == f"<preset {preset.__name__}: {preset()}>"
    assert preset.__doc__.startswith("Make a builder")
    for wrong in ((double, double), (5,)):
        with pytest.raises(o.ConfigurationError):
            preset(*wrong)
    with pytest.raises(o.ConfigurationError, match="one function and nothing else"):
        preset(double, retries=3)


def test_presets_retry_what_passes_and_nothing_else():
    import aiohttp
    import httpx
    import requests

    request = httpx.Request("GET", "http://x")
    passing = [
        httpx.ConnectError("x"), httpx.ReadTimeout("x"), requests.ConnectionError(), requests.Timeout(),
        aiohttp.ServerDisconnectedError(), ConnectionResetError(), TimeoutError(),
        httpx.HTTPStatusError("x", request=request, response=httpx.Response(503, request=request)),
    ]  # fmt: skip
    lasting = [
        httpx.HTTPStatusError("x", request=request, response=httpx.Response(404, request=request)),
        httpx.InvalidURL("x"), requests.exceptions.InvalidURL(), httpx.UnsupportedProtocol("x"), KeyError(),
        aiohttp.ClientResponseError(None, (), status=404), FileNotFoundError(),
    ]  # fmt: skip
    policies = kinds(o.presets.http()(double))
    retry, judge = policies["retry"], policies["circuit_breaker"].judge
    assert {judge(error) for error in passing} == {"failure"}
    assert {judge(error) for error in lasting} == {"success"}
    assert [retry.matches(error) for error in passing + lasting] == [True] * len(passing) + [False] * len(lasting)
