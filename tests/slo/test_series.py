"""Counting is exact for any window; time slices, throughput and freshness are counted from it."""

import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opero_slo import durations, periods
from opero_slo.durations import Duration
from opero_slo.model import Slices, Window
from opero_slo.series import NOTHING, Counts, Series, freshness, levels, ratios, sliced, throughput

EVENTS = st.lists(st.tuples(st.floats(0, 1e6), st.booleans()), max_size=80)


def series_of(events):
    series = Series([(-1.0, 0, 0)])
    good = total = 0
    for at, ok in sorted(events):
        good, total = good + ok, total + 1
        series.add(at, good, total)
    return series


@given(EVENTS, st.floats(-10, 1e6), st.floats(0, 1e6))
def test_any_window_counts_its_events_one_by_one(events, start, length):
    end = start + length
    inside = [ok for at, ok in events if start < at <= end]
    assert series_of(events).between(start, end) == Counts(sum(inside), len(inside))


def test_windows_next_to_each_other_add_up():
    chance = random.Random(1)
    series = series_of([(chance.uniform(0, 1000), chance.random() < 0.9) for _ in range(500)])
    parts = [series.between(at, at + 10) for at in range(0, 1000, 10)]
    whole = NOTHING
    for part in parts:
        whole += part
    assert whole == series.between(0, 1000)


def test_samples_come_in_order_and_the_last_of_a_moment_counts():
    series = Series([(1, 0, 0), (2, 1, 1)])
    series.add(2, 2, 3)
    assert series.between(1, 2) == (2, 3)
    with pytest.raises(ValueError, match="after one at"):
        series.add(1, 0, 0)
    series.hold(10)
    series.hold(20)
    assert (len(series), series.end) == (3, 20)
    series.cut(5)
    assert (len(series), series.end) == (2, 2)
    assert Series().between(0, 10) == NOTHING


def test_a_slice_is_good_when_enough_of_it_is():
    events = [(5, True), (6, True), (65, True), (66, False), (185, False), (250, True)]
    minutes = Slices(60.0, 0.5)
    assert sliced(series_of([*events, (300, True)]), minutes).between(-10, 300) == (3, 4)
    assert sliced(series_of([*events, (300, True)]), Slices(60.0)).between(-10, 300) == (2.5, 4)


def test_throughput_counts_the_slices_with_enough_calls():
    calls = [(60 * minute + second, True) for minute in (0, 1, 3) for second in range(1, 31)]
    series = series_of([*calls, (300, True)])
    assert throughput(series, "gte", 0.5, 60.0).between(0, 300) == (3, 5)


def test_freshness_counts_the_slices_at_whose_end_the_last_good_event_was_young():
    series = series_of([(10, True), (130, False), (250, True), (600, False)])
    judged = freshness(series, "lte", 120.0, 60.0)
    young = [end for end in range(60, 601, 60) if end - (10 if end < 250 else 250) <= 120]
    assert judged.between(0, 600) == (len(young), 10)


def test_levels_and_ratios_are_one_event_a_sample():
    samples = [(60.0, 1.0), (120.0, 5.0), (180.0, 3.0)]
    assert levels(samples, "lt", 4.0, 60.0).between(0, 180) == (2, 3)
    assert ratios([(60.0, 0.25), (120.0, 0.5)], 60.0, inverted=True).between(0, 120) == (1.25, 2)
    assert levels([], "lt", 4.0, 60.0).between(0, 180) == NOTHING


@pytest.mark.parametrize(
    ("now", "start", "end"),
    [
        ("2026-03-15 12:00", "2026-02-28 23:00", "2026-03-31 22:00"),  # from winter into summer time
        ("2026-10-31 22:59", "2026-09-30 22:00", "2026-10-31 23:00"),
        ("2026-10-31 23:00", "2026-10-31 23:00", "2026-11-30 23:00"),
    ],
)
def test_a_calendar_month_begins_at_midnight_of_its_zone(now, start, end):
    window = Window(Duration(1, "M"), "2026-01-01 00:00:00", "Europe/Berlin")
    assert periods.period(window, at(now))[:2] == (at(start), at(end))


@pytest.mark.parametrize("unit", ["m", "h", "d", "w", "M", "Q", "Y"])
def test_calendar_periods_follow_each_other_without_a_gap(unit):
    window = Window(Duration(3, unit), "2025-11-30 10:00:00", "America/New_York")
    found = periods.period(window, at("2026-03-09 00:00"))
    for _ in range(8):
        following = periods.period(window, found.end)
        assert following.start == found.end
        assert periods.period(window, following.end - 1)[:2] == following[:2]
        assert found.start <= found.now <= found.end
        found = following


def test_days_and_months_cover_a_stretch_once():
    start, end = at("2026-03-20 05:00"), at("2026-04-02 07:00")
    days = list(periods.days(start, end, "Europe/Berlin"))
    assert [days[0][1], days[-1][2]] == [start, end]
    assert all(one[2] == other[1] for one, other in pairwise(days))
    assert {name: stop - begin for name, begin, stop in days}["2026-03-29"] == 23 * 3600
    assert [name for name, *_ in periods.months(start, end)] == ["2026-03", "2026-04"]


@pytest.mark.parametrize(("text", "seconds"), [("1m", 60), ("1M", 2592000), ("2w", 1209600), ("1Y", 31536000)])
def test_a_small_m_is_a_minute_and_a_large_one_a_month(text, seconds):
    duration = durations.parse(text)
    assert (duration.seconds, str(duration)) == (seconds, text)


@pytest.mark.parametrize("text", ["", "1", "m", "0d", "-1d", "1.5h", "1 d", "1s", "1D", 5, None])
def test_what_is_no_duration_is_none(text):
    assert durations.parse(text) is None


def test_latencies_read_with_their_unit():
    assert [durations.latency(v) for v in ("300ms", "1.5s", 0.25, "2m")] == [0.3, 1.5, 0.25, 120]
    assert [durations.latency(v) for v in ("0ms", "1M", True, -1, None, "fast")] == [None] * 6
    assert [durations.shown(s) for s in (0.3, 75, 5400, 86400)] == ["300ms", "1m15s", "1h30m", "1d"]


def at(text):
    from datetime import UTC, datetime

    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()
