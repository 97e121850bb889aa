"""What must hold on every driver and at both speeds: one function a scenario, with the world it happens in."""

from __future__ import annotations

import asyncio
import threading
from contextlib import ExitStack

import opero as o
from opero import clock, events, fused, testing


class World:
    """One driver at one speed, on a virtual clock: it decorates functions, calls them, and hears what is said."""

    def __init__(self, driver, speed, stack):
        self.driver = driver
        self.speed = speed
        self.stack = stack
        self.time = stack.enter_context(testing.clock())
        self.heard = []
        stack.enter_context(
            events.subscribe(self.heard.append, "opero.retry.*", "opero.circuit.*", "opero.call.rejected")
        )
        stack.enter_context(events.subscribe(self.heard.append, "opero.cache.*"))
        stack.enter_context(
            events.subscribe(
                self.heard.append,
                "opero.fallback.*",
                "opero.timeout.*",
                "opero.arg_fallback.*",
                "opero.bulkhead.*",
            )
        )

    def decorate(self, script, **settings):
        """Decorate a function that plays a script: errors are raised, numbers slept, everything else returned."""
        policies = settings.pop("policies", ())
        settings.setdefault("name", "shop.pay")
        fused.enabled = self.speed == "fast"
        try:
            if not policies and not settings.keys() & {"retries"}:
                settings["retries"] = 0
            return o.opero(*policies, **settings)(self._player(iter(script)))
        finally:
            fused.enabled = True

    def _player(self, script):
        self.calls = []
        if self.driver == "aio":

            async def play(value=None):
                self.calls.append(value)
                for step in script:
                    if not isinstance(step, Pause):
                        return _do(step)
                    await asyncio.sleep(step.seconds)
                raise AssertionError("the script is over")

        else:

            def play(value=None):
                self.calls.append(value)
                for step in script:
                    if not isinstance(step, Pause):
                        return _do(step)
                    clock.sleep(step.seconds)
                raise AssertionError("the script is over")

        return play

    def call(self, function, *args, **kwargs):
        """Make one call; return its result or its error, and the virtual seconds it took."""
        started = self.time.now()
        answer = (
            asyncio.run(_awaited(function, args, kwargs)) if self.driver == "aio" else _called(function, args, kwargs)
        )
        try:
            return answer, round(self.time.now() - started, 6)
        finally:
            del answer  # the frames of its traceback lead back to this one

    def names(self):
        """Return what was heard, without the family name."""
        return [event.name.removeprefix("opero.") for event in self.heard]


def _called(function, args, kwargs):
    try:
        return function(*args, **kwargs)
    except BaseException as error:  # the outcome under test
        return error


async def _awaited(function, args, kwargs):
    try:
        return await function(*args, **kwargs)
    except BaseException as error:  # the same, inside the loop
        return error


class Pause:
    def __init__(self, seconds):
        self.seconds = seconds


def _do(step):
    if isinstance(step, BaseException) or (isinstance(step, type) and issubclass(step, BaseException)):
        raise step
    return step


def world(driver, speed):
    stack = ExitStack()
    return World(driver, speed, stack)


# ---- scenarios: each takes a world and asserts


def a_plain_call_counts_once(w):
    f = w.decorate([7])
    assert w.call(f) == (7, 0)
    assert _stats(f, calls=1, ok=1, attempts=1, retries=0, errors=0, active=0)


def a_failure_is_retried_with_growing_delays(w):
    f = w.decorate([ConnectionError(), ConnectionError(), 7], retries=3, jitter="none", min_delay=1, backoff_factor=2)
    assert w.call(f) == (7, 3)
    assert [e.fields.get("delay") for e in w.heard] == [1, 2, None]
    assert w.names() == ["retry.scheduled", "retry.scheduled", "retry.succeeded"]
    assert _stats(f, calls=1, ok=1, attempts=3, retries=2, errors=0, active=0)


