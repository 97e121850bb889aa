"""`opero.debug()` tells the life of each call."""

import asyncio
import io
import os
import subprocess
import sys
import threading

import pytest

import opero as o
from opero.debugging import MAX_LINES
from opero.testing import clock


def told(function, *arguments):
    file = io.StringIO()
    with clock(), o.debug(file):
        function(*arguments)
    return file.getvalue().splitlines()


def fails(times, *, error=ConnectionError):
    left = [times]

    def function():
        if left[0]:
            left[0] -= 1
            raise error

    return function


def test_a_call_is_a_tree_of_when_what_and_why():
    price = o.opero(o.Retry(2, wait=o.waits.constant(0.5), jitter="none"), name="price")(fails(2))
    assert told(price) == [
        "price: ok after 1000.0 ms",
        "├    0.0 ms  attempt 1: retryable ConnectionError after 0.0 ms",
        "├    0.0 ms  retry scheduled: attempt=2, delay=0.5, error=ConnectionError",
        "├  500.0 ms  attempt 2: retryable ConnectionError after 0.0 ms",
        "├  500.0 ms  retry scheduled: attempt=3, delay=0.5, error=ConnectionError",
        "├ 1000.0 ms  attempt 3: ok after 0.0 ms",
        "└ 1000.0 ms  retry succeeded: attempts=3",
    ]


def test_what_a_call_calls_stands_inside_of_it():
    inner = o.opero(retries=0, name="inner")(fails(0))
    outer = o.opero(retries=0, name="outer")(lambda: (inner(), inner()))
    assert told(outer) == [
        "outer: ok after 0.0 ms",
        "├    0.0 ms  inner: ok after 0.0 ms",
        "│            └    0.0 ms  attempt 1: ok after 0.0 ms",
        "├    0.0 ms  inner: ok after 0.0 ms",
        "│            └    0.0 ms  attempt 1: ok after 0.0 ms",
        "└    0.0 ms  attempt 1: ok after 0.0 ms",
    ]


def test_tasks_that_overlap_are_told_apart():
    @o.opero(retries=0, name="task")
    async def task(seconds):
        await asyncio.sleep(seconds)

    async def main():
        await asyncio.gather(task(2), task(1))

    assert told(lambda: asyncio.run(main())) == [
        "task: ok after 1000.0 ms",
        "└ 1000.0 ms  attempt 1: ok after 1000.0 ms",
        "task: ok after 2000.0 ms",
        "└ 2000.0 ms  attempt 1: ok after 2000.0 ms",
    ]


def test_a_circuit_that_opens_and_refuses_says_why():
    breaker = o.CircuitBreaker(consecutive=1, reset_after=5)
    stock = o.opero(breaker, o.Fallback(0), retries=0, name="stock")(fails(9))
    text = "\n".join(told(lambda: (stock(), stock())))
    assert "circuit opened: failure_ratio=" in text
    assert "call rejected: primitive=circuit_breaker, reason=circuit_open, retry_after=5" in text
    assert "fallback used: error=CircuitOpenError" in text


def test_threads_print_whole_trees():
    f = o.opero(retries=0, name="f")(fails(0))
    file = io.StringIO()
    with o.debug(file):
        threads = [threading.Thread(target=lambda: [f() for _ in range(50)]) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    lines = file.getvalue().splitlines()
    assert len(lines) == 800
    assert all(line.startswith("f: ok") for line in lines[::2])
    assert all("attempt 1: ok" in line for line in lines[1::2])


def test_nothing_of_arguments_results_and_messages_is_shown():
    @o.opero(retries=1, min_delay=0, fallback="s3cret", name="f")
    def f(token):
        raise ValueError(token)

    assert "s3cret" not in "\n".join(told(f, "s3cret"))


def test_a_name_cannot_steer_the_terminal():
    assert told(o.opero(retries=0, name="a\x1b[31m\u202eb")(fails(0)))[0].startswith("a�[31m�b: ok")


def test_a_long_life_is_cut_in_its_middle():
    f = o.opero(o.Retry(MAX_LINES, wait=o.waits.constant(0)), name="f")(fails(MAX_LINES))
    lines = told(f)
    assert len(lines) == MAX_LINES + 2
    assert any(line.endswith(f"… {MAX_LINES + 2} more") for line in lines)
    assert "retry succeeded" in lines[-1]


def test_nothing_is_kept_and_nothing_heard_afterwards():
    f = o.opero(retries=0, name="f")(fails(0))
    file = io.StringIO()
    debug = o.debug(file)
    f()
    debug.close()
    debug.close()
    said = file.getvalue()
    f()
    assert file.getvalue() == said


@pytest.mark.parametrize(("value", "lines"), [("1", 2), ("0", 0), ("", 0)])
def test_the_environment_turns_it_on(value, lines):
    code = "from opero import opero\n@opero(retries=0, name='f')\ndef f(): ...\nf()"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "OPERO_DEBUG": value},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert len(done.stderr.splitlines()) == lines
