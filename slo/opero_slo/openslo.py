"""OpenSLO v1 to objectives, and back. References are resolved over all documents that were read together."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import yaml

from opero_slo import durations, reader, schema
from opero_slo.model import (
    ANSWERED,
    COUNTED_CALLS,
    SLA,
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
    Specification,
    Tier,
    Window,
)
from opero_slo.reader import SpecificationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from opero_slo.model import Indicator, Metric
    from opero_slo.reader import Document, Problem

DEFAULT_WINDOW = durations.Duration(30, "d")
PREFIX = "opero.dev/"  # of our annotations
WORDS: dict[str, Callable[[str], Any]] = {
    "min-events": int,
    "confidence": float,
    "bad-events": int,
    "bad-window": durations.latency,
    "runbook": str,
}


def load(paths: Iterable[str | Path]) -> Specification:
    """Read files into objectives; raise `SpecificationError` with everything that is wrong."""
    return interpret(reader.read(paths))


def validate(documents: Sequence[Document]) -> list[Problem]:
    """Return every problem, warnings too: what is referred to and not here may be elsewhere."""
    found = [problem for document in documents for problem in schema.check(document)]
    return found or _Interpreter(documents).problems()


def interpret(documents: Sequence[Document]) -> Specification:
    """Turn documents into objectives; everything they refer to must be among them."""
    problems = [problem for document in documents for problem in schema.check(document)]
    if problems:
        raise SpecificationError(problems)
    interpreter = _Interpreter(documents)
    problems = [replace(p, warning=False) for p in interpreter.problems() if "there twice" not in p.message]
    if problems:
        raise SpecificationError(problems)
    return interpreter.specification()


def write(documents: Iterable[Document | dict[str, Any]]) -> str:
    """Write documents as YAML; reading that gives the same documents."""
    values = [document if isinstance(document, dict) else document.value for document in documents]
    return yaml.safe_dump_all(values, sort_keys=False, allow_unicode=True, width=110)


def document_of(slo: SLO) -> dict[str, Any]:
    """Return an objective on Opero's own data as a document."""
    indicator = slo.indicator
    window: dict[str, Any] = {"duration": str(slo.window.duration), "isRolling": slo.window.rolling}
    if slo.window.start is not None:
        window["calendar"] = {"startTime": slo.window.start, "timeZone": slo.window.zone}
    objective: dict[str, Any] = {"target": slo.target}
    if slo.good_if is not None:
        objective.update(op=slo.good_if[0], value=slo.good_if[1])
    method = "Occurrences"
    if slo.slices is not None:
        method = "RatioTimeslices" if slo.slices.target is None else "Timeslices"
        objective.update({} if slo.slices.target is None else {"timeSliceTarget": slo.slices.target})
        objective["timeSliceWindow"] = slo.slices.width / 60
    metadata = {"name": slo.name} | ({"displayName": slo.title} if slo.title else {})
    spec = {
        **({"description": slo.description} if slo.description else {}),
        "service": slo.service or "opero",
        "indicator": {"metadata": {"name": slo.name}, "spec": _indicator_spec(indicator)},
        "timeWindow": [window],
        "budgetingMethod": method,
        "objectives": [objective],
    }
    return {"apiVersion": schema.OPENSLO, "kind": "SLO", "metadata": metadata, "spec": spec}