def an_exhausted_retry_raises_the_last_error_itself_with_history_and_note(w):
    last = KeyError("no")
    f = w.decorate([ConnectionError("a"), last], retries=1, jitter="none", min_delay=1)
    error, took = w.call(f)
    assert error is last
    assert took == 1
    assert error.__notes__ == ["opero: 2 attempts in 1 s"]
    history = o.attempts(error)
    assert [(a.number, type(a.error), a.delay, a.outcome) for a in history] == [
        (1, ConnectionError, 0, "retryable"),
        (2, KeyError, 1, "retryable"),
    ]
    assert history[-1].error is error
    assert w.names() == ["retry.scheduled", "retry.exhausted"]
    assert _stats(f, calls=1, ok=0, attempts=2, retries=1, errors=1, active=0)


def an_error_that_retry_on_does_not_name_passes_at_once(w):
    f = w.decorate([KeyError("no"), 7], retries=3, retry_on=ConnectionError)
    error, took = w.call(f)
    assert (type(error), took) == (KeyError, 0)
    assert not hasattr(error, "__notes__")
    assert _stats(f, attempts=1, retries=0, errors=1)


def an_unwanted_result_is_retried_and_returned_at_last(w):
    f = w.decorate([None, None], retries=1, retry_on_result=lambda r: r is None, jitter="none", min_delay=1)
    assert w.call(f) == (None, 1)
    assert w.names() == ["retry.scheduled", "retry.exhausted"]
    assert _stats(f, ok=1, attempts=2)


def a_condition_may_speak_of_errors_and_results(w):
    f = w.decorate([OSError(), None, 7], retries=3, retry_on=OSError | o.conditions.result(lambda r: r is None))
    assert w.call(f)[0] == 7
    assert _stats(f, attempts=3, retries=2)


def what_the_function_says_goes_before_what_the_conditions_say(w):
    mine = OSError("mine")
    f = w.decorate([o.RetryNow(after=4), o.DoNotRetry(mine), 7], retries=3, retry_on=OSError)
    answer, took = w.call(f)
    assert answer is mine
    assert took == 4
    assert len(o.attempts(mine)) == 2
    f = w.decorate([o.RetryNow(mine), o.RetryNow(mine)], retries=1)
    assert w.call(f) == (mine, 0)
    f = w.decorate([o.DoNotRetry(), 7], retries=1)
    assert isinstance(w.call(f)[0], o.DoNotRetry)


def each_class_of_errors_has_its_own_limit_and_wait(w):
    table = {KeyError: o.Strategy(limit=2, wait=10), ValueError: "raise", OSError: o.Strategy(wait=1)}
    policy = o.Retry(1, on=ArithmeticError, jitter="none", strategies=table)
    f = w.decorate([KeyError(), KeyError(), OSError(), 7], policies=[policy])
    assert w.call(f) == (7, 21)
    f = w.decorate([KeyError(), KeyError(), KeyError("third"), 7], policies=[policy])
    error, took = w.call(f)
    assert (str(error), took) == ("'third'", 20)
    f = w.decorate([ValueError(), 7], policies=[policy])
    assert isinstance(w.call(f)[0], ValueError)
    f = w.decorate([KeyError(), 7], policies=[o.Retry(5, strategies={KeyError: o.Strategy(limit=0)})])
    assert isinstance(w.call(f)[0], KeyError)


def a_stop_ends_it_sooner(w):
    for stop, attempts in ((o.stops.attempts(2), 2), (o.stops.elapsed(10), 4), (o.stops.before(10), 3)):
        f = w.decorate([OSError()] * 9, policies=[o.Retry(None, wait=4, jitter="none", stop=stop)])
        w.call(f)
        assert len(w.calls) == attempts
        assert w.heard[-1].fields["reason"] == "stop"


def an_event_ends_even_a_wait_that_has_begun(w):
    flag = asyncio.Event() if w.driver == "aio" else threading.Event()
    policy = o.Retry(9, wait=100, jitter="none", stop=o.stops.attempts(50) | o.stops.event(flag))
    last = OSError("last")
    f = w.decorate([last, 7], policies=[policy])
    setter = o.opero(o.Fallback(None))(flag.set)

    async def soon():
        asyncio.get_running_loop().call_later(3, setter)
        return await _awaited(f, (), {})

    if w.driver == "aio":
        answer = asyncio.run(soon())
        assert w.time.now() == 1003
    else:
        timer = threading.Timer(0.01, flag.set)
        timer.start()
        answer = _called(f, (), {})
        timer.join()
    assert answer is last
    assert w.heard[-1].fields["reason"] == "stop"
    assert _stats(f, attempts=1, errors=1)


