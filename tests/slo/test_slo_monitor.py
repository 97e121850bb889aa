"""Objectives judged in the process: counts survive a restart, alerts are said once, actions act within their limits."""

import os
import sqlite3
import subprocess
import sys

import pytest

import opero_slo
from opero import SLO, ConfigurationError, catalogue, events, opero, testing
from opero_slo import history, model, openslo, reader
from opero_slo.actions import ForceBreaker, Rule
from opero_slo.history import History
from opero_slo.model import Ratio, Selection, Specification
from opero_slo.monitor import Monitor
from opero_slo.series import Series


@pytest.fixture
def clock():
    with testing.clock() as virtual:
        yield virtual


def fails(flag):
    if flag:
        raise ValueError


def call(function, *flags):
    for flag in flags:
        try:
            function(flag)
        except ValueError:
            continue


def monitor(*slos, path=":memory:", rules=()):
    return Monitor(Specification(slos), base=History(path), interval=10, rules=rules)


def availability(operation, target=0.9):
    return model.SLO(operation, Ratio(Selection(operation, values=("ok",)), Selection(operation)), target)


def test_every_slo_of_a_decorator_is_judged(clock):
    function = opero(slo=[SLO(0.9), SLO(0.5, latency=0.1, name="quick")], retries=0, name="mon.judged")(fails)
    watching = monitor()
    call(function, *[False] * 19, True)
    clock.advance(10)
    found = {status.slo.name: status for status in watching.look()}
    assert found["mon-judged-1"].counts == (19, 20)
    assert found["mon-judged-1"].sli == 0.95
    assert found["quick"].slo.title == "mon.judged answers within 100ms"
    assert found["quick"].counts.total == 20
    watching.stop()


def test_windows_are_exact_as_time_passes(clock):
    function = opero(retries=0, name="mon.windows")(fails)
    watching = monitor(availability("mon.windows"))
    watching.look()
    for minute in range(90):
        call(function, *[False] * 9, minute < 30)
        clock.advance(60)
        watching.look()
    (status,) = [s for s in watching.statuses() if s.slo.name == "mon.windows"]
    assert status.counts == (870, 900)
    assert status.burn_rates[3600.0] == 0
    assert status.burn_rates[21600.0] == pytest.approx(30 / 900 / 0.1)
    watching.stop()


def test_counts_survive_a_restart_and_another_target_goes_on_with_them(clock, tmp_path):
    function = opero(retries=0, name="mon.restart")(fails)
    path = tmp_path / "slo.db"
    first = monitor(availability("mon.restart"), path=path)
    call(function, *[False] * 95, *[True] * 5)
    clock.advance(3600)
    first.look()
    first.stop()
    first.history.close()
    assert oct(path.stat().st_mode & 0o777) == "0o600"
    again = opero(retries=0, name="mon.restart.2")(fails)
    del function
    second = monitor(availability("mon.restart", 0.99), path=path)
    second.tracks["mon.restart"].seen = (95.0, 100.0)  # a new process has counted nothing yet
    clock.advance(3600)
    call(again, False)
    (status,) = [s for s in second.look() if s.slo.name == "mon.restart"]
    assert status.counts == (95, 100)
    second.stop()


def test_processes_that_share_a_file_add_up(clock, tmp_path):
    slo = availability("mon.shared")
    bases = [History(tmp_path / "slo.db") for _ in range(2)]
    series = Series()
    for minute in range(10):
        for base in bases:
            base.add(60.0 * minute, [(history.key(slo), 9, 10)])
    bases[0].extend(series, history.key(slo), float("-inf"))
    assert series.at(1e9) == (180, 200)
    bases[1].add(540.0, [(history.key(slo), 1, 1)])
    bases[0].extend(series, history.key(slo), 500.0)
    assert series.at(1e9) == (181, 201)
    for base in bases:
        base.close()