class _Interpreter:
    """Finds what is referred to. A problem with a reference is a warning: the object may be in another file."""

    def __init__(self, documents: Sequence[Document]) -> None:
        self.documents = documents
        self.found: list[Problem] = []
        self.known: dict[tuple[str, str], Document] = {}
        for document in documents:
            key = (document.value["kind"], document.value["metadata"]["name"])
            if key in self.known:
                self.found.append(document.problem("metadata.name", f"{' '.join(key)} is there twice", warning=True))
            self.known.setdefault(key, document)

    def problems(self) -> list[Problem]:
        self.specification()
        problems, self.found = self.found, []
        return list(dict.fromkeys(problems))

    def specification(self) -> Specification:
        slos: dict[str, SLO] = {}
        for document in self._of("SLO"):
            for slo in self._slos(document):
                slos.setdefault(slo.name, slo)
        slas = [sla for document in self._of("SLA") if (sla := self._sla(document, slos)) is not None]
        return Specification(tuple(slos.values()), tuple(slas))

    def _of(self, kind: str) -> list[Document]:
        return [document for document in self.documents if document.value["kind"] == kind]

    def _slos(self, document: Document) -> list[SLO]:
        metadata, spec = document.value["metadata"], document.value["spec"]
        sli = self._sli(document, spec)
        if sli is None:
            return []
        conditions = self._conditions(document, spec)
        annotations = self._annotations(document, metadata)
        base = SLO(
            name=metadata["name"],
            indicator=self._indicator(document, sli),
            target=0.0,
            window=_window(spec),
            service=spec.get("service", ""),
            title=metadata.get("displayName", ""),
            description=spec.get("description", ""),
            conditions=tuple(conditions),
            runbook=annotations.pop("runbook", ""),
            guard=Guard(**{name.replace("-", "_"): value for name, value in annotations.items()}),
            labels={key: _joined(value) for key, value in metadata.get("labels", {}).items()},
        )
        objectives = spec["objectives"]
        return [_objective(base, spec, each, n if len(objectives) > 1 else 0) for n, each in enumerate(objectives, 1)]

    def _sli(self, document: Document, spec: dict[str, Any]) -> dict[str, Any] | None:
        if "indicator" in spec:
            return dict(spec["indicator"]["spec"])
        target = self._refer(document, "spec.indicatorRef", "SLI", spec["indicatorRef"])
        if target is None:
            return None
        if "thresholdMetric" in target.value["spec"]:
            for number, objective in enumerate(spec["objectives"]):
                if not {"op", "value"} <= objective.keys():
                    at = f"spec.objectives[{number}]"
                    self.found.append(document.problem(at, "needs op and value: its indicator is a thresholdMetric"))
                    return None
        return dict(target.value["spec"])

    def _indicator(self, document: Document, sli: dict[str, Any]) -> Indicator:
        if "thresholdMetric" in sli:
            source = sli["thresholdMetric"]["metricSource"]
            measure: Any = source.get("spec", {}).get("measure", "value") if source.get("type") == "Opero" else "value"
            values = ANSWERED if measure == "freshness" else COUNTED_CALLS
            return Level(self._metric(document, sli["thresholdMetric"], values), measure)
        ratio = sli["ratioMetric"]
        if "raw" in ratio:
            return Raw(self._metric(document, ratio["raw"], ()), inverted=ratio["rawType"] == "failure")
        inverted = "bad" in ratio
        return Ratio(
            self._metric(document, ratio["bad" if inverted else "good"], () if inverted else ANSWERED),
            self._metric(document, ratio["total"], COUNTED_CALLS),
            inverted,
            ratio.get("counter", True),
        )

    def _metric(self, document: Document, metric: dict[str, Any], values: tuple[str, ...]) -> Metric:
        source = metric["metricSource"]
        kind = source.get("type")
        if kind is None:
            target = self._refer(document, "spec", "DataSource", source["metricSourceRef"])
            kind = target.value["spec"]["type"] if target else "unknown"
        spec = source.get("spec") or {}
        if kind == "Opero":
            return _selection(spec, values)
        return Query(spec["query"].strip()) if kind == "Prometheus" and "query" in spec else Foreign(kind)

    def _conditions(self, document: Document, spec: dict[str, Any]) -> list[Condition]:
        found = []
        for number, given in enumerate(spec.get("alertPolicies", [])):
            at = f"spec.alertPolicies[{number}]"
            home, policy = document, given.get("spec")
            if "alertPolicyRef" in given:
                target = self._refer(document, f"{at}.alertPolicyRef", "AlertPolicy", given["alertPolicyRef"])
                if target is None:
                    continue
                home, at, policy = target, "", target.value["spec"]
            base = f"{at}.spec" if at else "spec"
            condition = self._inlined(home, f"{base}.conditions[0]", policy["conditions"][0], "condition")
            targets = [
                self._inlined(home, f"{base}.notificationTargets[{n}]", each, "target")
                for n, each in enumerate(policy["notificationTargets"])
            ]
            if condition is not None:
                names = tuple(target["metadata"]["name"] for target in targets if target is not None)
                found.append(_condition(condition, policy, names))
        return found

    def _inlined(self, document: Document, path: str, given: dict[str, Any], what: str) -> dict[str, Any] | None:
        if "metadata" in given:
            return given
        kind = {"condition": "AlertCondition", "target": "AlertNotificationTarget"}[what]
        target = self._refer(document, f"{path}.{what}Ref", kind, given[f"{what}Ref"])
        return target.value if target else None

    def _refer(self, document: Document, path: str, kind: str, name: str) -> Document | None:
        target = self.known.get((kind, name))
        if target is None:
            self.found.append(document.problem(path, f"there is no {kind} {name} among these files", warning=True))
        return target

    def _annotations(self, document: Document, metadata: dict[str, Any]) -> dict[str, Any]:
        read: dict[str, Any] = {}
        for key, text in metadata.get("annotations", {}).items():
            word = key.removeprefix(PREFIX)
            if word == key:
                continue
            try:
                read[word] = WORDS[word](text)
                if read[word] is None or (word in {"min-events", "bad-events"} and read[word] < 1):
                    raise ValueError  # noqa: TRY301 - said once, below
                if word == "confidence" and not 0.5 <= read[word] < 1:
                    raise ValueError  # noqa: TRY301
            except KeyError:
                known = ", ".join(f"{PREFIX}{each}" for each in WORDS)
                self._wrong(document, key, f"there is no such annotation of ours; there are {known}")
            except ValueError:
                del read[word]
                self._wrong(document, key, f"takes {_WANTED[word]}, and got {text!r}")
        return read

    def _wrong(self, document: Document, key: str, message: str) -> None:
        self.found.append(document.problem(f"metadata.annotations.{key}", message))

    def _sla(self, document: Document, slos: dict[str, SLO]) -> SLA | None:
        metadata, spec = document.value["metadata"], document.value["spec"]
        if spec["slo"] not in slos:
            self.found.append(document.problem("spec.slo", f"there is no SLO {spec['slo']} among these files"))
            return None
        return SLA(
            metadata["name"],
            slos[spec["slo"]],
            tuple(Tier(tier["below"], tier["credit"]) for tier in spec["tiers"]),
            customer=spec.get("customer", ""),
            zone=spec.get("timeZone", "UTC"),
            fee=spec.get("fee"),
            currency=spec.get("currency", ""),
            title=metadata.get("displayName", ""),
        )