def the_users_error_keeps_its_cause_when_it_is_handed_on(w):
    mine, cause = OSError("mine"), KeyError("cause")
    mine.__cause__ = cause
    f = w.decorate([o.DoNotRetry(mine)], retries=1)
    assert w.call(f)[0] is mine
    assert mine.__cause__ is cause


def what_an_inner_function_gave_up_is_not_retried_again(w):
    outer, middle, leaf = _three_levels(w)
    error, _ = w.call(outer)
    assert (type(error), len(w.calls)) == (OSError, 3)
    assert error.__notes__ == ["opero: 1 attempt in 2.5 s, leaf had retried it"]
    assert [e.fields["inner"] for e in w.heard if e.name == "opero.retry.nested"] == ["leaf", "leaf"]
    assert [f.opero.stats()["attempts"] for f in (outer, middle, leaf)] == [1, 1, 3]


def the_nested_guard_sees_through_wrapped_errors_and_can_be_off(w):
    outer, _, _ = _three_levels(w, wrap=True)
    assert isinstance(w.call(outer)[0], RuntimeError)
    assert len(w.calls) == 3
    outer, _, _ = _three_levels(w, nested=True)
    w.call(outer)
    assert len(w.calls) == 27


def an_error_object_raised_by_call_after_call_is_retried_each_time(w):
    same = OSError()
    f = w.decorate([same] * 9, retries=2)
    for _ in range(3):
        assert w.call(f)[0] is same
    assert len(w.calls) == 9


def _three_levels(w, *, nested=False, wrap=False):
    def down(function, name):
        policy = o.Retry(2, wait=1, jitter="none", nested=nested)

        if w.driver == "aio":

            async def level(value=None):
                try:
                    return await function(value)
                except OSError as error:
                    raise (RuntimeError("wrapped") if wrap else error) from (error if wrap else None)

        else:

            def level(value=None):
                try:
                    return function(value)
                except OSError as error:
                    raise (RuntimeError("wrapped") if wrap else error) from (error if wrap else None)

        return o.opero(policy, name=name)(level)

    fused.enabled = w.speed == "fast"
    try:
        leaf = w.decorate([OSError() for _ in range(99)], retries=2, min_delay=1, jitter="none", name="leaf")
        fused.enabled = w.speed == "fast"
        middle = down(leaf, "middle")
        return down(middle, "outer"), middle, leaf
    finally:
        fused.enabled = True


def a_spent_retry_budget_leaves_the_error_as_it_is(w):
    policy = o.RetryBudget(min_per_second=0)
    f = w.decorate([OSError(n) for n in range(99)], policies=[o.Retry(1, budget=policy)])
    for _ in range(10):
        w.call(f)
    assert len(w.calls) == 20
    error, took = w.call(f)
    assert (str(error), took, len(w.calls)) == ("20", 0, 21)
    assert error.__notes__ == ["opero: 1 attempt in 0 s, the retry budget is spent"]
    assert w.names()[-1] == "retry.budget_exhausted"
    assert w.heard[-1].fields["utilization"] == 1
    assert _stats(f, calls=11, attempts=21, retries=10, rejected=1)


def a_retry_that_succeeds_costs_nothing_and_a_success_brings_something_in(w):
    policy = o.RetryBudget(0.5, min_per_second=0, cap=2)
    f = w.decorate([OSError(), 7] * 50 + [OSError()] * 5 + [7, 7] + [OSError()] * 2, policies=[policy, o.Retry(1)])
    assert [w.call(f)[0] for _ in range(50)] == [7] * 50
    for attempts in (2, 2, 1):
        before = len(w.calls)
        w.call(f)
        assert len(w.calls) - before == attempts
    w.call(f)
    w.call(f)
    before = len(w.calls)
    w.call(f)
    assert len(w.calls) - before == 2


