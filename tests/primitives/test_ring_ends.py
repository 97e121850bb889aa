"""Who waits for a refresh is woken: told by the ring alone, and by threads and tasks given some seconds."""

import asyncio
import threading
from math import inf

import pytest

import opero as o
from opero.ring import Refreshing, Ring


class Parked:
    """A call that waits: it keeps that it was woken, and is not there any more where its loop is closed."""

    def __init__(self, *, there=True):
        self.there, self.woken = there, 0

    def wake(self):
        self.woken += 1
        assert self.woken < 9, "it is woken for ever"
        return self.there


def joined(*blocks):
    """Return a ring, its refresh, who leads it, and one who waits for each, blocking or not."""
    ring, leader = Ring(None), Parked()
    flight = ring.join(leader, blocks=False)
    waiting = [Parked() for _ in blocks]
    assert all(ring.join(each, blocks=way) is flight for each, way in zip(waiting, blocks, strict=True))
    return ring, flight, leader, waiting


def woken(waiting):
    return [each.woken for each in waiting]


def test_the_first_leads_and_the_others_wait():
    ring, flight, leader, waiting = joined(False, True)
    assert ring.flight is flight
    assert flight.leader is leader
    assert flight.failure == ""
    assert flight.handed is False
    assert flight.waiting == [
        (waiting[0], threading.get_ident(), False),
        (waiting[1], threading.get_ident(), True),
    ]
    assert woken([leader, *waiting]) == [0, 0, 0]


def test_when_it_ends_all_are_woken_once_and_the_next_begins_anew():
    ring, flight, leader, waiting = joined(False, True)
    ring.end(flight)
    assert woken([leader, *waiting]) == [0, 1, 1]
    assert flight.waiting == []
    assert ring.flight is None
    assert ring.join(Parked(), blocks=False) is not flight


def test_when_it_fails_one_is_woken_to_lead_and_after_that_all():
    ring, flight, _, waiting = joined(False, False, False)
    ring.fail(flight, "KeyError")
    assert flight.leader is waiting[0]
    assert woken(waiting) == [1, 0, 0]
    assert ring.flight is flight
    assert [each for each, _, _ in flight.waiting] == waiting[1:]
    ring.fail(flight, "OSError")
    assert flight.failure == "OSError"
    assert woken(waiting) == [1, 1, 1]
    assert ring.flight is None


def test_who_blocks_leads_before_who_suspends_and_in_its_own_thread():
    ring, flight, _, (suspends, blocks) = joined(False, True)
    late = Parked()
    thread = threading.Thread(target=lambda: ring.join(late, blocks=True))
    thread.start()
    thread.join(5)
    ring.fail(flight, "KeyError")
    assert flight.leader is blocks
    assert flight.thread == threading.get_ident()
    ring.leave(flight, blocks)
    assert flight.leader is late
    assert flight.thread == thread.ident != threading.get_ident()
    ring.leave(flight, late)
    assert flight.leader is suspends


def test_whose_loop_is_closed_is_passed_over():
    ring, flight, _, waiting = joined(False, False, False)
    waiting[0].there = waiting[1].there = False
    ring.fail(flight, "KeyError")
    assert flight.leader is waiting[2]
    assert woken(waiting) == [1, 1, 1]
    assert flight.waiting == []


def test_where_nobody_waits_it_is_over():
    ring, flight, _, _ = joined()
    ring.fail(flight, "KeyError")
    assert ring.flight is None
    assert flight.leader is None
    assert ring.join(Parked(), blocks=False) is not flight


def test_who_leaves_is_not_woken_and_hands_on_what_is_theirs():
    ring, flight, leader, waiting = joined(False, False, False)
    ring.leave(flight, waiting[0])
    assert flight.leader is leader  # still
    ring.fail(flight, "KeyError")
    assert woken(waiting) == [0, 1, 0]
    ring.leave(flight, waiting[1])
    assert flight.leader is waiting[2]
    assert woken(waiting) == [0, 1, 1]
    ring.leave(flight, waiting[2])
    assert ring.flight is None


