"""The scenarios of the simulation, in short; `python -m benchmarks.simulation` plays them in full."""

import asyncio

import pytest

import opero
from benchmarks.simulation.scenarios import SCENARIOS, met
from benchmarks.simulation.services import Refused, Service, Sharing
from benchmarks.simulation.world import World


def verdicts(name, *, short):
    figures, gates = SCENARIOS[name]
    found = figures(1, short=short)
    return {gate: found[gate] for gate, bound in gates.items() if not met(found[gate], bound)}


@pytest.mark.parametrize("name", [name for name in SCENARIOS if name != "s8"])  # test_pool_size.py has that one
def test_the_gates_of_the_scenario_are_met(name):
    assert verdicts(name, short=True) == {}


@pytest.mark.soak
@pytest.mark.parametrize("name", [name for name in SCENARIOS if name != "s8"])
def test_the_gates_are_met_in_full(name):
    assert verdicts(name, short=False) == {}


# ---- the world itself


def ended(world, work, until=100.0):
    task = world.spawn(work)
    world.run(until)
    assert task.ended
    return task


@pytest.mark.parametrize("kind", [Service, Sharing])
def test_a_call_takes_as_long_as_the_textbook_says(kind):
    world = World(1)
    service, waits = kind(world, 1, 1.0), []

    async def call():
        started = world.now
        await service()
        waits.append(world.now - started)

    def come():
        world.spawn(call())
        world.at(world.now + world.random.expovariate(0.5), come)

    world.at(0.0, come)
    world.run(50_000)
    assert sum(waits) / len(waits) == pytest.approx(2.0, rel=0.05)  # M/M/1 at one half: 1 / (1 - .5), shared or not


def test_the_same_seed_gives_the_same_run():
    def run():
        figures, _ = SCENARIOS["s10"]
        return figures(3, short=True)

    assert run() == run()


def test_a_deadline_ends_a_wait_and_the_service_goes_on():
    world = World(1)
    service = Service(world, 1, 5.0, spread=0.01)
    f = opero.opero(attempt_timeout=1.0, retries=0)(service.__call__)
    task = ended(world, f.opero.operation.execute(world.runtime, (), {}))
    assert isinstance(task.error, opero.CallTimeout)
    assert service.done == 1


def test_a_cancelled_task_hears_of_it_where_it_waits():
    world, heard = World(1), []

    async def work():
        try:
            await world.pause(10)
        except asyncio.CancelledError:
            heard.append(world.now)
            raise

    task = world.spawn(work())
    world.at(3.0, task.cancel)
    world.run(20)
    assert heard == [3.0]
    assert task.ended


def test_who_finds_no_room_is_refused_for_a_part_of_the_work():
    world = World(1)
    service = Service(world, 1, 1.0, spread=0.01, room=1, refusal=0.1)
    first, second = world.spawn(service()), world.spawn(service())
    world.run(10)
    assert first.error is None
    assert isinstance(second.error, Refused)
