"""`for attempt in Retry(...)`: the body is a call."""

import asyncio
import contextlib
import gc
import threading
import typing
import weakref
from concurrent import futures

import pytest

import opero as o
from opero import clock, events, testing


def attempts(policy, outcomes):
    """Run a loop over outcomes, plainly; return the numbers of its attempts."""
    numbers, left = [], list(outcomes)
    for attempt in policy:
        with attempt:
            numbers.append(attempt.number)
            outcome = left.pop(0)
            if isinstance(outcome, BaseException):
                raise outcome
            attempt.result = outcome
    return numbers


def async_attempts(policy, outcomes):
    numbers, left = [], list(outcomes)

    async def run():
        try:
            async for attempt in policy:
                with attempt:
                    numbers.append(attempt.number)
                    await asyncio.sleep(0)
                    outcome = left.pop(0)
                    if isinstance(outcome, BaseException):
                        raise outcome
                    attempt.result = outcome
        except StopIteration as stopped:  # no coroutine may raise it
            return stopped

    if stopped := asyncio.run(run()):
        raise stopped
    return numbers


@pytest.fixture(params=[attempts, async_attempts], ids=["sync", "async"])
def loop(request):
    with testing.clock(start=0):
        yield request.param


def test_it_ends_after_the_first_success(loop):
    assert loop(o.Retry(3, wait=2, jitter="none"), [OSError(), OSError(), 7]) == [1, 2, 3]
    assert clock.now() == 4


def test_the_last_error_passes_through_itself_with_its_history(loop):
    last = OSError("last")
    with pytest.raises(OSError) as caught:
        loop(o.Retry(1, wait=2, jitter="none"), [OSError(), last])
    assert caught.value is last
    assert [a.number for a in o.attempts(last)] == [1, 2]
    assert last.__notes__ == ["opero: 2 attempts in 2 s"]


def test_an_error_that_is_not_named_passes_at_once(loop):
    with pytest.raises(KeyError):
        loop(o.Retry(3, on=OSError), [KeyError(), 7])


def test_a_result_may_be_unwanted(loop):
    assert loop(o.Retry(3, wait=1, on_result=lambda r: r is None), [None, None, 7]) == [1, 2, 3]


def test_what_ends_the_program_passes_at_once(loop):
    for stop in (KeyboardInterrupt(), SystemExit(), GeneratorExit()):
        with pytest.raises(type(stop)):
            loop(o.Retry(3), [stop, 7])


@pytest.mark.parametrize("kind", [StopIteration, StopAsyncIteration])
def test_what_ends_an_iteration_is_an_error_like_any_other(loop, kind):
    assert loop(o.Retry(1, wait=2, jitter="none"), [kind("first"), 7]) == [1, 2]
    last = kind("last")
    with pytest.raises(kind) as caught:
        loop(o.Retry(1, wait=2, jitter="none"), [kind("first"), last])
    assert caught.value is last
    assert [(a.number, type(a.error)) for a in o.attempts(last)] == [(1, kind), (2, kind)]
    assert last.__notes__ == ["opero: 2 attempts in 2 s"]
    assert last.__cause__ is last.__context__ is None


@pytest.mark.parametrize("kind", [StopIteration, StopAsyncIteration])
def test_what_ends_an_iteration_passes_a_loop_that_does_not_retry_it(loop, kind):
    last = kind("last")
    with pytest.raises(kind) as caught:
        loop(o.Retry(3, on=OSError), [OSError(), last])
    assert caught.value is last


@pytest.mark.parametrize("kind", [StopIteration, StopAsyncIteration])
def test_what_ends_an_iteration_is_not_lost_where_the_head_of_the_loop_raises_it(loop, kind):
    told = threading.Event()
    stop = o.stops.event(told)
    with events.subscribe(lambda _: told.set(), "opero.retry.scheduled"), pytest.raises((kind, RuntimeError)) as caught:
        loop(o.Retry(3, stop=stop), [kind("last"), 7])
    assert str(caught.value) in {"last", f"the last attempt raised {kind.__name__}"}
    assert kind in {type(caught.value), type(caught.value.__cause__)}


