"""Delays, conditions, and what stays as it was."""

import asyncio
import operator
import re
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

import opero as o
from opero import conditions, testing, waits
from opero.primitives.retry import Retry

SHAPES = {
    "the default": (waits.exponential(), [0.1, 0.15, 0.225]),
    "nothing": (waits.sequence(0), [0, 0]),
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


@pytest.mark.parametrize("wait", [waits.exponential(0), waits.fibonacci(0)])
def test_no_delay_is_none_however_often_it_is_asked(wait):
    assert (wait.delay(1_000_000, 0, None), wait.never, type(wait)(0.1).never) == (0, True, False)


@pytest.mark.parametrize("low", [5e-324, 1e-300])
def test_the_smallest_delays_grow_to_the_maximum(low):
    assert waits.fibonacci(low).delay(3000, 0, None) == 30


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


def test_a_wait_may_be_a_number_or_a_function_or_depend_on_the_error():
    assert Retry(wait=2, jitter="none").delay(9, 0, None) == 2
    assert Retry(wait=lambda n, outcome: n * 10).delay(3, 0, None) == 30
    wait = waits.by_error({OSError: 7, KeyError: lambda n, _: n}, otherwise=waits.constant(1))
    delays = [wait.delay(2, 0, error) for error in (ConnectionError(), KeyError(), ValueError(), "result")]
    assert 0 <= delays[0] <= 7
    assert delays[1] == 2
    assert all(0 <= delay <= 1 for delay in delays[2:])
    assert 3 <= waits.summed(3, waits.between(0, 1)).delay(1, 0, None) <= 4


@pytest.mark.parametrize("answer", [-1, float("nan"), float("inf"), "soon", None])
def test_an_absurd_delay_of_the_users_function_is_said_not_slept(answer):
    with pytest.raises(o.ConfigurationError, match="wait takes a number"):
        Retry(wait=lambda n, outcome: answer).delay(1, 0, None)


def test_an_event_ends_a_wait_only_where_it_is_enough_to_stop():
    flag = threading.Event()
    event, other = o.stops.event(flag), o.stops.attempts(3)
    assert [o.stops.flag(stop) for stop in (event, other | event, event | other)] == [flag] * 3
    assert [o.stops.flag(stop) for stop in (None, other, other & event, other | other, lambda *_: True)] == [None] * 5


@pytest.mark.parametrize("late", [0, 1])
@pytest.mark.parametrize("kind", [threading.Event, asyncio.Event], ids=["threads", "loops"])
def test_each_of_several_events_ends_a_wait(kind, late):
    flags, made = [kind(), threading.Event()], []
    stop = o.stops.event(flags[0]) | (o.stops.attempts(9) | o.stops.event(flags[1]))

    def down():
        made.append(1)
        raise ConnectionAbortedError

    @o.opero(Retry(3, wait=600, jitter="none", stop=stop))
    async def f():
        down()

    async def main():
        asyncio.get_running_loop().call_later(60, flags[late].set)
        await f()

    with testing.clock() as virtual:
        with pytest.raises(ConnectionAbortedError):
            asyncio.run(main())
        assert (len(made), 60 <= virtual.elapsed() < 60.2) == (1, True)


@pytest.mark.parametrize("late", [0, 1])
def test_and_of_a_thread(late):
    flags, made = [threading.Event(), threading.Event()], []

    @o.opero(Retry(3, wait=600, jitter="none", stop=o.stops.event(flags[0]) | o.stops.event(flags[1])))
    def f():
        made.append(1)
        threading.Timer(0.05, flags[late].set).start()
        raise ConnectionAbortedError

    with pytest.raises(ConnectionAbortedError):
        f()
    assert len(made) == 1


def test_stops_combine():
    enough = o.stops.attempts(3) | (o.stops.elapsed(10) & o.stops.before(12))
    verdicts = [enough(*state) for state in [(1, 0, 0), (3, 0, 0), (1, 10, 1), (1, 10, 3), (1, 9, 5)]]
    assert verdicts == [False, True, False, True, False]
    assert (o.stops.attempts(1)(1, 0, 0), o.stops.elapsed(0)(1, 0, 0)) == (True, True)
    assert (o.stops.before(0)(1, 0, 0), o.stops.before(0)(1, 0, 0.1)) == (False, True)
    flag = threading.Event()
    stop = o.stops.event(flag) | (lambda attempts, elapsed, delay: delay > 99)
    assert (stop(1, 0, 0), stop(1, 0, 100)) == (False, True)
    flag.set()
    assert stop(1, 0, 0)
    assert repr(enough) == "attempts(3) | (elapsed(10.0) & before(12.0))"


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
        (conditions.message(re.compile(r"^disk \w+$")), OSError("disk full"), True),
        (conditions.message(re.compile(r"^full")), OSError("disk full"), False),
        (conditions.of("x", OSError) & conditions.message("full"), OSError("empty"), False),
        (conditions.of("x", OSError) | KeyError, KeyError(), True),
        (~conditions.of("x", OSError), OSError(), False),
        (Exception, o.CircuitOpenError("open"), False),
        (o.Rejected, o.CircuitOpenError("open"), True),
        (Exception, o.CallTimeout("late"), True),
        (conditions.types(OSError, KeyError), KeyError(), True),
        (conditions.not_types(OSError, KeyError), KeyError(), False),
        (conditions.not_types(OSError), KeyError(), True),
        (OSError | KeyError, KeyError(), True),
        (OSError | KeyError, ValueError(), False),
        (OSError | conditions.message("busy"), ValueError("busy"), True),
        (OSError & conditions.message("busy"), ValueError("busy"), False),
        (conditions.result(bool), OSError(), False),
        (~conditions.cause(OSError), _chained(), False),
    ],
)
def test_a_condition_matches(condition, error, matches):
    assert conditions.of("on", condition)(error) is matches


