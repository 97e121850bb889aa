import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opero.windows import CountWindow, LatencyHistogram, TimeWindow

CALLS = st.lists(st.tuples(st.booleans(), st.booleans()), max_size=60)


@given(CALLS, st.integers(1, 20))
def test_a_count_window_holds_exactly_the_last_calls(calls, size):
    window = CountWindow(size)
    for failed, slow in calls:
        window.add(0, failed=failed, slow=slow)
    last = calls[-size:]
    totals = window.totals(0)
    assert (totals.calls, totals.failures, totals.slow) == (len(last), sum(f for f, _ in last), sum(s for _, s in last))


@given(st.lists(st.tuples(st.floats(0, 3), st.booleans()), max_size=60))
def test_a_time_window_never_holds_what_is_too_old_nor_loses_what_is_young(steps):
    window, now, seen = TimeWindow(10), 0.0, []
    for step, failed in steps:
        now += step
        window.add(now, failed=failed, slow=False)
        seen.append(now)
    calls = window.totals(now).calls
    assert sum(at > now - 9 for at in seen) <= calls <= sum(at > now - 10.000001 for at in seen)


def test_a_time_window_forgets_when_nothing_happens():
    window = TimeWindow(10)
    window.add(0, failed=True, slow=False)
    assert window.totals(5).failure_ratio() == 1
    assert window.totals(11).calls == 0
    assert window.totals(11).failure_ratio() == 0


@given(st.floats(1e-6, 1024))
def test_a_percentile_is_off_by_seven_percent_at_most(seconds):
    histogram = LatencyHistogram()
    histogram.add(seconds)
    assert histogram.quantiles([0.5])[0] == pytest.approx(seconds, rel=0.07)


def test_percentiles_of_a_known_distribution():
    histogram, values = LatencyHistogram(), [n / 1000 for n in range(1, 1001)]
    random.Random(1).shuffle(values)
    for value in values:
        histogram.add(value)
    assert histogram.quantiles([0.5, 0.95, 0.99]) == pytest.approx([0.5, 0.95, 0.99], rel=0.07)
    assert LatencyHistogram().quantiles([0.5]) == [0]
