"""Configuration from outside: precise about what is wrong, without state, and overridden from the inside out."""

import pickle
import subprocess
import sys
from datetime import timedelta
from inspect import signature

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import opero as o
from opero import OperoConfig, opero, values


def double(x):
    return 2 * x


def kinds(function):
    return {policy.place: policy for policy in function.opero.policies}


def test_keywords_and_policies_at_the_decorator_go_before_it():
    config = OperoConfig.from_dict({"retries": 2, "timeout": 10, "circuit_breaker": True})
    f = kinds(opero(config, o.CircuitBreaker(consecutive=3), retries=4)(double))
    assert (f["retry"].retries, f["timeout"].seconds, f["circuit_breaker"].consecutive) == (4, 10, 3)


def test_it_carries_no_state():
    config = OperoConfig.from_dict({"circuit_breaker": {"min_calls": 1}, "retries": 0})
    first, second = opero(config)(double), opero(config)(double)
    first.opero.breaker.force_open()
    assert second.opero.breaker.state == "closed"
    assert pickle.loads(pickle.dumps(config)) == config


def test_settings_of_one_operation_are_worked_out_once():
    config = OperoConfig.from_dict({"operations": {"a": {"retries": 1}}})
    assert config.of("a") is config.of("a")


A_NUMBER = "a number of seconds, above 0"
WRONG = [
    ({"retrys": 3}, "retrys", "nothing: there is no such setting; perhaps retries or retry_on was meant"),
    ({"quux": 3}, "quux", "there are arg_fallback, attempt_timeout"),
    ({"retires": 2}, "retires", "perhaps retries was meant"),
    ({"retry_on_result": "x"}, "retry_on_result", "nothing here: no text can say it; give it to @opero"),
    ({"validate_": True}, "validate_", "perhaps validate was meant"),
    ({"retries": -1}, "retries", "a whole number, 0 or more"),
    ({"retries": "many"}, "retries", "a whole number, 0 or more"),
    ({"retries": True}, "retries", "a whole number, 0 or more"),
    ({"retries": None}, "retries", "a whole number, 0 or more"),
    ({"timeout": 0}, "timeout", A_NUMBER),
    ({"timeout": True}, "timeout", A_NUMBER),
    ({"timeout": float("nan")}, "timeout", A_NUMBER),
    ({"timeout": {"seconds": 0}}, "timeout.seconds", A_NUMBER),
    ({"timeout": {"attempt": 1}}, "timeout.attempt", "there is no such setting; there are seconds, how, name"),
    ({"attempt_timeout": {"attempt": 1, "how": "x"}}, "attempt_timeout.how", "'thread' or 'signal'"),
    ({"backoff": "sometimes"}, "backoff", "'exponential'"),
    ({"min_delay": 5, "max_delay": 1}, "min_delay", "which is max_delay"),
    ({"min_delay": 5, "operations": {"a": {"max_delay": 1}}}, "operations.a.min_delay", "which is max_delay"),
    ({"rate_limit": "fast"}, "rate_limit", "calls per second"),
    ({"rate_limit": True}, "rate_limit", "calls per second"),
    ({"rate_limit": {"rate": 5, "burst": 0}}, "rate_limit.burst", "a whole number, 1 or more"),
    ({"rate_limit": {"burst": 1}}, "rate_limit.rate", "a value, and has no default"),
    ({"circuit_breaker": {"failure_ratio": 3}}, "circuit_breaker.failure_ratio", "up to 1"),
    ({"circuit_breaker": {"failure_ratoi": 3}}, "circuit_breaker.failure_ratoi", "perhaps failure_ratio was meant"),
    ({"circuit_breaker": {"ignore": ["os.system"]}}, "circuit_breaker.ignore", "names of exceptions"),
    ({"circuit_breaker": "maybe"}, "circuit_breaker", "True, False or a CircuitBreaker"),
    ({"hedge": {"delay": 0.1, "max_hedges": 0}}, "hedge.max_hedges", "a whole number, 1 or more"),
    ({"retry_budget": {"ratio": 2}}, "retry_budget.ratio", "up to 1"),
    ({"bulkhead": "adaptve"}, "bulkhead", '"adaptive", or a number'),
    ({"bulkhead": {}}, "bulkhead.limit", "a value, and has no default"),
    ({"cache": {"ttl": -1}}, "cache.ttl", A_NUMBER),
    ({"cache": {"ttl": 1, "errors": [503]}}, "cache.errors", "names of exceptions"),
    ({"cache": {"ttl": 1}, "cache_ttl": 1}, "cache", "without the other cache keywords"),
    ({"retry_on": ["os.system"]}, "retry_on", "names of exceptions"),
    ({"retry_on": ["KeyboardInterrupt"]}, "retry_on", "names of exceptions"),
    ({"retry_on": []}, "retry_on", "names of exceptions"),
    ({"retry_on": [1]}, "retry_on", "HTTP statuses from 100 to 599"),
    ({"retry_on": [True]}, "retry_on", "names of exceptions"),
    ({"slo": 2.0}, "slo", "the share of good calls"),
    ({"slo": {"objective": 2.0}}, "slo.objective", "the share of good calls"),
    ({"slo": [0.9, {"objectve": 0.9}]}, "slo.objectve", "perhaps objective was meant"),
    ({"order": ["retry", "retri"]}, "order", "perhaps retry was meant"),
    ({"order": "retry"}, "order", "a list of places"),
    ({"record": 3}, "record", "the name of a parameter"),
    ({"name": ""}, "name", "a text that is not empty"),
    ({"operations": 5}, "operations", "a table: settings of operations by their names"),
    ({"operations": {"a": 5}}, "operations.a", "a table: settings of one operation"),
    ({"operations": {"a": {"bulkhead": True}}}, "operations.a.bulkhead", "1 or more"),
    ({"operations": {"a": {"operations": {"b": {}}}}}, "operations.a.operations", "it is one operation"),
    ({"operations": {"a": {"operations": {}}}}, "operations.a.operations", "it is one operation"),
    ({"operations": {"a": {"timeout": "soon"}}}, "operations.a.timeout", A_NUMBER),
    ({"operations": {"a": {"bulkhead": {"limit": 0}}}}, "operations.a.bulkhead.limit", "1 or more"),
    ({"retry_on": ["OSError", "TimeoutErorr"]}, "retry_on", "perhaps TimeoutError"),
    ({"retry_on": "httpx.ConnectError"}, "retry_on", "other exceptions go to @opero as classes"),
    ({"retry_on": "OSError, 503"}, "retry_on", "several are a list"),
    ({"circuit_breaker": {1: 1}}, "circuit_breaker.1", "there are failure_ratio"),
    ({"operations": {"shop": {"pay": {"retries": 5}}}}, "operations.shop.pay", 'one key: operations."shop.pay"'),
    ({"operation": {"shop": {"retries": 5}}}, "operation", "perhaps operations was meant"),
    ({"operations": {"": {"retries": 5}}}, 'operations.""', "the name of an operation"),
    ({"circuit_breaker": o.CircuitBreaker()}, "circuit_breaker", "objects and functions go to @opero"),
    ({"cache_key": len}, "cache_key", "objects and functions go to @opero"),
    ({"cache_key": "a:{"}, "cache_key", "a template"),
    ({"order": ["retry", "retry"]}, "order", "each place once"),
    ({"order": [1]}, "order", "a list of places"),
    (None, "values", "a mapping of settings"),
    ([1], "values", "a mapping of settings"),
    ("x", "values", "a mapping of settings"),
    ({5: 3}, "values", "names of settings"),
]


