"""The testing kit as its users meet it."""

import asyncio
import subprocess
import sys
import time

import pytest

import opero as o
from opero import testing


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


def test_chaos_disturbs_a_function_or_a_name_and_leaves_it_as_it_was():
    before = flaky.opero.operation.function
    with testing.no_waits():
        assert flaky() == "ok"  # warm, and on the fast path
        with testing.chaos(flaky, error=TimeoutError), pytest.raises(TimeoutError):
            flaky(0)
        with testing.chaos("kit.flaky", result="other", rate=0.5, seed=3):
            assert {flaky(0) for _ in range(30)} == {"ok", "other"}
        with testing.clock() as virtual, testing.chaos(flaky, latency=5):
            assert flaky(0) == "ok"
            assert virtual.now() == 1005
    assert flaky.opero.operation.function is before
    assert flaky(0) == "ok"
    with (
        pytest.raises(o.ConfigurationError, match=r"operation='nobody': .*kit\.flaky"),
        testing.chaos("nobody", error=OSError),
    ):
        pass


def test_chaos_on_a_function_never_called_before_does_not_stay():
    @o.opero(retries=0)
    async def fresh():
        return 1

    with testing.chaos(fresh, error=OSError), pytest.raises(OSError):
        asyncio.run(fresh())
    assert asyncio.run(fresh()) == 1


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
from opero import opero

@opero(retries=2, min_delay=30, jitter="none", name="mine")
def flaky():
    raise ConnectionError

def test_fixtures(opero_clock, opero_capture):
    try:
        flaky()
    except ConnectionError:
        pass
    assert opero_clock.now() - 1000 == 60
    assert opero_capture.names()[-1] == "opero.retry.exhausted"
"""


def test_the_fixtures_are_there_without_anything_to_write(tmp_path):
    (tmp_path / "test_mine.py").write_text(PLUGIN)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", tmp_path],
        cwd=tmp_path, capture_output=True, text=True, timeout=110, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