_WANTED = {
    "min-events": "a whole number, 1 or more",
    "bad-events": "a whole number, 1 or more",
    "confidence": "a number from 0.5 up to, and without, 1",
    "bad-window": durations.LATENCY,
}


def _selection(spec: dict[str, Any], values: tuple[str, ...]) -> Selection:
    for field, counted in (("cache", "cache"), ("event", "events")):
        if field in spec:
            return Selection(spec["operation"], counted, _tuple(spec[field]))  # type: ignore[arg-type]
    chosen = _tuple(spec["outcome"]) if "outcome" in spec else values or COUNTED_CALLS
    return Selection(spec["operation"], "calls", chosen, durations.latency(spec.get("within")))


def _objective(base: SLO, spec: dict[str, Any], given: dict[str, Any], number: int) -> SLO:
    target = given["target"] if "target" in given else round(given["targetPercent"] / 100, 12)
    width = given.get("timeSliceWindow")
    parsed = durations.parse(width)
    seconds = parsed.seconds if parsed else float(width) * 60 if width is not None else 60.0
    slices = None if spec["budgetingMethod"] == "Occurrences" else Slices(seconds, given.get("timeSliceTarget"))
    if slices is not None and spec["budgetingMethod"] == "RatioTimeslices":
        slices = Slices(seconds)
    title = given.get("displayName", "")
    return replace(
        base,
        name=f"{base.name}-{number}" if number else base.name,
        title=" · ".join(filter(None, (base.title or base.name, title))) if number else base.title or title,
        target=float(target),
        slices=slices,
        good_if=(given["op"], float(given["value"])) if isinstance(base.indicator, Level) else None,
    )


def _window(spec: dict[str, Any]) -> Window:
    if "timeWindow" not in spec:
        return Window(DEFAULT_WINDOW)
    given = spec["timeWindow"][0]
    duration = durations.parse(given["duration"]) or DEFAULT_WINDOW
    calendar = given.get("calendar")
    return Window(duration, calendar["startTime"], calendar["timeZone"]) if calendar else Window(duration)


def _condition(given: dict[str, Any], policy: dict[str, Any], targets: tuple[str, ...]) -> Condition:
    spec = given["spec"]
    condition = spec["condition"]
    after = durations.parse(condition.get("alertAfter"))
    lookback = durations.parse(condition["lookbackWindow"]) or DEFAULT_WINDOW
    return Condition(
        given["metadata"]["name"],
        spec["severity"],
        float(condition["threshold"]),
        lookback.seconds,
        after.seconds if after else 0.0,
        targets,
        when_resolved=policy.get("alertWhenResolved", False),
        when_no_data=policy.get("alertWhenNoData", False),
        when_breaching=policy.get("alertWhenBreaching", True),
        op=condition.get("op", "gt"),
    )


def _indicator_spec(indicator: Indicator) -> dict[str, Any]:
    if isinstance(indicator, Level):
        source = _source(indicator.metric, ANSWERED if indicator.measure == "freshness" else COUNTED_CALLS)
        if indicator.measure != "value":
            source["spec"]["measure"] = indicator.measure
        return {"thresholdMetric": {"metricSource": source}}
    if isinstance(indicator, Raw):
        kind = "failure" if indicator.inverted else "success"
        return {"ratioMetric": {"rawType": kind, "raw": {"metricSource": _source(indicator.metric, ())}}}
    part = "bad" if indicator.inverted else "good"
    return {
        "ratioMetric": {
            "counter": indicator.counter,
            part: {"metricSource": _source(indicator.part, () if indicator.inverted else ANSWERED)},
            "total": {"metricSource": _source(indicator.total, COUNTED_CALLS)},
        }
    }


def _source(metric: Metric, default: tuple[str, ...]) -> dict[str, Any]:
    if isinstance(metric, Query):
        return {"type": "Prometheus", "spec": {"query": metric.text}}
    if isinstance(metric, Foreign):
        raise TypeError(f"a source of type {metric.type} is kept by its document only")
    spec: dict[str, Any] = {"operation": metric.operation}
    word = {"calls": "outcome", "cache": "cache", "events": "event"}[metric.counted]
    if word != "outcome" or metric.values != default:
        spec[word] = list(metric.values)
    if metric.within is not None:
        spec["within"] = metric.within
    return {"type": "Opero", "spec": spec}


def _tuple(value: str | list[str]) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value)


def _joined(value: str | list[str]) -> str:
    return value if isinstance(value, str) else ",".join(value)