@pytest.mark.parametrize(("values", "field", "allowed"), WRONG, ids=[f"{n}-{w[1]}" for n, w in enumerate(WRONG)])
def test_what_is_wrong_is_named_by_its_path(values, field, allowed):
    with pytest.raises(o.ConfigurationError) as caught:
        OperoConfig.from_dict(values)
    (only,) = caught.value.errors
    assert only.field == field
    assert str(only).startswith(f"{field}=")
    assert allowed in only.allowed


WRONG_VALUES = ([[]], -7, "", {"a": 1}, True, 3.5, "zzz")


@pytest.mark.parametrize("keyword", values.TABLES)
def test_what_is_wrong_in_a_table_is_named_by_its_setting_there(keyword):
    needed = dict([values.NEEDED[keyword]] if keyword in values.NEEDED else [])
    settings = signature(values.TABLES[keyword]).parameters
    for setting in [*needed, "how"] if "timeout" in keyword else settings:
        said = [fields_of({keyword: {**needed, setting: value}}) for value in WRONG_VALUES]
        assert {field for fields in said for field in fields} <= {f"{keyword}.{setting}"}
        assert any(said) or setting not in needed


def fields_of(given):
    """Return what is wrong there."""
    try:
        OperoConfig.from_dict(given)
    except o.ConfigurationError as error:
        return [each.field for each in error.errors]
    return []


def test_zero_is_taken_where_opero_takes_it():
    given = OperoConfig(hedge=0, retry_budget=0).keywords()
    assert given == {"hedge": 0, "retry_budget": 0}
    opero(OperoConfig(hedge=0, retry_budget=0, retries=1))(double)