def one_budget_may_serve_several_functions(w):
    policy = o.RetryBudget(min_per_second=0, cap=1)
    f = w.decorate([OSError()] * 9, policies=[policy, o.Retry(1)])
    g = w.decorate([OSError()] * 9, policies=[policy, o.Retry(1)])
    w.call(f)
    w.call(g)
    assert [x.opero.stats()["attempts"] for x in (f, g)] == [2, 1]


def a_late_call_is_hedged_and_the_first_answer_taken(w):
    f = w.decorate([Pause(10), 7, 8], hedge=1)
    assert w.call(f) == (7, 1)
    assert len(w.calls) == 2
    assert f.opero.operation.book.read()[0]["opero.hedge.requests", ("won",)] == 1
    assert _stats(f, calls=1, ok=1, active=0)


def a_call_in_time_is_not_hedged(w):
    f = w.decorate([Pause(0.5), 7], hedge=1)
    assert w.call(f) == (7, 0.5)
    assert len(w.calls) == 1


def a_hedge_that_fails_leaves_the_call_to_the_first(w):
    f = w.decorate([Pause(3), OSError(), 7], hedge=1)
    assert w.call(f) == (7, 3)
    assert f.opero.operation.book.read()[0]["opero.hedge.requests", ("lost",)] == 1


def when_all_hedges_fail_the_first_attempts_error_is_raised(w):
    f = w.decorate([Pause(3), KeyError("hedge"), OSError("first")], hedge=1)
    error, took = w.call(f)
    assert (str(error), took) == ("first", 3)
    assert [str(a.error) for a in o.attempts(error)] == ["first", "'hedge'"]


def a_failure_in_time_is_for_the_retry(w):
    f = w.decorate([OSError(), 7], hedge=5, retries=1, jitter="none", min_delay=1)
    assert w.call(f) == (7, 1)


def a_hedge_takes_a_token_and_none_is_made_without(w):
    policy = o.RetryBudget(min_per_second=0, cap=1)
    f = w.decorate([Pause(3), OSError(), 1, Pause(3), 2], policies=[policy, o.Hedge(1)])
    assert w.call(f) == (1, 3)
    assert w.call(f) == (2, 3)
    assert len(w.calls) == 3
    assert w.names() == ["retry.budget_exhausted"]


def a_hedged_call_keeps_its_deadline(w):
    f = w.decorate([Pause(60), Pause(60)], hedge=1, timeout=5)
    error, took = w.call(f)
    assert (type(error), took) == (o.CallTimeout, 5)


def what_ends_the_program_passes_a_hedge_at_once(w):
    for stop in (KeyboardInterrupt, SystemExit, GeneratorExit):
        f = w.decorate([stop()], hedge=5, fallback=0, retries=1)
        assert isinstance(w.call(f)[0], stop)
        assert _stats(f, cancelled=1, attempts=1)


def fallbacks_form_a_chain_and_each_class_may_have_its_own(w):
    def broken(value=None):
        raise KeyError(value)

    policy = o.Fallback(broken, lambda value=None: f"last {value}", by={ValueError: "own", TypeError: broken})
    f = w.decorate([OSError(), ValueError(), TypeError()], policies=[policy])
    assert [w.call(f, "x")[0] for _ in range(3)] == ["last x", "own", "last x"]
    assert [event.fields["answer"] for event in w.heard] == [2, 1, 3]
    f = w.decorate([OSError("first")], policies=[o.Fallback(broken)])
    error = w.call(f)[0]
    assert (type(error), str(error.__context__)) == (KeyError, "first")


def a_fallback_may_answer_some_errors_and_some_results(w):
    policy = o.Fallback("spare", on=OSError, on_result=lambda r: r is None)
    f = w.decorate([OSError(), None, 7, KeyError("mine")], policies=[policy])
    assert [w.call(f)[0] for _ in range(3)] == ["spare", "spare", 7]
    assert isinstance(w.call(f)[0], KeyError)


