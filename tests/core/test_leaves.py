import math
import os
import pickle
import signal

import pytest

import opero as o
from child import held
from opero import catalogue, errors, events, forks
from opero.knobs import Knob

ALL = [
    errors.ConfigurationError("retries", -1, "a whole number"),
    errors.AllFailedError("all failed", [OSError("a"), KeyError("b")]),
    errors.CircuitOpenError("open", primitive="circuit_breaker", operation="f", reason="circuit_open", retry_after=2.0),
    errors.RateLimitedError("limited", retry_after=1.0),
    errors.BulkheadFullError("full"),
    errors.RetryBudgetExhausted("spent"),
    errors.CallTimeout("late", operation="f", seconds=2.0, scope="attempt_timeout"),
    errors.CacheError("cache"),
    errors.OwnResultError("cache", "f", "other arguments"),
    errors.MapError("map", {1: OSError("x"), 3: KeyError("y")}, [1, None, 3, None]),
    errors.WorkerLost("lost", index=3, exitcode=-9),
]


@pytest.mark.parametrize("error", ALL, ids=lambda e: type(e).__name__)
def test_every_error_survives_pickling(error):
    error.add_note("a note")
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert str(copy) == str(error)
    assert copy.__notes__ == ["a note"]
    state = {k: repr(v) for k, v in vars(error).items() if k != "value"}
    assert {k: repr(v) for k, v in vars(copy).items() if k != "value"} == state


def test_a_wrong_value_survives_pickling_where_it_can_and_as_its_text_where_not():
    values = [-1, [ValueError], {"a": 1}]
    copies = [pickle.loads(pickle.dumps(errors.ConfigurationError("f", value, "else"))).value for value in values]
    assert copies == values
    unpicklable = errors.ConfigurationError("f", lambda: 1, "else")
    assert pickle.loads(pickle.dumps(unpicklable)).value.startswith("<function test_a_wrong_value")


def test_the_hierarchy_is_that_of_the_contract():
    assert issubclass(o.ConfigurationError, ValueError)
    assert issubclass(o.OperoError, RuntimeError)
    assert issubclass(o.CallTimeout, TimeoutError)
    assert issubclass(o.AllFailedError, ExceptionGroup)
    assert issubclass(o.MapError, ExceptionGroup)
    for kind in (o.CircuitOpenError, o.RateLimitedError, o.BulkheadFullError, o.RetryBudgetExhausted):
        assert issubclass(kind, o.Rejected)
        assert issubclass(kind, o.ExecutionError)


def test_groups_split_into_groups_of_their_kind():
    failed = errors.MapError("map", {1: OSError("x"), 3: KeyError("y")}, [1, None, 3, None])
    keys, rest = failed.split(KeyError)
    assert (keys.failures.keys(), rest.failures.keys()) == ({3}, {1})
    assert isinstance(errors.AllFailedError("a", [OSError(), KeyError()]).subgroup(OSError), errors.AllFailedError)


def test_a_repr_that_fails_does_not_hide_a_configuration_error():
    class Nasty:
        def __repr__(self):
            raise ZeroDivisionError

    assert "<Nasty>" in str(errors.ConfigurationError("field", Nasty(), "something else"))


def test_a_knob_stays_within_its_bounds():
    knob = Knob("limit", 10, low=1, high=100)
    assert [knob.set(v) for v in (0, 50, 1000)] == [1, 50, 100]
    for nonsense in (math.nan, math.inf):
        with pytest.raises(o.ConfigurationError):
            knob.set(nonsense)
    assert knob.value == 100


def test_a_forked_child_starts_at_zero_with_locks_of_its_own():
    @o.opero(retries=0, bulkhead=1)
    def f():
        return 1

    f()
    bulkhead = f.opero.policies[0]
    bulkhead.slots.take()
    with held(f.opero.operation.book._lock, bulkhead.slots._lock):
        child = os.fork()
        if child == 0:
            signal.alarm(10)  # ends a child that waits for ever
            fine = f.opero.stats()["calls"] == 0 and f() == 1 and f.opero.stats()["calls"] == 1
            os._exit(0 if fine else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert f.opero.stats()["calls"] == 1


def test_a_forked_child_can_look_and_listen_whatever_its_parent_was_doing():
    with catalogue._lock, events._lock:
        child = os.fork()
        if child == 0:
            free = not catalogue._lock.locked() and not events._lock.locked()
            os._exit(0 if free else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_what_is_remembered_for_forks_is_not_kept_alive():
    class Thing:
        def after_fork(self): ...

    thing = Thing()
    forks.remember(thing)
    assert thing in forks._objects
    before = len(forks._objects)
    del thing
    assert len(forks._objects) == before - 1
