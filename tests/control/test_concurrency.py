"""The law of the adaptive bulkhead, the throttle in front, and both around a real function."""

import asyncio

import pytest

from opero import SLO, Bulkhead, BulkheadFullError, opero
from opero.control.concurrency import PARAMETER, ConcurrencyLaw, Snapshot
from opero.control.loop import Controller
from opero.control.throttle import Snapshot as Asked
from opero.control.throttle import ThrottleLaw
from opero.knobs import Knob
from opero.testing import capture, clock


def driven(service, *, seconds=60.0, demand=1e9, target=0.5, start=10.0):
    """Let the law turn a limit in front of `service(now, in_flight) → (calls a second, dropped share, seconds)`."""
    knob, limits = Knob(PARAMETER, start, low=1, high=1000), []

    def read(now):
        rate, dropped, took = service(now, min(knob.value, demand))
        done = 0.5 * rate
        pressed = 1.0 if demand > knob.value else 0.0
        return Snapshot(now, knob.value, done * (1 - dropped), done * dropped, pressed, took * 0.9, took * 1.1, target)

    controller = Controller(ConcurrencyLaw(), read, knob, rise=1.5, fall=0.7)
    for tick in range(int(2 * seconds)):
        controller.step(0.5 * (tick + 1))
        limits.append(knob.value)
    return limits, controller


def queue(capacity, service_time=0.1):
    """A service that works on so many at once; the rest waits in line."""

    def serve(now, in_flight):
        servers = capacity(now) if callable(capacity) else capacity
        return min(in_flight, servers) / service_time, 0.0, service_time * max(1.0, in_flight / servers)

    return serve


@pytest.mark.parametrize("capacity", [4, 16, 64, 256])
def test_it_finds_the_capacity_and_queues_no_longer_than_the_objective(capacity):
    limits, _ = driven(queue(capacity), target=0.3)
    tail = limits[40:]
    assert min(tail) >= capacity
    assert max(tail) / capacity * 0.1 <= 1.25 * 0.3


def test_it_follows_a_step_of_the_capacity_within_fifteen_seconds():
    limits, _ = driven(queue(lambda now: 64 if now < 30 or now > 60 else 32), seconds=90.0, target=0.3)
    assert max(limits[90:118]) / 32 * 0.1 <= 1.25 * 0.3
    assert min(limits[150:178]) >= 64


def test_without_pressure_it_stays_where_it_is():
    limits, _ = driven(queue(64), demand=5)
    assert set(limits) == {10.0}


def test_an_objective_that_cannot_be_met_is_told_and_not_chased():
    limits, controller = driven(queue(16), target=0.05)
    assert limits[-1] >= 10
    (wish,) = controller.law.decide(Snapshot(60.5, limits[-1], 80, 0, 1, 0.09, 0.11, 0.05))
    assert wish.reason == "slo_unreachable"


def test_an_outage_ends_at_the_floor_and_not_below():
    def service(now, in_flight):
        return queue(16)(now, in_flight) if not 20 < now < 40 else (in_flight, 1.0, 1.0)

    limits, controller = driven(service)
    assert min(limits[45:80]) >= 0.7 * 16
    assert limits[-1] >= 16
    assert "drops" in {step.reason for step in controller.history}


def test_the_throttle_is_the_formula_of_the_book():
    law = ThrottleLaw()
    assert law.decide(Asked(0.0, 100, 100))[0].value == 0
    (wish,) = law.decide(Asked(5.0, 300, 0))
    assert wish.value == pytest.approx((400 - 200) / 401)
    assert law.decide(Asked(100.0, 50, 50))[0].value == 0


class Overloaded(Exception):
    status_code = 503


def test_refusals_of_the_service_are_not_asked_for_again_and_again():
    made = []

    async def main(virtual):
        @opero(retries=0, bulkhead="adaptive", name="control.refused")
        async def refused():
            made.append(virtual.now())
            raise Overloaded

        for _ in range(600):
            with pytest.raises((Overloaded, BulkheadFullError)):
                await refused()
            await asyncio.sleep(0.02)
        return refused.opero

    with clock() as virtual, capture("opero.controller.*") as captured:
        handle = asyncio.run(main(virtual))
        late = [at for at in made if at > made[0] + 6]
        assert len(late) < 0.3 * 300
        assert handle.controllers["bulkhead.throttle"].setpoint > 0.8
        assert captured.metrics()["opero.rejections"]["control.refused", "bulkhead", "throttled"] > 100


def test_an_adaptive_bulkhead_grows_under_pressure_and_stays_fused():
    async def main():
        @opero(retries=0, bulkhead="adaptive", slo=SLO(0.99, latency=1.0), name="control.grows")
        async def answer():
            await asyncio.sleep(0.05)

        async def keep_calling():
            for _ in range(100):
                try:
                    await answer()
                except BulkheadFullError:
                    await asyncio.sleep(0.01)

        await asyncio.gather(*[keep_calling() for _ in range(40)])
        return answer.opero

    with clock():
        handle = asyncio.run(main())
    assert handle.controllers["bulkhead.limit"].setpoint > 20
    assert "taken[0]" in handle.source()
    assert handle.stats()["rejected"] < handle.stats()["calls"]


def test_in_shadow_the_limit_stays():
    policy = Bulkhead(2, control="adaptive", shadow=True, target=1.0)

    async def main():
        @opero(policy, retries=0)
        async def answer():
            await asyncio.sleep(0.05)

        async def keep_calling():
            for _ in range(60):
                try:
                    await answer()
                except BulkheadFullError:
                    await asyncio.sleep(0.01)

        await asyncio.gather(*[keep_calling() for _ in range(10)])
        return answer.opero.controllers["bulkhead.limit"]

    with clock():
        controller = asyncio.run(main())
    assert policy.slots.limit.value == 2
    assert controller.setpoint > 2
    assert all(step.shadow for step in controller.history)
