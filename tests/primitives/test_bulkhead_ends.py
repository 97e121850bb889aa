"""Who waits for a slot ends, with one or without, of this process or of all: no test here waits for ever."""

import asyncio
import threading

import pytest

import opero as o
from ending import ended
from shared_store import MappedStore
from together import wait_for

ENDS = {  # settings beside a slot that is held for 2 s; what the second call ends with, and when
    "with the slot": ({"max_queue": 1}, (), "answer", 2),
    "with the slot, in time": ({"max_queue": 1, "max_wait": 3}, (o.Timeout(4),), "answer", 2),
    "by its own bound": ({"max_queue": 1, "max_wait": 1}, (), "queue_timeout", 1),
    "by its own bound, which is nearer": ({"max_queue": 1, "max_wait": 1}, (o.Timeout(1.5),), "queue_timeout", 1),
    "by the deadline": ({"max_queue": 1}, (o.Timeout(1.5),), "deadline", 1.5),
    "by the deadline, which is nearer": ({"max_queue": 1, "max_wait": 1.7}, (o.Timeout(1.5),), "deadline", 1.5),
    "at once, without a queue": ({}, (), "queue_full", 0),
    "at once, in no time": ({"max_queue": 1, "max_wait": 0}, (), "queue_timeout", 0),
}


@pytest.fixture(params=["own", "shared"])
def where(request):
    return {"store": MappedStore(), "name": "pool"} if request.param == "shared" else {}


def asked(policy, others):
    """Hold a slot for two seconds, and return what a call beside it ends with; both ways leave no slot behind."""

    @o.opero(policy)
    async def hold():
        await asyncio.sleep(2)

    @o.opero(policy, *others)
    async def beside():
        return "answer"

    async def main():
        first = asyncio.create_task(hold())
        await asyncio.sleep(0)
        assert policy.slots.used == 1
        try:
            return await beside()
        except o.BulkheadFullError as error:
            return error.reason
        finally:
            assert policy.slots.used == (0 if first.done() else 1)

    return asyncio.run(main())


@pytest.mark.parametrize("name", ENDS)
def test_a_task_that_asks_for_a_slot_ends(name, where):
    settings, others, answer, seconds = ENDS[name]
    outcome, took = ended(lambda: asked(o.Bulkhead(1, **settings, **where), others))
    assert (outcome, took) == (answer, pytest.approx(seconds, abs=0.06))  # a store is looked at every 0.05 s


def test_a_function_that_outlives_its_timeout_gives_its_slot_back_when_it_ends(where):
    go_on, policy = threading.Event(), o.Bulkhead(1, **where)

    @o.opero(policy, o.Timeout(attempt=0.05))
    def f(wait):
        if wait:
            go_on.wait(30)

    def refused():
        try:
            f(False)
        except o.BulkheadFullError:
            return True
        return False

    with pytest.raises(o.CallTimeout):
        f(True)
    assert refused()
    go_on.set()
    wait_for(lambda: not refused())
