"""CircuitBreaker: opening, probing, closing."""

from world import Pause, stats

import opero as o


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
    assert stats(f, calls=5, ok=1, errors=4, attempts=3, rejected=2)


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


def a_call_is_as_slow_as_its_own_attempt(w):
    policies = [o.CircuitBreaker(min_calls=9, slow_call=2), o.Retry(1, wait=5, jitter="none")]
    f = w.decorate([Pause(1), OSError(), Pause(1), 7, Pause(1), 8], policies=policies)
    assert w.call(f) == (7, 7)
    assert w.call(f) == (8, 1)
    assert policies[0].circuit.read(w.time.now())[2] == 0


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


def a_local_rejection_is_no_failure_of_the_dependency(w):
    policy = o.CircuitBreaker(min_calls=1)
    f = w.decorate([1, 2], policies=[policy, o.RateLimit(1, burst=1, wait=False)])
    w.call(f)
    assert isinstance(w.call(f)[0], o.RateLimitedError)
    assert f.opero.breaker.state == "closed"


def a_disabled_circuit_counts_nothing(w):
    policy = o.CircuitBreaker(calls=50)
    f = w.decorate([1, 2, 3, OSError(), 4], policies=[policy])
    w.call(f)
    f.opero.breaker.disable()
    for _ in range(3):
        w.call(f)
    assert policy.circuit.window.totals(w.time.now()).calls == 0
    f.opero.breaker.reset()
    w.call(f)
    assert policy.circuit.window.totals(w.time.now()).calls == 1


def a_refusal_and_a_change_name_the_circuit(w):
    for name in ("bank", None):
        policy = o.CircuitBreaker(min_calls=1, half_open_probes=1, reset_after=5, name=name)
        f = w.decorate([OSError(), 7], policies=[policy])
        w.call(f)
        error, _ = w.call(f)
        assert (error.circuit, error.reason, error.retry_after) == (name or "", "circuit_open", 5)
        w.time.advance(5)
        permit, _, _ = policy.circuit.admit(w.time.now())
        error, _ = w.call(f)
        assert (error.circuit, error.reason) == (name or "", "half_open_limit")
        assert str(error).startswith(f"the circuit of {name or 'shop.pay'} has all its probes out")
        assert f.opero.operation.book.read()[0]["opero.circuit.transitions", (name or "", "open")] == 1
        assert permit is not None


def slow_calls_within_one_slice_open_it_and_that_is_told(w):
    f = w.decorate([Pause(0.02), 7, Pause(0.02), 8], policies=[o.CircuitBreaker(min_calls=2, slow_call=0.01)])
    assert [w.call(f)[0] for _ in range(2)] == [7, 8]
    assert w.names() == ["circuit.opened"]
    assert (w.heard[0].fields["slow_ratio"], w.heard[0].fields["calls"]) == (1, 2)
    assert isinstance(w.call(f)[0], o.CircuitOpenError)


def each_key_has_a_circuit_of_its_own(w):
    f = w.decorate([OSError(), 7], policies=[o.CircuitBreaker(min_calls=1, key="value")])
    assert [type(w.call(f, key)[0]) for key in ("a", "a", "b")] == [OSError, o.CircuitOpenError, int]
    assert f.opero.breaker.state == "open"