def test_the_budget_and_the_last_word_hold_here_too(loop):
    budget = o.RetryBudget(min_per_second=0, cap=1)
    mine = KeyError("mine")
    with pytest.raises(OSError):
        loop(o.Retry(3, budget=budget), [OSError(), OSError(), 7])
    with pytest.raises(KeyError) as caught:
        loop(o.Retry(3), [o.DoNotRetry(mine)])
    assert caught.value is mine


def test_a_loop_is_a_call_to_telemetry(loop):
    policy, heard = o.Retry(1, wait=0, name="import"), []
    with events.subscribe(heard.append, "opero.call.*", "opero.attempt.finished", "opero.retry.*"):
        loop(policy, [OSError(), 7])
        loop(policy, [8])
    assert [event.name.removeprefix("opero.") for event in heard] == [
        "call.started", "attempt.finished", "retry.scheduled", "attempt.finished", "retry.succeeded", "call.finished",
        "call.started", "attempt.finished", "call.finished",
    ]  # fmt: skip
    assert {event.operation for event in heard} == {"import"}


def told_by(loop):
    with events.subscribe((heard := []).append, "opero.call.finished"):
        loop()
    return {event.operation for event in heard}


def test_a_loop_without_a_name_is_called_after_the_function_it_stands_in():
    policy = o.Retry(1, wait=0)  # one policy in several places

    def plain():
        for attempt in policy:
            with attempt:
                pass

    async def asynchronous():
        async for attempt in policy:
            with attempt:
                pass

    module = {"policy": policy, "__name__": "shop.jobs"}
    within = f"{__name__}.{test_a_loop_without_a_name_is_called_after_the_function_it_stands_in.__name__}.<locals>"
    assert told_by(plain) == told_by(plain) == {f"{within}.plain"}
    assert told_by(lambda: asyncio.run(asynchronous())) == {f"{within}.asynchronous"}
    assert told_by(lambda: exec("for each in policy:\n with each: pass", module)) == {"shop.jobs"}


@pytest.mark.parametrize(
    "hand_over", [lambda work: asyncio.wait_for(work, 5), asyncio.create_task], ids=["wait", "task"]
)
def test_a_loop_in_another_task_is_not_repeated_by_the_loop_around_it(hand_over):
    calls = []

    async def inner():
        async for attempt in o.Retry(2, wait=0):
            with attempt:
                calls.append(1)
                raise OSError

    async def outer():
        async for attempt in o.Retry(2, wait=0):
            with attempt:
                await hand_over(inner())

    with pytest.raises(OSError):
        asyncio.run(outer())
    assert len(calls) == 3


def test_a_loop_in_another_thread_is_not_repeated_by_the_loop_around_it():
    calls = []

    def inner():
        for attempt in o.Retry(2, wait=0):
            with attempt:
                calls.append(1)
                raise OSError

    def outer():
        for attempt in o.Retry(2, wait=0):
            with attempt:
                pool.submit(inner).result()

    with futures.ThreadPoolExecutor(1) as pool, pytest.raises(OSError):
        outer()
    assert len(calls) == 3


def test_leaving_the_body_early_is_a_success():
    def find():
        for attempt in o.Retry(3):
            with attempt:
                return attempt.number
        return None

    assert find() == 1


def test_async_with_does_the_same():
    async def main():
        async for attempt in o.Retry(2, wait=0):
            async with attempt:
                if attempt.number < 3:
                    raise OSError
                return attempt.number
        return None

    assert asyncio.run(main()) == 3


