"""Policies alone: a block takes the place of the function, with the same layers, counts and refusals."""

import asyncio
import threading
import time

import pytest

import opero as o
from opero import catalogue, testing
from together import together


def operation(name):
    return next(each for each in catalogue.operations() if each.name == name)


def test_a_block_is_a_call_that_is_counted_and_told():
    limit = o.RateLimit(1, burst=1, wait=False, name="alone.limit")
    with limit:
        pass
    with (
        pytest.raises(o.RateLimitedError, match=r"^alone\.limit may make 1 call a second; the next may go in \d\S* s$"),
        limit,
    ):
        pass
    stats = operation("alone.limit").book.stats()
    assert (stats["calls"], stats["ok"], stats["rejected"]) == (2, 1, 1)


def test_blocks_nest_and_tasks_have_their_own():
    slots = o.Bulkhead(3, name="alone.slots")

    async def work(most):
        async with slots, slots:
            await asyncio.sleep(0)
            most.append(slots.slots.used)

    async def main(most):
        await asyncio.gather(work(most), work(most), return_exceptions=True)

    asyncio.run(main(most := []))
    assert most
    assert max(most) <= 3
    assert slots.slots.used == 0
    with slots, slots, slots:
        assert slots.slots.used == 3
    assert slots.slots.used == 0


def test_errors_of_the_block_pass_unchanged_and_are_outcomes():
    breaker, mine = o.CircuitBreaker(min_calls=1), OSError("mine")
    with pytest.raises(OSError) as caught, breaker:
        raise mine
    assert caught.value is mine
    with pytest.raises(o.CircuitOpenError), breaker:
        pass


def test_a_stop_iteration_of_the_block_is_the_users():
    with pytest.raises(StopIteration), o.Bulkhead(1):
        raise StopIteration(5)
    mine = StopIteration(5)

    async def block():
        try:
            async with o.Bulkhead(1):
                raise mine
        except StopIteration as stopped:
            return stopped

    assert asyncio.run(block()) is mine


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_what_ends_the_program_passes_through_a_block_and_counts_nothing(stop):
    breaker = o.CircuitBreaker(min_calls=1)
    with pytest.raises(stop), breaker:
        raise stop
    assert breaker.state == "closed"


def test_a_cancelled_block_gives_everything_back():
    slots, breaker = o.Bulkhead(1, max_queue=1), o.CircuitBreaker(min_calls=1)

    async def hold():
        async with breaker, slots:
            await asyncio.sleep(60)

    async def main():
        tasks = [asyncio.create_task(hold()) for _ in range(2)]
        await asyncio.sleep(0)
        assert (slots.slots.used, len(slots.slots.queue)) == (1, 1)
        for task in reversed(tasks):
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(result) for result in results] == [asyncio.CancelledError] * 2

    asyncio.run(main())
    assert (slots.slots.used, len(slots.slots.queue), breaker.state) == (0, 0, "closed")


def test_waiting_for_a_block_takes_its_time_and_no_more():
    limit = o.RateLimit(1, burst=1)

    async def main():
        for _ in range(3):
            async with limit:
                pass

    with testing.clock() as virtual:
        asyncio.run(main())
        assert virtual.elapsed() == 2
        with limit:
            assert virtual.elapsed() == 3


def test_a_timeout_around_an_async_block_cancels_it_and_is_not_mistaken():
    async def main():
        with pytest.raises(o.CallTimeout):
            async with o.Timeout(5):
                await asyncio.sleep(60)
        with pytest.raises(TimeoutError) as caught:
            async with asyncio.timeout(1), o.Timeout(5):
                await asyncio.sleep(60)
        return type(caught.value)

    with testing.clock() as virtual:
        assert asyncio.run(main()) is TimeoutError
        assert virtual.elapsed() == 6


def test_one_policy_is_shared_by_blocks_and_functions():
    breaker = o.CircuitBreaker(min_calls=1)
    with pytest.raises(OSError), breaker:
        raise OSError
    with pytest.raises(o.CircuitOpenError):
        o.opero(breaker)(lambda: 1)()


def test_key_and_weight_of_a_block_are_given_by_its_arguments():
    limit = o.RateLimit(2, per=60, wait=False, key="tenant", weight=lambda n=1, tenant=None: n)
    with limit.block(2, tenant="a"), limit.block(1, tenant="b"):
        pass
    with pytest.raises(o.RateLimitedError), limit.block(1, tenant="a"):
        pass


@pytest.mark.parametrize("policy", [o.RateLimit(2, per=60, key="tenant"), o.CircuitBreaker(key="tenant")])
@pytest.mark.parametrize("given", [(), ("acme",)])
def test_a_block_that_is_not_told_its_key_is_refused(policy, given):
    with pytest.raises(o.ConfigurationError, match=r"key='tenant': .*policy\.block\(tenant=\.\.\.\)"):
        policy.block(*given)
    with pytest.raises(o.ConfigurationError, match=r"policy\.block\(tenant=\.\.\.\)"), policy:
        pass


@pytest.mark.parametrize(
    ("policy", "field"),
    [
        (o.RateLimit(9, weight=lambda n: n), "weight"),
        (o.RateLimit(9, key=lambda n: n), "key"),
        (o.CircuitBreaker(key=lambda n: n), "key"),
    ],
    ids=["weight", "key", "breaker"],
)
def test_a_block_that_is_not_told_what_its_functions_ask_for_is_refused(policy, field):
    said = rf"{field}=<function .*: {field} takes a block that is told its arguments, policy\.block\(.*takes \(n\)"
    with pytest.raises(o.ConfigurationError, match=said), policy:
        pass
    with pytest.raises(o.ConfigurationError, match=said):
        policy.block(1, 2)
    with policy.block(1), policy.block(n=2):
        pass


def test_functions_that_ask_for_nothing_leave_a_block_as_it_is():
    limit = o.RateLimit(9, wait=False, weight=lambda n=3: n, key=lambda *_, **__: "all")
    with limit, limit.block(4):
        pass
    assert limit.peek("all")[0] == 2


def test_a_retry_around_a_block_names_the_loop():
    said = r"with=Retry.* `for attempt in Retry\(\.\.\.\)` repeats one"
    with pytest.raises(o.ConfigurationError, match=said), o.Retry(2):
        pass

    async def main():
        async with o.Retry(2):
            pass

    with pytest.raises(o.ConfigurationError, match=said):
        asyncio.run(main())


def test_a_block_is_entered_once_and_in_the_right_place():
    block = o.Bulkhead(1).block()
    with block:
        pass
    with pytest.raises(RuntimeError, match="entered before"), block:
        pass
    with pytest.raises(RuntimeError, match="never entered"):
        o.Bulkhead(1).block().__exit__(None, None, None)
    policy = o.Bulkhead(1)
    policy.__enter__()
    failed = []

    def leave():
        try:
            policy.__exit__(None, None, None)
        except RuntimeError as error:
            failed.append(str(error))

    thread = threading.Thread(target=leave)
    thread.start()
    thread.join()
    assert "entered in another thread" in failed[0]
    policy.__exit__(None, None, None)
    assert policy.slots.used == 0


def test_blocks_of_threads_wait_for_each_other():
    slots, inside, most = o.Bulkhead(2, max_queue=20), [], []

    def work():
        with slots:
            inside.append(1)
            most.append(len(inside))
            time.sleep(0.001)
            inside.pop()

    together(*[work] * 12)
    assert len(most) == 12
    assert max(most) <= 2