def test_folding_keeps_every_sum(tmp_path):
    day = 86400.0
    base, series = History(tmp_path / "slo.db"), Series()
    base.add(0.0, [("a", 0, 0)])
    for number in range(1, 3000):
        base.add(number * 1800.0 + 10, [("a", number % 7, number % 11), ("b", 1, 1)])
    now = 3000 * 1800.0
    before, after = Series(), Series()
    base.extend(before, "a", float("-inf"))
    base.fold(now)
    base.extend(after, "a", float("-inf"))
    base.extend(series, "b", float("-inf"))
    assert len(after) <= len(before)
    assert after.at(now) == before.at(now)
    for end in range(0, int(now), int(day)):
        assert after.at(end) == before.at(end)
    assert series.at(now).total == 2999
    base.close()


def test_a_history_on_a_broken_disk_is_said_and_loses_nothing(clock, monkeypatch):
    function = opero(retries=0, name="mon.disk")(fails)
    watching = monitor(availability("mon.disk"))
    watching.look()
    add = watching.history.add

    def full(at, increments):
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(watching.history, "add", full)
    call(function, *[False] * 50)
    clock.advance(10)
    watching.look()
    assert any("disk is full" in problem for problem in watching.problems)
    monkeypatch.setattr(watching.history, "add", add)
    clock.advance(10)
    (status,) = [s for s in watching.look() if s.slo.name == "mon.disk"]
    assert status.counts == (50, 50)
    watching.stop()


@pytest.mark.parametrize("content", [b"not a database at all" * 100, None], ids=["garbage", "folder"])
def test_a_history_that_is_none_is_refused_at_the_start(tmp_path, content):
    path = tmp_path / "slo.db"
    path.mkdir() if content is None else path.write_bytes(content)
    with pytest.raises(ConfigurationError, match="an SQLite file that can be written"):
        opero_slo.start(history=path)


def test_alerts_are_said_when_they_begin_and_end(clock):
    function = opero(slo=SLO(0.9, name="said"), retries=0, name="mon.said")(fails)
    heard = []
    watching = monitor()
    with events.subscribe(heard.append, "opero.slo.*"):
        watching.look()
        for minute in range(200):
            call(function, *[minute < 60] * 10)
            clock.advance(60)
            watching.look()
    names = [(event.name, event.fields.get("alert")) for event in heard]
    assert ("opero.slo.alert_fired", "page-slow") in names
    assert ("opero.slo.alert_resolved", "page-slow") in names
    assert names.count(("opero.slo.alert_fired", "page-slow")) == 1
    assert names.count(("opero.slo.budget_exhausted", None)) == 1
    assert {event.operation for event in heard} == {"mon.said"}
    fired = next(event for event in heard if event.name == "opero.slo.alert_fired")
    assert (fired.fields["slo"], fired.fields["severity"] in {"page", "ticket"}, fired.severity) == (
        "said",
        True,
        "error",
    )
    watching.stop()


def test_every_series_is_in_the_snapshot(clock):
    function = opero(slo=SLO(0.9, name="measured"), retries=0, name="mon.measured")(fails)
    watching = monitor()
    call(function, *[False] * 19, True)
    clock.advance(10)
    watching.look()
    families = {family.metric.name: family.samples for family in catalogue.snapshot()}
    labels = ("mon.measured", "measured")
    assert families["opero.slo.events"][*labels, "good"] == 19
    assert families["opero.slo.events"][*labels, "bad"] == 1
    assert families["opero.slo.objective"][labels] == 0.9
    assert families["opero.slo.sli"][labels] == 0.95
    assert families["opero.slo.error_budget.remaining"][labels] == pytest.approx(0.5)
    assert families["opero.slo.burn_rate"][*labels, "1h"] == pytest.approx(0.5)
    assert families["opero.events"]["mon.measured", "opero.slo.alert_fired", "slo"] == 0
    watching.stop()
    assert ("mon.measured", "measured") not in {
        key[:2] for family in catalogue.snapshot() for key in family.samples if family.metric.name == "opero.slo.sli"
    }


