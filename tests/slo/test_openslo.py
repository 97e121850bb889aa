"""OpenSLO v1 is read whole; what is wrong is said with file, line and field; what is written reads back the same."""

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opero_slo import openslo, reader, schema
from opero_slo.durations import Duration
from opero_slo.model import (
    Condition,
    Guard,
    Level,
    Query,
    Ratio,
    Raw,
    Selection,
    Slices,
    Tier,
    Window,
)
from opero_slo.reader import SpecificationError

DATA = Path(__file__).parents[3] / "shared/data/openslo-v1"
EXAMPLES = sorted(DATA.glob("*.yaml"))
MINIMAL = """\
apiVersion: openslo/v1
kind: SLO
metadata: {name: pay}
spec:
  indicator:
    metadata: {name: pay-ok}
    spec:
      ratioMetric:
        good: {metricSource: {type: Opero, spec: {operation: shop.pay, outcome: [ok, fallback]}}}
        total: {metricSource: {type: Opero, spec: {operation: shop.pay}}}
  budgetingMethod: Occurrences
  objectives: [{target: 0.999}]
"""


def read(text):
    return openslo.interpret(reader.parse(text, "pay.yaml"))


def problems(text):
    with pytest.raises(SpecificationError) as caught:
        read(text)
    return [str(problem) for problem in caught.value.problems]


def need_examples():
    if not EXAMPLES:
        verdict = pytest.fail if os.environ.get("OPERO_REQUIRE_SERVICES") == "1" else pytest.skip
        verdict(f"needs the OpenSLO v1 examples in {DATA}")


def test_the_examples_of_the_specification_all_read():
    need_examples()
    documents = reader.read(EXAMPLES)
    assert len(documents) == 18
    assert {document.value["kind"] for document in documents} == set(schema.KINDS)
    found = openslo.validate(documents)
    assert [str(problem) for problem in found if not problem.warning] == []
    again = reader.parse(openslo.write(documents))
    assert [document.value for document in again] == [document.value for document in documents]


def test_what_an_example_refers_to_must_be_there_to_judge_by_it():
    need_examples()
    with pytest.raises(SpecificationError, match="there is no AlertCondition cpu-usage-breach among these files"):
        openslo.load([DATA / "full_slo.yaml"])


def test_ten_lines_are_an_objective():
    (slo,) = read(MINIMAL).slos
    assert (slo.name, slo.target, slo.budget, slo.operation) == ("pay", 0.999, 0.001, "shop.pay")
    assert slo.indicator == Ratio(Selection("shop.pay", values=("ok", "fallback")), Selection("shop.pay"))
    assert slo.window == Window(Duration(30, "d"))
    assert len(MINIMAL.splitlines()) == 12


def test_everything_an_objective_can_say():
    specification = read(
        MINIMAL.replace("metadata: {name: pay}\n", FULL_METADATA)
        .replace("outcome: [ok, fallback]", "outcome: ok, within: 300ms")
        .replace("budgetingMethod: Occurrences", FULL_SPEC)
        .replace("[{target: 0.999}]", "[{targetPercent: 99.9, timeSliceTarget: 0.95, timeSliceWindow: 2}]")
        + OTHERS
    )
    (slo,), (sla,) = specification.slos, specification.slas
    assert slo.indicator.part == Selection("shop.pay", values=("ok",), within=0.3)
    assert slo.latency == 0.3
    assert (slo.target, slo.slices) == (0.999, Slices(120.0, 0.95))
    assert slo.window == Window(Duration(1, "M"), "2026-01-01 00:00:00", "Europe/Berlin")
    assert slo.guard == Guard(min_events=50, confidence=0.95, bad_events=3, bad_window=3600.0)
    assert (slo.runbook, slo.service, slo.labels) == ("https://runbooks/pay", "shop", {"team": "a,b"})
    assert slo.conditions == (Condition("fast", "page", 2.0, 3600.0, 300.0, ("on-call", "mail"), when_resolved=True),)
    assert (sla.slo, sla.tiers, sla.fee) == (slo, (Tier(0.999, 0.1), Tier(0.99, 0.25)), 1000)


FULL_METADATA = """\
metadata:
  name: pay
  displayName: Paying
  labels: {team: [a, b]}
  annotations:
    opero.dev/min-events: "50"
    opero.dev/confidence: "0.95"
    opero.dev/bad-events: "3"
    opero.dev/bad-window: 1h
    opero.dev/runbook: https://runbooks/pay
    another.com/thing: kept
"""
FULL_SPEC = """\
service: shop
  timeWindow:
    - duration: 1M
      calendar: {startTime: 2026-01-01 00:00:00, timeZone: Europe/Berlin}
  alertPolicies:
    - alertPolicyRef: paging
  budgetingMethod: Timeslices"""
