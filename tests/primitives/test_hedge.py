"""When it hedges, what it learns, and that nothing of a race is left behind."""

import asyncio
import contextlib
import threading

import pytest

import opero as o
from garbage import ROUNDS, uncollected
from opero import testing
from opero.primitives.hedge import Latencies
from opero.workers import spare
from together import wait_for


def test_a_percentile_is_learnt_from_twenty_answers_on():
    latencies = Latencies(0.95)
    for n in range(1, 20):
        latencies.add(n / 100)
    assert latencies.quantile() is None
    latencies.add(0.2)
    assert latencies.quantile() == pytest.approx(0.19, rel=0.07)


def test_what_was_learnt_long_ago_is_forgotten():
    latencies = Latencies(0.5)
    for _ in range(1000):
        latencies.add(10.0)
    for _ in range(1000):
        latencies.add(0.1)
    assert latencies.quantile() == pytest.approx(0.1, rel=0.07)
    assert (latencies._old, latencies._count) == (1000, 0)
    latencies.after_fork()
    assert latencies.quantile() is None


@pytest.mark.parametrize("wrong", ["95", "pxx", "p0", "p100", "", True, None, [1]])
def test_a_delay_is_seconds_or_a_percentile(wrong):
    with pytest.raises(o.ConfigurationError, match=r'delay takes seconds, or a percentile such as "p95"$'):
        o.Hedge(wrong)


def test_a_percentile_may_be_any_above_0_and_below_100():
    assert [o.Hedge(f"p{percent}").latencies.share for percent in ("0.5", "1", "99.9")] == pytest.approx(
        [0.005, 0.01, 0.999]
    )


def test_a_forked_child_learns_anew():
    from opero import forks

    latencies = o.Hedge("p95").latencies
    assert latencies.share == 0.95
    assert any(known is latencies for known in forks._objects)


def service(slow_every):
    """Return a coroutine function whose every n-th call takes 1 s instead of 10 ms, and the calls it got."""
    calls, cancelled = [], []

    async def f():
        calls.append(1)
        try:
            await asyncio.sleep(1.0 if len(calls) % slow_every == 0 else 0.01)
        except asyncio.CancelledError:
            cancelled.append(1)
            raise
        return len(calls)

    return f, calls, cancelled


def test_the_tail_is_cut_for_a_few_more_calls():
    f, calls, cancelled = service(slow_every=25)
    hedged = o.opero(hedge="adaptive", name="tail")(f)

    async def main():
        for _ in range(500):
            await hedged()

    with testing.clock():
        asyncio.run(main())
    stats = hedged.opero.stats()
    assert stats["calls"] == 500
    assert len(calls) == stats["attempts"] < 500 * 1.1
    assert len(cancelled) > 10
    learnt = hedged.opero.operation.places["hedge"].latencies
    assert learnt._count == 500 + len(cancelled)  # each answer, and how long each loser had taken
    assert stats["p99"] < 0.1
    assert stats["active"] == 0


def learnt_from_one_call(*seconds):
    """Let 20 answers take 0.1 s, and the attempts of one call so long; return how many were learnt, and the longest."""
    policy, takes = o.Hedge("p99"), iter(seconds)
    for _ in range(20):
        policy.latencies.add(0.1)

    @o.opero(policy)
    async def f():
        await asyncio.sleep(next(takes))

    with testing.clock():
        asyncio.run(f())
    return policy.latencies._count - 20, policy.after()


def test_it_learns_how_long_the_first_attempt_took_at_least_and_nothing_from_a_hedge_that_lost():
    assert learnt_from_one_call(0.5, 0.5) == (1, pytest.approx(0.5, rel=0.07))
    assert learnt_from_one_call(9.0, 0.2) == (2, pytest.approx(0.3, rel=0.07))


ENDS = pytest.mark.parametrize("fails", [False, True])


@ENDS
def test_threads_that_raced_leave_no_circle_behind(fails):
    begun, hold = [], threading.Semaphore(0)
    others = set(spare.at_work())  # what earlier tests abandoned

    @o.opero(o.Hedge(0.001))
    def f():
        begun.append(1)
        if len(begun) % 2:
            hold.acquire(timeout=10)
        if fails:
            raise OSError

    def calls():
        for _ in range(10):
            threading.Timer(0.01, hold.release).start()
            with contextlib.suppress(OSError):
                f()
            wait_for(lambda: others.issuperset(spare.at_work()))

    calls()
    with uncollected() as circles:
        assert 0 in [calls() or circles() for _ in ROUNDS]


@ENDS
def test_tasks_that_raced_leave_no_circle_behind(fails):
    begun = []

    @o.opero(o.Hedge(1))
    async def f():
        begun.append(1)
        await asyncio.sleep(len(begun) % 2 * 5)
        if fails:
            raise OSError

    async def calls():
        for _ in range(10):
            with contextlib.suppress(OSError):
                await f()

    async def main():
        await calls()
        with uncollected() as circles:
            return [await calls() or circles() for _ in ROUNDS]

    with testing.clock():
        assert 0 in asyncio.run(main())
    assert len(begun) == 20 * (1 + len(ROUNDS))