def strategies_reach_the_fallback_and_the_alternatives(w):
    table = {KeyError: "rotate", ValueError: "fallback", TypeError: "raise", OSError: "retry"}
    policies = [o.Retry(1, wait=1, jitter="none", strategies=table), o.Fallback("spare"), o.ArgFallback("value")]
    f = w.decorate([KeyError(), 7, ValueError(), TypeError(), OSError(), 8], policies=policies)
    assert w.call(f, ["a", "b"]) == (7, 0)
    assert w.call(f, ["a", "b"]) == ("spare", 0)
    assert isinstance(w.call(f, ["a", "b"])[0], TypeError)
    assert w.call(f, ["a", "b"]) == (8, 1)
    assert w.calls == ["a", "b", "a", "a", "a", "a"]


class Refused(Exception):
    def __init__(self, status, retry_after=None):
        self.status = status
        if retry_after is not None:
            self.retry_after = retry_after


def a_key_that_is_over_its_quota_rests_as_long_as_the_service_says(w):
    ring = o.ArgFallback("value", alternatives=["k1", "k2"], cooldown=60)
    f = w.decorate([Refused(429, 5), 1, 2, 3], policies=[ring])
    assert w.call(f)[0] == 1
    assert w.call(f)[0] == 2
    w.time.advance(5)
    assert w.call(f)[0] == 3
    assert w.calls == ["k1", "k2", "k2", "k1"]
    assert [(e.name, e.fields["alternative"]) for e in w.heard] == [
        ("opero.arg_fallback.rested", 1),
        ("opero.arg_fallback.advanced", 1),
    ]
    assert "k1" not in repr([e.fields for e in w.heard]) + repr(ring)


def a_key_that_is_unknown_is_out_until_replaced_and_another_error_passes(w):
    ring = o.ArgFallback("value", alternatives=["k1", "k2"], cooldown=60)
    f = w.decorate([Refused(401), 1, Refused(500), Refused(403), Refused(401), 2], policies=[ring])
    assert w.call(f)[0] == 1
    assert [w.call(f)[0].status for _ in range(2)] == [500, 403]
    assert isinstance(w.call(f)[0], o.AllFailedError)
    error = w.call(f)[0]
    assert (type(error), error.reason) == (o.Rejected, "no_alternative")
    ring.replace(["k3"])
    assert w.call(f)[0] == 2
    assert w.calls == ["k1", "k2", "k2", "k2", "k2", "k3"]


def a_ring_refreshes_itself_when_every_key_is_refused(w):
    made = []

    def refresh():
        made.append(1)
        return [f"fresh-{len(made)}"]

    f = w.decorate(
        [Refused(401), 7], policies=[o.ArgFallback("value", alternatives=["k"], cooldown=9, refresh=refresh)]
    )
    assert isinstance(w.call(f)[0], o.AllFailedError)
    assert w.call(f)[0] == 7
    assert (w.calls, made) == (["k", "fresh-1"], [1])


def a_keys_failure_opens_no_breaker_and_the_next_call_begins_with_another(w):
    ring = o.ArgFallback("value", alternatives=["a", "b", "c"], cooldown=0, spread=True)
    f = w.decorate([Refused(429)] * 3 + [1, 2, 3], policies=[ring, o.CircuitBreaker(min_calls=1)])
    assert isinstance(w.call(f)[0], o.AllFailedError)
    assert f.opero.breaker.state == "closed"
    assert [w.call(f)[0] for _ in range(3)] == [1, 2, 3]
    assert w.calls == ["a", "b", "c", "b", "c", "a"]


def a_caller_may_still_say_which_one(w):
    f = w.decorate([1, 2], policies=[o.ArgFallback("value", alternatives=["k1"], cooldown=9)])
    w.call(f, "mine")
    w.call(f, value=None)
    assert w.calls == ["mine", None]


def a_retry_that_has_no_time_left_is_not_begun(w):
    f = w.decorate([ConnectionError(), 7], retries=3, jitter="none", min_delay=5, timeout=2.0)
    error, took = w.call(f)
    assert (type(error), took) == (ConnectionError, 0)
    assert w.heard[-1].fields["reason"] == "deadline"
    assert _stats(f, attempts=1, rejected=1, errors=1)


