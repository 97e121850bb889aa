"""Slots under threads, tasks and cancellation."""

import asyncio
import os
import pickle
import signal
import threading
import time

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

import opero as o
from child import held
from opero import fused, testing
from opero.slots import Slots


def test_threads_and_tasks_share_one_queue_first_come_first_served():
    policy, order, entered = o.Bulkhead(1, max_queue=10), [], threading.Event()
    go = threading.Event()

    @o.opero(policy)
    def hold():
        entered.set()
        go.wait(10)

    @o.opero(policy)
    def in_thread():
        order.append("thread")

    @o.opero(policy)
    async def in_task():
        order.append("task")

    holder = threading.Thread(target=hold)
    holder.start()
    entered.wait(10)

    async def main():
        task = asyncio.create_task(in_task())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert len(policy.slots.queue) == 1
        waiting = threading.Thread(target=in_thread)
        waiting.start()
        while len(policy.slots.queue) < 2:
            await asyncio.sleep(0)
        go.set()
        await task
        await asyncio.to_thread(waiting.join)

    asyncio.run(main())
    holder.join()
    assert order == ["task", "thread"]
    assert (policy.slots.used, len(policy.slots.queue)) == (0, 0)


@pytest.mark.parametrize("moment", ["queued", "handed_over"])
def test_a_cancelled_waiter_leaves_no_slot_behind(moment):
    policy = o.Bulkhead(1, max_queue=1)

    @o.opero(policy)
    async def f():
        return 1

    async def main():
        policy.slots.take()
        task = asyncio.create_task(f())
        while not policy.slots.queue:
            await asyncio.sleep(0)
        if moment == "handed_over":
            policy.slots.release(policy.slots.taken)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        if moment == "queued":
            policy.slots.release(policy.slots.taken)

    asyncio.run(main())
    assert (policy.slots.used, len(policy.slots.queue)) == (0, 0)
    assert f.opero.stats()["cancelled"] == 1


def test_never_more_in_flight_than_the_limit():
    running, most = 0, 0

    @o.opero(o.Bulkhead(3, max_queue=100))
    async def f():
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(1)
        running -= 1

    async def main():
        await asyncio.gather(*(f() for _ in range(20)))

    with testing.clock():
        asyncio.run(main())
    assert most == 3


def test_more_slots_are_given_out_at_once_and_fewer_hold_as_calls_end():
    policy = o.Bulkhead(1, max_queue=10)

    @o.opero(policy)
    async def f():
        await asyncio.sleep(1)

    async def main():
        tasks = [asyncio.create_task(f()) for _ in range(6)]
        await asyncio.sleep(0)
        policy.resize(3)
        await asyncio.sleep(0.5)
        assert (policy.slots.used, len(policy.slots.queue)) == (3, 3)
        policy.resize(1)
        await asyncio.sleep(1)
        assert (policy.slots.used, len(policy.slots.queue)) == (1, 2)
        await asyncio.gather(*tasks)

    with testing.clock() as time:
        asyncio.run(main())
        assert time.elapsed() == 4
    assert policy.slots.limit.set(2) == 2
    with pytest.raises(o.ConfigurationError, match="limit takes a whole number"):
        policy.resize(0)


def test_it_shows_the_limit_that_holds_now_and_so_does_a_copy():
    policy = o.Bulkhead(20, name="pool")
    policy.resize(30)
    assert policy.limit == pickle.loads(pickle.dumps(policy)).limit == 30
    assert repr(policy).startswith("Bulkhead(limit=30, max_queue=0, ")
    policy.slots.limit.set(12.5)
    assert (policy.limit, list(policy.observe(0.0))[1][2]) == (13, 13)
    assert policy.settings["limit"] == 20
    with pytest.raises(AttributeError, match="frozen"):
        policy.limit = 5


