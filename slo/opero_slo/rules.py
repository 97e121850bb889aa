"""Prometheus rules of an objective: recording rules for its burn rates, alerts as the process would judge them.

The share of bad events in a window is `increase` of the bad ÷ `increase` of all: both are scraped at the same moments,
so what Prometheus extrapolates cancels out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import yaml

from opero_slo import alerts, promql
from opero_slo.durations import shown
from opero_slo.evaluator import LEVEL_SLICE, needed
from opero_slo.model import Foreign, Level, Ratio, Raw, Selection

if TYPE_CHECKING:
    from collections.abc import Iterable

    from opero_slo.alerts import Law, Refused
    from opero_slo.model import SLA, SLO

OPERATORS = {"lt": "<", "lte": "<=", "gt": ">", "gte": ">="}
DAY = 86400.0
INTERVAL = 30.0  # seconds between two evaluations
AGE, SLICE = "slo:freshness:seconds", "slo:slice:good"
HEADER = "# Written by `opero slo rules`. Change the specification, not this file.\n"


def write(slos: Iterable[SLO], slas: Iterable[SLA] = ()) -> str:
    """Return a rules file."""
    groups, lines = [], [HEADER]
    for slo in slos:
        if _foreign(slo):
            lines.append(f"# {slo.name}: left out, its source is of type {_foreign(slo)}.\n")
            continue
        laws, refused = alerts.laws(slo)
        lines += [f"# {slo.name}: no alert {each.name}, {each.reason}.\n" for each in refused]
        groups += _groups(slo, laws)
    groups += [_contract(sla) for sla in slas]
    return "".join(lines) + yaml.safe_dump({"groups": groups}, sort_keys=False, allow_unicode=True, width=110)


def refused(slos: Iterable[SLO]) -> list[tuple[SLO, Refused]]:
    """Return the alerts of specifications that could never fire."""
    return [(slo, each) for slo in slos for each in alerts.laws(slo)[1] if slo.conditions]


def _groups(slo: SLO, laws: list[Law]) -> list[dict[str, Any]]:
    windows = sorted({seconds for law in laws for seconds in (law.long, law.short)})
    recorded = [*_slices(slo), *(_record(slo, seconds) for seconds in windows)]
    counted = [
        {"record": "slo:events:increase", "labels": _labels(slo, law.long), "expr": _events(slo, law.long)}
        for law in _each_long(laws)
    ]
    period = [
        {"record": "slo:objective:ratio", "labels": _labels(slo), "expr": f"vector({slo.target!r})"},
        {"record": "slo:sli:period", "labels": _labels(slo), "expr": _sli(slo)},
        {"record": "slo:error_budget:remaining", "labels": _labels(slo), "expr": _remaining(slo)},
    ]
    judged = [_alert(slo, law) for law in laws]  # in the group they read from, which runs in order
    return [
        {"name": f"opero-slo-{slo.name}", "interval": shown(INTERVAL), "rules": [*recorded, *counted, *judged]},
        {"name": f"opero-slo-{slo.name}-period", "interval": "5m", "rules": period},
    ]


def _contract(sla: SLA) -> dict[str, Any]:
    """Alert on the running month, which the processes judge: PromQL has no window that begins with a month."""
    kept = f"min(opero_slo_contract_sli{{sla_name={promql.quote(sla.name)}}})"
    rules = [
        {
            "alert": "SLAContractBroken",
            "expr": f"{kept} < {tier.below!r}",
            "labels": {
                "severity": "ticket",
                **_labels(sla.slo),
                "sla_name": sla.name,
                "tier": f"{tier.below!r}",
                "alert": "contract",
            },
            "annotations": {
                "summary": f"{sla.title or sla.name}: the running month is below {tier.below:.6g}",
                "description": f"A credit of {tier.credit:.0%} is due{f' to {sla.customer}' if sla.customer else ''}.",
                **({"runbook_url": sla.slo.runbook} if sla.slo.runbook else {}),
            },
        }
        for tier in sla.tiers
    ]
    return {"name": f"opero-sla-{sla.name}", "interval": "1m", "rules": rules}


def _each_long(laws: list[Law]) -> list[Law]:
    return list({law.long: law for law in laws}.values())


def _slices(slo: SLO) -> list[dict[str, Any]]:
    """What time slices are made of, recorded: a window of them, each computed from a window, is too much at once."""
    if not _sliced(slo):
        return []
    made, indicator = [], slo.indicator
    if isinstance(indicator, Level) and indicator.measure == "freshness" and isinstance(indicator.metric, Selection):
        made.append({"record": AGE, "labels": _labels(slo), "expr": _age(indicator.metric)})
    return [*made, {"record": SLICE, "labels": _labels(slo), "expr": _good_slice(slo, _width(slo))}]


def _age(metric: Selection) -> str:
    """Return the seconds since the last answer; a day where there was none for longer."""
    series, window = promql.selector(metric), shown(LEVEL_SLICE)
    moved = f"timestamp(sum({series}) unless (sum({series}) == sum({series} offset {window})))"
    return f"(time() - max_over_time(({moved})[1d:{window}])) or ({DAY!r} + 0 * sum({series}))"


def _record(slo: SLO, seconds: float) -> dict[str, Any]:
    return {"record": "slo:burn_rate:ratio", "labels": _labels(slo, seconds), "expr": _burn(slo, seconds)}


def _burn(slo: SLO, seconds: float) -> str:
    return f"({bad_ratio(slo, seconds)}) / {slo.budget!r}"


def bad_ratio(slo: SLO, seconds: float) -> str:
    """Return the share of bad events, or of bad time, in a window."""
    window, indicator = shown(seconds), slo.indicator
    if isinstance(indicator, Ratio) and not _sliced(slo):
        return _ratio(indicator, window)
    return f"1 - avg_over_time({SLICE}{{{_match(slo)}}}[{window}])"


def _sliced(slo: SLO) -> bool:
    return slo.slices is not None or not isinstance(slo.indicator, Ratio)


def _width(slo: SLO) -> float:
    return slo.slices.width if slo.slices else LEVEL_SLICE


def _ratio(indicator: Ratio, window: str) -> str:
    part, total = promql.increase(indicator.part, window), promql.increase(indicator.total, window)
    share = f"({part} or vector(0)) / ({total} > 0)"
    return share if indicator.inverted else f"1 - {share}"


def _good_slice(slo: SLO, width: float) -> str:
    """One slice: 1 when it was good, 0 when not, between them where slices count by their share."""
    indicator, window = slo.indicator, shown(width)
    if isinstance(indicator, Level):
        op, value = slo.good_if or ("gte", 0.0)
        return f"({_level(slo, indicator, window)}) {OPERATORS[op]} bool {value!r}"
    if isinstance(indicator, Raw):
        text = promql.at_window(promql.query_of(indicator.metric), window)
        return f"1 - ({text})" if indicator.inverted else text
    share = f"1 - ({_ratio(indicator, window)})"
    if slo.slices is None or slo.slices.target is None:
        return share
    return f"({share}) >= bool {slo.slices.target!r}"


def _level(slo: SLO, indicator: Level, window: str) -> str:
    if not isinstance(indicator.metric, Selection):
        return promql.at_window(promql.query_of(indicator.metric), window)
    if indicator.measure == "throughput":
        return promql.increase(indicator.metric, window, "rate")
    return f"{AGE}{{{_match(slo)}}}"


def _events(slo: SLO, seconds: float) -> str:
    if isinstance(slo.indicator, Ratio) and not _sliced(slo):
        return promql.increase(slo.indicator.total, shown(seconds))
    return f"count_over_time({SLICE}{{{_match(slo)}}}[{shown(seconds)}]) * {INTERVAL / _width(slo)!r}"


def _sli(slo: SLO) -> str:
    seconds = slo.window.duration.seconds
    return f"(1 - ({bad_ratio(slo, seconds)})) and on() ({_events(slo, seconds)} >= {needed(slo)})"


def _remaining(slo: SLO) -> str:
    return f"1 - (1 - slo:sli:period{{{_match(slo)}}}) / {slo.budget!r}"


def _alert(slo: SLO, law: Law) -> dict[str, Any]:
    labels = {"severity": law.severity, **_labels(slo), "alert": law.name}
    if law.targets:
        labels["targets"] = ",".join(law.targets)
    rule = {
        "alert": "SLOBadEvents" if law.bad_events is not None else "SLOErrorBudgetBurn",
        "expr": _law(slo, law),
        "labels": {**slo.labels, **labels},
        "annotations": _annotations(slo, law),
    }
    return {**rule, "for": shown(law.after)} if law.after else rule


def _law(slo: SLO, law: Law) -> str:
    if law.bad_events is not None:
        return f"({bad_ratio(slo, law.long)}) * ({_events(slo, law.long)}) >= {law.bad_events}"
    windows = dict.fromkeys((law.long, law.short))
    parts = [f"slo:burn_rate:ratio{{{_match(slo, seconds)}}} > {law.burn!r}" for seconds in windows]
    parts.append(_enough(slo, law))
    if law.confidence is not None:
        parts.append(_sure(slo, law))
    text = "\nand ignoring (slo_window) ".join(parts)
    if not law.when_no_data:
        return text
    absent = f"absent(slo:events:increase{{{_match(slo, law.long)}}} > 0)"
    return f"{text}\nor ignoring (slo_window) {absent}" if law.when_breaching else absent


def _enough(slo: SLO, law: Law) -> str:
    events = f"slo:events:increase{{{_match(slo, law.long)}}}"
    enough = f"{events} >= {law.events}"
    if law.enough_bad is None:
        return enough
    bad = f"slo:burn_rate:ratio{{{_match(slo, law.long)}}} * {slo.budget!r} * {events}"
    return f"({enough} or {bad} >= {law.enough_bad})"


def _sure(slo: SLO, law: Law) -> str:
    """Wilson's lower bound of the share of bad events, as `alerts.lower_bound`."""
    from statistics import NormalDist

    z = NormalDist().inv_cdf(law.confidence or 0.5)
    p = f"(slo:burn_rate:ratio{{{_match(slo, law.long)}}} * {slo.budget!r})"
    n = f"slo:events:increase{{{_match(slo, law.long)}}}"
    root = f"sqrt({p} * (1 - {p}) / {n} + {z * z!r} / (4 * {n} ^ 2))"
    return f"({p} + {z * z!r} / (2 * {n}) - {z!r} * {root}) / (1 + {z * z!r} / {n}) > {law.burn * slo.budget!r}"