def the_total_timeout_ends_a_hanging_call(w):
    f = w.decorate([Pause(60)], timeout=2.0, retries=3)
    error, took = w.call(f)
    assert (type(error), took, error.scope) == (o.CallTimeout, 2, "timeout")
    assert w.names() == ["timeout.expired"]
    assert _stats(f, calls=1, ok=0, errors=1, attempts=1, timeouts=1, active=0)


def the_attempt_timeout_costs_one_attempt(w):
    f = w.decorate([Pause(60), 7, 7], attempt_timeout=2.0, retries=2, jitter="none", min_delay=1)
    answer, took = w.call(f)
    assert took == 3
    assert answer == 7
    assert w.names() == ["timeout.expired", "retry.scheduled", "retry.succeeded"]
    assert _stats(f, ok=1, attempts=2, timeouts=1)


def a_call_within_its_timeout_is_untouched(w):
    f = w.decorate([Pause(1), 7], timeout=2.0)
    assert w.call(f) == (7, 1)
    assert w.names() == []


def a_users_own_timeout_error_is_not_ours(w):
    mine = TimeoutError("mine")
    f = w.decorate([mine], timeout=2.0)
    assert w.call(f)[0] is mine
    assert _stats(f, errors=1, timeouts=0)


def the_circuit_opens_probes_and_closes(w):
    policy = o.CircuitBreaker(min_calls=2, reset_after=5, half_open_probes=1)
    f = w.decorate([OSError(), OSError(), 7, 8], policies=[policy])
    assert [type(w.call(f)[0]) for _ in range(3)] == [OSError, OSError, o.CircuitOpenError]
    assert f.opero.breaker.state == "open"
    assert w.call(f)[0].retry_after == 5
    w.time.advance(5)
    assert w.call(f) == (7, 0)
    assert f.opero.breaker.state == "closed"
    assert w.names() == ["circuit.opened", "call.rejected", "call.rejected", "circuit.half_opened", "circuit.closed"]
    assert _stats(f, calls=5, ok=1, errors=4, attempts=3, rejected=2)


def a_failed_probe_opens_for_twice_as_long(w):
    policy = o.CircuitBreaker(min_calls=1, reset_after=5, half_open_probes=1, jitter=0)
    f = w.decorate([OSError(), OSError(), 7], policies=[policy])
    w.call(f)
    w.time.advance(5)
    w.call(f)
    assert w.call(f)[0].retry_after == 10
    assert [e.fields["pause"] for e in w.heard if e.name == "opero.circuit.opened"] == [5, 10]


def slow_calls_open_the_circuit_too(w):
    policy = o.CircuitBreaker(min_calls=2, slow_call=1, slow_ratio=1.0)
    f = w.decorate([Pause(2), 7, Pause(2), 7], policies=[policy])
    w.call(f)
    w.call(f)
    assert isinstance(w.call(f)[0], o.CircuitOpenError)


def an_open_circuit_is_not_retried(w):
    f = w.decorate([OSError()] * 9, policies=[o.CircuitBreaker(min_calls=1), o.Retry(5, jitter="none")])
    assert isinstance(w.call(f)[0], o.CircuitOpenError)
    assert len(w.calls) == 1


def a_forced_circuit_stays_open_until_closed(w):
    f = w.decorate([7], circuit_breaker=True)
    f.opero.breaker.force_open()
    w.time.advance(1000)
    assert isinstance(w.call(f)[0], o.CircuitOpenError)
    f.opero.breaker.force_close()
    assert w.call(f)[0] == 7


def an_ignored_error_is_no_failure(w):
    f = w.decorate([KeyError()] * 3, policies=[o.CircuitBreaker(min_calls=1, ignore=KeyError)])
    assert [type(w.call(f)[0]) for _ in range(3)] == [KeyError] * 3


def a_limited_call_waits_for_its_turn(w):
    f = w.decorate([1, 2, 3], policies=[o.RateLimit(1, burst=1)])
    assert [w.call(f) for _ in range(3)] == [(1, 0), (2, 1), (3, 1)]
    assert _stats(f, ok=3, rejected=0)


