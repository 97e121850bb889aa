"""The testing kit as its users meet it."""

import asyncio
import os
import subprocess
import sys
import threading
import time
import weakref
from datetime import timedelta
from itertools import count

import pytest

import opero as o
from opero import testing
from shared_store import MappedStore


@o.opero(retries=2, min_delay=30, jitter="none", backoff="constant", name="kit.flaky")
def flaky(fails=1):
    fails_left.append(1)
    if len(fails_left) <= fails:
        raise ConnectionError("secret")
    return "ok"


fails_left = []


@pytest.fixture(autouse=True)
def _fresh():
    fails_left.clear()


def test_capture_takes_down_events_spans_and_metrics_the_same_each_time():
    def run():
        fails_left.clear()
        with testing.clock(), testing.capture() as captured:
            flaky()
        return captured.events, captured.spans, captured.names(), captured.metrics()

    first, second = run(), run()
    assert first[:3] == second[:3]
    events, spans, names, metrics = first
    assert names == ["opero.retry.scheduled", "opero.retry.succeeded"]
    assert events[3] == {
        "name": "opero.retry.scheduled",
        "operation": "kit.flaky",
        "at": 0,
        "severity": "info",
        "call": 1,
        "correlation_id": "",
        "fields": {"attempt": 2, "delay": 30, "error": "ConnectionError"},
    }
    assert [(s["id"], s["parent"], s["name"], s["start"], s["end"], s["outcome"]) for s in spans] == [
        (1, None, "kit.flaky", 0, 30, "ok"),
        (2, 1, "kit.flaky attempt", 0, 0, "retryable"),
        (3, 1, "kit.flaky attempt", 30, 30, "ok"),
    ]
    assert metrics["opero.events"]["kit.flaky", "opero.retry.scheduled", "retry"] == 1
    assert sum(metrics["opero.call.attempts"]["kit.flaky", "ok"][:-1]) == 1
    assert "secret" not in repr(first)


def test_spans_of_calls_inside_and_of_tasks_know_their_parents():
    @o.opero(retries=0, name="kit.inner")
    async def inner():
        return 1

    @o.opero(retries=0, name="kit.outer")
    async def outer():
        return sum(await asyncio.gather(inner(), inner()))

    with testing.capture() as captured:
        assert asyncio.run(outer()) == 2
    spans = {span["id"]: span for span in captured.spans}
    inners = [span for span in captured.spans if span["name"] == "kit.inner"]
    assert [spans[span["parent"]]["name"] for span in inners] == ["kit.outer attempt"] * 2
    assert all(span["end"] is not None for span in captured.spans)


def test_capture_hears_what_matches():
    with testing.clock(), testing.capture("opero.retry.*") as captured:
        flaky()
    assert [event["name"] for event in captured.events] == captured.names() != []


def test_without_waits_backoffs_and_limits_take_no_time():
    @o.opero(retries=2, min_delay=30, max_delay=30, jitter="none")
    async def slow():
        raise OSError

    limited = o.opero(o.RateLimit(1, per=60, burst=1))(lambda: 1)
    started = time.monotonic()
    with testing.no_waits():
        assert flaky(2) == "ok"
        with pytest.raises(OSError):
            asyncio.run(slow())
        assert [limited(), limited()] == [1, 1]
    assert time.monotonic() - started < 20


PLUGIN = """
import time
import weakref
from itertools import count
from opero import opero

@opero(retries=2, min_delay=30, jitter="none", name="mine")
def flaky():
    raise ConnectionError

def test_fixtures(opero_capture, opero_clock):
    try:
        flaky()
    except ConnectionError:
        pass
    assert opero_clock.elapsed() == 60
    assert opero_capture.spans[0]["end"] == 60
    assert opero_capture.names()[-1] == "opero.retry.exhausted"
"""


def test_the_fixtures_are_there_without_anything_to_write(tmp_path):
    (tmp_path / "test_mine.py").write_text(PLUGIN)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", tmp_path],
        cwd=tmp_path, capture_output=True, text=True, timeout=110, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout


SPANS = [(1, None, "kit.flaky", 0, 30), (2, 1, "kit.flaky attempt", 0, 0), (3, 1, "kit.flaky attempt", 30, 30)]


def spans(captured):
    return [(span["id"], span["parent"], span["name"], span["start"], span["end"]) for span in captured.spans]


def test_capture_counts_from_the_clock_in_whatever_order_they_begin():
    with testing.clock(), testing.capture() as inside:
        flaky()
    fails_left.clear()
    with testing.capture() as outside, testing.clock():
        flaky()
    assert spans(inside) == spans(outside) == SPANS


