import random
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opero.windows import CountWindow, LatencyHistogram, TimeWindow, Totals

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


def test_ratios_are_shares_of_the_calls():
    totals = Totals(8, 2, 6)
    assert (totals.failure_ratio(), totals.slow_ratio()) == (0.25, 0.75)
    assert (Totals().calls, Totals().failures, Totals().slow) == (0, 0, 0)


@pytest.mark.parametrize("window", [CountWindow(8), TimeWindow(10)], ids=["count", "time"])
def test_a_window_counts_slow_calls_whether_they_failed_or_not(window):
    assert window.totals(100.0).slow == 0
    for failed, slow in [(True, True), (False, True), (False, False), (True, False), (False, True)]:
        window.add(100.0, failed=failed, slow=slow)
    totals = window.totals(100.0)
    assert (totals.calls, totals.failures, totals.slow) == (5, 2, 3)
    assert window.good == [3]


@pytest.mark.parametrize("window", [CountWindow(8), TimeWindow(10)], ids=["count", "time"])
def test_who_holds_the_successes_of_before_a_renewal_or_a_clearing_adds_to_nothing(window):
    window.add(100.0, failed=False, slow=False)
    old = window.good
    window.renew()
    old[0] += 5
    assert (window.good, window.totals(100.0).calls) == ([1], 1)
    old = window.good
    window.clear()
    old[0] += 5
    assert (window.good, window.totals(100.0).calls) == ([0], 0)


def test_successes_counted_past_a_time_window_belong_to_the_slice_that_was_rolled_last():
    window = TimeWindow(10)
    assert window.turn == -inf
    window.roll(103.5)
    assert window.turn == 104.0  # its slices are a second
    window.roll(103.9)
    assert len(window._slices) == 1
    window.good[0] += 7
    window.roll(104.0)
    assert (window.turn, window.totals(104.0).calls) == (105.0, 7)
    window.good[0] += 2
    assert window.totals(112.9).calls == 9
    assert window.totals(113.0).calls == 2
    window.roll(200.0)
    assert (len(window._slices), window.totals(200.0).calls) == (1, 0)


def test_slices_may_be_parts_of_a_second_that_are_not_round():
    window = TimeWindow(1, slices=4)
    window.roll(10.3)
    assert (window.turn, window._slices[-1].number) == (10.5, 41)
    window.add(10.3, failed=True, slow=False)
    assert (window.totals(11.2).failures, window.totals(11.25).failures) == (1, 0)


def test_a_histogram_counts_each_duration_once_and_merges_and_divides_by_marks():
    histogram, other = LatencyHistogram((0.1, 1.0)), LatencyHistogram((0.1, 1.0))
    for seconds in (0.05, 0.1, 0.100001, 1.0, 5.0, 5.0, 1e6):
        histogram.add(seconds)
    assert histogram.below((0.1, 1.0)) == [2, 2, 3]
    assert (sum(histogram.counts), len(histogram.counts), histogram.counts[-1]) == (7, len(histogram.bounds) + 1, 1)
    other.add(5.0)
    other.merge(histogram.counts)
    assert other.below((0.1, 1.0)) == [2, 2, 4]
    other.merge(histogram.counts)
    assert sum(other.counts) == 15


def test_buckets_are_an_eighth_of_a_factor_of_two_from_a_microsecond_to_seventeen_minutes():
    bounds = LatencyHistogram().bounds
    assert (len(bounds), bounds[0], bounds[-1]) == (240, 2.0**-20, 15 / 16 * 2.0**10)
    assert bounds[8] == 2.0**-19
    assert bounds[9] / bounds[8] == 9 / 8
    assert 0.1 in LatencyHistogram((0.1,)).bounds


def test_percentiles_at_the_ends():
    histogram = LatencyHistogram()
    histogram.add(1e9)
    assert histogram.quantiles([0.5]) == [histogram.bounds[-1]]
    least = LatencyHistogram()
    least.add(0.0)
    assert least.quantiles([0.5]) == [least.bounds[0] / 2]
    both = LatencyHistogram()
    for seconds in (0.001, 1.0):
        both.add(seconds)
    assert both.quantiles([0.5]) == pytest.approx([0.001], rel=0.07)  # half of them took no longer
    assert both.quantiles([0.51]) == pytest.approx([1.0], rel=0.07)


def test_a_window_of_calls_never_asks_to_roll():
    window = CountWindow(3)
    window.add(5.0, failed=True, slow=True)
    assert window.turn == inf


def test_a_quantile_at_the_edge_of_a_bucket_is_in_it():
    histogram = LatencyHistogram()
    for _ in range(7):
        histogram.add(0.001)
    for _ in range(93):
        histogram.add(1.0)
    assert histogram.quantiles([0.07])[0] < 0.002  # .07 * 100 is more than 7


def test_a_bucket_ends_with_its_bound_and_the_last_one_nowhere():
    histogram = LatencyHistogram()
    assert [histogram.index(bound) for bound in histogram.bounds] == list(range(len(histogram.bounds)))
    assert [histogram.bound(n) for n in range(len(histogram.bounds) + 1)] == [*histogram.bounds, inf]