def test_cancelling_during_the_wait_is_not_delayed():
    async def work():
        async for attempt in o.Retry(3, wait=100, jitter="none"):
            with attempt:
                raise OSError

    async def main():
        task = asyncio.create_task(work())
        await asyncio.sleep(1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return clock.now()

    with testing.clock(start=0):
        assert asyncio.run(main()) == 1


def test_a_body_without_its_attempt_is_an_error_not_a_loop_without_end():
    def forget():
        for _ in o.Retry(3):
            continue

    with pytest.raises(RuntimeError, match="with attempt"):
        forget()


def test_a_retried_function_inside_is_not_retried_again(loop):
    calls = []

    @o.opero(retries=2, min_delay=1)
    def down():
        calls.append(1)
        raise OSError

    def repeat():
        for attempt in o.Retry(2, wait=1):
            with attempt:
                down()

    with pytest.raises(OSError):
        repeat()
    assert len(calls) == 3


@pytest.mark.parametrize("leave", ["break", "raise", "return"])
def test_leaving_after_a_failed_attempt_waits_for_nothing_and_makes_no_other(leave):
    budget = o.RetryBudget(min_per_second=0, cap=1)
    policy = o.Retry(2, wait=5, jitter="none", budget=budget, name=f"left by {leave}")

    def work():
        for attempt in policy:
            with attempt:
                raise OSError
            if leave == "break":
                break
            if leave == "raise":
                raise KeyError
            return

    with testing.clock() as virtual, testing.capture() as captured:
        try:
            work()
        except KeyError as error:
            del error
        assert virtual.elapsed() == 0
    assert [(span["name"], span["outcome"]) for span in captured.spans] == [
        (policy.name, "cancelled"),
        (f"{policy.name} attempt", "retryable"),
    ]
    budget.spend()  # nothing was paid for


def test_leaving_an_asynchronous_loop_is_the_same():
    budget = o.RetryBudget(min_per_second=0, cap=1)

    async def work():
        async for attempt in o.Retry(2, wait=5, jitter="none", budget=budget):
            with attempt:
                raise OSError
            break
        budget.spend()
        return attempt.number

    with testing.clock() as virtual:
        assert asyncio.run(work()) == 1
        assert virtual.elapsed() == 0


def test_the_wait_begins_after_the_rest_of_the_turn(loop):
    rest = []

    async def aside():
        async for attempt in o.Retry(1, wait=5, jitter="none"):
            with attempt:
                if attempt.number == 1:
                    raise OSError
            rest.append(clock.now())

    def plainly():
        for attempt in o.Retry(1, wait=5, jitter="none"):
            with attempt:
                if attempt.number == 1:
                    raise OSError
            rest.append(clock.now())

    plainly() if loop is attempts else asyncio.run(aside())
    assert rest == [0, 5]


def test_an_attempt_is_made_once():
    for attempt in o.Retry(2, wait=0):
        with attempt:
            pass
        with pytest.raises(o.ConfigurationError, match="once in each turn"), attempt:
            pass


@pytest.mark.parametrize("seconds", [0, 1])
def test_a_condition_may_be_awaited_in_an_asynchronous_loop(seconds):
    async def passing(error):
        await asyncio.sleep(seconds)
        return True

    policy = o.Retry(2, wait=5, jitter="none", on=passing, name=f"asked for {seconds} s")
    with testing.clock() as virtual, testing.capture() as captured, pytest.raises(OSError) as caught:
        async_attempts(policy, [OSError(), OSError(), OSError()])
    assert virtual.elapsed() == 10 + 3 * seconds
    assert [attempt.number for attempt in o.attempts(caught.value)] == [1, 2, 3]
    assert [span["outcome"] for span in captured.spans] == ["error", *["retryable"] * 3]


def test_a_loop_begins_nothing_after_the_deadline_around_it():
    made = []

    @o.opero(o.Timeout(1, how="cooperative"), retries=0)
    def work():
        for attempt in o.Retry(3, wait=0):
            with attempt:
                made.append(attempt.number)
                raise OSError
            clock.sleep(2)

    with testing.clock(), pytest.raises(o.CallTimeout):
        work()
    assert made == [1]


def failing_loop():
    for attempt in o.Retry(1, wait=0):
        with attempt:
            raise Lost


def failing_block():
    with o.CircuitBreaker():
        raise Lost


def failing_own_block():
    with o.Bulkhead(1).block():
        raise Lost


class Lost(Exception):
    made: typing.ClassVar[list[weakref.ref]] = []

    def __init__(self):
        super().__init__()
        self.made.append(weakref.ref(self))


@pytest.mark.parametrize("fail", [failing_loop, failing_block, failing_own_block])
def test_the_errors_of_loops_and_blocks_lie_in_no_circle(fail):
    Lost.made.clear()
    gc.collect()
    gc.disable()
    try:
        with contextlib.suppress(Lost):
            fail()
        assert [made() for made in Lost.made] == [None] * len(Lost.made)
        assert Lost.made
    finally:
        gc.enable()