def test_spans_of_hedged_attempts_end_losers_too():
    @o.opero(o.Hedge(10, max_hedges=2), name="kit.hedged")
    async def hedged():
        await asyncio.sleep(25)

    with testing.clock(), testing.capture() as captured:
        asyncio.run(hedged())
    found = [(s["parent"], s["start"], s["end"], s["outcome"]) for s in captured.spans if s["parent"]]
    assert found == [(1, 0, 25, "ok"), (1, 10, 25, "cancelled"), (1, 20, 25, "cancelled")]


def test_spans_of_hedged_attempts_in_threads_end_when_they_do():
    go, ended = threading.Event(), threading.Event()

    @o.opero(o.Hedge(0.001), name="kit.hedged.threads")
    def hedged(tries=count()):  # noqa: B008 - shared on purpose
        if next(tries) == 0:
            go.wait(30)
            return "late"
        return "soon"

    class Wakes:
        def __call__(self, event):
            if event.fields["outcome"] != "ok" or event.fields["number"] == 1:
                ended.set()

    with testing.capture() as captured, o.events.subscribe(Wakes(), "opero.attempt.finished"):
        assert hedged() == "soon"
        loser = next(span for span in captured.spans if span["name"].endswith("attempt"))
        assert loser["end"] is None
        go.set()
        assert ended.wait(30)
        assert loser["end"] is not None


def test_a_recorded_argument_may_have_any_name():
    @o.opero(retries=0, record=["number", "outcome"], name="kit.recorded")
    def f(number, outcome):
        return number, outcome

    with testing.capture() as captured:
        f(7, "mine")
    assert [span["name"] for span in captured.spans] == ["kit.recorded", "kit.recorded attempt"]
    assert all(span["end"] is not None for span in captured.spans)


def test_without_waits_only_backoffs_and_turns_are_left_out():
    limit = o.RateLimit(1, per=3600, burst=1)
    limited = o.opero(limit)(plain)

    async def crowd():
        return await asyncio.gather(*(limited() for _ in range(20)))

    used = time.process_time()
    with testing.no_waits():
        assert asyncio.run(crowd()) == [1] * 20
        assert not limit.limiter.quota._waiting
        slept = threading.Thread(target=o.clock.sleep, args=(0.05,))
        before = time.monotonic()
        slept.start()
        slept.join()
        assert time.monotonic() - before >= 0.05
    assert time.process_time() - used < 10


def test_without_waits_a_limiter_of_somebody_else_is_not_waited_for():
    aiolimiter = pytest.importorskip("aiolimiter", reason="a test dependency")

    async def crowd():
        limited = o.opero(rate_limit=aiolimiter.AsyncLimiter(1, 3600))(plain)
        return await asyncio.gather(*(limited() for _ in range(3)))

    with testing.no_waits():
        assert asyncio.run(crowd()) == [1] * 3


async def plain():
    return 1


def test_no_call_makes_more_attempts_than_a_test_allows():
    @o.opero(retries=5, min_delay=30, name="kit.attempts")
    def failing():
        raise OSError

    @o.opero(retries=5, min_delay=30)
    async def failing_async():
        raise OSError

    def made(call):
        with pytest.raises(OSError) as caught:
            call()
        return len(o.attempts(caught.value))

    for _ in range(2):
        with testing.no_waits(attempts=2):
            assert made(failing) == made(lambda: asyncio.run(failing_async())) == 2
            with testing.no_waits(attempts=1):
                assert made(failing) == 1
            with testing.no_waits():
                assert made(failing) == 2
        with testing.no_waits():
            assert made(failing) == made(lambda: asyncio.run(failing_async())) == 6
    with pytest.raises(o.ConfigurationError, match="attempts=0"), testing.no_waits(attempts=0):
        pass
    assert not o.clock.hurried


def test_blocks_decorate_plain_and_coroutine_functions_and_refuse_generators():
    @testing.no_waits()
    @testing.chaos(flaky, error=OSError)
    def plain_test(value):
        with pytest.raises(OSError):
            flaky()
        return value

    @testing.clock(start=0)
    async def async_test(value):
        await asyncio.sleep(30)
        return value, o.clock.now()

    for _ in range(2):
        assert plain_test(7) == 7
        assert asyncio.run(async_test(value=7)) == (7, 30)
    assert o.clock.sleep is o.clock._sleep
    with pytest.raises(o.ConfigurationError, match="use `with` inside of it"):

        @testing.clock()
        def items():
            yield 1


def test_without_waits_a_slot_of_all_processes_is_looked_for_no_more_often():
    looks, holding = [], threading.Event()

    class Counted(MappedStore):
        async def take(self, *args):
            looks.append(args)
            return await super().take(*args)

    store = Counted()
    weakref.finalize(store, os.close, store.descriptor)
    hold, quick = (o.opero(o.Bulkhead(1, max_queue=1, store=store, name="kit"))(f) for f in (held, abs))

    def first():
        hold(holding)

    with testing.no_waits():
        thread = threading.Thread(target=first)
        thread.start()
        assert holding.wait(30)
        assert quick(-7) == 7
        thread.join()
    assert 2 < len(looks) < 50