def _annotations(slo: SLO, law: Law) -> dict[str, str]:
    what = slo.title or slo.name
    if law.bad_events is not None:
        summary = f"{what}: {law.bad_events} bad events or more within {shown(law.long)}"
    else:
        spent = min(law.burn * law.long / slo.window.duration.seconds, 1.0)
        summary = (
            f'{what}: the error budget burns {{{{ $value | printf "%.1f" }}}} times too fast over {law.windows}; '
            f"that spends {spent:.0%} of it in {shown(law.long)}"
        )
    made = {"summary": summary, "description": slo.description or f"The objective is {slo.target:.6g}."}
    return made | ({"runbook_url": slo.runbook} if slo.runbook else {})


def _labels(slo: SLO, seconds: float | None = None) -> dict[str, str]:
    made = {"slo_name": slo.name, **({"slo_service": slo.service} if slo.service else {})}
    return made if seconds is None else {**made, "slo_window": shown(seconds)}


def _match(slo: SLO, seconds: float | None = None) -> str:
    made = f"slo_name={promql.quote(slo.name)}"
    return made if seconds is None else f"{made}, slo_window={promql.quote(shown(seconds))}"


def _foreign(slo: SLO) -> str:
    indicator = slo.indicator
    metrics = [indicator.part, indicator.total] if isinstance(indicator, Ratio) else [indicator.metric]
    return next((metric.type for metric in metrics if isinstance(metric, Foreign)), "")
