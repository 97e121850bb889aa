"""What the objects of OpenSLO v1 look like, as data. `opero/v1` adds one kind: the SLA.

Source: the OpenSLO v1 specification. Its own examples use two fields that its text does not name (`op` of a condition,
`kind` of inlined objects) and leave out `isRolling`; all of that is read.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

from opero_slo.checks import (
    Field,
    anything,
    guess,
    is_annotation,
    is_duration,
    is_label,
    is_name,
    is_start,
    is_zone,
    lists,
    mappings,
    matching,
    numbers,
    objects,
    one_of,
    shown,
    texts,
    under,
)
from opero_slo.durations import LATENCY, WRITTEN, latency

if TYPE_CHECKING:
    from collections.abc import Iterator

    from opero_slo.reader import Document, Problem

OPENSLO, OURS = "openslo/v1", "opero/v1"
OUTCOMES = ("ok", "error", "timeout", "rejected", "cancelled", "fallback", "cached")
CACHE_RESULTS = ("hit", "miss", "stale", "coalesced", "bypass", "error")
OPERATORS = ("lt", "lte", "gt", "gte")

_description = Field(texts(1050))
_name = Field(matching("a name: letters, digits and . - | / \\ between them, up to 255", is_name), required=True)
_truth = Field(matching("true or false", lambda value: isinstance(value, bool)))
_duration = matching(f"a duration: {WRITTEN}", is_duration)
_zone = Field(matching("the name of an IANA time zone, like Europe/Berlin", is_zone))
_target = numbers("a number from 0 up to, and without, 1", lambda value: 0 <= value < 1)
METADATA = objects(
    {
        "name": _name,
        "displayName": Field(texts(1050)),
        "labels": Field(mappings("a text or a list of texts for each label", is_label)),
        "annotations": Field(mappings("a text for each annotation", is_annotation)),
    }
)


def _some(*names: str, most: int = 1) -> Any:
    """Ask for one of these fields, and no more than `most`."""

    def rule(document: Document, path: str, value: dict[str, Any]) -> Iterator[Problem]:
        given = [name for name in names if name in value]
        if not given:
            yield document.problem(path, f"needs {' or '.join(names)}")
        elif len(given) > most:
            yield document.problem(under(path, given[-1]), f"excludes {given[0]}: give one of {', '.join(names)}")

    return rule


def _source(document: Document, path: str, value: dict[str, Any]) -> Iterator[Problem]:
    """The source of a metric; one of type Opero is checked to the last field."""
    if "type" not in value and "metricSourceRef" not in value:
        yield document.problem(path, "needs type or metricSourceRef")
    if value.get("type") == "Opero":
        yield from OPERO(document, under(path, "spec"), value.get("spec"))
    elif value.get("type") == "Prometheus":
        yield from PROMETHEUS(document, under(path, "spec"), value.get("spec"))


def _several(allowed: tuple[str, ...] | None = None) -> Any:
    each = one_of(*allowed) if allowed else texts(200)
    many = lists(each, least=1)

    def check(document: Document, path: str, value: Any) -> Iterator[Problem]:
        return many(document, path, value) if isinstance(value, list) else each(document, path, value)

    return check


def _opero(document: Document, path: str, value: dict[str, Any]) -> Iterator[Problem]:
    kinds = [name for name in ("outcome", "cache", "event") if name in value]
    if len(kinds) > 1:
        yield document.problem(under(path, kinds[1]), f"excludes {kinds[0]}: a selection counts one kind of event")
    if "within" in value and kinds not in ([], ["outcome"]):
        yield document.problem(under(path, "within"), f"is for calls, not for {kinds[0]}")


OPERO = objects(
    {
        "operation": Field(texts(300), required=True),
        "outcome": Field(_several(OUTCOMES)),
        "within": Field(matching(LATENCY, latency)),
        "cache": Field(_several(CACHE_RESULTS)),
        "event": Field(_several()),
        "measure": Field(one_of("throughput", "freshness")),
    },
    _opero,
)
PROMETHEUS = objects({"query": Field(texts(), required=True)})
SOURCE = objects({"metricSourceRef": Field(texts(255)), "type": Field(texts(100)), "spec": Field(anything())}, _source)
METRIC = objects({"metricSource": Field(SOURCE, required=True)})


def _ratio(document: Document, path: str, value: dict[str, Any]) -> Iterator[Problem]:
    if "raw" in value:
        for name in ("good", "bad", "total"):
            if name in value:
                yield document.problem(under(path, name), "excludes raw, which is a ratio already")
        if "rawType" not in value:
            yield document.problem(under(path, "rawType"), "is missing: raw needs success or failure")
        return
    yield from _some("good", "bad")(document, path, value)
    if "total" not in value:
        yield document.problem(under(path, "total"), "is missing: good and bad are counted against it")


RATIO = objects(
    {
        "counter": _truth,
        "good": Field(METRIC),
        "bad": Field(METRIC),
        "total": Field(METRIC),
        "rawType": Field(one_of("success", "failure")),
        "raw": Field(METRIC),
    },
    _ratio,
)
SLI = objects(
    {"description": _description, "thresholdMetric": Field(METRIC), "ratioMetric": Field(RATIO)},
    _some("thresholdMetric", "ratioMetric"),
)
INDICATOR = objects({"metadata": Field(METADATA, required=True), "spec": Field(SLI, required=True)})


def _window(document: Document, path: str, value: dict[str, Any]) -> Iterator[Problem]:
    rolling = value.get("isRolling", "calendar" not in value)
    if rolling and "calendar" in value:
        yield document.problem(under(path, "calendar"), "excludes isRolling: true")
    if not rolling and "calendar" not in value:
        yield document.problem(under(path, "calendar"), "is missing: a window that does not roll begins somewhere")


CALENDAR = objects(
    {
        "startTime": Field(matching("a moment like 2026-01-31 12:30:00", is_start), required=True),
        "timeZone": Field(_zone.check, required=True),
    }
)
WINDOW = objects(
    {"duration": Field(_duration, required=True), "isRolling": _truth, "calendar": Field(CALENDAR)}, _window
)


def _slice(document: Document, path: str, value: Any) -> Iterator[Problem]:
    if isinstance(value, str):
        yield from _duration(document, path, value)
    else:
        yield from numbers("minutes as a number, or a duration", lambda minutes: 0 < minutes < 1e6)(
            document, path, value
        )


OBJECTIVE = objects(
    {
        "displayName": Field(texts(1050)),
        "op": Field(one_of(*OPERATORS)),
        "value": Field(numbers("a number", lambda _: True)),
        "target": Field(_target),
        "targetPercent": Field(numbers("a number from 0 up to, and without, 100", lambda value: 0 <= value < 100)),
        "timeSliceTarget": Field(numbers("a number above 0, up to 1", lambda value: 0 < value <= 1)),
        "timeSliceWindow": Field(_slice),
    },
    _some("target", "targetPercent"),
)


def _reference(name: str, inlined: Any) -> Any:
    """Take the name of an object, or the object itself."""
    by_name = objects({name: Field(texts(255), required=True)})

    def check(document: Document, path: str, value: Any) -> Iterator[Problem]:
        by_reference = isinstance(value, dict) and name in value
        return (by_name if by_reference else inlined)(document, path, value)

    return check


def _inlined(kind: str, spec: Any) -> Any:
    return objects(
        {"kind": Field(one_of(kind)), "metadata": Field(METADATA, required=True), "spec": Field(spec, required=True)}
    )


CONDITION = objects(
    {
        "description": _description,
        "severity": Field(texts(100), required=True),
        "condition": Field(
            objects(
                {
                    "kind": Field(one_of("burnrate")),
                    "op": Field(one_of(*OPERATORS)),
                    "threshold": Field(numbers("a number above 0", lambda value: value > 0), required=True),
                    "lookbackWindow": Field(_duration, required=True),
                    "alertAfter": Field(
                        matching(f"a duration: {WRITTEN}", lambda value: value == "0m" or is_duration(value))
                    ),
                }
            ),
            required=True,
        ),
    }
)
TARGET = objects({"target": Field(texts(1000), required=True), "description": _description})
POLICY = objects(
    {
        "description": _description,
        "alertWhenNoData": _truth,
        "alertWhenResolved": _truth,
        "alertWhenBreaching": _truth,
        "conditions": Field(
            lists(_reference("conditionRef", _inlined("AlertCondition", CONDITION)), least=1, most=1), required=True
        ),
        "notificationTargets": Field(
            lists(_reference("targetRef", _inlined("AlertNotificationTarget", TARGET)), least=1), required=True
        ),
    }
)


def _slo(document: Document, path: str, value: dict[str, Any]) -> Iterator[Problem]:
    yield from _some("indicator", "indicatorRef")(document, path, value)
    sliced = value["budgetingMethod"] in {"Timeslices", "RatioTimeslices"}
    needed = {"Timeslices": ("timeSliceTarget", "timeSliceWindow"), "RatioTimeslices": ("timeSliceWindow",)}
    for number, objective in enumerate(value["objectives"]):
        at = f"{under(path, 'objectives')}[{number}]"
        for name in needed.get(value["budgetingMethod"], ()):
            if name not in objective:
                yield document.problem(under(at, name), f"is missing: {value['budgetingMethod']} needs it")
        for name in ("timeSliceTarget", "timeSliceWindow"):
            if name in objective and not sliced:
                yield document.problem(under(at, name), "is for time slices, not for Occurrences")
        if _is_threshold(value) and not {"op", "value"} <= objective.keys():
            missing = next(name for name in ("op", "value") if name not in objective)
            yield document.problem(under(at, missing), "is missing: a thresholdMetric is compared with it")
    if _is_threshold(value) and len(value["objectives"]) > 1:
        yield document.problem(under(path, "objectives"), "takes exactly 1 item for a thresholdMetric")


def _is_threshold(spec: dict[str, Any]) -> bool:
    return "thresholdMetric" in spec.get("indicator", {}).get("spec", {})


SLO = objects(
    {
        "description": _description,
        "service": Field(texts(255)),
        "indicator": Field(INDICATOR),
        "indicatorRef": Field(texts(255)),
        "timeWindow": Field(lists(WINDOW, least=1, most=1)),
        "budgetingMethod": Field(one_of("Occurrences", "Timeslices", "RatioTimeslices"), required=True),
        "objectives": Field(lists(OBJECTIVE, least=1, most=100), required=True),
        "alertPolicies": Field(lists(_reference("alertPolicyRef", _inlined("AlertPolicy", POLICY)))),
    },
    _slo,
)
TIER = objects(
    {
        "below": Field(numbers("a number above 0, up to 1", lambda value: 0 < value <= 1), required=True),
        "credit": Field(numbers("a share of the fee, above 0 up to 1", lambda value: 0 < value <= 1), required=True),
    }
)


def _tiers(document: Document, path: str, value: dict[str, Any]) -> Iterator[Problem]:
    tiers = value["tiers"]
    for number, (higher, lower) in enumerate(pairwise(tiers), start=1):
        if not (lower["below"] < higher["below"] and lower["credit"] > higher["credit"]):
            at = f"{under(path, 'tiers')}[{number}]"
            yield document.problem(at, "must lie lower and give more credit than the tier before it")


SLA = objects(
    {
        "description": _description,
        "customer": Field(texts(255)),
        "slo": Field(texts(255), required=True),
        "timeZone": _zone,
        "fee": Field(numbers("an amount a month, 0 or more", lambda value: value >= 0)),
        "currency": Field(texts(8)),
        "tiers": Field(lists(TIER, least=1, most=20), required=True),
    },
    _tiers,
)
KINDS = {
    "DataSource": objects(
        {
            "description": _description,
            "type": Field(texts(100), required=True),
            "connectionDetails": Field(anything(), required=True),
        }
    ),
    "SLO": SLO,
    "SLI": SLI,
    "AlertPolicy": POLICY,
    "AlertCondition": CONDITION,
    "AlertNotificationTarget": TARGET,
    "Service": objects({"description": _description}),
}
OUR_KINDS = {"SLA": SLA}


def check(document: Document) -> list[Problem]:
    """Return everything that is wrong with one document."""
    value = document.value
    if not isinstance(value, dict):
        return [document.problem("", f"takes apiVersion, kind, metadata and spec, and got {shown(value)}")]
    version, kind = value.get("apiVersion"), value.get("kind")
    kinds = {OPENSLO: KINDS, OURS: OUR_KINDS}.get(version if isinstance(version, str) else "")
    if kinds is None:
        return [document.problem("apiVersion", f"takes {OPENSLO} (or {OURS} for an SLA), and got {shown(version)}")]
    if not isinstance(kind, str) or kind not in kinds:
        hint = guess(kind, tuple(kinds)) or f"; there are {', '.join(kinds)}"
        return [document.problem("kind", f"there is no kind {shown(kind)} in {version}{hint}")]
    spec = Field(kinds[kind], required=True)
    whole = {"apiVersion": Field(anything()), "kind": Field(anything()), "metadata": Field(METADATA, required=True)}
    return sorted(objects({**whole, "spec": spec})(document, "", value), key=lambda problem: problem.line)
