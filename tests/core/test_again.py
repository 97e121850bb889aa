"""The failing path does what the general path does: the same answers, attempts, notes and numbers, and no garbage."""

import asyncio
import contextlib
import itertools
import marshal
import pickle
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

import opero as o
from garbage import ROUNDS, uncollected
from opero import Retry, attempts, events, fused, opero, testing, waits

AT_ONCE, PAUSED = waits.constant(0), waits.exponential(1, 4, 2)


class Nested(Exception):
    """Raised with something behind it."""


def player(script, driver):
    """Return a function that plays a script: errors are raised, floats waited for, everything else returned."""
    steps = iter(script)

    def play(*_, **__):
        for step in steps:
            if isinstance(step, float):
                TIME[-1].advance(step)
            elif step is Nested:
                raise Nested from OSError()
            elif isinstance(step, type):
                raise step(step.__name__)
            else:
                return step
        return None

    async def play_async(*args, **kwargs):
        return play(*args, **kwargs)

    return play_async if driver == "aio" else play


TIME = []  # the clock of the program that runs


ERRORS = [
    ConnectionError,
    ConnectionResetError,
    KeyError,
    Nested,
    o.RetryNow,
    o.DoNotRetry,
    KeyboardInterrupt,
    StopIteration,
]
SCRIPTS = st.lists(st.sampled_from([7, 7, 0.25, *ERRORS[:2] * 3, *ERRORS]), max_size=30)


@given(
    SCRIPTS,
    st.integers(0, 3),
    st.sampled_from([AT_ONCE, PAUSED]),
    st.sampled_from([Exception, ConnectionError, (OSError, Nested)]),
    st.sampled_from(["blocking", "aio"]),
)
def test_it_agrees_with_the_general_path(script, retries, wait, kinds, driver):
    if driver == "aio":
        script = [step for step in script if step is not StopIteration]
    fast, general = (
        played(fast, script, Retry(retries, wait=wait, on=kinds, jitter="none"), driver) for fast in (True, False)
    )
    assert fast == general


def played(fast, script, policy, driver):
    fused.enabled = fast
    try:
        function = opero(policy, name="again")(player(script, driver))
    finally:
        fused.enabled = True
    told = []
    with testing.clock(start=0) as virtual:
        TIME.append(virtual)
        for _ in range(4):
            told.append(told_of(function, driver))
        told.append(virtual.now())
    sums, distributions, latencies = function.opero.operation.book.read()
    seen = {key: [round(n, 6) for n in counts] for key, counts in distributions.items()}
    return told, sums, seen, sum(latencies)


def told_of(function, driver):
    try:
        return asyncio.run(function(1, b=2)) if driver == "aio" else function(1, b=2)
    except BaseException as error:
        history = [(a.number, a.delay, a.started, a.duration, a.outcome, type(a.error)) for a in attempts(error)]
        return repr(error), getattr(error, "__notes__", None), history


def failing(error=ConnectionError, wait=AT_ONCE, **settings):
    @opero(Retry(2, wait=wait, jitter="none", **settings))
    def fail():
        raise error("no")

    return fail


def caught(function):
    with pytest.raises(Exception) as caught:
        function()
    return caught.value


def test_it_is_the_way_of_a_plain_retry_only():
    assert "again or again(" in failing().opero.source()
    for settings in ({"on_result": bool}, {"strategies": {KeyError: "raise"}}, {"stop": lambda *_: False}):
        assert "again(" not in failing(**settings).opero.source()
    assert "again(" not in opero(retries=2, circuit_breaker=True)(divmod).opero.source()


@pytest.mark.parametrize("wait", [AT_ONCE, waits.constant(0.0001)], ids=["at once", "after a while"])
@pytest.mark.parametrize("failures", [2, 3])
def test_failures_leave_no_cyclic_garbage(wait, failures):
    @opero(Retry(2, wait=wait, jitter="none"))
    def unsteady():
        made.append(None)
        if len(made) <= failures:
            raise ConnectionError

    def call():
        made.clear()
        with contextlib.suppress(ConnectionError):
            unsteady()

    made = []
    call()
    with uncollected() as circles:
        left = []
        for _ in ROUNDS:
            for _ in range(15):
                call()
            left.append(circles())
        assert 0 in left


