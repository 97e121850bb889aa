"""The rules that are written: accepted by promtool, and firing when they should in scenarios it plays through."""

import subprocess
from pathlib import Path

import pytest
import yaml

from opero_slo import openslo, promql, reader, rules
from opero_slo.durations import Duration
from opero_slo.model import (
    SLO,
    Condition,
    Foreign,
    Guard,
    Level,
    Query,
    Ratio,
    Raw,
    Selection,
    Slices,
    Window,
)

ROOT = Path(__file__).parents[2]
RATIO = Ratio(Selection("shop.pay", values=("ok",)), Selection("shop.pay"))
PAY = SLO("pay", RATIO, 0.999, service="shop", runbook="https://runbooks/pay", title="Paying")
SERIES = 'opero_call_duration_seconds_count{opero_call_name="shop.pay", opero_outcome="%s"}'


def promtool(*arguments):
    done = subprocess.run(["promtool", *arguments], capture_output=True, text=True, timeout=100, check=False)
    return done.returncode, done.stdout + done.stderr


KINDS = {
    "ratio": PAY,
    "latency": SLO("fast", Ratio(Selection("shop.pay", values=("ok",), within=0.3), Selection("shop.*")), 0.99),
    "cache": SLO("cache", Ratio(Selection("a", "cache", ("hit",)), Selection("a", "cache", ("hit", "miss"))), 0.8),
    "bad": SLO("bad", Ratio(Selection("a", "events", ("opero.fallback.used",)), Selection("a"), inverted=True), 0.9),
    "slices": SLO("slices", RATIO, 0.99, slices=Slices(60.0, 0.95)),
    "shares": SLO("shares", RATIO, 0.99, slices=Slices(60.0)),
    "throughput": SLO("flow", Level(Selection("a"), "throughput"), 0.99, good_if=("gte", 10.0)),
    "freshness": SLO("fresh", Level(Selection("a", values=("ok",)), "freshness"), 0.99, good_if=("lte", 600.0)),
    "level": SLO("lag", Level(Query('sum(lag{topic="in"})')), 0.99, good_if=("lt", 5.0), slices=Slices(60.0, 1.0)),
    "raw": SLO("raw", Raw(Query("sum(rate(e[{{.window}}])) / sum(rate(t[{{.window}}]))"), inverted=True), 0.99),
    "query": SLO("query", Ratio(Query('sum(http{code=~"2.."})'), Query("sum by (a) (http) + up{x='}'}")), 0.99),
    "month": SLO("month", RATIO, 0.999, Window(Duration(1, "M"), "2026-01-01 00:00:00", "Europe/Berlin")),
    "week": SLO("week", RATIO, 0.999, Window(Duration(1, "w"))),
    "guarded": SLO("guarded", RATIO, 0.999, guard=Guard(50, 0.95, 3)),
    "given": SLO("given", RATIO, 0.999, conditions=(Condition("mine", "page", 2.0, 3600.0, 300.0, ("on-call",)),)),
    "hostile": SLO('h"o\\s', Ratio(Selection('a"}\n{{.x}}'), Selection("b\\*")), 0.99, title='{{ "x" }}\n"'),
}


@pytest.mark.service("prometheus")
@pytest.mark.parametrize("name", KINDS)
def test_promtool_accepts_the_rules_of_every_kind_of_objective(name, tmp_path):
    (tmp_path / "rules.yml").write_text(rules.write([KINDS[name]]))
    code, said = promtool("check", "rules", tmp_path / "rules.yml")
    assert code == 0, said
    assert "SUCCESS" in said


FAST, SLOW, TICKET, LATE = "page-fast", "page-slow", "ticket-fast", "ticket-slow"
BEFORE = 360  # minutes without an error, before anything happens


def values(*stretches):
    """A counter sampled once a minute: (minutes, growth a minute); GAP has no samples, RESTART begins again at zero."""
    total, made = 0, ["0"]
    for minutes, growth in stretches:
        total = 0 if growth == RESTART else total
        for _ in range(minutes):
            total += 0 if growth in {GAP, RESTART} else growth
            made.append("_" if growth == GAP else str(total))
    return " ".join(made)


