"""ArgFallback: alternatives of one argument, and rings of keys."""

import weakref

from world import stats

import opero as o
from garbage import uncollected


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
    assert stats(f, calls=1, errors=1, attempts=2)


def a_retry_around_alternatives_repeats_the_round(w):
    f = w.decorate([OSError()] * 9, arg_fallback="value", retries=2, jitter="none", min_delay=1)
    error, took = w.call(f, ["a", "b", "c"])
    assert (type(error), took, w.calls) == (o.AllFailedError, 2.5, ["a", "b", "c"] * 3)


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


def a_rest_is_no_longer_than_an_hour_and_has_no_end_for_a_key_that_is_unknown(w):
    ring = o.ArgFallback("value", alternatives=["k1", "k2"], cooldown=60)
    f = w.decorate([Refused(429, 1e6), Refused(401)], policies=[ring])
    assert isinstance(w.call(f)[0], o.AllFailedError)
    rested = [e.fields["seconds"] for e in w.heard if e.name == "opero.arg_fallback.rested"]
    assert rested == [3600, None]
    assert [e.name for e in w.heard].count("opero.arg_fallback.advanced") == 1


def a_ring_without_a_key_left_says_what_to_do(w):
    ring = o.ArgFallback("value", alternatives=["k1"], cooldown=60)
    f = w.decorate([Refused(401)], policies=[ring])
    w.call(f)
    assert "value was refused for good; replace() them" in str(w.call(f)[0])


def errors_of_all_alternatives_leave_no_circle_behind(w):
    class Mine(Exception):
        pass

    f = w.decorate([Mine, Mine], arg_fallback="value")
    with uncollected():
        error, _ = w.call(f, ["a", "b"])
        kept = [weakref.ref(each) for each in (error, *error.errors)]
        del error
        assert [each() for each in kept] == [None] * 3