OTHERS = """\
---
apiVersion: openslo/v1
kind: AlertPolicy
metadata: {name: paging}
spec:
  alertWhenResolved: true
  conditions: [{conditionRef: fast}]
  notificationTargets:
    - targetRef: on-call
    - {kind: AlertNotificationTarget, metadata: {name: mail}, spec: {target: email}}
---
- apiVersion: openslo/v1
  kind: AlertCondition
  metadata: {name: fast}
  spec: {severity: page, condition: {kind: burnrate, threshold: 2, lookbackWindow: 1h, alertAfter: 5m}}
- {apiVersion: openslo/v1, kind: AlertNotificationTarget, metadata: {name: on-call}, spec: {target: pager}}
- apiVersion: opero/v1
  kind: SLA
  metadata: {name: contract}
  spec:
    slo: pay
    fee: 1000
    tiers: [{below: 0.999, credit: 0.1}, {below: 0.99, credit: 0.25}]
"""


OURS = "{metricSource: {type: Opero, spec: {operation: a%s}}}"
CACHE = f"ratioMetric: {{good: {OURS % ', cache: [hit, stale]'}, total: {OURS % ', cache: [hit, stale, miss]'}}}"
CUSTOM = f"ratioMetric: {{bad: {OURS % ', event: opero.fallback.used'}, total: {OURS % ''}}}"
RAW = "ratioMetric: {rawType: failure, raw: {metricSource: {type: Prometheus, spec: {query: 'err[{{.window}}]'}}}}"


@pytest.mark.parametrize(
    ("indicator", "objective", "expected"),
    [
        (
            "thresholdMetric: {metricSource: {type: Opero, spec: {operation: a, measure: freshness}}}",
            "{op: lte, value: 600, target: 0.99, timeSliceTarget: 1, timeSliceWindow: 1m}",
            Level(Selection("a", values=("ok", "cached", "fallback")), "freshness"),
        ),
        (
            "thresholdMetric: {metricSource: {type: Opero, spec: {operation: a, measure: throughput}}}",
            "{op: gt, value: 10, target: 0.99, timeSliceTarget: 1, timeSliceWindow: 1m}",
            Level(Selection("a"), "throughput"),
        ),
        (
            CACHE,
            "{target: 0.8, timeSliceTarget: 1, timeSliceWindow: 1m}",
            Ratio(Selection("a", "cache", ("hit", "stale")), Selection("a", "cache", ("hit", "stale", "miss"))),
        ),
        (
            CUSTOM,
            "{target: 0.8, timeSliceTarget: 1, timeSliceWindow: 1m}",
            Ratio(Selection("a", "events", ("opero.fallback.used",)), Selection("a"), inverted=True),
        ),
        (
            RAW,
            "{target: 0.8, timeSliceTarget: 1, timeSliceWindow: 1m}",
            Raw(Query("err[{{.window}}]"), inverted=True),
        ),
    ],
    ids=["freshness", "throughput", "cache", "custom", "raw"],
)
def test_every_kind_of_indicator_reads_and_is_written_back(indicator, objective, expected):
    lines = MINIMAL.splitlines()
    text = "\n".join([*lines[:6], "    spec:", f"      {indicator}", *lines[10:]])
    text = text.replace("Occurrences", "Timeslices").replace("{target: 0.999}", objective)
    (slo,) = read(text).slos
    assert slo.indicator == expected
    (again,) = openslo.interpret(reader.parse(openslo.write([openslo.document_of(slo)]))).slos
    assert (again.indicator, again.target, again.slices, again.good_if) == (
        slo.indicator,
        slo.target,
        slo.slices,
        slo.good_if,
    )


def test_several_objectives_are_judged_apart():
    text = MINIMAL.replace("[{target: 0.999}]", "[{target: 0.9}, {displayName: strict, target: 0.99}]")
    assert [(slo.name, slo.target) for slo in read(text).slos] == [("pay-1", 0.9), ("pay-2", 0.99)]


