"""Of all who want one result at once, one loads it."""

import asyncio
import gc
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest

import opero as o


class Gate:
    """A function of one result that waits inside until it is let go."""

    def __init__(self, answer=7):
        self.calls = 0
        self.entered = threading.Event()
        self.go = threading.Event()
        self.answer = answer

    def __call__(self, x=0):
        self.calls += 1
        self.entered.set()
        assert self.go.wait(20)
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer


def crowd(function, size, gate=None):
    """Call it from so many threads at once; return the outcomes."""
    outcomes = []

    def work():
        try:
            outcomes.append(function())
        except BaseException as error:
            outcomes.append(error)

    threads = [threading.Thread(target=work) for _ in range(size)]
    for thread in threads:
        thread.start()
    if gate is not None:
        waiting = function.opero.policies[0].state.flights
        while sum(len(f.waiters) for flights in list(waiting._flights.values()) for f in flights.values()) < size - 1:
            gate.entered.wait(0.01)
        gate.go.set()
    for thread in threads:
        thread.join(30)
    return outcomes


def test_a_thousand_threads_make_one_call():
    gate = Gate()
    f = o.opero(o.Cache(60))(gate)
    assert crowd(f, 1000, gate) == [7] * 1000
    assert gate.calls == 1
    stats = f.opero.cache.stats()
    assert (stats["misses"], stats["coalesced"]) == (1, 999)
    assert f.opero.stats()["cached"] == 999


def test_a_thousand_tasks_make_one_call():
    calls = []

    @o.opero(o.Cache(60))
    async def f():
        calls.append(1)
        await asyncio.sleep(0.01)
        return 7

    async def main():
        return await asyncio.gather(*(f() for _ in range(1000)))

    assert asyncio.run(main()) == [7] * 1000
    assert len(calls) == 1