GAP, RESTART = "gap", "restart"
SCENARIOS = {
    # 2 % bad is a burn rate of 20: it pages within the hour
    "fast burn": (
        [(960, 98)],
        [(BEFORE, 0), (600, 2)],
        {BEFORE: [], BEFORE + 50: [FAST, LATE], BEFORE + 600: [FAST, SLOW, TICKET, LATE]},
    ),
    # 0.4 % is a burn rate of 4: nobody is woken, a ticket is written
    "slow burn": ([(1560, 996)], [(BEFORE, 0), (1200, 4)], {BEFORE + 60: [], BEFORE + 1200: [TICKET, LATE]}),
    # half an hour of 20 %, then none: the short windows end alerts one after the other
    "recovery": (
        [(BEFORE - 30, 100), (30, 80), (420, 100)],
        [(BEFORE - 30, 0), (30, 20), (420, 0)],
        {
            BEFORE: [FAST, SLOW, TICKET, LATE],
            BEFORE + 10: [SLOW, TICKET, LATE],
            BEFORE + 45: [TICKET, LATE],
            BEFORE + 130: [LATE],
            BEFORE + 400: [],
        },
    ),
    # one bad call among thirty is a burn rate of 33, and no reason to wake anybody
    "low traffic": ([(BEFORE, 0), (60, 1)], [(BEFORE + 20, 0), (1, 1), (39, 0)], {BEFORE + 25: [], BEFORE + 60: []}),
    # everything fails: ten bad calls are enough, however few calls there are
    "outage with low traffic": (
        [(BEFORE, 0), (30, 1), (40, 0)],
        [(BEFORE + 30, 0), (40, 1)],
        {BEFORE + 35: [], BEFORE + 45: [FAST, SLOW, TICKET, LATE]},
    ),
    # ten minutes without samples neither start nor end an alert
    "gaps": (
        [(BEFORE + 52, 98), (10, GAP), (60, 98)],
        [(BEFORE, 0), (52, 2), (10, GAP), (60, 2)],
        {BEFORE + 50: [FAST, LATE], BEFORE + 70: [FAST, LATE]},
    ),
    # a restart is no burst of errors
    "counter reset": (
        [(BEFORE, 100), (1, RESTART), (60, 100)],
        [(BEFORE + 61, 0)],
        {BEFORE + 5: [], BEFORE + 60: []},
    ),
    # and hides none
    "counter reset while it burns": (
        [(BEFORE + 50, 98), (1, RESTART), (60, 98)],
        [(BEFORE, 0), (50, 2), (1, RESTART), (60, 2)],
        {BEFORE + 50: [FAST, LATE], BEFORE + 55: [FAST, LATE], BEFORE + 80: [FAST, TICKET, LATE]},
    ),
}


@pytest.mark.service("prometheus")
@pytest.mark.parametrize("name", SCENARIOS)
def test_alerts_fire_for_the_right_reasons(name, tmp_path):
    play(tmp_path, PAY, *SCENARIOS[name])


def play(tmp_path, slo, good, bad, expected, *, every="5m"):
    """Let promtool play two counters, looked at `every` so often; `expected` maps a minute to what fires then."""
    parsed = yaml.safe_load(rules.write([slo]))
    for rule in parsed["groups"][0]["rules"]:
        if "alert" in rule:
            rule["alert"] = rule["labels"].pop("alert")  # all share one name, and a label says which
    (tmp_path / "rules.yml").write_text(yaml.safe_dump(parsed))
    tests = [
        {
            "expr": "count by (alertname) (ALERTS{alertstate='firing'})",
            "eval_time": f"{minute}m",
            "exp_samples": [{"labels": f'{{alertname="{alert}"}}', "value": 1} for alert in sorted(alerts)],
        }
        for minute, alerts in expected.items()
    ]
    series = [
        {"series": SERIES % "ok", "values": values(*good)},
        {"series": SERIES % "error", "values": values(*bad)},
    ]
    document = {"rule_files": ["rules.yml"], "evaluation_interval": every}
    document["tests"] = [{"interval": "1m", "input_series": series, "promql_expr_test": tests}]
    (tmp_path / "tests.yml").write_text(yaml.safe_dump(document))
    code, said = promtool("test", "rules", tmp_path / "tests.yml")
    assert code == 0, said