@pytest.mark.timeout(20)
def test_what_was_abandoned_before_the_clock_began_holds_nobody_up():
    done = threading.Event()

    @o.opero(timeout=0.01)
    def spinning():
        while not done.is_set():
            pass

    with pytest.raises(o.CallTimeout):
        spinning()
    try:
        with testing.clock() as virtual:
            virtual.sleep(3600)
    finally:
        done.set()
    assert virtual.elapsed() == 3600


def held(holding):
    holding.set()
    time.sleep(0.2)


def test_blocks_that_overlap_are_put_back_in_whatever_order_they_end():
    def overlapping(make):
        first, second = make(1), make(2)
        entered = first.__enter__(), second.__enter__()
        first.__exit__(None, None, None)
        yield entered[1]
        second.__exit__(None, None, None)

    untouched = o.clock.sleep, asyncio.BaseEventLoop.time, flaky.opero.operation.function
    for virtual in overlapping(lambda _: testing.clock()):
        with pytest.raises(ConnectionError):
            flaky(3)
        assert virtual.elapsed() == 60
    for _ in overlapping(lambda attempts: testing.no_waits(attempts=attempts)):
        with pytest.raises(ConnectionError) as caught:
            flaky(9)
        assert len(o.attempts(caught.value)) == 2
    for _ in overlapping(lambda result: testing.chaos(flaky, result=result)):
        assert flaky(99) == 2
    assert untouched == (o.clock.sleep, asyncio.BaseEventLoop.time, flaky.opero.operation.function)
    assert not o.clock.hurried


def test_two_threads_may_have_a_clock_at_the_same_time():
    both, told = threading.Barrier(2, timeout=30), []

    def work(number):
        with testing.clock() as virtual:
            both.wait()
            o.clock.sleep(30)
            told.append(virtual.elapsed())
            if number:
                both.wait()
        if not number:
            both.wait()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert max(told) >= 30
    assert o.clock.sleep is o.clock._sleep
    with testing.clock() as virtual:
        o.clock.sleep(30)
        assert virtual.elapsed() == 30


@pytest.mark.parametrize("make", [testing.clock, testing.no_waits, testing.capture, testing.chaos])
def test_a_block_without_parentheses_says_how_it_is_written(make):
    with pytest.raises(o.ConfigurationError, match=rf"no function; .*@testing\.{make.__name__}\(\.\.\.\)"):

        @make
        def test():
            raise AssertionError


NO_TIME = [-1, float("inf"), float("nan"), "1", None, True]


@pytest.mark.parametrize("seconds", NO_TIME, ids=repr)
def test_time_moves_by_what_can_be_added_to_it(seconds):
    with testing.clock() as virtual:
        for move in (virtual.advance, virtual.advance_to) if seconds != -1 else (virtual.advance,):
            with pytest.raises(o.ConfigurationError, match="takes a number"):
                move(seconds)
        virtual.advance(timedelta(minutes=1))
        assert virtual.elapsed() == 60
    if seconds not in {-1, None}:
        with pytest.raises(o.ConfigurationError, match="start takes a number"), testing.clock(start=seconds):
            pass


def test_each_of_two_captures_has_spans_of_its_own():
    inner = o.opero(retries=0, name="kit.inner")(lambda: 1)
    items = o.opero(retries=1, name="kit.items")(lambda: (yield 1))
    with testing.capture() as outer, testing.capture() as within:
        o.opero(retries=0, name="kit.outer")(inner)()
    assert [(span["id"], span["parent"]) for span in within.spans] == [(1, None), (2, 1), (3, 2), (4, 3)]
    assert [span["parent"] for span in outer.spans] == [span["parent"] for span in within.spans]
    with testing.capture():
        left = items()
        next(left)
    for _ in range(2):
        with testing.capture() as later:
            inner()
        assert [span["parent"] for span in later.spans] == [None, 1]
    left.close()


AGES = """
import asyncio
from opero import testing
for seconds in (31536000.3, 1e8, 1e9 / 3, 1e18, 1e308):
    with testing.clock(start=0) as time:
        asyncio.run(asyncio.sleep(seconds))
        print(abs(time.elapsed() / seconds - 1) < 1e-9)
"""


def test_a_loop_gets_over_a_wait_of_ages():
    told = subprocess.run([sys.executable, "-c", AGES], capture_output=True, text=True, timeout=60, check=True)
    assert told.stdout.split() == ["True"] * 5
