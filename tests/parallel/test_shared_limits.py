"""Limits, circuits, bulkheads and budgets of a map are one for all its worker processes."""

import collections
import os
import signal
import time

import pytest

import opero as o
from opero import clock, opmap
from opero.drivers import blocking
from opero.runtime import run
from opero.workers import shared


class Down(Exception):
    pass


@opmap(
    mode="process",
    workers=3,
    chunk_size=1,
    errors="return",
    rate_limit=o.RateLimit(5, per=3600.0, burst=5, wait=False),
    start_method="forkserver",
    name="shared.limited.server",
)
def limited_by_server(x):
    time.sleep(0.02)
    return os.getpid()


def slow_pid(x):
    time.sleep(0.02)
    return os.getpid()


def failing(x):
    time.sleep(0.005)
    raise Down(x)


def doomed(x):
    if x == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    return x


def counted(outcomes):
    return collections.Counter(x if isinstance(x, type) else type(x) for x in outcomes)


def test_a_rate_limit_is_one_for_all_workers():
    limit = o.RateLimit(5, per=3600.0, burst=5, wait=False)
    function = opmap(
        mode="process", workers=3, chunk_size=1, errors="return", rate_limit=limit, start_method="fork",
        name="shared.limited",
    )(slow_pid)  # fmt: skip
    with function.pool:
        found = function(range(30))
        assert counted(found) == {int: 5, o.RateLimitedError: 25}
        assert len({pid for pid in found if isinstance(pid, int)}) > 1
        with pytest.raises(o.RateLimitedError):
            function.one(1)  # and for the parent


def test_a_rate_limit_is_one_for_workers_that_import_it():
    with limited_by_server.pool:
        found = limited_by_server(range(30))
    assert counted(found) == {int: 5, o.RateLimitedError: 25}


def test_a_call_before_the_map_does_not_give_its_workers_a_quota_each():
    limit = o.RateLimit(5, per=3600.0, burst=5, wait=False)
    function = opmap(
        mode="process", workers=3, chunk_size=1, errors="return", rate_limit=limit, start_method="fork",
        name="shared.warm",
    )(slow_pid)  # fmt: skip
    function.one(1)
    with function.pool:
        assert counted(function(range(30))) == {int: 5, o.RateLimitedError: 25}


def test_a_circuit_is_one_for_all_workers_and_their_parent():
    breaker = o.CircuitBreaker(min_calls=8, failure_ratio=0.5, reset_after=600.0, max_reset_after=600.0)
    function = opmap(
        mode="process", workers=4, chunk_size=1, errors="return", circuit_breaker=breaker, start_method="fork",
        name="shared.circuit",
    )(failing)  # fmt: skip
    with function.pool:
        found = counted(function(range(60)))
        assert 8 <= found[Down] < 8 + 4  # those that were under way when it opened
        assert found[o.CircuitOpenError] == 60 - found[Down]
        assert function.opero.breaker.state == "open"  # though the parent made no call
        seen = {metric.name: value for metric, _, value in breaker.observe(clock.now())}
        assert seen["opero.circuit.failure.ratio"] == 1.0
        with pytest.raises(o.CircuitOpenError):
            function.one(1)
        function.opero.breaker.reset()
        assert counted(function(range(4))) == {Down: 4}


def test_a_bulkhead_is_one_for_all_workers_and_a_dead_one_holds_no_slot():
    function = opmap(
        mode="process", workers=2, chunk_size=1, errors="return", bulkhead=1, start_method="fork", name="shared.slots"
    )(doomed)
    with function.pool:
        assert isinstance(function(["kill"])[0], o.WorkerLost)
        assert function(["a"]) == ["a"]


def test_a_retry_budget_is_one_for_all_workers():
    function = opmap(
        mode="process", workers=3, chunk_size=1, errors="return", start_method="fork", name="shared.budget",
        retries=3, min_delay=0, retry_budget=o.RetryBudget(min_per_second=0.0),
    )(failing)  # fmt: skip
    with function.pool:
        assert counted(function(range(30))) == {Down: 30}
    assert function.opero.stats()["retries"] == 10  # the tokens a budget begins with


def test_what_the_parent_observes_is_what_all_workers_share():
    limit, budget = o.RateLimit(40, per=3600.0, burst=40, wait=False), o.RetryBudget(min_per_second=0.0)
    slots = o.Bulkhead(4)
    function = opmap(
        mode="process", workers=2, chunk_size=1, errors="return", rate_limit=limit, bulkhead=slots, retries=1,
        min_delay=0, retry_budget=budget, start_method="forkserver", name="shared.observed",
    )(slow_or_down)  # fmt: skip

    def observed(policy, name):
        return next(value for metric, _, value in policy.observe(clock.now()) if metric.name == f"opero.{name}")

    assert observed(limit, "rate_limiter.available") == 40
    with function.pool, function.stream([0.0, 0.0, 60.0]) as stream:
        assert stream.request(2) == [0.0, 0.0]
        until = time.monotonic() + 10
        while observed(slots, "bulkhead.usage") < 1 and time.monotonic() < until:
            time.sleep(0.01)
        assert observed(slots, "bulkhead.usage") == 1
        assert observed(limit, "rate_limiter.available") == 37
    assert observed(slots, "bulkhead.usage") == 0  # who was ended with the stream holds no slot
    with function.pool:
        assert counted(function([-1.0] * 5)) == {Down: 5}
    assert observed(budget, "retry.budget.utilization") == 0.5
    assert observed(limit, "rate_limiter.available") == 27


def slow_or_down(seconds):
    if seconds < 0:
        raise Down
    time.sleep(seconds)
    return seconds


def test_the_memory_is_left_whole_by_who_dies_in_the_middle_of_a_change():
    store = shared._shared()
    rates = [(1.0, 5.0)]

    def reserve():
        return run(store.reserve(blocking.RUNTIME, "torn", rates, 1, 0.0))[1]

    assert reserve()
    process = os.fork()
    if not process:
        with store._held("torn") as state:
            state.value = None
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(process, 0)
    assert [reserve() is not None for _ in range(5)] == [True] * 4 + [False]