@pytest.mark.parametrize(
    ("old", "new", "line", "field", "message"),
    [
        ("target: 0.999", "target: 99.9", 12, "spec.objectives[0].target", "takes a number from 0 up to"),
        ("target: 0.999", "targets: 0.9", 12, "spec.objectives[0].targets", "did you mean target?"),
        ("target: 0.999", "target: yes", 12, "spec.objectives[0].target", "and got True"),
        ("[{target: 0.999}]", "[]", 12, "spec.objectives", "takes 1 to 100 items, and got 0"),
        ("[{target: 0.999}]", "{target: 0.999}", 12, "spec.objectives", "takes a list, and got fields"),
        ("Occurrences", "occurrences", 11, "spec.budgetingMethod", "did you mean Occurrences?"),
        ("Occurrences", "Timeslices", 12, "spec.objectives[0].timeSliceTarget", "is missing: Timeslices needs it"),
        ("kind: SLO", "kind: SLOO", 2, "kind", "there is no kind 'SLOO' in openslo/v1; did you mean SLO?"),
        ("openslo/v1", "openslo/v1alpha", 1, "apiVersion", "takes openslo/v1"),
        ("{name: pay}", "{name: -pay}", 3, "metadata.name", "takes a name"),
        ("{name: pay}", "{}", 3, "metadata.name", "is missing"),
        ("outcome: [ok, fallback]", "outcome: fine", 9, "good.metricSource.spec.outcome", "takes ok, error"),
        ("outcome: [ok, fallback]", "within: 1M", 9, "good.metricSource.spec.within", "takes seconds"),
        ("operation: shop.pay, ", "", 9, "good.metricSource.spec.operation", "is missing"),
        ("  indicator:", "  indicatorRef: other\n  indicator:", 5, "spec.indicatorRef", "excludes indicator"),
        (
            "  budgeting",
            "  timeWindow: [{duration: 30days}]\n  budgeting",
            11,
            "timeWindow[0].duration",
            "and got '30days'",
        ),
        ("  budgeting", "  timeWindow: [{duration: 1M, isRolling: false}]\n  budgeting", 11, "calendar", "is missing"),
        (
            "  budgeting",
            "  timeWindow: [{duration: 1M, calendar: {startTime: 2026-01-01, timeZone: Mars/Base}}]\n  budgeting",
            11,
            "calendar.timeZone",
            "IANA time zone",
        ),
        ("{name: pay}", "{name: pay, annotations: {opero.dev/min-event: '3'}}", 3, "min-event", "no such annotation"),
        (
            "{name: pay}",
            "{name: pay, annotations: {opero.dev/confidence: '2'}}",
            3,
            "confidence",
            "takes a number from",
        ),
        ("{name: pay}", "{name: pay, name: pay}", 3, "metadata", "'name' is there twice"),
    ],
    ids=map(str, range(21)),
)
def test_what_is_wrong_is_said_with_file_line_and_field(old, new, line, field, message):
    assert old in MINIMAL
    found = problems(MINIMAL.replace(old, new, 1))
    assert any(text.startswith(f"pay.yaml:{line}: ") and field in text and message in text for text in found), found


def test_everything_that_is_wrong_is_said_at_once():
    assert len(problems(MINIMAL.replace("0.999", "2").replace("Occurrences", "Never").replace("pay}", "'!'}"))) == 3


BOMB = "\n".join(
    ["a0: &a0 [x, x, x, x, x, x, x, x, x]", *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 9))]
)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a: [",
        "a: &a [*a]",
        "&a {b: *a}",
        "- - - 1",
        BOMB,
        "[" * 5000,
        "a:\n" + "\n".join(" " * n + "a:" for n in range(1, 500)),
        "{[1, 2]: 3}",
        "!!python/object/apply:os.system [echo]",
        "a: !!binary aGVsbG8=",
        "a: !!int twelve",
        "a: " + "9" * 5000,
        "kind: SLO\napiVersion: [1]",
        "%YAML 9\n---\na",
        "a: \x07",
        "*nothing",
        "just text",
        MINIMAL.replace("MINIMAL", "") * 2 + "x" * 500_000,
    ],
    ids=map(str, range(19)),
)
def test_what_is_no_specification_is_one_clear_error(text):
    found = problems(text)
    assert found
    assert all(problem.startswith("pay.yaml") and len(problem) < 400 for problem in found)


def test_a_file_of_ten_megabytes_is_refused_before_it_is_read(tmp_path):
    large = tmp_path / "large.yaml"
    large.write_bytes(b"a: 1\n" * 2_000_000)
    with pytest.raises(SpecificationError, match=r"large.yaml: 10,000,000 bytes are too many: at most 500,000"):
        openslo.load([large])
    with pytest.raises(SpecificationError, match="cannot be read: No such file"):
        openslo.load([tmp_path / "none.yaml"])
    (tmp_path / "bytes.yaml").write_bytes(b"\xff\xfe")
    with pytest.raises(SpecificationError, match="is not UTF-8"):
        openslo.load([tmp_path / "bytes.yaml"])


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["SLO", "openslo/v1"]),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(max_size=10), children, max_size=4),
    max_leaves=12,
)
SPOTS = [("kind",), ("metadata",), ("metadata", "name"), ("spec",), ("spec", "indicator"), ("spec", "objectives")]
SPOTS += [
    ("spec", "objectives", 0),
    ("spec", "objectives", 0, "target"),
    ("spec", "timeWindow"),
    ("spec", "alertPolicies"),
]
SPOTS += [
    ("spec", "indicator", "spec", "ratioMetric"),
    ("spec", "indicator", "spec", "ratioMetric", "good", "metricSource"),
]


@given(st.sampled_from(SPOTS), VALUES)
@settings(max_examples=300, deadline=None)
def test_any_value_anywhere_is_read_or_refused_never_a_traceback(spot, value):
    import copy

    import yaml

    tree = copy.deepcopy(reader.parse(MINIMAL)[0].value)
    inner = tree
    for key in spot[:-1]:
        inner = inner[key]
    inner[spot[-1]] = value
    judge(yaml.safe_dump(tree, allow_unicode=True))


@given(st.binary(max_size=300).map(lambda raw: raw.decode("utf-8", "replace")), st.integers(0, len(MINIMAL)))
@settings(max_examples=300, deadline=None)
def test_any_text_is_read_or_refused(noise, at):
    judge(MINIMAL[:at] + noise + MINIMAL[at + len(noise) :])


def judge(text):
    try:
        outcome = read(text)
    except SpecificationError as error:
        outcome = error.problems
    assert outcome
