"""Configuration from outside: precise about what is wrong, without state, and overridden from the inside out."""

import pickle
import subprocess
import sys

import pytest

import opero as o
from opero import OperoConfig, opero


def double(x):
    return 2 * x


TOML = """
retries = 2
timeout = 10

[operations."shop.pay"]
retries = 5
circuit_breaker = {failure_ratio = 0.3, min_calls = 4}
rate_limit = "10/s; 100/min"

[operations."shop.list"]
bulkhead = {limit = 3, max_queue = 2}
"""


def kinds(function):
    return {policy.place: policy for policy in function.opero.policies}


def test_a_toml_file_has_settings_for_all_and_for_each_by_name(tmp_path):
    path = tmp_path / "opero.toml"
    path.write_text(TOML)
    config = OperoConfig.from_toml(path)
    pay, listing, other = (kinds(opero(config, name=name)(double)) for name in ("shop.pay", "shop.list", "other"))
    assert (pay["retry"].retries, pay["timeout"].seconds, pay["circuit_breaker"].failure_ratio) == (5, 10, 0.3)
    assert str(pay["rate_limit"].local) == "10 calls a second and 100 calls a minute"
    assert (listing["retry"].retries, listing["bulkhead"].max_queue) == (2, 2)
    assert set(other) == {"retry", "timeout"}


def test_a_name_may_be_the_functions_own_and_a_pyproject_has_a_table(tmp_path):
    path = tmp_path / "pyproject.toml"
    path.write_text(f'[tool.opero]\nretries = 1\n[tool.opero.operations."{__name__}.double"]\nretries = 7\n')
    assert kinds(opero(OperoConfig.from_toml(path))(double))["retry"].retries == 7
    assert OperoConfig.from_toml(path).of("other") == OperoConfig(retries=1)


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


def test_the_environment_is_read_by_a_prefix():
    environ = {
        "OPERO_CALL_RETRIES": "4",
        "OPERO_CALL_RATE_LIMIT": "5/s",
        "OPERO_CALL_CIRCUIT_BREAKER__FAILURE_RATIO": "0.25",
        "OPERO_CALL_CIRCUIT_BREAKER__SHADOW": "true",
        "OPERO_METRICS_PORT": "9464",
        "SHOP_TIMEOUT": "3",
    }
    f = kinds(opero(OperoConfig.from_env(environ=environ))(double))
    assert (f["retry"].retries, f["rate_limit"].rate) == (4, 5)
    assert (f["circuit_breaker"].failure_ratio, f["circuit_breaker"].shadow) == (0.25, True)
    assert OperoConfig.from_env("SHOP_", environ).keywords() == {"timeout": 3.0}
    with pytest.raises(o.ConfigurationError, match="either a value or a table"):
        OperoConfig.from_env(environ={"OPERO_CALL_BULKHEAD": "3", "OPERO_CALL_BULKHEAD__LIMIT": "3"})


WRONG = [
    ({"retrys": 3}, "retrys", "there are arg_fallback"),
    ({"retries": -1}, "retries", "greater than or equal to 0"),
    ({"retries": "many"}, "retries", "valid integer"),
    ({"timeout": 0}, "timeout", "greater than 0"),
    ({"backoff": "sometimes"}, "backoff", "'exponential'"),
    ({"min_delay": 5, "max_delay": 1}, "min_delay", "which is max_delay"),
    ({"rate_limit": "fast"}, "rate_limit", "calls per second"),
    ({"rate_limit": {"rate": 5, "burst": 0}}, "rate_limit.burst", "a whole number, 1 or more"),
    ({"circuit_breaker": {"failure_ratio": 3}}, "circuit_breaker.failure_ratio", "up to 1"),
    ({"circuit_breaker": {"ratio": 3}}, "circuit_breaker", "unexpected keyword argument 'ratio'"),
    ({"retry_on": ["os.system"]}, "retry_on", "names of exceptions"),
    ({"retires": 2}, "retires", "perhaps retries was meant"),
    ({"timeout": True}, "timeout", "how long"),
    ({"retries": True}, "retries", "how many"),
    ({"operations": {"a": {"bulkhead": True}}}, "operations.a.bulkhead", "how many"),
    ({"operations": {"a": {"operations": {"b": {}}}}}, "operations.a.operations", "it is one operation"),
    (None, "values", "a mapping of settings"),
    ([1], "values", "a mapping of settings"),
    ("x", "values", "a mapping of settings"),
    ({"retry_on": ["KeyboardInterrupt"]}, "retry_on", "names of exceptions"),
    ({"operations": {"a": {"timeout": "soon"}}}, "operations.a.timeout", "valid number"),
    ({"operations": {"a": {"bulkhead": {"limit": 0}}}}, "operations.a.bulkhead.limit", "1 or more"),
]


@pytest.mark.parametrize(("values", "field", "allowed"), WRONG, ids=[f"{n}-{w[1]}" for n, w in enumerate(WRONG)])
def test_what_is_wrong_is_named_by_its_path(values, field, allowed):
    with pytest.raises(o.ConfigurationError) as caught:
        OperoConfig.from_dict(values)
    assert caught.value.field == field
    assert allowed in str(caught.value)


def test_a_pyproject_without_our_table_is_said(tmp_path):
    for text in ("tool = 3", "[tool.other]\nx = 1", ""):
        (tmp_path / "pyproject.toml").write_text(text)
        with pytest.raises(o.ConfigurationError, match=r"a table \[tool.opero\]"):
            OperoConfig.from_toml(tmp_path / "pyproject.toml")


def test_all_names_can_be_imported_where_there_is_no_pydantic():
    code = "import sys; sys.modules['pydantic'] = None\nfrom opero import *\nprint(Retry, 'OperoConfig' in dir())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("<class 'opero.primitives.retry.Retry'> False\n", "")


def test_all_that_is_wrong_is_noted():
    with pytest.raises(o.ConfigurationError) as caught:
        OperoConfig.from_dict({"retries": -1, "timeout": 0})
    assert "timeout=0" in caught.value.__notes__[0]


def test_a_file_that_cannot_be_read_is_one_error(tmp_path):
    (tmp_path / "bad.toml").write_text("= 3")
    for name in ("bad.toml", "missing.toml"):
        with pytest.raises(o.ConfigurationError, match="a TOML file that can be read"):
            OperoConfig.from_toml(tmp_path / name)


def test_errors_and_statuses_to_retry_are_given_by_name_and_number():
    class Answer(Exception):
        status_code = 503

    f = kinds(opero(OperoConfig.from_dict({"retry_on": ["ConnectionError", 503]}))(double))
    assert [f["retry"].matches(error) for error in (ConnectionResetError(), Answer(), KeyError())] == [
        True,
        True,
        False,
    ]


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


PRESETS = [o.presets.http, o.presets.database, o.presets.llm, o.presets.queue]


@pytest.mark.parametrize("preset", PRESETS, ids=lambda preset: preset.__name__)
def test_a_preset_decorates_takes_keywords_and_shares_nothing(preset):
    first, second = preset()(double), opero(preset(), retries=1, timeout=7)(double)
    assert first(2) == second(2) == 4
    assert (kinds(second)["retry"].retries, kinds(second)["timeout"].seconds) == (1, 7)
    assert kinds(preset(bulkhead=2, name="mine")(double))["bulkhead"].limit == 2
    assert not {id(p) for p in first.opero.policies} & {id(p) for p in second.opero.policies}


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
