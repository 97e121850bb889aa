"""Burn rates as the workbook has them, alerts that cannot fire refused, and few events that wake nobody."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opero_slo import alerts
from opero_slo.alerts import Law, Watch
from opero_slo.durations import Duration
from opero_slo.evaluator import evaluate, needed
from opero_slo.model import SLO, Condition, Guard, Query, Ratio, Window
from opero_slo.series import Counts, Series

HOUR, DAY = 3600.0, 86400.0
RATIO = Ratio(Query("good"), Query("total"))


def slo(target=0.999, window="30d", **more):
    from opero_slo import durations

    return SLO("pay", RATIO, target, Window(durations.parse(window) or Duration(30, "d")), **more)


def steady(share, *, per_minute=1000.0, minutes=6000, before=0, end=1e7):
    """A series of so many minutes that end at `end`, the last ones with this share of bad events."""
    series, good, total = Series(), 0.0, 0.0
    for minute in range(minutes + 1):
        at = end - 60.0 * (minutes - minute)
        if minute:
            total += per_minute
            good += per_minute * (1 - share if minute > before else 1)
        series.add(at, good, total)
    return series


def test_the_pairs_are_those_of_the_workbook():
    laws, refused = alerts.laws(slo())
    assert [(law.burn, law.long, law.short, law.severity) for law in laws] == [
        (14.4, HOUR, 300, "page"),
        (6.0, 6 * HOUR, 1800, "page"),
        (3.0, DAY, 2 * HOUR, "ticket"),
        (1.0, 3 * DAY, 6 * HOUR, "ticket"),
    ]
    assert refused == []


@pytest.mark.parametrize("window", ["1d", "7d", "2w", "28d", "30d", "1Q", "1Y"])
def test_for_another_period_each_alert_spends_the_same_share_of_the_budget(window):
    objective = slo(window=window)
    period = objective.window.duration.seconds
    shares = {name: share for name, _, share, _ in alerts.WORKBOOK}
    laws, refused = alerts.laws(objective)
    assert len(laws) + len(refused) == 4
    for law in laws:
        assert law.burn == pytest.approx(max(shares[law.name] * period / law.long, 1), rel=1e-6)
        assert (law.short, law.long <= period) == (law.long / 12, True)


def test_an_alert_that_can_never_fire_is_refused_with_the_reason():
    laws, refused = alerts.laws(slo(0.9))
    assert [law.name for law in laws] == ["page-slow", "ticket-fast", "ticket-slow"]
    assert refused[0].reason.startswith("a burn rate above 14.4 cannot be: with a target of 0.9 it is 10 when every")
    given = slo(0.995, conditions=(Condition("never", "page", 200.0, HOUR), Condition("can", "page", 199.0, HOUR)))
    laws, refused = alerts.laws(given)
    assert ([law.name for law in laws], [each.name for each in refused]) == (["can"], ["never"])
    everything = alerts.read(laws[0], steady(1.0), given.budget, 1e7)
    assert everything.breached


@pytest.mark.parametrize(("share", "fires"), [(0.0145, True), (0.0143, False)])
def test_a_page_fires_above_its_burn_rate_and_not_below(share, fires):
    law = alerts.laws(slo())[0][0]
    assert alerts.read(law, steady(share), 0.001, 1e7).breached is fires


def test_an_alert_needs_both_windows():
    law = alerts.laws(slo())[0][0]
    fresh = steady(0.5, minutes=6000, before=5999)
    assert alerts.read(law, fresh, 0.001, 1e7).long < 14.4
    assert not alerts.read(law, fresh, 0.001, 1e7).breached
    over = steady(0.5, minutes=6000, before=5940)
    assert alerts.read(law, over, 0.001, 1e7).breached
    quiet = Series(over)
    for minute in range(1, 7):
        quiet.add(1e7 + 60 * minute, quiet.good[-1] + 1000, quiet.total[-1] + 1000)
    reading = alerts.read(law, quiet, 0.001, 1e7 + 360)
    assert (reading.long > 14.4, reading.short, reading.breached) == (True, 0.0, False)


@given(st.integers(2, 100_000), st.sampled_from([0.9, 0.99, 0.999, 0.9999]))
def test_one_bad_event_alone_never_wakes_anybody(total, target):
    series = Series([(0, 0, 0), (1e6, total - 1, total)])
    for law in alerts.laws(slo(target))[0]:
        assert not alerts.read(law, series, slo(target).budget, 1e6).breached


def test_ten_bad_events_are_enough_however_few_there_are():
    law = alerts.laws(slo())[0][0]
    for bad, fires in ((9, False), (10, True)):
        series = Series([(0, 0, 0), (1e6, 20 - bad, 20)])
        assert alerts.read(law, series, 0.001, 1e6).breached is fires
    strict = alerts.laws(slo(guard=Guard(min_events=30)))[0][0]
    assert not alerts.read(strict, Series([(0, 0, 0), (1e6, 0, 20)]), 0.001, 1e6).breached


def test_a_guard_says_how_many_events_it_takes():
    law = alerts.laws(slo(guard=Guard(min_events=500)))[0][0]
    few = Series([(0, 0, 0), (1e6, 300, 400)])
    reading = alerts.read(law, few, 0.001, 1e6)
    assert (reading.breached, reading.reason) == (False, "too few events: 400 of 500")
    sure = alerts.laws(slo(guard=Guard(min_events=1, confidence=0.999)))[0][0]
    reading = alerts.read(sure, Series([(0, 0, 0), (1e6, 90, 94)]), 0.001, 1e6)
    assert (reading.breached, reading.reason) == (False, "too few events to be 0.999 sure")


@pytest.mark.parametrize(
    ("bad", "total", "confidence", "expected"),
    [(4, 94, 0.999, 0.01046), (10, 100, 0.975, 0.05523), (0, 10, 0.95, 0.0)],
    ids=map(str, range(3)),
)
def test_the_lower_bound_is_wilsons(bad, total, confidence, expected):
    assert alerts.lower_bound(Counts(total - bad, total), confidence) == pytest.approx(expected, abs=2e-4)


def test_so_many_bad_events_make_a_ticket_however_few_there_are():
    law = alerts.laws(slo(guard=Guard(bad_events=3, bad_window=3600)))[0][-1]
    assert law.severity == "ticket"
    for bad, fires in ((2, False), (3, True)):
        series = Series([(0, 0, 0), (1e6, 0, bad)])
        assert alerts.read(law, series, 0.001, 1e6).breached is fires


def test_a_watch_says_what_changed_once():
    law = Law("page", "page", 2.0, 600, 600, after=120)
    watch = Watch([law], 0.1)
    series, said = Series([(0, 0, 0)]), []
    good = total = 0
    for minute in range(1, 40):
        total += 10
        good += 0 if 5 <= minute < 15 else 10
        series.add(60 * minute, good, total)
        said += [(minute, fired, firing.start, firing.end) for fired, firing, _ in watch.look(series, 60 * minute)]
    # above 0.2 bad of the last ten minutes from minute 6 on, for two minutes: fires at 8
    assert said == [(8, True, 480, None), (22, False, 480, 1320)]
    assert [(f.start, f.end) for f in alerts.replay([law], series, 0.1, range(60, 2400, 60))] == [(480, 1320)]


def test_no_data_fires_only_where_it_was_asked_for():
    empty = Series([(0, 5, 5)])
    for wanted in (False, True):
        condition = Condition("c", "page", 2.0, HOUR, when_no_data=wanted)
        (law,), _ = alerts.laws(slo(conditions=(condition,)))
        assert alerts.read(law, empty, 0.001, 1e6).breached is wanted


def test_a_condition_means_what_its_policy_says():
    backwards = slo(conditions=(Condition("slow", "page", 2.0, HOUR, op="lte"),))
    laws, refused = alerts.laws(backwards)
    assert laws == []
    assert refused[0].reason.startswith("op: lte asks for a budget that is spent slowly")
    silent = slo(conditions=(Condition("c", "page", 2.0, HOUR, when_breaching=False, when_no_data=True),))
    (law,), _ = alerts.laws(silent)
    assert not alerts.read(law, steady(1.0), 0.001, 1e7).breached
    assert alerts.read(law, Series([(0, 5, 5)]), 0.001, 1e7).breached


def test_a_status_is_the_closed_form():
    status = evaluate(slo(0.99), steady(0.004), 1e7)
    assert status.counts == (pytest.approx(5_976_000), 6_000_000)
    assert status.sli == pytest.approx(0.996)
    assert status.remaining == pytest.approx(0.6)
    assert status.burn == pytest.approx(0.4)
    assert all(rate == pytest.approx(0.4) for rate in status.burn_rates.values())
    assert status.state == "met"
    assert status.exhausted_in is None


@pytest.mark.parametrize(
    ("share", "state"), [(0.0, "met"), (0.0095, "at risk"), (0.02, "missed")], ids=["met", "at risk", "missed"]
)
def test_a_state_is_one_word(share, state):
    assert evaluate(slo(0.99), steady(share), 1e7).state == state


def test_too_few_events_give_no_number():
    series = Series([(0, 0, 0), (1e6, 998, 999)])
    status = evaluate(slo(), series, 1e6)
    assert needed(slo()) == 1000
    assert (status.sli, status.remaining, status.burn, status.state) == (None, None, None, "too few events")
    assert evaluate(slo(), Series(), 1e6).state == "no data"
    assert evaluate(slo(guard=Guard(min_events=999)), series, 1e6).sli == 998 / 999


def test_who_is_paged_finds_the_objective_at_risk_also_with_too_few_events():
    status = evaluate(slo(), Series([(0, 0, 0), (1e6 - 250, 0, 0), (1e6, 446, 466)]), 1e6)
    assert (status.sli, status.remaining, status.state) == (None, None, "at risk")


def test_a_budget_is_told_to_run_out_when_it_will():
    status = evaluate(slo(0.99), steady(0.5, minutes=43200, before=43140), 1e7)
    assert status.burn_rates[HOUR] == pytest.approx(50)
    assert status.exhausted_in == pytest.approx(status.remaining * 30 * DAY / 50)