def test_a_waiter_of_a_closed_loop_costs_nobody_a_slot():
    policy = o.Bulkhead(1, max_queue=10)

    @o.opero(policy)
    async def f():
        return 1

    policy.slots.take()
    loop = asyncio.new_event_loop()
    task = loop.create_task(f())
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    assert len(policy.slots.queue) == 1
    policy.slots.release(policy.slots.taken)
    assert (policy.slots.used, len(policy.slots.queue)) == (0, 0)
    task._log_destroy_pending = False
    assert asyncio.run(f()) == 1


def test_what_a_queue_tells():
    lengths, policy = [], o.Bulkhead(1, max_queue=3, name="line")

    @o.opero(policy)
    async def f():
        await asyncio.sleep(2)

    async def main():
        await asyncio.gather(*(f() for _ in range(4)))

    with testing.clock(), o.events.subscribe(lambda e: lengths.append(e.fields["length"]), "opero.bulkhead.queued"):
        asyncio.run(main())
    assert lengths == [1, 2, 3]
    assert waited(f) == (4, pytest.approx(2 + 4 + 6))


def waited(function):
    """Return how many waits were counted, and their sum."""
    counts = function.opero.operation.book.read()[1]["opero.bulkhead.wait.duration", ("line",)]
    return sum(counts[:-1]), counts[-1]


@pytest.mark.parametrize("fast", [True, False])
def test_a_call_that_fails_waited_for_nothing_too(fast, monkeypatch):
    monkeypatch.setattr(fused, "enabled", fast)

    @o.opero(o.Bulkhead(1, name="line"))
    def f(fails):
        if fails:
            raise OSError

    f(False)
    with pytest.raises(OSError):
        f(True)
    assert waited(f) == (2, 0)


@pytest.mark.parametrize(
    ("max_wait", "deadline", "reason", "after"),
    [(3, 5, "queue_timeout", 3), (5, 3, "deadline", 3), (None, 3, "deadline", 3), (3, 3, "queue_timeout", 3)],
)
def test_a_wait_ends_at_its_own_bound_or_at_the_deadline_whichever_is_nearer(max_wait, deadline, reason, after):
    policy = o.Bulkhead(1, max_queue=1, max_wait=max_wait)
    policy.slots.take()

    @o.opero(policy, o.Timeout(deadline), name="shop")
    def f():
        return 1

    with testing.clock() as time, pytest.raises(o.BulkheadFullError) as refused:
        f()
    assert (refused.value.reason, time.elapsed()) == (reason, after)
    assert str(refused.value) == f"no slot for shop: 1 in flight, 0 waiting ({reason})"


def test_a_limit_may_be_turned_up_a_hundredfold_or_to_a_thousand():
    bounds = [(limit.low, limit.high) for limit in (Slots(5, 0).limit, Slots(20, 0).limit)]
    assert bounds == [(1, 1000), (1, 2000)]


def test_who_joins_as_a_slot_comes_free_has_it_at_once():
    slots, waiter = Slots(1, 1), Waiter()
    assert (slots.join(waiter), waiter.woken, slots.used) == (0, 1, 1)


def test_a_slot_that_was_given_back_to_nobody_is_given_to_the_first_in_line():
    slots, first, second = Slots(1, 5), Waiter(), Waiter()
    slots.take()
    assert slots.join(first) == 1
    slots.taken[0] -= 1  # as a call on the fast path does that looked at the queue before
    assert slots.join(second) == 1
    assert (first.woken, second.woken, slots.used) == (1, 0, 1)


class Waiter:
    def __init__(self, alive=True):
        self.alive = alive
        self.woken = 0

    def wake(self):
        self.woken += 1
        return self.alive