def a_limited_call_may_be_refused(w):
    f = w.decorate([1, 2], policies=[o.RateLimit(1, burst=1, wait=False)])
    assert w.call(f)[0] == 1
    error = w.call(f)[0]
    assert (type(error), error.retry_after, error.reason) == (o.RateLimitedError, 1, "rate_limited")
    w.time.advance(1)
    assert w.call(f)[0] == 2


def a_limit_never_waits_past_the_deadline(w):
    f = w.decorate([1, 2], policies=[o.RateLimit(1, per=60, burst=1), o.Timeout(5)])
    w.call(f)
    error, took = w.call(f)
    assert (type(error), error.reason, took) == (o.RateLimitedError, "deadline", 0)


def a_fallback_answers_with_the_original_arguments(w):
    f = w.decorate([OSError()], fallback=lambda value=None: f"for {value}")
    assert w.call(f, "ann") == ("for ann", 0)
    assert w.names() == ["fallback.used"]
    assert _stats(f, calls=1, ok=0, errors=0, fallbacks=1)


def a_fallback_may_be_a_value(w):
    f = w.decorate([OSError()], fallback=0)
    assert w.call(f) == (0, 0)


def alternatives_are_tried_in_order(w):
    f = w.decorate([OSError(), 7], arg_fallback="value")
    assert w.call(f, ["a", "b", "c"]) == (7, 0)
    assert w.calls == ["a", "b"]
    assert w.names() == ["arg_fallback.advanced"]


def an_open_circuit_leads_to_the_next_alternative_where_that_is_named(w):
    def policies(*on):
        breaker = o.CircuitBreaker(min_calls=1, key=lambda value: value)
        return [o.ArgFallback("value", on=on or None), breaker]

    f = w.decorate([OSError(), 7, 8], policies=policies(OSError, o.CircuitOpenError))
    assert [w.call(f, ["a", "b"]) for _ in range(2)] == [(7, 0), (8, 0)]
    assert w.calls == ["a", "b", "b"]
    f = w.decorate([OSError(), 7], policies=policies())
    assert w.call(f, ["a", "b"]) == (7, 0)
    assert isinstance(w.call(f, ["a", "b"])[0], o.CircuitOpenError)


def when_all_alternatives_fail_each_error_is_kept(w):
    f = w.decorate([OSError("a"), KeyError("b")], arg_fallback="value")
    error, _ = w.call(f, value=("a", "b"))
    assert isinstance(error, o.AllFailedError)
    assert [str(e) for e in error.errors] == ["a", "'b'"]
    assert _stats(f, calls=1, errors=1, attempts=2)


def a_retry_around_alternatives_repeats_the_round(w):
    f = w.decorate([OSError()] * 9, arg_fallback="value", retries=2, jitter="none", min_delay=1)
    error, took = w.call(f, ["a", "b", "c"])
    assert (type(error), took, w.calls) == (o.AllFailedError, 2.5, ["a", "b", "c"] * 3)


def a_full_bulkhead_refuses_and_a_free_one_does_not(w):
    policy = o.Bulkhead(1)
    f = w.decorate([7], policies=[policy])
    assert policy.slots.take()
    assert isinstance(w.call(f)[0], o.BulkheadFullError)
    policy.slots.release()
    assert w.call(f)[0] == 7
    assert policy.slots.used == 0


def a_queued_call_gives_up_after_max_wait(w):
    policy = o.Bulkhead(1, max_queue=1, max_wait=3)
    f = w.decorate([7], policies=[policy])
    policy.slots.take()
    error, took = w.call(f)
    assert (type(error), error.reason, took) == (o.BulkheadFullError, "queue_timeout", 3)
    assert not policy.slots.queue


def what_ends_the_program_is_never_retried_counted_or_swallowed(w):
    for stop in (KeyboardInterrupt, SystemExit, GeneratorExit):
        policy = o.CircuitBreaker(min_calls=1)
        f = w.decorate([stop()], policies=[policy, o.Retry(3), o.Fallback(0), o.Bulkhead(1)])
        assert isinstance(w.call(f)[0], stop)
        assert policy.circuit.read(w.time.now())[:2] == ("closed", 0)
        assert len(w.calls) == 1
        assert _stats(f, calls=1, cancelled=1, errors=0, ok=0, fallbacks=0, active=0)


