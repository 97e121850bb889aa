"""The rows of docs/coming-from.md on breakers and limits, and on hyx, pyresilience and redress."""

import asyncio
import sys
import threading

import pytest

import opero as o
from moving import calls, outcomes, raising, waited
from opero import clock, conditions, events, stops, testing, waits


class Answered(Exception):
    def __init__(self, status):
        self.status = status


def refused(status):
    raise Answered(status)


SEQUENCE = [OSError, KeyError, OSError, KeyError, OSError]


@pytest.mark.parametrize(
    ("settings", "state"),
    [
        ({"on": conditions.not_types(KeyError)}, "closed"),
        ({"on": OSError}, "closed"),
        ({"ignore": KeyError}, "open"),
        ({"ignore": conditions.not_types(OSError)}, "open"),
    ],
)
def test_an_excluded_error_is_a_success_and_an_ignored_one_is_nothing(settings, state):
    f = o.CircuitBreaker(consecutive=2, **settings)(raising)
    outcomes(f, SEQUENCE)
    assert f.opero.breaker.state == state


def test_a_fallback_of_a_circuit_is_asked_while_it_is_open():
    @o.opero(o.CircuitBreaker(consecutive=2), o.Fallback(lambda x: "fallback", on=o.CircuitOpenError))
    def f(x):
        raise KeyError(x)

    assert outcomes(f, [1] * 4) == ["KeyError", "KeyError", "fallback", "fallback"]


def test_pauses_are_alike_where_the_longest_is_no_longer():
    policy, pauses = (
        o.CircuitBreaker(consecutive=1, reset_after=20, max_reset_after=20, jitter=0, half_open_probes=1),
        [],
    )
    f = policy(raising)
    opened = events.subscribe(lambda event: pauses.append(event.fields["pause"]), "opero.circuit.opened")
    with opened, testing.clock() as time:
        for _ in range(3):
            outcomes(f, [OSError])
            time.advance(20)
    assert pauses == [20, 20, 20]


def test_a_circuit_that_is_forced_open_stays_so():
    f = o.CircuitBreaker(consecutive=5, reset_after=1, half_open_probes=1)(raising)
    f.opero.breaker.force_open()
    with testing.clock() as time:
        time.advance(24 * 3600)
        assert outcomes(f, [1]) == ["CircuitOpenError"]
        f.opero.breaker.reset()
        assert outcomes(f, [1]) == [1]


def test_a_circuit_is_opened_for_its_pause_by_failures():
    policy = o.CircuitBreaker(consecutive=3, reset_after=30, half_open_probes=1)
    with testing.clock() as time:
        for _ in range(3):
            with pytest.raises(ConnectionError), policy:
                raise ConnectionError
        assert outcomes(policy(raising), [1]) == ["CircuitOpenError"]
        time.advance(30)
        assert outcomes(policy(raising), [1]) == [1]
        assert policy.state == "closed"


def test_a_block_takes_what_its_key_is_about():
    for policy, block in (
        (o.CircuitBreaker(consecutive=1, key="host"), {"host": "a"}),
        (o.CircuitBreaker(consecutive=1, key=lambda host: host), {"host": "a"}),
    ):
        with pytest.raises(OSError), policy.block(**block):
            raise OSError
        assert [policy.breaker.of(host).state for host in "ab"] == ["open", "closed"]


def test_a_block_takes_what_its_weight_is_about():
    limit = o.RateLimit("10/min", key=lambda tenant, n: tenant, weight=lambda tenant, n: n)
    with limit.block("a", 3):
        pass
    assert [limit.peek(tenant)[0] for tenant in "ab"] == [7, 10]
    limit = o.RateLimit("10/min", weight=lambda n: n)
    with limit.block(3):
        pass
    assert limit.peek()[0] == 7


@pytest.mark.parametrize(("wait", "last"), [(True, 6), (False, "RateLimitedError"), (7, 6), (5, "RateLimitedError")])
def test_a_call_above_the_rate_waits_unless_it_is_told_otherwise(wait, last):
    f = o.RateLimit("10/min", wait=wait)(lambda n: round(clock.now()))
    with testing.clock(start=0):
        assert outcomes(f, range(11)) == [*[0] * 10, last]


