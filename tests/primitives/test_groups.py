"""`conditions.group` looks into exception groups, wherever conditions are taken."""

import asyncio

import pytest

import opero as o
from opero import conditions, testing

LOST = conditions.group(ConnectionError)


def group(*errors):
    return ExceptionGroup("of tasks", errors)


@pytest.mark.parametrize(
    ("condition", "error", "matches"),
    [
        (ConnectionError, group(ConnectionError()), False),
        (LOST, group(ConnectionError(), ConnectionResetError()), True),
        (LOST, group(ConnectionError(), KeyError()), False),
        (LOST, group(group(ConnectionError()), group(group(ConnectionError()))), True),
        (LOST, group(ConnectionError(), group(ConnectionError(), KeyError())), False),
        (LOST, ConnectionError(), True),
        (LOST, KeyError(), False),
        (~LOST, group(ConnectionError()), False),
        (~LOST, group(ConnectionError(), KeyError()), True),
        (LOST & conditions.group(conditions.message("busy")), group(ConnectionError("busy")), True),
        (LOST & conditions.group(conditions.message("busy")), group(ConnectionError("gone")), False),
        (KeyError | LOST, group(ConnectionError()), True),
        (conditions.group(ConnectionError | conditions.of("x", KeyError)), group(ConnectionError(), KeyError()), True),
        (conditions.group(~conditions.of("x", KeyError)), group(ConnectionError(), KeyError()), False),
        (conditions.group(conditions.cause(OSError)), group(ConnectionError()), True),
        (conditions.group(Exception), group(KeyError(), o.CircuitOpenError("open")), False),
        (conditions.group(o.Rejected), group(o.CircuitOpenError("open")), True),
        (conditions.group(Exception), group(KeyError(), o.ConfigurationError("a", 1, "b")), False),
        (conditions.group(lambda _: True), BaseExceptionGroup("", [KeyError(), KeyboardInterrupt()]), False),
        (conditions.group(lambda _: True), KeyboardInterrupt(), False),
    ],
)
def test_it_matches_where_all_of_the_group_do(condition, error, matches):
    async def later(each):
        return inner(each)

    assert conditions.of("on", condition)(error) is matches
    inner = conditions.of("on", condition)
    assert asyncio.run(conditions.of("on", inner & later, awaits=True).judge(error)) is matches


@pytest.mark.parametrize("errors", [(KeyError(),), (KeyError(), OSError())], ids=len)
def test_a_predicate_in_it_may_be_a_coroutine_function(errors):
    async def lost(error):
        return isinstance(error, KeyError)

    found = conditions.group(lost)
    assert found.is_async
    assert asyncio.run(found.judge(group(*errors))) is (len(errors) == 1)
    assert not asyncio.run(found.judge(BaseExceptionGroup("", [KeyError(), SystemExit()])))


def test_it_is_called_as_it_was_written():
    assert repr(KeyError | conditions.group((OSError, ValueError))) == "(KeyError | group(OSError | ValueError))"
    with pytest.raises(o.ConfigurationError, match=r"^group=5: group takes an exception type"):
        conditions.group(5)


def test_it_says_nothing_of_results():
    assert not conditions.group(conditions.status(503)).rejects(type("Answer", (), {"status": 503})())


def test_what_a_task_group_raises_is_retried():
    calls = []

    async def part():
        raise ConnectionError

    @o.opero(o.Retry(3, on=LOST))
    async def fetch():
        calls.append(1)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(part())
            tasks.create_task(part())

    async def main():
        with testing.clock(), pytest.raises(ExceptionGroup):
            await fetch()

    asyncio.run(main())
    assert len(calls) == 4


def test_what_ends_a_program_is_not_retried_in_a_group_either():
    calls = []

    @o.opero(o.Retry(3, wait=0, on=~LOST | LOST))
    def stop():
        calls.append(1)
        raise BaseExceptionGroup("", [ConnectionError(), KeyboardInterrupt()])

    with pytest.raises(BaseExceptionGroup):
        stop()
    assert len(calls) == 1


@pytest.mark.parametrize(("ignore", "state"), [((), "open"), (LOST, "closed")])
def test_a_breaker_counts_and_ignores_by_it(ignore, state):
    @o.opero(o.CircuitBreaker(consecutive=1, on=LOST, ignore=ignore))
    def fetch(*errors):
        raise group(*errors)

    with pytest.raises(ExceptionGroup):
        fetch(KeyError())
    assert fetch.opero.breaker.state == "closed"
    with pytest.raises(ExceptionGroup):
        fetch(ConnectionError())
    assert fetch.opero.breaker.state == state


@pytest.mark.parametrize("fallback", [o.Fallback("old", on=LOST), o.Fallback(by={LOST: "old"})], ids=["on", "by"])
def test_a_fallback_answers_by_it(fallback):
    @o.opero(fallback)
    def fetch(*errors):
        raise group(*errors)

    assert fetch(ConnectionError(), ConnectionError()) == "old"
    with pytest.raises(ExceptionGroup):
        fetch(ConnectionError(), KeyError())


def test_an_alternative_is_tried_by_it():
    @o.opero(o.ArgFallback("key", alternatives=["a", "b"], on=LOST))
    def fetch(key=None):
        if key == "a":
            raise group(ConnectionError())
        return key

    assert fetch() == "b"
