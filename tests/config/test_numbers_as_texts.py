"""A number is written as a number; only variables of the environment are texts, and read."""

import pytest

import opero as o
from opero import OperoConfig

NUMBERS = {
    "attempt_timeout": 5,
    "backoff_factor": 5,
    "bulkhead": 5,
    "cache_ttl": 5,
    "hedge": 5,
    "max_delay": 5,
    "min_delay": 5,
    "rate_limit": 5,
    "retries": 5,
    "retry_budget": 0.5,
    "slo": 0.5,
    "timeout": 5,
}
TRUTHS = {"cache": False, "circuit_breaker": True, "validate": True}


@pytest.mark.parametrize("keyword", [*NUMBERS, *TRUTHS])
def test_a_number_or_truth_as_a_text_is_refused_by_every_door_in_the_same_words(keyword):
    text = str({**NUMBERS, **TRUTHS}[keyword])
    with pytest.raises(o.ConfigurationError, match=f"^{keyword}='{text}': {keyword} takes ") as refused:
        o.opero(**{keyword: text})
    with pytest.raises(o.ConfigurationError) as by_file:
        OperoConfig.from_dict({keyword: text})
    assert str(by_file.value) == str(refused.value)


@pytest.mark.parametrize("keyword", [*NUMBERS, *TRUTHS])
def test_a_variable_says_it_as_a_text(keyword):
    value = {**NUMBERS, **TRUTHS}[keyword]
    config = OperoConfig.from_env("X_", {f"X_{keyword.upper()}": str(value)})
    assert config == OperoConfig.from_dict({keyword: value})
