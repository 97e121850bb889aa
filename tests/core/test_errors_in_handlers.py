"""`sys.exception()` is the error: in a handler of an event that names one, and in a function that answers for it."""

import asyncio
import sys

import pytest
import trio

import opero as o
from opero import events, testing

NAMED = ("opero.retry.scheduled", "opero.retry.exhausted", "opero.attempt.finished", "opero.call.finished")
POLICIES = {
    "retry": [o.Retry(1, wait=0)],
    "wait": [o.Retry(1, wait=0.001)],
    "condition": [o.Retry(1, wait=0, on=lambda error: True)],
    "timeout": [o.Retry(1, wait=0), o.Timeout(5)],
    "attempt timeout": [o.Retry(1, wait=0), o.Timeout(attempt=5)],
    "cooperative": [o.Retry(1, wait=0), o.Timeout(5, how="cooperative")],
    "bulkhead": [o.Retry(1, wait=0), o.Bulkhead(2)],
    "hedge": [o.Retry(1, wait=0), o.Hedge(5.0)],
    "hedge at once": [o.Retry(1, wait=0), o.Hedge(0.0)],
}
KINDS = ["sync", "async", "trio", "gen", "agen"]


def fits(kind, policies):
    return kind == "sync" if policies == "cooperative" else "gen" not in kind or "hedge" not in policies


FITTING = [(kind, policies) for kind in KINDS for policies in POLICIES if fits(kind, policies)]


def failing(kind):
    def plain():
        raise OSError("why")

    async def coroutine():
        raise OSError("why")

    def generator():
        raise OSError("why")
        yield

    async def async_generator():
        raise OSError("why")
        yield

    return {"sync": plain, "async": coroutine, "trio": coroutine, "gen": generator, "agen": async_generator}[kind]


def ran(kind, f):
    async def listed():
        return [item async for item in f()]

    run = {
        "sync": f,
        "async": lambda: asyncio.run(f()),
        "trio": lambda: trio.run(f),
        "gen": lambda: list(f()),
        "agen": lambda: asyncio.run(listed()),
    }
    try:
        return run[kind]()
    except OSError:
        return "failed"


def loop(policy):
    for attempt in policy:
        with attempt:
            raise OSError("why")


async def loop_async(policy):
    async for attempt in policy:
        with attempt:
            raise OSError("why")


async def loop_awaiting(policy):
    async for attempt in policy:
        async with attempt:
            raise OSError("why")


async def any_error(error):
    await asyncio.sleep(0)
    return True


LOOPS = {
    "for": lambda: loop(o.Retry(1, wait=0)),
    "async for": lambda: asyncio.run(loop_async(o.Retry(1, wait=0))),
    "awaited after the attempt": lambda: asyncio.run(loop_async(o.Retry(1, wait=0, on=any_error))),
    "async with": lambda: asyncio.run(loop_awaiting(o.Retry(1, wait=0, on=any_error))),
}


@pytest.fixture
def heard():
    """Return a function that says what a handler of a pattern finds: the field `error`, and the error."""
    opened = []

    def hear(*patterns):
        said = []
        opened.append(
            events.subscribe(
                lambda e: said.append((e.name, e.fields["error"], sys.exception())) if "error" in e.fields else None,
                *patterns,
            )
        )
        return said

    yield hear
    for each in opened:
        each.close()


@pytest.mark.parametrize("pattern", [*NAMED, "*"])
@pytest.mark.parametrize(("kind", "policies"), FITTING)
def test_a_handler_finds_the_error_that_an_event_names(kind, policies, pattern, heard):
    f = o.opero(*POLICIES[policies])(failing(kind))
    said = heard(pattern)
    assert ran(kind, f) == "failed"
    assert said
    assert {(named, str(error)) for _, named, error in said} == {("OSError", "why")}


@pytest.mark.parametrize("pattern", NAMED)
@pytest.mark.parametrize("run", LOOPS)
def test_a_handler_finds_the_error_of_a_loop(run, pattern, heard):
    said = heard(pattern)
    with pytest.raises(OSError, match="why"):
        LOOPS[run]()
    assert said
    assert {str(error) for _, _, error in said} == {"why"}


def test_a_handler_finds_what_the_call_was_refused_for(heard):
    f = o.CircuitBreaker()(lambda: None)
    f.opero.breaker.force_open()
    said = heard("opero.call.finished")
    with pytest.raises(o.CircuitOpenError) as refused:
        f()
    assert said == [("opero.call.finished", "CircuitOpenError", refused.value)]


def test_an_attempt_ends_with_what_was_raised_for_the_error(heard):
    error = KeyError("k")

    @o.Retry(1, wait=0)
    def f():
        raise o.DoNotRetry(error)

    said = heard("opero.attempt.finished", "opero.call.finished")
    with pytest.raises(KeyError):
        f()
    (_, named, wrapped), last = said
    assert (named, type(wrapped), wrapped.error) == ("KeyError", o.DoNotRetry, error)
    assert last == ("opero.call.finished", "KeyError", error)


def test_there_is_no_error_where_a_result_was_not_wanted(heard):
    said = heard(*NAMED)
    assert o.Retry(1, wait=0, on_result=lambda result: True)(lambda: 1)() == 1
    assert {(named, error) for _, named, error in said} == {("", None)}


def answers(seen, kind):
    def plain():
        seen.append(sys.exception())
        return ["answer"]

    async def coroutine():
        return plain()

    def fails():
        plain()
        raise ValueError("no answer either")

    own = plain if kind in {"sync", "gen"} else coroutine
    return {"a plain function": [plain], "its own kind": [own], "second of a chain": [fails, own]}


@pytest.mark.parametrize("heard_by_somebody", [False, True])
@pytest.mark.parametrize("answer", ["a plain function", "its own kind", "second of a chain"])
@pytest.mark.parametrize(("kind", "policies"), [*FITTING, *((kind, "nothing") for kind in KINDS)])
def test_a_fallback_finds_the_error_it_answers_for(kind, answer, policies, heard_by_somebody, heard):
    seen = []
    f = o.opero(*POLICIES.get(policies, []), o.Fallback(*answers(seen, kind)[answer]))(failing(kind))
    if heard_by_somebody:
        heard("*")
    assert ran(kind, f) == ["answer"]
    assert seen
    assert {str(error) for error in seen} == {"why"}


def test_a_fallback_finds_the_timeout_and_the_refusal_it_answers_for():
    seen = []

    def answer():
        seen.append(type(sys.exception()))

    @o.opero(o.Timeout(1), o.CircuitBreaker(consecutive=1), o.Fallback(answer))
    async def f():
        await asyncio.sleep(2)

    async def main():
        await f()
        await f()

    with testing.clock():
        asyncio.run(main())
    assert seen == [o.CallTimeout, o.CircuitOpenError]


def test_there_is_no_error_in_an_answer_to_an_unwanted_result():
    seen = []
    f = o.opero(o.Fallback(lambda: seen.append(sys.exception()), on_result=lambda result: True))(lambda: 1)
    f()
    assert seen == [None]


def test_a_handler_hears_one_function_by_its_name():
    said = []

    @o.Retry(1, wait=0)
    def fetch():
        raise OSError

    @o.Retry(1, wait=0)
    def other():
        raise OSError

    def handler(event):
        if event.operation == fetch.opero.name:
            said.append(event.operation)

    with events.subscribe(handler, "opero.retry.scheduled"):
        for f in (fetch, other, fetch):
            with pytest.raises(OSError):
                f()
    assert said == [fetch.opero.name] * 2
