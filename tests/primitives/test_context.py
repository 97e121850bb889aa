"""What a function sets in context variables is its caller's, also where it ran beside its caller."""

import asyncio
import contextvars
import threading
import time

import pytest

import opero as o

VALUE = contextvars.ContextVar("value", default="unset")
OTHER = contextvars.ContextVar("other", default="unset")

ASIDE = {
    "timeout": o.Timeout(30),
    "attempt_timeout": o.Timeout(attempt=30),
    "hedge": o.Hedge(30),
}


@pytest.mark.parametrize("aside", ASIDE)
def test_a_plain_function_that_runs_in_a_thread_sets_them_for_its_caller(aside):
    @o.opero(ASIDE[aside])
    def f():
        VALUE.set(OTHER.get())
        return threading.get_ident()

    def main():
        OTHER.set("given")
        assert f() != threading.get_ident()
        return VALUE.get(), OTHER.get(), o.remaining()

    assert contextvars.copy_context().run(main) == ("given", "given", None)


def test_an_error_leaves_what_was_set_before_it():
    @o.opero(o.Timeout(30))
    def f():
        VALUE.set("set")
        raise OSError

    def main():
        with pytest.raises(OSError):
            f()
        return VALUE.get()

    assert contextvars.copy_context().run(main) == "set"


def test_what_comes_too_late_sets_nothing():
    done = threading.Event()

    @o.opero(o.Timeout(0.01))
    def f():
        done.wait(5)
        VALUE.set("late")

    def main():
        with pytest.raises(o.CallTimeout):
            f()
        done.set()
        time.sleep(0.01)
        return VALUE.get()

    assert contextvars.copy_context().run(main) == "unset"


def hedged(sleep):
    delays = iter([5.0, 0.0])

    @o.opero(o.Hedge(0.01))
    async def f():
        delay = next(delays)
        VALUE.set(delay)
        await sleep(delay)
        OTHER.set(delay)

    async def main():
        await f()
        return VALUE.get(), OTHER.get()

    return main


def test_of_a_hedged_coroutine_function_the_winner_sets_them():
    assert asyncio.run(hedged(asyncio.sleep)()) == (0.0, 0.0)


def test_on_trio_too():
    trio = pytest.importorskip("trio")
    assert trio.run(hedged(trio.sleep)) == (0.0, 0.0)


def test_what_was_unset_again_stays_so():
    @o.opero(o.Hedge(30))
    def f():
        VALUE.reset(VALUE.set("meanwhile"))

    def main():
        f()
        return VALUE in contextvars.copy_context()

    assert contextvars.copy_context().run(main) is False
