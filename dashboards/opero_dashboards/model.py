"""Grafana's classic model, as versions 10 to 13 read it, from the JSON that grafanalib writes (of Grafana 5 to 9)."""

# ruff: noqa: SIM905 - a long list of names is read more easily without its quotes

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from grafanalib._gen import DashboardEncoder

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from grafanalib.core import Dashboard

    Json = dict[str, Any]

VERSION = 42  # of the schema: no Grafana from 12 on has anything to migrate, older ones leave it as it is
DASHBOARD = frozenset(
    """uid title description tags timezone editable graphTooltip time timepicker refresh schemaVersion version panels
    templating annotations links""".split()
)
PANEL = frozenset(
    """id type title description datasource gridPos targets options fieldConfig transformations links transparent
    collapsed panels""".split()
)
TARGET = frozenset("refId datasource expr legendFormat format instant range editorMode exemplar".split())
VARIABLE = frozenset(
    "name label type query datasource current multi includeAll allValue refresh sort hide options regex".split()
)
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
LEGEND = {"showLegend": True, "displayMode": "list", "placement": "bottom", "calcs": []}
QUERIED = ["stat", "timeseries", "table", "heatmap", "bargauge", "state-timeline"]


def classic(dashboard: Dashboard) -> Json:
    """Return what Grafana stores of a dashboard: known keys, no empty ones, and defaults that grafanalib lacks."""
    raw: Json = json.loads(json.dumps(dashboard.to_json_data(), cls=DashboardEncoder))
    out = _only(raw, DASHBOARD)
    out["schemaVersion"] = VERSION
    out["version"] = 1
    out["timepicker"] = {}
    out["panels"] = [_panel(panel) for panel in raw["panels"]]
    out["templating"] = {"list": [_variable(variable) for variable in raw["templating"]["list"]]}
    return dict(sorted(out.items()))


def panels(dashboard: Mapping[str, Any]) -> Iterator[Json]:
    """Yield every panel that is no row, those of folded rows too."""
    for panel in dashboard["panels"]:
        if panel["type"] == "row":
            yield from panel["panels"]
        else:
            yield panel


def _panel(raw: Json) -> Json:
    kind = raw["type"]
    out = _only(raw, PANEL)
    if kind == "row":
        kept = _only(out, {"id", "type", "title", "gridPos"})
        return {**kept, "collapsed": raw["collapsed"], "panels": [_panel(panel) for panel in raw["panels"]]}
    if kind in QUERIED:
        out["datasource"] = SOURCE
        out["targets"] = [_target(target, letter) for target, letter in zip(raw["targets"], "ABCDEFGHIJ", strict=False)]
        out["fieldConfig"] = _field(out["fieldConfig"], kind)
    else:
        out.pop("fieldConfig", None)
    out["options"] = _options(kind, dict(out.get("options", {})))
    return dict(sorted(out.items()))


def _target(raw: Json, letter: str) -> Json:
    out = _only(raw, TARGET)
    more = {"refId": letter, "datasource": SOURCE, "range": not raw["instant"], "editorMode": "code"}
    if "histogram_quantile" in raw["expr"] and not raw["instant"]:
        more["exemplar"] = True
    return {**out, **more}


def _field(raw: Json, kind: str) -> Json:
    defaults = _only(raw["defaults"], raw["defaults"].keys())
    custom = _only(defaults.get("custom", {}), defaults.get("custom", {}).keys())
    if kind == "timeseries":
        custom["scaleDistribution"] = {"type": "linear"}
    if kind == "table":
        custom = {"align": "auto", "inspect": False, "filterable": True, "cellOptions": {"type": "auto"}}
    if not defaults.get("thresholds", {}).get("steps"):
        defaults.pop("thresholds", None)
    return {"defaults": {**defaults, "custom": custom}, "overrides": raw.get("overrides", [])}


def _options(kind: str, raw: Json) -> Json:
    if kind == "timeseries":
        shown = raw["legend"]["displayMode"] != "hidden"
        raw["legend"] = {**LEGEND, **raw["legend"], "showLegend": shown, "sortBy": "Last *", "sortDesc": True}
        if not shown:
            raw["legend"]["displayMode"] = "list"
    if kind == "state-timeline":
        raw["legend"] = LEGEND
        raw["tooltip"] = {"mode": "single", "sort": "none"}
    if kind == "stat":
        raw |= {"wideLayout": True, "showPercentChange": False, "percentChangeColorMode": "standard"}
    if kind == "table":
        raw |= {"frameIndex": 0, "cellHeight": "sm"}
    return raw


def _variable(raw: Json) -> Json:
    out = _only(raw, VARIABLE)
    if raw["type"] == "query":
        out["refresh"] = 2  # ask again when the time range changes
    out.pop("current", None)
    if raw["includeAll"]:
        out["current"] = {"selected": True, "text": ["All"], "value": ["$__all"]}
    return dict(sorted(out.items()))


def _only(raw: Mapping[str, Any], keys: Collection[str]) -> Json:
    """Keep these keys where they say something."""
    return {key: value for key, value in raw.items() if key in keys and value is not None and value not in ("", [], {})}