@pytest.mark.parametrize(
    "values",
    [
        {"cache": {"ttl": 5, "backend": "redis", "url": "redis://me:hidden@host/0"}},
        {"cache_backend": "redis://me:hidden@host/0", "cache_ttl": 5},
        {"operations": {"shop": {"arg_fallback": {"parameter": "key", "alternatives": ["hidden"]}}}},
    ],
    ids=["url", "backend", "alternatives"],
)
def test_a_configuration_shows_what_is_given_and_no_secret(values):
    config = OperoConfig.from_dict(values)
    assert "hidden" not in f"{config!r} {config}"
    assert "None, " not in repr(config).partition("Cache(")[0]
    assert repr(OperoConfig(retries=2, operations={"a": {"timeout": 3}})) == (
        "OperoConfig(retries=2, operations={'a': OperoConfig(timeout=3.0)})"
    )


def test_no_secret_is_in_what_is_said_of_a_misspelt_setting():
    for table in ({"alternative": ["hidden"]}, {"alternative": "redis://me:hidden@host"}):
        with pytest.raises(o.ConfigurationError, match="perhaps alternatives was meant") as caught:
            OperoConfig(arg_fallback={"parameter": "key", **table})
        assert "hidden" not in str(caught.value)
    assert "hidden" not in repr(o.build().with_(cache_backend="redis://me:hidden@host", cache_ttl=5))


def test_a_copy_is_checked_and_worked_out_anew():
    config = OperoConfig(retries=2, operations={"a": {"timeout": 3}})
    assert config.of("a").keywords() == {"retries": 2, "timeout": 3}
    copy = config.model_copy(update={"retries": 5, "validate": True})
    assert copy.of("a").keywords() == {"retries": 5, "timeout": 3, "validate": True}
    with pytest.raises(o.ConfigurationError, match="retries=-1"):
        config.model_copy(update={"retries": -1})


def test_settings_go_by_keyword():
    with pytest.raises(o.ConfigurationError, match=r"settings by keyword; OperoConfig\.from_dict takes"):
        OperoConfig({"retries": 2})


SEVERAL = {
    "retires": 2,
    "timeout": 0,
    "circuit_breaker": {"failure_ratio": 3, "min_calls": 0, "windw": 1},
    "bulkhead": {"limit": 0, "max_queue": -1},
    "retry_budget": {"control": 5, "shadow": True},
    "operations": {"a": {"hedge": -1, "order": ["x", "y"]}, "b": 5, "c": {"operations": {"d": {}}}},
    "backoff": "sometimes",
}


def test_all_that_is_wrong_is_said_at_once_in_the_order_it_was_written():
    with pytest.raises(o.ConfigurationError) as caught:
        OperoConfig.from_dict(SEVERAL)
    fields = [error.field for error in caught.value.errors]
    assert list(dict.fromkeys(field.partition(".")[0] for field in fields)) == [*SEVERAL]
    assert set(fields) == {
        "retires", "timeout", "circuit_breaker.failure_ratio", "circuit_breaker.min_calls", "circuit_breaker.windw",
        "bulkhead.limit", "bulkhead.max_queue", "retry_budget.control", "operations.a.hedge", "operations.a.order",
        "operations.b", "backoff",
    }  # fmt: skip
    text = str(caught.value)
    assert text.startswith(f"{len(fields)} settings are wrong:\n  retires=2: retires takes nothing")
    assert text.count("\n") == len(fields)
    again = pickle.loads(pickle.dumps(caught.value))
    assert (str(again), [error.field for error in again.errors]) == (text, fields)


def test_wrong_keywords_of_a_configuration_are_our_errors():
    for keywords in ({"retries": -1}, {"retires": 1}):
        with pytest.raises(o.ConfigurationError, match=f"{next(iter(keywords))}="):
            OperoConfig(**keywords)


def test_within_a_model_of_ones_own_it_is_an_error_of_that_model():
    from pydantic import BaseModel, ValidationError

    class Shop(BaseModel):
        calls: OperoConfig

    assert Shop(calls={"retries": 2}).calls.keywords() == {"retries": 2}
    with pytest.raises(ValidationError, match="retries takes a whole number"):
        Shop(calls={"retries": -1})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
KEYWORDS = sorted(OperoConfig.model_fields)


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(st.sampled_from([*KEYWORDS, "x"]), JSON, max_size=3))
def test_whatever_a_file_holds_is_taken_or_refused_by_our_error(values):
    refused, keywords = None, values.keys() - {"operations"}
    try:
        config = OperoConfig.from_dict(values)
    except o.ConfigurationError as error:
        refused = error
    if refused is None:
        assert config.keywords().keys() == keywords
    else:
        assert all(error.field and error.allowed and str(error) for error in refused.errors)