def test_a_month_that_falls_below_a_tier_is_said_once_for_each_tier(clock):
    function = opero(retries=0, name="mon.contract")(fails)
    slo = availability("mon.contract")
    promise = model.SLA("gold", slo, (model.Tier(0.9, 0.1), model.Tier(0.5, 0.5)))
    watching = Monitor(Specification((slo,), (promise,)), base=History(":memory:"), interval=10, rules=[])
    said = []
    with events.subscribe(said.append, "opero.slo.contract_broken"):
        for flags in ([False] * 4 + [True], [True], [False] * 94, [True] * 20, [True], [True] * 200, [True]):
            call(function, *flags)
            clock.advance(10)
            watching.look()
    told = [(e.fields["contract"], e.fields["below"], e.fields["credit"], e.operation) for e in said]
    assert told == [("gold", 0.9, 0.1, "mon.contract"), ("gold", 0.5, 0.5, "mon.contract")]
    families = {family.metric.name: family.samples for family in catalogue.snapshot()}
    assert families["opero.slo.contract.objective"]["mon.contract", "mon.contract", "gold"] == 0.9
    assert families["opero.slo.contract.sli"]["mon.contract", "mon.contract", "gold"] == pytest.approx(98 / 322)
    watching.stop()


def test_what_cannot_be_judged_here_is_said(clock):
    text = """
apiVersion: openslo/v1
kind: SLO
metadata: {name: elsewhere}
spec:
  indicator:
    metadata: {name: a}
    spec: {ratioMetric: {good: {metricSource: {type: Prometheus, spec: {query: x}}},
                         total: {metricSource: {type: Prometheus, spec: {query: y}}}}}
  budgetingMethod: Occurrences
  objectives: [{target: 0.9}]
"""
    watching = Monitor(openslo.interpret(reader.parse(text)))
    late = model.SLO("late", Ratio(Selection("mon.late", values=("ok",), within=0.123), Selection("mon.late")), 0.9)
    opero(retries=0, name="mon.late")(fails)(False)
    watching._follow(late)
    function = opero(retries=0, name="mon.late")(fails)
    function(False)
    watching.look()
    assert watching.problems[0] == "elsewhere is not on Opero's own data: opero slo report judges it"
    assert "late: mon.late has no bound at 0.123 s; start before decorating" in watching.problems
    watching.stop()


def test_an_alert_of_the_monitor_reaches_its_actions(clock):
    function = opero(slo=SLO(0.9, name="acting"), retries=0, circuit_breaker=True, name="mon.acting")(fails)
    watching = monitor(rules=[Rule(ForceBreaker(), severity="page")])
    call(function, *[True] * 15, *[False] * 5)
    clock.advance(10)
    watching.look()
    watching.actions.stop()
    assert function.opero.breaker.state == "forced_open"
    assert [record.outcome for record in watching.actions.audit] == ["done"]
    watching.stop()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_counts_its_own_calls_once(tmp_path):
    code = f"""
import os
import opero_slo
from opero import SLO, opero
function = opero(slo=SLO(0.9, name="forked"), retries=0, name="mon.forked")(abs)
handle = opero_slo.start(history={str(tmp_path / "slo.db")!r}, interval=0.1)
for _ in range(100):
    function(-1)
handle.statuses()
child = os.fork()
if not child:
    for _ in range(20):
        function(-1)
    (status,) = opero_slo.start().statuses()
    os._exit(0 if status.counts.total >= 120 else 1)
_, how = os.waitpid(child, 0)
function(-1)
(status,) = handle.statuses()
print(os.waitstatus_to_exitcode(how), status.counts.total)
handle.stop()
"""
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", code]  # of 3.12 on: a fork beside threads
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.stderr) == ("0 121.0\n", "")
