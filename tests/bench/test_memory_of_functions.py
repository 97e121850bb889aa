"""What decorated functions take, as memray counts it; the exact figures are in `benchmarks/costs.py`."""

import pytest

import opero as o

FUNCTIONS = 1000


@pytest.mark.limit_memory("12 MB")  # 8 KiB each is the goal; with what Python takes ahead of need
def test_a_thousand_functions_that_were_called():
    kept = [o.opero(lambda x: x) for _ in range(FUNCTIONS)]
    assert [function(1) for function in kept] == [1] * FUNCTIONS


@pytest.mark.limit_memory("500 KB")
def test_fifty_thousand_calls():
    function = o.opero(circuit_breaker=True, rate_limit=10**9)(lambda x: x)
    assert sum(function(1) for _ in range(50 * FUNCTIONS)) == 50 * FUNCTIONS