def a_local_rejection_is_no_failure_of_the_dependency(w):
    policy = o.CircuitBreaker(min_calls=1)
    f = w.decorate([1, 2], policies=[policy, o.RateLimit(1, burst=1, wait=False)])
    w.call(f)
    assert isinstance(w.call(f)[0], o.RateLimitedError)
    assert f.opero.breaker.state == "closed"


def chaos_strikes_inside_everything_else(w):
    policy = o.Chaos(error=OSError, latency=1, enabled=True)
    f = w.decorate([7], policies=[policy, o.Retry(1, jitter="none")], name="f")
    error, took = w.call(f)
    assert (type(error), took) == (OSError, 2.1)
    policy.disable()
    assert w.call(f) == (7, 0)
    assert w.calls == [None]


def a_cached_answer_is_given_without_a_call_until_it_expires(w):
    f = w.decorate([7, 8], cache_ttl=60)
    assert [w.call(f, "a")[0] for _ in range(3)] == [7, 7, 7]
    assert w.calls == ["a"]
    assert _stats(f, calls=3, ok=1, cached=2, attempts=1, errors=0, active=0)
    w.time.advance(59.999)
    assert w.call(f, value="a")[0] == 7
    w.time.advance(0.001)
    assert w.call(f, "a")[0] == 8


def an_error_and_a_fallback_are_not_cached(w):
    f = w.decorate([OSError(), OSError(), 7], cache_ttl=60, fallback=0)
    assert [w.call(f)[0] for _ in range(4)] == [0, 0, 7, 7]
    assert _stats(f, calls=4, ok=1, fallbacks=2, cached=1, attempts=3)


def a_cache_stands_around_the_retry(w):
    f = w.decorate([OSError(), 7], cache_ttl=60, retries=1, jitter="none", min_delay=1)
    assert w.call(f) == (7, 1)
    assert w.call(f) == (7, 0)
    assert _stats(f, calls=2, ok=1, cached=1, attempts=2, retries=1)


def a_failing_function_is_answered_with_an_expired_entry_where_that_was_asked_for(w):
    f = w.decorate([7, OSError(), OSError("late")], policies=[o.Cache(10, stale_if_error=5)])
    w.call(f)
    w.time.advance(14)
    assert w.call(f)[0] == 7
    assert w.names() == ["cache.stale_served"]
    w.time.advance(1)
    assert isinstance(w.call(f)[0], OSError)
    assert f.opero.cache.stats()["stale"] == 1
    assert _stats(f, calls=3, ok=1, cached=1, errors=1)


def everything_together_in_one_order(w):
    f = w.decorate(
        [OSError(), 7],
        retries=2,
        jitter="none",
        min_delay=1,
        timeout=10,
        attempt_timeout=5,
        circuit_breaker=True,
        rate_limit="100/s",
        bulkhead=2,
        fallback=0,
        arg_fallback="value",
    )
    assert w.call(f, "x") == (7, 1)
    places = [
        "fallback",
        "timeout",
        "retry",
        "arg_fallback",
        "circuit_breaker",
        "rate_limit",
        "bulkhead",
        "attempt_timeout",
    ]
    assert [policy.place for policy in f.opero.policies] == places


def an_error_leaves_no_circle_behind(w):
    import gc
    import weakref

    class Mine(Exception):
        pass

    f = w.decorate([Mine, Mine], retries=1, circuit_breaker=True, jitter="none", min_delay=1)
    gc.collect()
    gc.disable()
    try:
        error, _ = w.call(f)
        first, last = weakref.ref(o.attempts(error)[0].error), weakref.ref(error)
        del error
        assert (first(), last()) == (None, None)
    finally:
        gc.enable()


def _stats(function, **expected):
    stats = function.opero.stats()
    found = {name: stats[name] for name in expected}
    assert found == expected
    return True


SCENARIOS = [
    value
    for name, value in list(globals().items())
    if callable(value) and getattr(value, "__code__", None) is not None and value.__code__.co_varnames[:1] == ("w",)
]