def test_losers_have_ended_when_the_call_returns():
    f, _, cancelled = service(slow_every=1)

    async def main():
        running = asyncio.all_tasks()
        with pytest.raises(o.CallTimeout):
            await o.opero(o.Hedge(0.1, max_hedges=3), o.Timeout(0.5))(f)()
        assert asyncio.all_tasks() == running

    with testing.clock():
        asyncio.run(main())
    assert not cancelled or len(cancelled) == 4


def test_cancelling_the_call_cancels_every_attempt():
    f, calls, cancelled = service(slow_every=1)
    hedged = o.opero(hedge=0.1, bulkhead=5)(f)

    async def main():
        task = asyncio.create_task(hedged())
        await asyncio.sleep(0.5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    with testing.clock():
        asyncio.run(main())
    assert (len(calls), len(cancelled)) == (2, 2)
    stats = hedged.opero.stats()
    assert (stats["cancelled"], stats["active"], stats["errors"]) == (1, 0, 0)
    assert hedged.opero.operation.places["bulkhead"].slots.used == 0


def test_several_hedges_one_after_the_other():
    f, calls, _ = service(slow_every=1)
    hedged = o.opero(o.Hedge(0.3, max_hedges=2))(f)

    async def main():
        running = asyncio.all_tasks()
        await hedged()
        assert asyncio.all_tasks() == running

    with testing.clock():
        asyncio.run(main())
    assert len(calls) == 3
    assert hedged.opero.operation.book.read()[0]["opero.hedge.requests", ("cancelled",)] == 2


def test_a_third_attempt_starts_as_long_after_the_second_as_that_after_the_first():
    started = []

    @o.opero(o.Hedge(0.3, max_hedges=2))
    async def f():
        started.append(testing_time.elapsed())
        await asyncio.sleep(1.0)

    with testing.clock() as testing_time:
        asyncio.run(f())
    assert started == pytest.approx([0, 0.3, 0.6])


def test_a_thread_that_lost_is_counted_until_it_ends():
    go, calls = threading.Event(), []

    @o.opero(hedge=0.01)
    def f():
        calls.append(1)
        if len(calls) == 1:
            go.wait(10)
        return len(calls)

    before = spare.abandoned()
    assert f() == 2
    assert spare.abandoned() == before + 1
    go.set()
    wait_for(lambda: spare.abandoned() == before)
    stats = f.opero.stats()
    assert (stats["calls"], stats["attempts"], stats["active"]) == (1, 2, 0)


def test_without_room_for_threads_it_does_not_hedge(monkeypatch):
    from opero.drivers import blocking

    monkeypatch.setattr(blocking, "MAX_THREADS", 0)
    f = o.opero(hedge=0)(threading.get_ident)
    assert f() == threading.get_ident()


def test_where_no_thread_can_be_started_the_function_is_called_in_that_of_its_caller(threads):
    @o.opero(o.Hedge(0.01))
    def f():
        return threading.current_thread()

    before = spare.at_work()
    threads(False)
    assert f() is threading.current_thread()
    assert spare.at_work() == before
    threads(True)
    assert f() is not threading.current_thread()


def test_a_hedge_for_which_no_thread_can_be_started_is_none_and_costs_nothing(threads):
    budget = o.RetryBudget(0.1, min_per_second=0, cap=1)
    go = threading.Event()

    @o.opero(o.Hedge(0.2), budget)
    def f():
        threads(False)
        go.wait(20)
        return 1

    with testing.capture() as seen:
        later = threading.Timer(0.5, go.set)
        later.start()
        assert f() == 1
        later.join()
    assert "opero.hedge.launched" not in seen.names()
    budget.spend()


def test_the_context_of_the_caller_is_seen_by_every_attempt():
    @o.opero(hedge=0)
    def f():
        return o.events.current_correlation_id()

    with o.correlation_id("req-42"):
        assert f() == "req-42"


def test_a_hedged_function_survives_a_pickle():
    import pickle

    copy = pickle.loads(pickle.dumps(o.Hedge("p95", max_hedges=2)))
    assert (copy.delay, copy.max_hedges, copy.after()) == ("p95", 2, None)


def test_hedges_at_a_percentile_are_no_more_than_their_share():
    latencies = Latencies(0.95)
    assert sum(latencies.spend() for _ in range(1000)) == 100  # in a row
    launched = 0
    for _ in range(1000):
        latencies.add(1.0)
        launched += latencies.spend()
    assert launched == pytest.approx(56, abs=1)


def test_a_call_that_got_no_share_is_not_hedged_later():
    policy, calls = o.Hedge("p95", max_hedges=9), []
    for _ in range(20):
        policy.latencies.add(0.1)

    @o.opero(policy)
    async def f():
        calls.append(1)
        while policy.latencies.spend():
            pass
        await asyncio.sleep(0.15)  # refused by now
        for _ in range(100):
            policy.latencies.add(0.1)
        await asyncio.sleep(1)

    with testing.clock():
        asyncio.run(f())
    assert len(calls) == 1


def test_hedges_after_fixed_seconds_have_no_share():
    latencies = Latencies(None)
    assert all(latencies.spend() for _ in range(1000))


def test_what_ends_the_program_goes_before_what_the_first_attempt_failed_of():
    ends = iter([OSError(), SystemExit(3)])

    @o.opero(o.Hedge(0.1), retries=0)
    async def f():
        error = next(ends)
        await asyncio.sleep(0.2)
        raise error

    with testing.clock(), pytest.raises(SystemExit):
        asyncio.run(f())