@pytest.mark.service("prometheus")
def test_answers_that_stop_coming_burn_the_budget_of_freshness(tmp_path):
    slo = SLO("fresh", Level(Selection("shop.pay", values=("ok",)), "freshness"), 0.99, good_if=("lte", 600.0))
    answers = [(BEFORE, 5), (90, 0), (400, 5)]  # none for an hour and a half: old after ten minutes
    expected = {
        BEFORE + 5: [],
        BEFORE + 10: [],
        BEFORE + 30: [FAST, TICKET, LATE],
        BEFORE + 90: [FAST, SLOW, TICKET, LATE],
        BEFORE + 105: [SLOW, TICKET, LATE],  # answers again: the short windows end the pages one after the other
        BEFORE + 150: [TICKET, LATE],
        BEFORE + 460: [],
    }
    play(tmp_path, slo, answers, [(BEFORE + 490, 0)], expected, every="1m")


@pytest.mark.service("prometheus")
def test_few_events_make_a_ticket_when_enough_of_them_are_bad(tmp_path):
    slo = SLO("pay", RATIO, 0.999, guard=Guard(bad_events=3))
    bad = [(BEFORE, 0), (2, 1), (33, 0), (2, 1), (13, 0)]
    play(tmp_path, slo, [(BEFORE, 0), (50, 1)], bad, {BEFORE + 30: [], BEFORE + 40: ["ticket-bad-events"]})


@pytest.mark.service("prometheus")
def test_confidence_holds_back_what_may_be_chance(tmp_path):
    good, bad = [(BEFORE, 0), (60, 10)], [(BEFORE + 4, 0), (4, 1), (52, 0)]
    play(tmp_path, SLO("pay", RATIO, 0.999), good, bad, {BEFORE + 10: [FAST]})
    sure = SLO("pay", RATIO, 0.999, guard=Guard(confidence=0.999))
    play(tmp_path, sure, good, bad, {BEFORE + 10: []})


def test_what_is_left_out_is_said():
    text = rules.write([SLO("dd", Ratio(Foreign("Datadog"), Foreign("Datadog")), 0.9), SLO("loose", RATIO, 0.9)])
    assert "# dd: left out, its source is of type Datadog." in text
    assert "# loose: no alert page-fast, a burn rate above 14.4 cannot be" in text
    given = SLO("given", RATIO, 0.9, conditions=(Condition("never", "page", 20.0, 3600.0),))
    ((slo, refused),) = rules.refused([given])
    assert (slo.name, refused.name) == ("given", "never")
    assert "with a target of 0.9 it is 10 when every event is bad" in refused.reason


def test_alerts_carry_what_whoever_is_woken_needs():
    parsed = yaml.safe_load(rules.write([PAY]))
    alert = next(rule for rule in parsed["groups"][0]["rules"] if "alert" in rule)
    assert alert["labels"] == {"severity": "page", "slo_name": "pay", "slo_service": "shop", "alert": "page-fast"}
    assert alert["annotations"]["runbook_url"] == "https://runbooks/pay"
    assert alert["annotations"]["summary"].startswith("Paying: the error budget burns")
    assert "that spends 2% of it in 1h" in alert["annotations"]["summary"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("x", ["x"]),
        ('sum(x{a="}{"})', ['x{a="}{"}']),
        ("sum by (a, b) (x{c='d'}) / on (a) group_left (b) y", ["x{c='d'}", "y"]),
        ("rate(x[5m]) + y offset 1h", ["y"]),
        ('{__name__="x"}', ['{__name__="x"}']),
        ("sum without (a) (x) or vector(0) # y\n", ["x"]),
        ("x > bool 3 and y unless z", ["x", "y", "z"]),
    ],
    ids=map(str, range(7)),
)
def test_selectors_are_found_in_any_expression(text, expected):
    assert list(promql.selectors(text)) == expected


def test_the_example_rules_are_fresh():
    specification = openslo.interpret(reader.read([ROOT / "slo/specs/shop.yaml"]))
    assert (ROOT / "slo/rules/shop.rules.yml").read_text() == rules.write(specification.slos, specification.slas)