@pytest.mark.parametrize(
    ("condition", "result", "unwanted"),
    [
        (conditions.result(bool), 1, True),
        (~conditions.result(bool), 1, False),
        (OSError | conditions.result(bool), 1, True),
        (~(OSError | conditions.result(bool)), 0, False),
        (conditions.result(bool) & conditions.result(callable), 1, False),
        (conditions.of("x", OSError), 1, False),
        (OSError & conditions.result(bool), 1, False),
    ],
)
def test_a_condition_speaks_of_results_only_where_it_says_so(condition, result, unwanted):
    assert asyncio.run(condition.unwanted(result)) is unwanted


@given(st.recursive(st.sampled_from([False, True]), lambda x: st.tuples(st.sampled_from("&|~"), x, x), max_leaves=8))
def test_conditions_follow_the_laws_of_logic_plain_and_awaited(tree):
    async def yes(error):
        return True

    def build(node, leaf):
        if isinstance(node, bool):
            return conditions.of("x", leaf if node else ~conditions.of("x", leaf, awaits=True), awaits=True)
        sign, left, right = node[0], build(node[1], leaf), build(node[2], leaf)
        return left & right if sign == "&" else left | right if sign == "|" else ~left

    def value(node):
        if isinstance(node, bool):
            return node
        sign, left, right = node[0], value(node[1]), value(node[2])
        return (left and right) if sign == "&" else (left or right) if sign == "|" else not left

    assert build(tree, Exception)(OSError()) is value(tree)
    assert asyncio.run(build(tree, yes).judge(OSError())) is value(tree)


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


def test_stop_iteration_is_retried_labelled_and_remembered_as_itself():
    @o.opero(retries=1, min_delay=0, retry_on=StopIteration, name="stops")
    def f():
        return next(iter(()))

    with pytest.raises(StopIteration) as caught:
        f()
    assert [type(a.error) for a in o.attempts(caught.value)] == [StopIteration, StopIteration]
    assert ("error", "StopIteration") in {key[1] for key in f.opero.operation.book.read()[1]}


def test_one_error_raised_again_and_again_is_in_each_attempt():
    error = OSError()

    @o.opero(retries=2, min_delay=0)
    def f():
        raise error

    with pytest.raises(OSError):
        f()
    assert [a.error for a in o.attempts(error)] == [error] * 3


def test_an_attempt_that_returned_has_no_error_even_when_the_call_ends_with_one():
    @o.opero(retries=1, min_delay=0, retry_on_result=lambda _: True, rate_limit=o.RateLimit(1, per=600, wait=False))
    def f():
        return 1

    with pytest.raises(o.RateLimitedError) as caught:
        f()
    assert [(a.outcome, a.error) for a in o.attempts(caught.value)] == [("ok", None)]


def test_the_history_of_a_call_inside_is_not_lost_in_one_around_it():
    @o.opero(retries=2, min_delay=0)
    def inner():
        raise OSError

    @o.opero(retries=0)
    def outer():
        inner()

    with pytest.raises(OSError) as caught:
        outer()
    assert len(o.attempts(caught.value)) == 3
    assert caught.value.__notes__[0].startswith("opero: 3 attempts")


def test_what_a_call_inside_ended_with_is_an_error_out_here():
    @o.opero(o.RateLimit(1, per=600, wait=False))
    def inner():
        return 1

    @o.opero(retries=0, name="outside")
    def outer():
        return inner()

    outer()
    with pytest.raises(o.RateLimitedError):
        outer()
    outcomes = {key[1]: sum(n[:-1]) for key, n in outer.opero.operation.book.read()[1].items() if "call.dur" in key[0]}
    assert outcomes["error", "RateLimitedError"] == 1


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


async def _busy(error):
    await asyncio.sleep(1)
    return "busy" in str(error)


def _played(outcomes, *policies):
    left = list(outcomes)

    @o.opero(*policies)
    async def f(x=None):
        outcome = left.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async def main(*args):
        try:
            return await f(*args)
        except Exception as error:
            return error

    return f, main


def test_an_asynchronous_predicate_decides_and_what_the_function_says_goes_before_it():
    policy = o.Retry(3, wait=0, on=_busy, strategies={KeyError: "raise", LookupError: "retry"})
    with testing.clock():
        f, main = _played([OSError("busy"), o.RetryNow(), IndexError(), 7], policy)
        assert asyncio.run(main()) == 7
        assert f.opero.stats()["attempts"] == 4
        for last in (OSError("gone"), KeyError("busy"), o.DoNotRetry()):
            f, main = _played([OSError("busy"), last, 7], policy)
            assert asyncio.run(main()) is last
        f, main = _played([OSError("busy"), OSError("gone"), 7], policy, o.ArgFallback("x"))
        assert asyncio.run(main(["a", "b"])) == 7


def test_an_asynchronous_predicate_on_the_result():
    async def empty(result):
        await asyncio.sleep(1)
        return result is None

    with testing.clock():
        f, main = _played([None, None, 7], o.Retry(3, wait=0, on_result=empty))
        assert asyncio.run(main()) == 7
    assert f.opero.stats()["retries"] == 2


@pytest.mark.parametrize("operate", [operator.or_, operator.and_])
def test_a_function_and_a_rule_are_combined_either_way_round(operate):
    def third(attempts, elapsed, delay):
        return attempts >= 3

    for rule in (operate(third, o.stops.attempts(5)), operate(o.stops.attempts(5), third)):
        ends = [attempts for attempts in range(1, 7) if rule(attempts, 0.0, 0.0)]
        assert ends[0] == (3 if operate is operator.or_ else 5)
