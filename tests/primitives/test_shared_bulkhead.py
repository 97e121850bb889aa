"""The slots of a bulkhead in a store: whose they are, who waits for one, and what is told of it."""

import asyncio
import os

import pytest

import opero as o
from opero import events
from shared_store import MappedStore, opened


class Store(MappedStore):
    """A store that may be out of reach."""

    async def take(self, *args):
        self.ping()
        return await super().take(*args)


@pytest.fixture
def store():
    with opened(Store) as store:
        yield store


def pool(store, *others, limit=1, name="pool", **settings):
    """Return a function that holds a slot as long as it is told, and its bulkhead."""
    policy = o.Bulkhead(limit, store=store, name=name, **settings)

    @o.opero(policy, *others)
    async def hold(seconds):
        await asyncio.sleep(seconds)
        return seconds

    return hold, policy


async def outcome(coroutine):
    try:
        return await coroutine
    except o.OperoError as error:
        return error


@pytest.mark.parametrize("error", [OSError(), KeyboardInterrupt()])
def test_a_call_that_fails_gives_its_slot_back(store, error):
    policy = o.Bulkhead(1, store=store, name="pool")

    @o.opero(policy)
    def fail():
        raise error

    for _ in range(3):
        with pytest.raises(type(error)) as caught:
            fail()
        assert caught.value is error
    assert policy.slots.used == 0


def test_pools_of_one_name_are_one_and_of_another_name_another(store):
    (mine, policy), (too, _), (other, _) = pool(store), pool(store), pool(store, name="other")

    async def main():
        first = asyncio.create_task(mine(5))
        await asyncio.sleep(1)
        assert policy.slots.used == 1
        refused = await outcome(too(1))
        assert refused.reason == "queue_full"
        assert str(refused).endswith("hold: 1 in flight, 0 waiting (queue_full)")
        assert await other(1) == 1
        assert await first == 5
        assert policy.slots.used == 0
        return await too(1)

    assert asyncio.run(main()) == 1


def test_slots_in_use_are_counted_here_too(store):
    hold, policy = pool(store, limit=2)

    async def main():
        both = [asyncio.create_task(hold(5)) for _ in range(2)]
        await asyncio.sleep(1)
        assert policy.slots.used == 2
        await asyncio.gather(*both)
        assert policy.slots.used == 0

    asyncio.run(main())


def test_one_that_processes_share_later_has_the_slots_of_all(store):
    (mine, policy), (too, other) = pool(None), pool(None)
    for each in (policy, other):
        each.share(store, "pool")

    async def main():
        first = asyncio.create_task(mine(5))
        await asyncio.sleep(1)
        assert (await outcome(too(1))).reason == "queue_full"
        return await first

    assert asyncio.run(main()) == 5


def test_who_waits_for_a_slot_of_all_waits_in_line_and_no_longer_than_allowed(store):
    (hold, _), (impatient, _) = pool(store, max_queue=2), pool(store, max_queue=2, max_wait=1)
    (late, _), lengths = pool(store, o.Timeout(2), max_queue=2), []

    async def main():
        first = asyncio.create_task(hold(5))
        await asyncio.sleep(0.1)
        with events.subscribe(lambda event: lengths.append(event.fields["length"]), "opero.bulkhead.queued"):
            waiting = [asyncio.create_task(outcome(f(0))) for f in (impatient, late)]
            await asyncio.sleep(0.5)
            full = await outcome(hold(0))
            assert str(full).partition(": ")[2] == "1 in flight, 2 waiting (queue_full)"
            refused = await asyncio.gather(*waiting)
        second = asyncio.create_task(hold(1))
        await first
        assert 4.9 < store.time.elapsed() < 5.2
        await second
        assert store.time.elapsed() < 6.2
        return refused

    refused = asyncio.run(main())
    assert [getattr(error, "reason", error) for error in refused] == ["queue_timeout", "deadline"]
    assert [str(error).partition(": ")[2] for error in refused] == [
        "1 in flight, 1 waiting (queue_timeout)",
        "1 in flight, 0 waiting (deadline)",
    ]
    assert lengths == [1, 2]
    counts = hold.opero.operation.book.read()[1]["opero.bulkhead.wait.duration", ("pool",)]
    assert (sum(counts[:-1]), round(counts[-1])) == (2, 3)


def test_who_is_cancelled_in_line_leaves_it(store):
    hold, _ = pool(store, max_queue=1)

    async def main():
        first = asyncio.create_task(hold(5))
        await asyncio.sleep(0.1)
        waiting = asyncio.create_task(hold(0))
        await asyncio.sleep(0.1)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        next_one = asyncio.create_task(hold(7))
        return await asyncio.gather(first, next_one)

    assert asyncio.run(main()) == [5, 7]


def test_while_the_store_is_away_slots_are_those_of_the_process(store):
    (hold, policy), heard = pool(store), []

    async def main():
        with events.subscribe(lambda event: heard.append(event.name), "opero.store.lost"):
            store.down = True
            first = asyncio.create_task(hold(5))
            await asyncio.sleep(0.01)
            assert policy.slots.used == 1
            assert (await outcome(hold(0))).reason == "queue_full"
            store.down = False
            return await first

    assert asyncio.run(main()) == 5
    assert heard == ["opero.store.lost"]
    assert policy.slots.used == 0


def test_a_generator_left_in_the_middle_lets_its_slot_run_out(store):
    policy = o.Bulkhead(2, store=store, name="pool")

    @o.opero(policy)
    def numbers():
        yield from range(3)

    for _ in numbers():
        break
    assert policy.slots.used == 0
    assert policy.shared._guard._slots == {}  # nobody renews it


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
@pytest.mark.parametrize("others", [(), (o.Timeout(60, how="signal"),)])
def test_a_forked_child_leaves_its_parents_slot_alone(store, others):
    policy = o.Bulkhead(1, store=store, name="pool")

    @o.opero(policy, *others)
    def fork():
        child = os.fork()
        if child:
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
            assert store.slots(policy.shared._key) == (1, 0)
        return child

    if fork() == 0:
        os._exit(policy.slots.used)
    assert store.slots(policy.shared._key) == (0, 0)