class Machine(RuleBasedStateMachine):
    """Slots and queue under any order of arrivals, ends, leavers and changes of the limit."""

    def __init__(self):
        super().__init__()
        self.slots = Slots(2, 3)
        self.inside = 0
        self.waiting = []

    @rule(alive=st.booleans())
    def arrive(self, alive):
        if self.slots.take():
            self.inside += 1
            return
        waiter = Waiter(alive)
        if self.slots.join(waiter) is not None:
            self.waiting.append(waiter)

    @precondition(lambda self: self.inside)
    @rule()
    def end(self):
        self.slots.release(self.slots.taken)
        self.inside -= 1

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def leave(self, data):
        waiter = data.draw(st.sampled_from(self.waiting))
        assert self.slots.leave(waiter)
        self.waiting.remove(waiter)

    @rule(limit=st.integers(1, 4))
    def resize(self, limit):
        self.slots.limit.set(limit)

    @invariant()
    def everyone_is_where_they_should_be(self):
        woken = [w for w in self.waiting if w.woken]
        assert woken == self.waiting[: len(woken)]
        assert all(w.woken == 1 for w in woken)
        self.waiting = self.waiting[len(woken) :]
        self.inside += sum(w.alive for w in woken)
        assert self.slots.used == self.inside
        assert len(self.slots.queue) == len(self.waiting) <= 3
        assert not self.waiting or self.slots.used >= self.slots.limit.value


TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_child_that_is_forked_while_the_lock_is_held_has_a_bulkhead_of_its_own():
    policy = o.Bulkhead(1)
    f = o.opero(policy)(lambda: 7)
    with policy, held(policy.slots._lock):
        child = os.fork()
        if child == 0:
            signal.alarm(10)  # ends a child that waits for ever
            os._exit(f())
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


def forked(policy):
    """Fork; the child answers how many slots are in use once what it was forked in has ended."""
    child = os.fork()
    return lambda: (
        os._exit(100 + policy.slots.used) if child == 0 else os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    )


def called(policy, *others):
    return o.opero(policy, *others)(lambda: forked(policy))()


def failed(policy):
    def f():
        raise KeyError(forked(policy))

    with pytest.raises(KeyError) as caught:
        o.opero(policy)(f)()
    return caught.value.args[0]


def awaited(policy):
    async def f():
        return forked(policy)

    return asyncio.run(o.opero(policy)(f)())


def block(policy):
    with policy:
        return forked(policy)


def items(policy):
    @o.opero(policy)
    def f():
        yield forked(policy)

    return next(iter(list(f())))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
@pytest.mark.parametrize(
    "way", [called, failed, awaited, block, items, lambda p: called(p, o.Timeout(60, how="signal"))]
)
def test_a_call_that_was_forked_gives_its_parents_slot_back_to_nobody(way):
    policy = o.Bulkhead(1)
    assert way(policy)() == 100
    assert policy.slots.used == 0


@pytest.mark.parametrize("timeout", [o.Timeout(attempt=0.05), o.Timeout(0.05)], ids=["attempt", "total"])
def test_a_function_that_outlives_its_timeout_keeps_its_slot(timeout):
    running, most, go_on = [], [], threading.Event()
    bulkhead = o.Bulkhead(2)

    @o.opero(bulkhead, timeout)
    def f():
        running.append(1)
        most.append(len(running))
        go_on.wait(30)
        running.pop()

    for _ in range(2):
        with pytest.raises(o.CallTimeout):
            f()
    for _ in range(3):
        with pytest.raises(o.BulkheadFullError):
            f()
    go_on.set()
    deadline = time.monotonic() + 30
    while bulkhead.slots.used and time.monotonic() < deadline:
        time.sleep(0.01)
    f()
    assert max(most) == 2


def test_a_slot_around_retries_is_kept_until_the_last_attempt_has_ended():
    events, bulkhead = [threading.Event() for _ in range(2)], o.Bulkhead(1)
    waiting = iter(events)

    @o.opero(bulkhead, o.Retry(1, wait=0), o.Timeout(attempt=0.05), order=("bulkhead", "retry", "attempt_timeout"))
    def f():
        next(waiting).wait(30)

    with pytest.raises(o.CallTimeout):
        f()
    events[1].set()
    time.sleep(0.1)
    assert bulkhead.slots.used == 1
    events[0].set()
    deadline = time.monotonic() + 30
    while bulkhead.slots.used and time.monotonic() < deadline:
        time.sleep(0.01)
    assert bulkhead.slots.used == 0