def test_no_call_is_made_twice_when_callers_come_and_go_all_the_time():
    made = []

    @o.opero(o.Cache(60))
    def f(n):
        made.append(n)
        return n

    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(f, [n // 32 for n in range(6400)])) == [n // 32 for n in range(6400)]
    assert sorted(made) == list(range(200))


def test_a_failing_load_fails_all_who_wait_with_one_call_and_its_history():
    gate = Gate(OSError("down"))
    f = o.opero(o.Cache(60))(gate)
    outcomes = crowd(f, 20, gate)
    assert all(outcome is gate.answer for outcome in outcomes)
    assert gate.calls == 1
    assert len(o.attempts(gate.answer)) == 1
    assert f.opero.stats()["errors"] == 20


def test_a_thread_that_is_interrupted_hands_over_to_one_who_waits():
    gate = Gate(KeyboardInterrupt())

    @o.opero(o.Cache(60))
    def f():
        if gate.calls:
            gate.calls += 1
            return 7
        return gate()

    outcomes = crowd(f, 10, gate)
    assert sorted(map(str, outcomes)) == ["", *["7"] * 9]
    assert gate.calls == 2


def test_a_cancelled_leader_hands_over_and_its_own_caller_alone_is_cancelled():
    calls = []

    @o.opero(o.Cache(60))
    async def f():
        calls.append(1)
        await asyncio.sleep(0.05)
        return len(calls)

    async def main():
        first = asyncio.create_task(f())
        await asyncio.sleep(0)
        rest = [asyncio.create_task(f()) for _ in range(5)]
        await asyncio.sleep(0.01)
        first.cancel()
        outcomes = await asyncio.gather(first, *rest, return_exceptions=True)
        assert isinstance(outcomes[0], asyncio.CancelledError)
        return outcomes[1:]

    assert asyncio.run(main()) == [1] * 5
    assert f.opero.stats()["cancelled"] == 1


def test_a_load_that_is_itself_cancelled_goes_on_with_the_next_and_raises_in_its_caller():
    calls = []

    @o.opero(o.Cache(60))
    async def f():
        calls.append(1)
        await asyncio.sleep(0.01)
        if len(calls) == 1:
            raise asyncio.CancelledError
        return 7

    async def main():
        return await asyncio.gather(*(f() for _ in range(5)), return_exceptions=True)

    first, *rest = asyncio.run(main())
    assert isinstance(first, asyncio.CancelledError)
    assert (rest, len(calls)) == ([7] * 4, 2)


def test_a_load_that_nobody_waits_for_any_more_is_cancelled():
    seen = []

    @o.opero(o.Cache(60))
    async def f():
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    async def main():
        tasks = [asyncio.create_task(f()) for _ in range(3)]
        await asyncio.sleep(0.01)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0.01)

    asyncio.run(main())
    assert seen == ["cancelled"]
    assert len(f.opero.policies[0].state.flights) == 0


def test_the_end_of_a_program_reaches_who_awaits():
    @o.opero(o.Cache(60))
    async def f():
        raise SystemExit(3)

    async def main():
        with pytest.raises(SystemExit):
            await f()
        return "went on"

    assert asyncio.run(main()) == "went on"


def test_loops_do_not_wait_for_one_another():
    @o.opero(o.Cache(60))
    async def f():
        await asyncio.sleep(0.05)
        return 7

    stuck = asyncio.new_event_loop()
    task = stuck.create_task(f())
    stuck.run_until_complete(asyncio.sleep(0.01))
    try:
        assert asyncio.run(asyncio.wait_for(f(), 10)) == 7
    finally:
        task.cancel()
        stuck.run_until_complete(asyncio.sleep(0.01))
        stuck.close()


def test_computing_ones_own_result_is_an_error_not_a_deadlock():
    @o.opero(o.Cache(60))
    def f(x):
        return f(x)

    with pytest.raises(o.CacheError, match="its own result"):
        f(1)

    @o.opero(o.Cache(60))
    def fib(n):
        return n if n < 2 else fib(n - 1) + fib(n - 2)

    assert fib(20) == 6765

    @o.opero(o.Cache(60))
    async def g(x):
        return await asyncio.gather(g(x), g(x))

    with pytest.raises(o.CacheError):
        asyncio.run(asyncio.wait_for(g(1), 10))


def test_two_threads_that_need_each_others_result_do_not_deadlock():
    both = threading.Barrier(2, timeout=20)

    @o.opero(o.Cache(60))
    def f(x, depth=2):
        if depth == 2 and both.n_waiting < 2:
            both.wait()
        return f(1 - x)

    outcomes = []

    def work(x):
        try:
            outcomes.append(f(x))
        except o.CacheError as error:
            outcomes.append(error)

    threads = [threading.Thread(target=work, args=(x,), daemon=True) for x in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(outcomes) == 2
    assert all(isinstance(outcome, o.CacheError) for outcome in outcomes)


def test_who_waits_for_anothers_load_gives_up_at_its_own_deadline():
    gate = Gate()
    cache = o.Cache(60)
    f = o.opero(cache)(gate)
    hurried = f.opero.with_(o.Timeout(0.05), order=["timeout", "cache"])
    leader = threading.Thread(target=f)
    leader.start()
    assert gate.entered.wait(20)
    with pytest.raises(o.CallTimeout):
        hurried()
    gate.go.set()
    leader.join(20)
    assert gate.calls == 1


@pytest.mark.parametrize("kind", ["thread", "task"])
def test_a_failed_load_leaves_no_circle_behind(kind):
    class Mine(Exception): ...

    def fail():
        raise Mine

    async def fail_async():
        await asyncio.sleep(0)
        raise Mine

    f = o.opero(o.Cache(60))(fail if kind == "thread" else fail_async)

    async def main():
        try:
            await f()
        except Mine as error:
            return weakref.ref(error)

    gc.collect()
    gc.disable()
    try:
        if kind == "task":
            seen = asyncio.run(main())
        else:
            try:
                f()
            except Mine as error:
                seen = weakref.ref(error)
        assert seen() is None
    finally:
        gc.enable()


def test_an_interrupted_thread_leaves_nothing_behind():
    stop = KeyboardInterrupt()

    @o.opero(o.Cache(60))
    def f():
        raise stop

    with pytest.raises(KeyboardInterrupt):
        f()
    assert len(f.opero.policies[0].state.flights) == 0