def test_three_layers_make_three_calls_not_twenty_seven():
    made = []

    def leaf():
        made.append(None)
        raise ConnectionError

    function = leaf
    for _ in range(3):
        function = opero(Retry(2, wait=AT_ONCE))(function)
    for calls in (1, 2):
        assert type(caught(function)) is ConnectionError
        assert len(made) == 3 * calls


def test_who_hears_retries_hears_these():
    fail, heard = failing(), []
    caught(fail)
    with events.subscribe(lambda event: heard.append(event.name), "opero.retry.*"):
        caught(fail)
    assert heard == ["opero.retry.scheduled"] * 2 + ["opero.retry.exhausted"]
    assert fail.opero.stats()["retries"] == 4


def test_an_error_tells_its_attempts_also_after_a_pickle():
    error = caught(failing())
    assert attempts(error)[-1].error is error
    told = [(attempt.number, attempt.outcome, str(attempt.error)) for attempt in attempts(error)]
    assert told == [(n, "retryable", "no") for n in (1, 2, 3)]
    copied = [(a.number, a.outcome, str(a.error)) for a in attempts(pickle.loads(pickle.dumps(error)))]
    assert copied == told


def test_one_cancelled_while_it_waits_is_counted_so():
    @opero(Retry(2, wait=waits.constant(60)))
    async def fail():
        raise ConnectionError

    async def main():
        task = asyncio.create_task(fail())
        await asyncio.sleep(0.01)
        stats = fail.opero.stats()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return stats

    stats = asyncio.run(main())
    assert (stats["active"], stats["attempts"]) == (1, 1)
    stats = fail.opero.stats()
    assert (stats["active"], stats["cancelled"], stats["attempts"], stats["retries"]) == (0, 1, 1, 1)


def test_what_is_cut_out_and_pasted_elsewhere_is_what_was_counted():
    fail, same, elsewhere = failing(), failing(), failing()
    with testing.clock():
        for function in (fail, fail, same, same):
            caught(function)
    book, other = fail.opero.operation.book, elsewhere.opero.operation.book
    for _ in range(2):
        other.paste(marshal.loads(marshal.dumps(book.cut())))
    assert other.read() == same.opero.operation.book.read()
    assert fail.opero.stats()["calls"] == fail.opero.stats()["attempts"] == fail.opero.stats()["retries"] == 0
    caught(fail)
    assert fail.opero.stats()["attempts"] == 3


def test_one_error_raised_by_two_threads_is_retried_by_both():
    error, both = ConnectionError("shared, as a mock's"), threading.Barrier(2, timeout=30)

    @opero(Retry(1, wait=AT_ONCE))
    def fail():
        both.wait()
        raise error

    with ThreadPoolExecutor(2) as threads:
        for _ in range(20):
            assert {type(done.exception()) for done in [threads.submit(fail) for _ in range(2)]} == {ConnectionError}
    assert fail.opero.stats()["attempts"] == 80


def test_an_operation_that_calls_itself_is_not_retried_twice():
    made = []

    @opero(Retry(2, wait=AT_ONCE))
    def dive(depth):
        if depth:
            return dive(depth - 1)
        made.append(None)
        raise ConnectionError

    caught(lambda: dive(2))
    assert len(made) == 3


@pytest.mark.parametrize("settings", [{"retries": 1}, {"retries": 0, "bulkhead": 50}], ids=["failing path", "general"])
def test_no_sum_ever_falls_while_threads_call(settings):
    numbers, stop = itertools.count(), threading.Event()

    @opero(min_delay=0, **settings)
    def sometimes():
        if next(numbers) % 2:
            raise KeyError

    def call_on():
        while not stop.is_set():
            with contextlib.suppress(KeyError):
                sometimes()

    threads = [threading.Thread(target=call_on) for _ in range(3)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        for thread in threads:
            thread.start()
        before = {}
        for _ in range(1500):
            sums, distributions, _ = sometimes.opero.operation.book.read()
            now = {**sums, **{key: sum(row[:-1]) for key, row in distributions.items()}}
            assert now.pop(("opero.call.active", ())) >= 0
            assert not {key for key, amount in before.items() if now[key] < amount}
            before = now
    finally:
        sys.setswitchinterval(interval)
        stop.set()
        for thread in threads:
            thread.join()
