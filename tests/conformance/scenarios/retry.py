"""Retry: delays, stops, strategies, and what the error tells."""

import threading

from world import Pause, awaited, called, stats

import opero as o


def a_failure_is_retried_with_growing_delays(w):
    f = w.decorate([ConnectionError(), ConnectionError(), 7], retries=3, jitter="none", min_delay=1, backoff_factor=2)
    assert w.call(f) == (7, 3)
    assert [e.fields.get("delay") for e in w.heard] == [1, 2, None]
    assert w.names() == ["retry.scheduled", "retry.scheduled", "retry.succeeded"]
    assert stats(f, calls=1, ok=1, attempts=3, retries=2, errors=0, active=0)


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
    assert stats(f, calls=1, ok=0, attempts=2, retries=1, errors=1, active=0)


def an_error_that_retry_on_does_not_name_passes_at_once(w):
    f = w.decorate([KeyError("no"), 7], retries=3, retry_on=ConnectionError)
    error, took = w.call(f)
    assert (type(error), took) == (KeyError, 0)
    assert not hasattr(error, "__notes__")
    assert stats(f, attempts=1, retries=0, errors=1)


def an_unwanted_result_is_retried_and_returned_at_last(w):
    f = w.decorate([None, None], retries=1, retry_on_result=lambda r: r is None, jitter="none", min_delay=1)
    assert w.call(f) == (None, 1)
    assert w.names() == ["retry.scheduled", "retry.exhausted"]
    assert stats(f, ok=1, attempts=2)


def a_condition_may_speak_of_errors_and_results(w):
    f = w.decorate([OSError(), None, 7], retries=3, retry_on=OSError | o.conditions.result(lambda r: r is None))
    assert w.call(f)[0] == 7
    assert stats(f, attempts=3, retries=2)


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
    flag = w.flag()
    policy = o.Retry(9, wait=100, jitter="none", stop=o.stops.attempts(50) | o.stops.event(flag))
    last = OSError("last")
    f = w.decorate([last, 7], policies=[policy])
    setter = o.opero(o.Fallback(None))(flag.set)

    async def soon():
        w.later(3, setter)
        return await awaited(f, (), {})

    if w.is_async:
        answer = w.run(soon)
        assert w.time.elapsed() == 3
    else:
        timer = threading.Timer(0.01, flag.set)
        timer.start()
        answer = called(f, (), {})
        timer.join()
    assert answer is last
    assert answer.__notes__[0].endswith("s, told to stop")
    assert w.heard[-1].fields["reason"] == "stop"
    assert stats(f, attempts=1, errors=1)


def the_users_error_keeps_its_cause_when_it_is_handed_on(w):
    mine, cause = OSError("mine"), KeyError("cause")
    mine.__cause__ = cause
    f = w.decorate([o.DoNotRetry(mine)], retries=1)
    assert w.call(f)[0] is mine
    assert mine.__cause__ is cause


def an_error_object_raised_by_call_after_call_is_retried_each_time(w):
    same = OSError()
    f = w.decorate([same] * 9, retries=2)
    for _ in range(3):
        assert w.call(f)[0] is same
    assert len(w.calls) == 9


def a_retry_that_has_no_time_left_is_not_begun(w):
    f = w.decorate([ConnectionError(), 7], retries=3, jitter="none", min_delay=5, timeout=2.0)
    error, took = w.call(f)
    assert (type(error), took) == (ConnectionError, 0)
    assert w.heard[-1].fields["reason"] == "deadline"
    assert stats(f, attempts=1, rejected=1, errors=1)


def an_unwanted_result_is_the_callers_whatever_ended_the_retries(w):
    policy = {"on": OSError, "on_result": "bad".__eq__, "wait": 1, "jitter": "none"}
    f = w.decorate([OSError(), "bad", 7], policies=[o.Retry(1, **policy)])
    assert w.call(f) == ("bad", 1)
    flag, looks = w.flag(), iter([False])
    flag.is_set = lambda: next(looks, True)  # it is set while the call waits
    f = w.decorate(["bad", 7], policies=[o.Retry(1, stop=o.stops.event(flag), **policy)])
    assert w.call(f)[0] == "bad"
    assert [e.fields["error"] for e in w.heard if e.name == "opero.retry.exhausted"] == ["", ""]


def an_event_names_the_attempt_the_error_and_the_reason(w):
    f = w.decorate([OSError(), None, KeyError()], retries=2, retry_on_result=lambda r: r is None, jitter="none")
    w.call(f)
    assert [(e.fields.get("attempt"), e.fields["error"]) for e in w.heard] == [
        (2, "OSError"),
        (3, ""),
        (None, "KeyError"),
    ]
    assert (w.heard[-1].fields["attempts"], w.heard[-1].fields["reason"]) == (3, "attempts")
    *delays, _ = f.opero.operation.book.read()[1]["opero.retry.delay", ()]
    assert sum(delays) == 2


def a_note_says_what_ended_it(w):
    f = w.decorate([OSError()], retries=3, jitter="none", min_delay=5, timeout=2.0)
    assert w.call(f)[0].__notes__ == ["opero: 1 attempt in under 1 ms, no time left for another"]


def a_wait_is_told_how_long_the_last_one_was(w):
    told = []

    class Doubling(o.waits.Wait):
        def delay(self, n, previous, outcome):
            told.append((n, previous))
            return previous * 2 or 1.0

    f = w.decorate([OSError(), OSError(), OSError(), 7], policies=[o.Retry(3, wait=Doubling(), jitter="none")])
    assert w.call(f) == (7, 7)
    assert told == [(1, 0), (2, 1), (3, 2)]


def a_deadline_within_a_retry_ends_it_outside_as_well(w):
    for script, attempts in (([OSError(), Pause(60)] * 3, 2), ([Pause(60)] * 3, 3)):
        inner = w.decorate(script, retries=1, jitter="none", min_delay=1, timeout=5, name="inner")
        outer = _around(w, inner)
        assert isinstance(w.call(outer)[0], o.CallTimeout)
        assert inner.opero.stats()["attempts"] == attempts


def a_refusal_is_retried_where_it_is_named(w):
    for settings in (
        {"on": o.CircuitOpenError},
        {"on": (OSError, o.CircuitOpenError)},
        {"on": OSError, "strategies": {o.CircuitOpenError: "retry"}},
    ):
        policies = [o.Retry(2, wait=3, jitter="none", **settings), o.CircuitBreaker()]
        f = w.decorate([7], policies=policies)
        f.opero.breaker.force_open()
        error, took = w.call(f)
        assert (type(error), took) == (o.CircuitOpenError, 6)


def of_alternatives_that_all_failed_the_last_error_has_the_strategy(w):
    table = {KeyError: o.Strategy("rotate", wait=9)}
    policies = [o.ArgFallback("value"), o.Retry(1, wait=1, jitter="none", strategies=table)]
    f = w.decorate([OSError(), OSError(), KeyError(), 7], policies=policies)
    assert w.call(f, ["a", "b", "c"]) == (7, 9)


def _around(w, inner):
    if w.is_async:

        async def outer(value=None):
            return await inner(value)

    else:

        def outer(value=None):
            return inner(value)

    return o.opero(o.Retry(2, wait=1, jitter="none"))(outer)