def test_it_leads_while_the_block_runs_and_no_longer():
    ring, flight, _, (waits,) = joined(False)
    outer = Ring(None).join(Parked(), blocks=False)
    assert not flight.waits_for_itself(blocks=False)
    with Refreshing(ring, outer), Refreshing(ring, flight):
        assert flight.waits_for_itself(blocks=False)
        assert outer.waits_for_itself(blocks=False)
    assert not flight.waits_for_itself(blocks=False)
    assert not outer.waits_for_itself(blocks=False)
    assert waits.woken == 1
    assert ring.flight is None


def test_a_block_that_raises_hands_it_over():
    ring, flight, _, waiting = joined(False, False)
    with pytest.raises(KeyError), Refreshing(ring, flight):
        raise KeyError
    assert flight.failure == "KeyError"
    assert flight.leader is waiting[0]
    assert woken(waiting) == [1, 0]
    assert ring.flight is flight
    assert not flight.waits_for_itself(blocks=False)


def test_who_blocks_does_not_wait_for_their_own_thread():
    flight = Ring(None).join(Parked(), blocks=False)
    found = []
    thread = threading.Thread(target=lambda: found.append(flight.waits_for_itself(blocks=True)))
    thread.start()
    thread.join(5)
    assert found == [False]
    assert flight.waits_for_itself(blocks=True)
    assert not flight.waits_for_itself(blocks=False)


def test_spreading_turns_by_one():
    ring = Ring(None)
    assert [ring.order("abc", 0.0, spread=True)[0] for _ in range(4)] == [0, 1, 2, 0]
    assert ring.order("abc", 0.0) == [0, 1, 2]


def test_a_ring_without_alternatives_of_its_own_has_none_that_were_refused_in_vain():
    ring = Ring(("a", "b"))
    ring.rest("a", inf)
    assert not ring.refused()
    ring.rest("b", inf)
    assert ring.refused()
    ring.replace(("a",))
    assert not ring.refused()
    assert ring.alternatives == ("a",)


class Refused(Exception):
    status = 401


FAILS = [
    (0, ["fresh"] * 4, 1),
    (1, ["KeyError", "fresh", "fresh", "fresh"], 2),
    (9, ["KeyError"] * 2 + ["Rejected"] * 2, 2),
]


@pytest.mark.parametrize(("failing", "outcomes", "count"), FAILS)
def test_threads_all_end(failing, outcomes, count):
    made, found = [], []
    policy = o.ArgFallback("key", alternatives=["old"], cooldown=9, refresh=lambda: refresh())  # noqa: PLW0108 - not yet
    policy.ring.rest("old", inf)

    def refresh():
        made.append(1)
        for _ in range(2000):
            flight = policy.ring.flight
            if len(made) > 1 or (flight and len(flight.waiting) == 3):
                break
            threading.Event().wait(0.001)
        if len(made) <= failing:
            raise KeyError
        return ["fresh"]

    @o.opero(policy)
    def f(key=""):
        return key

    def work():
        try:
            found.append(f())
        except Exception as error:
            found.append(type(error).__name__)

    threads = [threading.Thread(target=work, daemon=True) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(3)
    assert sorted(found) == sorted(outcomes)
    assert len(made) == count


@pytest.mark.parametrize(("failing", "outcomes", "count"), FAILS)
def test_tasks_all_end(failing, outcomes, count):
    made = []

    async def refresh():
        made.append(1)
        await asyncio.sleep(0.01)
        if len(made) <= failing:
            raise KeyError
        return ["fresh"]

    policy = o.ArgFallback("key", alternatives=["old"], cooldown=9, refresh=refresh)
    policy.ring.rest("old", inf)

    @o.opero(policy, timeout=60)
    async def f(key=""):
        return key

    async def main():
        return await asyncio.wait_for(asyncio.gather(*(f() for _ in range(4)), return_exceptions=True), 3)

    found = asyncio.run(main())
    assert [each if isinstance(each, str) else type(each).__name__ for each in found] == outcomes
    assert len(made) == count
