"""Errors that do not let themselves be looked at: the caller gets them as they are, and they are counted."""

import asyncio
import contextvars
import os
import subprocess
import sys
import threading

import pytest

import opero as o
from opero import Retry, attempts, deadlines, fused, opero, waits


class Frozen(Exception):
    def __getattribute__(self, name):
        if name == "__dict__":
            raise AttributeError(name)
        return super().__getattribute__(name)


class Contextless(Exception):
    @property
    def __context__(self):
        raise RuntimeError


class Noted(Exception):
    def __init__(self):
        self.__notes__ = "no list"


class Bad(type):
    def __instancecheck__(cls, error):
        return getattr(error, "status", 0) >= 500


class ServerError(Exception, metaclass=Bad):
    pass


class Status(Exception):
    def __init__(self, status):
        super().__init__(status)
        self.status = status


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("kind", [Frozen, Contextless, Noted])
def test_an_error_of_any_class_reaches_the_caller_and_is_counted(kind, fast, monkeypatch):
    monkeypatch.setattr(fused, "enabled", fast)

    @opero(Retry(1, wait=waits.constant(0)))
    def f():
        raise kind

    def caught():
        try:
            f()
        except Exception as error:  # not one that pytest would have to show
            attempts(error)
            return type(error).__name__
        return None

    assert [caught() for _ in range(2)] == [kind.__name__] * 2
    stats = f.opero.stats()
    assert (stats["calls"], stats["errors"], stats["attempts"], stats["active"]) == (2, 2, 4, 0)


@pytest.mark.parametrize("fast", [True, False])
def test_a_class_that_looks_at_the_error_is_asked_each_time(fast, monkeypatch):
    monkeypatch.setattr(fused, "enabled", fast)
    made = []

    @opero(Retry(1, on=ServerError, wait=waits.constant(0)))
    def f(status):
        made.append(status)
        raise Status(status)

    for status in (503, 404):
        with pytest.raises(Status):
            f(status)
    assert made == [503, 503, 404]


def test_an_error_raised_while_another_was_handled_takes_the_short_way():
    @opero(Retry(2, wait=waits.constant(0)))
    def f():
        try:
            {}["missing"]
        except KeyError:
            raise ConnectionError from None

    for _ in range(2):
        with pytest.raises(ConnectionError):
            f()
    assert f.opero.stats()["attempts"] == 6
    assert f.opero.operation.book.failures[ConnectionError].made == 3


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_child_knows_of_no_deadline_of_others():
    inside, done = threading.Event(), threading.Event()

    def wait():
        inside.set()
        done.wait(30)

    thread = threading.Thread(target=opero(o.Timeout(60, how="cooperative"))(wait))
    thread.start()
    inside.wait(30)
    child = os.fork()
    if child == 0:
        os._exit(len(deadlines.within))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert deadlines.within
    done.set()
    thread.join()
    assert not deadlines.within


def test_a_coroutine_closed_from_another_context_ends_quietly():
    @opero(o.Timeout(60))
    async def f():
        await asyncio.sleep(60)

    async def main():
        running = f()
        contextvars.copy_context().run(running.send, None)
        running.close()

    asyncio.run(main())
    assert not deadlines.within


WITHOUT_A_GIL = """
import sys
sys._is_gil_enabled = lambda: False
from opero import Retry, opero, waits

@opero(Retry(2, wait=waits.constant(0)), bulkhead=5, rate_limit=1e9)
def f(x):
    if x % 3:
        raise KeyError(x)
    return x

for x in range(9):
    try:
        f(x)
    except KeyError:
        pass
stats = f.opero.stats()
print(stats["calls"], stats["ok"], stats["attempts"])
"""


def test_without_a_gil_counting_takes_no_lock_twice():
    command = [sys.executable, "-c", WITHOUT_A_GIL]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.split() == ["9", "3", "21"], done.stderr


@pytest.mark.parametrize(
    "policy",
    [
        o.Fallback(lambda x: next(iter(()))),
        o.RateLimit(5, key=lambda x: next(iter(()))),
        o.RateLimit(5, weight=lambda x: next(iter(()))),
    ],
    ids=["fallback", "key", "weight"],
)
def test_a_stop_iteration_of_a_hook_is_a_runtime_error_as_in_every_coroutine(policy):
    @o.opero(policy, retries=0)
    def f(x):
        raise OSError

    with pytest.raises(RuntimeError) as caught:
        f(1)
    assert isinstance(caught.value.__cause__, StopIteration)