def test_what_may_wait_is_added_to_what_may_run():
    @o.Bulkhead(1, max_queue=1)
    async def f():
        await asyncio.sleep(1)
        return "ok"

    async def main():
        found = await asyncio.gather(f(), f(), f(), return_exceptions=True)
        return [each if each == "ok" else type(each) for each in found]

    with testing.clock():
        assert asyncio.run(main()) == ["ok", "ok", o.BulkheadFullError]


def test_a_timeout_alone_ends_a_coroutine():
    @o.Timeout(2)
    async def f():
        await asyncio.sleep(3)

    with testing.clock(), pytest.raises(o.CallTimeout):
        asyncio.run(f())


def test_a_bucket_may_hold_more_than_a_period_fills():
    f = o.RateLimit(10, per=60, burst=20, wait=False)(raising)
    assert outcomes(f, range(21)) == [*range(20), "RateLimitedError"]


def test_a_fallback_answers_errors_of_some_classes_and_unwanted_results():
    f = o.Fallback(lambda x: "fallback", on=OSError, on_result=lambda result: result == 0)(raising)
    assert outcomes(f, [1, 0, OSError, KeyError]) == [1, "fallback", "fallback", "KeyError"]


def test_a_handler_of_errors_becomes_a_fallback():
    f = o.Fallback(lambda *args, **kwargs: repr(sys.exception()), on=OSError)(raising)
    assert outcomes(f, [1, OSError, KeyError]) == [1, "OSError()", "KeyError"]


def test_what_is_never_retried_passes_the_fallback_too():
    made = []

    @o.opero(o.Retry(2, wait=0, strategies={KeyError: "raise"}), o.Fallback("fallback"))
    def f(error):
        made.append(error)
        raise error

    assert outcomes(f, [OSError, KeyError]) == ["fallback", "KeyError"]
    assert made == [OSError] * 3 + [KeyError]


def test_a_class_of_errors_is_a_condition_or_a_function():
    busy = {conditions.status(429): o.Strategy(limit=3)}
    assert calls(o.Retry(9, strategies=busy), Answered(429)) == 4
    own = {lambda error: error.status == 429: o.Strategy(limit=3)}
    assert calls(o.Retry(9, strategies=own), Answered(429)) == 4
    permanent = {conditions.status(400, 401, 403, 404, 422): "raise"}
    assert [calls(o.Retry(5, strategies=permanent), Answered(status)) for status in (404, 500)] == [1, 6]


def test_errors_of_no_class_have_the_limit_of_the_retry():
    known = {conditions.status(429, range(500, 600)): o.Strategy(limit=5)}
    policy = o.Retry(2, strategies=known)
    assert [calls(policy, error) for error in (KeyError(), Answered(503))] == [3, 6]


def test_half_of_a_wait_is_drawn_with_equal_jitter():
    for first, second in [waited(retries=2, wait=waits.exponential(0.5, 30, 2), jitter="equal") for _ in range(50)]:
        assert 0.25 <= first <= 0.5 <= second <= 1


def test_no_attempt_begins_after_the_deadline():
    made = []

    @o.Retry(5, stop=stops.before(60), wait=25, jitter="none")
    def f():
        made.append(clock.now())
        raise OSError

    with testing.clock(start=0):
        outcomes(lambda _: f(), [0])
    assert made == [0, 25, 50]


def test_a_flag_that_is_set_aborts():
    flag = threading.Event()
    flag.set()
    assert calls(o.Retry(5, stop=stops.event(flag)), OSError()) == 1


def test_a_breaker_around_the_retry_counts_calls():
    made = []

    @o.opero(o.Retry(1, wait=0), o.CircuitBreaker(consecutive=2), order=["circuit_breaker", "retry"])
    def f(n):
        made.append(n)
        raise OSError

    assert outcomes(f, range(3)) == ["OSError", "OSError", "CircuitOpenError"]
    assert made == [0, 0, 1, 1]


def test_a_breaker_counts_one_class_of_errors():
    f = o.CircuitBreaker(consecutive=2, ignore=~conditions.status(range(500, 600)))(refused)
    assert outcomes(f, [503, 404, 503, 1]) == ["Answered", "Answered", "Answered", "CircuitOpenError"]


def test_results_of_a_class_are_retried_beside_errors():
    made = []

    @o.Retry(2, wait=0, on=conditions.result(lambda answer: answer == "busy") | Exception)
    def f(answers):
        made.append(answers)
        return raising(answers.pop(0))

    assert f(["busy", OSError, "ok"]) == "ok"
    assert len(made) == 3
