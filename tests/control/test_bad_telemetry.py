"""Noisy, missing, frozen and adversarial telemetry on every law: bounds, and no more turns than the loop allows."""

from itertools import pairwise
from math import inf, nan

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opero.control import concurrency, pool_size, retry_budget, throttle
from opero.control.loop import Controller
from opero.knobs import Knob

counts = st.floats(0, 1e6) | st.sampled_from([nan, inf, -inf, -1.0, 0.0, 1e300])
times = st.floats(0, 100) | st.sampled_from([nan, inf, 0.0, 1e-300])

LAWS = {
    "retry_budget": (
        retry_budget.RetryBudgetLaw,
        Knob("retry_budget.ratio", 0.07, low=0.02, high=0.2),
        st.builds(
            retry_budget.Snapshot, st.just(0.0), st.just(0.0), counts, counts, st.none() | counts, counts, counts
        ),
        {"fall": 0.1},
    ),
    "concurrency": (
        concurrency.ConcurrencyLaw,
        Knob("bulkhead.limit", 10, low=1, high=1000),
        st.builds(
            concurrency.Snapshot,
            st.just(0.0),
            st.just(0.0),
            counts,
            counts,
            counts,
            times,
            times,
            st.none() | st.floats(0.001, 10),
        ),
        {"rise": 1.5, "fall": 0.7},
    ),
    "throttle": (
        throttle.ThrottleLaw,
        Knob("bulkhead.throttle", 0.0, low=0.0, high=0.95),
        st.builds(throttle.Snapshot, st.just(0.0), counts, counts),
        {"grain": 0.5, "rest": 1.0},
    ),
    "pool_size": (
        pool_size.PoolSizeLaw,
        Knob("map.workers", 4, low=1, high=64),
        st.builds(pool_size.Snapshot, st.just(0.0), st.just(0.0), counts, counts, counts, st.sampled_from([0.0, 1.0])),
        {"fall": 0.25, "rest": 0.5},
    ),
}


@pytest.mark.parametrize("name", LAWS)
@given(data=st.data())
def test_a_law_never_leaves_its_bounds_nor_swings(name, data):
    law, knob, snapshots, settings = LAWS[name]
    knob = Knob(knob.name, knob.value, low=knob.low, high=knob.high)
    told = []
    controller = Controller(law(), lambda now: told.pop(0) if told else None, knob, **settings)
    now, values = 0.0, [knob.value]
    steps = data.draw(st.lists(st.tuples(st.floats(0.01, 20), st.none() | snapshots, st.booleans()), max_size=40))
    for passed, snapshot, frozen in steps:
        now += 0.0 if frozen else passed  # frozen: the same time again
        if snapshot is not None:
            fields = {"now": now}
            for field in ("ratio", "limit", "workers"):
                if hasattr(snapshot, field):
                    fields[field] = knob.value
            told.append(snapshot._replace(**fields))
        controller.step(now)
        assert knob.low <= knob.value <= knob.high
        values.append(knob.value)
    moves = [b > a for a, b in pairwise(values) if a != b]
    turns = sum(a != b for a, b in pairwise(moves))
    assert turns <= 2 * now / settings.get("rest", 1.0) + 1


@pytest.mark.parametrize("name", [name for name in LAWS if name != "pool_size"])  # its trials are its measurements
@given(data=st.data())
def test_steady_telemetry_leaves_the_knob_at_rest(name, data):
    """The same load for ever, whatever it is: the knob turns back twice at most, and then stands."""
    law, knob, snapshots, settings = LAWS[name]
    knob = Knob(knob.name, knob.value, low=knob.low, high=knob.high)
    snapshot = data.draw(snapshots)
    now = [0.0]

    def read(at):
        fields = {"now": at}
        for field in ("ratio", "limit"):
            if hasattr(snapshot, field):
                fields[field] = knob.value
        return snapshot._replace(**fields)

    controller = Controller(law(), read, knob, **settings)
    values = []
    for _ in range(400):
        now[0] += 0.5
        controller.step(now[0])
        values.append(knob.value)
    moves = [b > a for a, b in pairwise(values) if a != b]
    assert sum(a != b for a, b in pairwise(moves)) <= 2