@pytest.mark.parametrize("keyword", values.TABLES)
def test_a_table_gives_all_settings_of_a_policy(keyword):
    kind, needed = values.TABLES[keyword], dict([values.NEEDED[keyword]] if keyword in values.NEEDED else [])
    parameters = signature(kind).parameters.values()
    assert {p.name for p in parameters if p.default is p.empty} <= {*needed}
    made = OperoConfig.from_dict({keyword: needed}).keywords()[keyword]
    assert isinstance(made, kind)
    decorated = opero(OperoConfig.from_dict({keyword: needed, "retries": 1}))
    assert decorated


def test_a_table_reads_exceptions_by_name():
    table = {"on": ["OSError", 503], "ignore": "FileNotFoundError", "calls": 5, "min_calls": 5}
    breaker = OperoConfig(circuit_breaker=table).keywords()["circuit_breaker"]
    assert [breaker.judge(error) for error in (OSError(), FileNotFoundError(), KeyError())] == [
        "failure", "none", "success",
    ]  # fmt: skip
    assert OperoConfig(cache={"ttl": 5, "errors": ["KeyError"]}).keywords()["cache"].errors == (KeyError,)


def test_settings_of_policies_reach_the_function():
    config = OperoConfig(
        retries=1,
        retry_budget={"ratio": 0.2, "cap": 50},
        hedge="p95",
        timeout={"seconds": 3, "how": "cooperative"},
        cache_ttl=60,
        cache_key="n:{x}",
        record="x",
        slo={"objective": 0.99, "latency": 0.3},
        tags="shop",
    )
    f = opero(config)(double)
    assert f(2) == f(2) == 4
    places = kinds(f)
    assert (places["retry_budget"].cap, places["hedge"].delay, places["timeout"].how) == (50, "p95", "cooperative")
    assert (places["cache"].key, f.opero.tags, f.opero.stats()["cached"]) == ("n:{x}", ("shop",), 1)
    order = ["bulkhead", "retry"]
    assert [*kinds(opero(OperoConfig(retries=1, bulkhead=3, order=order))(double))] == order


def test_a_duration_may_be_a_timedelta():
    assert OperoConfig(timeout=timedelta(minutes=1)).keywords() == {"timeout": 60.0}


def test_names_that_nobody_configured_share_what_is_worked_out():
    config = OperoConfig.from_dict({"retries": 1, "operations": {"a": {"retries": 2}}})
    assert config.of("x") is config.of("y") is not config.of("a")


def test_all_names_can_be_imported_where_there_is_no_pydantic():
    code = "import sys; sys.modules['pydantic'] = None\nfrom opero import *\nprint(Retry, 'OperoConfig' in dir())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("<class 'opero.primitives.retry.Retry'> False\n", "")


def test_errors_and_statuses_to_retry_are_given_by_name_and_number():
    class Answer(Exception):
        status_code = 503

    f = kinds(opero(OperoConfig.from_dict({"retry_on": ["ConnectionError", 503]}))(double))
    assert [f["retry"].matches(error) for error in (ConnectionResetError(), Answer(), KeyError())] == [
        True,
        True,
        False,
    ]


def test_an_operation_with_a_backoff_of_its_own_leaves_out_the_delays_that_it_does_not_read():
    config = OperoConfig(backoff_factor=3.0, min_delay=2.0, operations={"shop.pay": {"backoff": "constant"}})
    assert repr(kinds(opero(config, name="shop.pay")(double))["retry"].wait) == repr(o.waits.constant(2.0))
    assert kinds(opero(config)(double))["retry"].wait.factor == 3.0


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ({"rate_limit": {"rate": 10, "key": "nope"}}, r"^key='nope': .* \(rate_limit of shop\.pay\)$"),
        ({"circuit_breaker": {"key": "nope"}}, r"^key='nope': .* \(circuit_breaker of shop\.pay\)$"),
        ({"cache": {"ttl": 60, "tags": "{nope}"}}, r"^tags='{nope}': .* \(cache of shop\.pay\)$"),
        ({"cache": {"ttl": 60, "key": "{nope}"}}, r"^cache_key='{nope}': .* this function has x$"),
    ],
)
def test_a_setting_that_does_not_fit_the_function_is_told_with_what_it_is_of(setting, said):
    with pytest.raises(o.ConfigurationError, match=said):
        opero(OperoConfig.from_dict(setting), name="shop.pay")(double)


def test_a_configuration_says_which_operations_nothing_was_decorated_by():
    config = OperoConfig.from_dict({"operations": {"shop.pay": {"retries": 1}, "shop.payy": {"retries": 2}}})
    assert config.unused() == ["shop.pay", "shop.payy"]
    opero(config, name="shop.pay")(double)
    assert config.unused() == ["shop.payy"]
    assert config == OperoConfig.from_dict({"operations": {"shop.pay": {"retries": 1}, "shop.payy": {"retries": 2}}})
