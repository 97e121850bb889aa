"""Delays, conditions, and what stays as it was."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

import opero as o
from opero import conditions, waits
from opero.primitives.retry import Retry

SHAPES = {
    "exponential": (waits.exponential(0.1, 1, 2), [0.1, 0.2, 0.4, 0.8, 1, 1]),
    "linear": (waits.linear(0.1, 0.35), [0.1, 0.2, 0.3, 0.35]),
    "fibonacci": (waits.fibonacci(1, 6), [1, 1, 2, 3, 5, 6, 6]),
    "constant": (waits.constant(2), [2, 2]),
    "sequence": (waits.sequence(1, 3), [1, 3, 3]),
    "chain": (waits.sequence(1, 3) + waits.constant(9), [1, 3, 9, 9]),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_delays_follow_their_formula(shape):
    wait, expected = SHAPES[shape]
    assert [wait.delay(n + 1, 0, None) for n in range(len(expected))] == pytest.approx(expected)


@pytest.mark.parametrize("wait", [waits.exponential(factor=10), waits.fibonacci(), waits.linear()])
def test_a_delay_a_million_retries_on_is_the_maximum(wait):
    assert wait.delay(1_000_000, 0, None) == 30


@given(st.sampled_from(["full", "equal", "none"]), st.integers(1, 20))
def test_jitter_stays_within_its_bounds(jitter, n):
    retry = Retry(jitter=jitter)
    low = {"full": 0, "equal": 0.5, "none": 1}[jitter]
    plain = waits.exponential().delay(n, 0, None)
    assert low * plain <= retry.delay(n, 0, None) <= plain


@given(st.floats(0, 100))
def test_decorrelated_jitter_stays_between_low_and_three_times_the_last(previous):
    delay = waits.decorrelated_jitter(0.1, 30).delay(2, previous, None)
    assert 0.1 <= delay <= min(30, 3 * max(previous, 0.1))


def test_a_seed_makes_draws_repeatable():
    waits.seed(7)
    first = [Retry().delay(n, 0, None) for n in range(1, 9)]
    waits.seed(7)
    assert [Retry().delay(n, 0, None) for n in range(1, 9)] == first
    waits.seed(None)


class _Busy(Exception):
    def __init__(self, header):
        self.response = type("Response", (), {"headers": {"Retry-After": header}})()


@pytest.mark.parametrize(("error", "delay"), [(_Busy("7"), 7), (_Busy("-3"), 0), (_Busy("9999"), 60)])
def test_retry_after_is_what_the_service_asked_for_within_bounds(error, delay):
    assert waits.retry_after().delay(1, 0, error) == delay


@pytest.mark.parametrize("error", [_Busy("soon"), _Busy(None), OSError(), None])
def test_retry_after_falls_back_where_nothing_was_asked(error):
    assert 0 <= waits.retry_after(waits.constant(5)).delay(1, 0, error) <= 5


def _chained():
    error = ValueError("outer")
    error.__cause__ = OSError("disk full")
    return error


@pytest.mark.parametrize(
    ("condition", "error", "matches"),
    [
        (OSError, OSError(), True),
        ((OSError, KeyError), KeyError(), True),
        (OSError, KeyError(), False),
        (lambda e: "busy" in str(e), OSError("busy"), True),
        (conditions.cause(OSError), _chained(), True),
        (conditions.cause(KeyError), _chained(), False),
        (conditions.message("full"), OSError("disk full"), True),
        (conditions.of("x", OSError) & conditions.message("full"), OSError("empty"), False),
        (conditions.of("x", OSError) | KeyError, KeyError(), True),
        (~conditions.of("x", OSError), OSError(), False),
        (Exception, o.CircuitOpenError("open"), False),
        (o.Rejected, o.CircuitOpenError("open"), True),
        (Exception, o.CallTimeout("late"), True),
    ],
)
def test_a_condition_matches(condition, error, matches):
    assert conditions.of("on", condition)(error) is matches


def test_a_note_is_not_repeated_when_an_error_is_raised_again():
    error = OSError()

    @o.opero(retries=1, min_delay=0)
    def f():
        raise error

    for _ in range(3):
        with pytest.raises(OSError):
            f()
    assert len(error.__notes__) == 1


def test_an_error_that_refuses_attributes_passes_through():
    class Frozen(Exception):
        def __setattr__(self, name, value):
            raise AttributeError(name)

    @o.opero(retries=1, min_delay=0)
    def f():
        raise Frozen

    with pytest.raises(Frozen) as caught:
        f()
    assert len(o.attempts(caught.value)) == 2


def test_stop_iteration_passes_through_as_itself():
    @o.opero(retries=0, timeout=5)
    def timed():
        raise StopIteration(7)

    @o.opero(retries=1, min_delay=0)
    def retried():
        raise StopIteration(7)

    for f in (timed, retried):
        with pytest.raises(StopIteration) as caught:
            f()
        assert caught.value.value == 7


def test_history_pickles_even_when_an_error_does_not():
    import pickle

    class Local(Exception):
        pass

    errors = iter([Local("a"), OSError("b")])

    @o.opero(retries=1, min_delay=0)
    def f():
        raise next(errors)

    with pytest.raises(OSError) as caught:
        f()
    copy = pickle.loads(pickle.dumps(caught.value))
    assert [type(a.error).__name__ for a in o.attempts(copy)] == ["RuntimeError", "OSError"]
