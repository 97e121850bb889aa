"""Configuration from files and variables: read as what a setting takes, each fault told where it was written."""

import pytest

import opero as o
from opero import OperoConfig, opero

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


def double(x):
    return 2 * x


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


@pytest.mark.parametrize(
    ("name", "said", "why"),
    [
        (
            "OPERATIONS",
            '{"shop.pay": {"retries": 5}',
            "by their names; as JSON it cannot be read: Expecting ',' delimiter",
        ),
        ("CACHE", "[5", "a Cache; as JSON it cannot be read: "),
        ("CIRCUIT_BREAKER", "yes", "a CircuitBreaker; in a variable true or false, or JSON$"),
        ("CIRCUIT_BREAKER__SHADOW", "on", "True or False; in a variable true or false, or JSON$"),
        ("TIMEOUT", "5s", "a number of seconds, above 0$"),
    ],
)
def test_a_variable_that_was_meant_for_json_or_a_truth_is_told_why_it_is_none(name, said, why):
    with pytest.raises(o.ConfigurationError, match=f"^OPERO_CALL_{name}='.*': OPERO_CALL_{name} takes .*{why}"):
        OperoConfig.from_env(environ={f"OPERO_CALL_{name}": said})


def test_the_environment_is_read_as_what_the_setting_takes():
    environ = {"X_NAME": "123", "X_TAGS": '["a", "b"]', "X_CACHE_NAMESPACE": "007", "X_VALIDATE": "True"}
    environ |= {"X_RETRY_ON": "ConnectionError", "X_BULKHEAD__LIMIT": "3", "X_CIRCUIT_BREAKER__SHADOW": "FALSE"}
    given = OperoConfig.from_env("X_", environ).keywords()
    assert (given["name"], given["tags"], given["cache_namespace"]) == ("123", ["a", "b"], "007")
    assert (given["validate"], given["retry_on"], given["bulkhead"].limit) == (True, (ConnectionError,), 3)
    assert given["circuit_breaker"].shadow is False


def test_what_is_wrong_in_the_environment_names_the_variables():
    environ = {"X_RETIRES": "2", "X_CIRCUIT_BREAKER__MIN_CALLS": "0", "X_OPERATIONS": '{"a.b": {"timeout": 0}}'}
    with pytest.raises(o.ConfigurationError, match="perhaps retries was meant") as caught:
        OperoConfig.from_env("X_", environ)
    fields = {error.field for error in caught.value.errors}
    assert fields == {"X_RETIRES", "X_CIRCUIT_BREAKER__MIN_CALLS", "X_OPERATIONS.a.b.timeout"}
    for prefix, environ in [("", {}), (5, {}), ("X_", 5), ("X_", {"X_TIMEOUT": 5})]:
        with pytest.raises(o.ConfigurationError):
            OperoConfig.from_env(prefix, environ)


@pytest.mark.parametrize(
    ("environ", "field"),
    [
        ({"X_OPERATIONS__SHOP__PAY__RETRIES": "5"}, "X_OPERATIONS__SHOP__PAY__RETRIES"),
        ({"X_CACHE__TTL": "60", "X_CACHE__KEY": "5"}, "X_CACHE__KEY"),
        ({"X_TIMEOUT": "5", "X_timeout": "6"}, "X_timeout"),
        ({"X_CACHE__TTLS__X": "60"}, "X_CACHE__TTLS__X"),
    ],
    ids=["operation", "key", "twice", "inside"],
)
def test_a_variable_is_named_wherever_its_value_ends_up(environ, field):
    with pytest.raises(o.ConfigurationError) as caught:
        OperoConfig.from_env("X_", environ)
    assert caught.value.field == field


def test_an_error_says_in_which_file(tmp_path):
    (tmp_path / "opero.toml").write_text("retires = 3")
    with pytest.raises(o.ConfigurationError) as caught:
        OperoConfig.from_toml(tmp_path / "opero.toml")
    assert caught.value.__notes__ == [f"in {tmp_path / 'opero.toml'}"]
    for path in (None, 5, b"x"):
        with pytest.raises(o.ConfigurationError, match="path takes"):
            OperoConfig.from_toml(path)


def test_a_file_may_begin_with_the_mark_of_notepad(tmp_path):
    (tmp_path / "opero.toml").write_bytes(b"\xef\xbb\xbfretries = 3\r\n")
    assert OperoConfig.from_toml(tmp_path / "opero.toml").keywords() == {"retries": 3}


def test_a_pyproject_without_our_table_is_said(tmp_path):
    for text in ("tool = 3", "[tool.other]\nx = 1", ""):
        (tmp_path / "pyproject.toml").write_text(text)
        with pytest.raises(o.ConfigurationError, match=r"a table \[tool.opero\]"):
            OperoConfig.from_toml(tmp_path / "pyproject.toml")


def test_a_file_that_cannot_be_read_is_one_error(tmp_path):
    (tmp_path / "bad.toml").write_text("= 3")
    (tmp_path / "huge.toml").write_text(f"retries = {'9' * 5000}")
    (tmp_path / "deep.toml").write_text(f"fallback = {'[' * 5000}{']' * 5000}")
    (tmp_path / "latin.toml").write_bytes("name = 'Käse'".encode("latin-1"))
    for name in ("bad.toml", "missing.toml", "huge.toml", "deep.toml", "latin.toml", "a\0b", ""):
        with pytest.raises(o.ConfigurationError, match="a TOML file that can be read"):
            OperoConfig.from_toml(tmp_path / name)
