"""What an adaptive bulkhead sees of its calls, and whom its throttle turns away."""

import asyncio
from contextlib import suppress

import pytest

import opero as o
from opero import events, testing, waits


class Answer(Exception):
    def __init__(self, status):
        self.status_code = status


def seen_of(outcome):
    """Return what was seen of two calls that raise or return this: late, refused, other, latencies."""
    policy = o.Bulkhead(5, control="adaptive")

    @o.opero(policy)
    def f():
        if isinstance(outcome, type):
            raise outcome
        return outcome

    raised = [outcome] if isinstance(outcome, type) else []
    with events.subscribe(len, "opero.call.finished"):  # a success on the fast path is in the books
        for _ in range(2):
            with suppress(*raised):
                assert f() is outcome
    seen = policy.seen
    return seen.late, seen.refused, seen.other, sum(seen.latencies.counts)


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_a_service_that_is_too_busy_has_refused(status):
    answer = Answer(status)
    assert seen_of(answer) == (0, 2, 0, 0)
    assert seen_of(type("Raised", (Exception,), {"status_code": status})) == (0, 2, 0, 0)


@pytest.mark.parametrize(
    ("outcome", "seen"),
    [
        (TimeoutError, (2, 0, 0, 0)),
        (ConnectionError, (0, 2, 0, 0)),
        (KeyError, (0, 0, 2, 0)),
        (Answer(500), (0, 0, 0, 2)),
        (7, (0, 0, 0, 2)),
    ],
    ids=str,
)
def test_other_outcomes_are_late_refused_other_or_a_latency(outcome, seen):
    assert seen_of(outcome) == seen


def test_late_calls_are_counted_and_a_latency_is_the_time_inside():
    policy = o.Bulkhead(1, max_queue=5, control="adaptive")

    @o.opero(policy)
    async def f(seconds, fails=False):
        await asyncio.sleep(seconds)
        if fails:
            raise TimeoutError

    async def main():
        await asyncio.gather(f(2), f(2), f(1, fails=True), f(1, fails=True), return_exceptions=True)

    with testing.clock(), events.subscribe(len, "opero.call.finished"):
        asyncio.run(main())
    seen = policy.seen
    assert (seen.late, seen.pressed) == (2, 3)
    assert seen.latencies.quantiles((0.5,))[0] == pytest.approx(2, rel=0.07)


def test_without_control_nothing_is_watched_and_the_throttle_begins_open():
    assert o.Bulkhead(5).seen is None
    throttle = o.Bulkhead(5, control="adaptive").seen.throttle
    assert (throttle.low, throttle.value, throttle.high) == (0, 0, 0.95)
    assert o.Bulkhead(5, control="adaptive", target=0.5).target == 0.5
    with pytest.raises(o.ConfigurationError, match="target takes a number of seconds, above 0"):
        o.Bulkhead(5, control="adaptive", target=0)


@pytest.mark.parametrize("chance", [0.0, 0.5, 0.9])
def test_the_throttle_turns_away_as_many_as_it_says(chance):
    policy = o.Bulkhead(5, control="adaptive")

    @o.opero(policy)
    def f():
        return 1

    policy.seen.throttle.set(chance)
    waits.seed(7)
    try:
        refused = [error.reason for error in (outcome(f) for _ in range(1000)) if error != 1]
    finally:
        waits.seed(None)
    assert len(refused) == pytest.approx(1000 * chance, abs=60)
    assert set(refused) <= {"throttled"}
    assert policy.seen.throttled == len(refused)
    assert policy.slots.used == 0


def outcome(function):
    try:
        return function()
    except o.BulkheadFullError as error:
        return error


def test_processes_of_a_map_may_share_it_unless_something_else_has_it_already():
    given = [{}, {"control": "adaptive"}, {"store": "redis://localhost", "name": "shared"}]
    assert [o.Bulkhead(5, **settings).can_share() for settings in given] == [True, False, False]


def test_the_fast_path_is_for_slots_of_this_process_and_asks_the_throttle_if_there_is_one():
    admits = [o.Bulkhead(5, **settings).fragment().admit for settings in ({}, {"control": "adaptive"})]
    assert ["slots.taken" in text for text in admits] == [True, True]
    assert ["throttle.value" in text for text in admits] == [False, True]
    assert o.Bulkhead(5, store="redis://localhost", name="shared").fragment() is None
    assert o.opero(o.Bulkhead(5))(lambda own: own).opero.source().startswith("def call(own):")
