"""What makes a dashboard a good one: the rules of Grafana's dashboard-linter, by their names, and three of our own.

`target-promql-rule` is not here: only a Prometheus knows whether it takes an expression, see `probe`.
"""

from __future__ import annotations

import re
from itertools import combinations
from typing import TYPE_CHECKING, Any

from opero_dashboards.model import panels

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    Json = Mapping[str, Any]

UNITS = frozenset(["none", "short", "s", "ops", "reqps", "percentunit", "bytes"])  # those of Grafana's that we use
SOURCES = {"$datasource", "${datasource}"}
SELECTOR = re.compile(r"([a-z_:][a-z0-9_:]*)?\{([^}]*)\}")
RANGE = re.compile(r"(\w+) ?\([^()]*?\[([^\]]+)\]")
COUNTER = re.compile(r"(\w*) ?\(?[a-z_:][a-z0-9_:]*_total\{[^}]*\}(\[)?")
VALUES = re.compile(r"label_values\([a-z_]+\{[^}]*\}, [a-z_]+\)")


def violations(dashboard: Json) -> list[str]:
    """Return what is wrong: the rule, the place, and what was found."""
    return [f"{rule}: {text}" for rule, check in RULES.items() for text in check(dashboard)]


def _datasource(dashboard: Json) -> Iterator[str]:
    found = [variable for variable in _variables(dashboard).values() if variable["type"] == "datasource"]
    if [(v["name"], v.get("label"), v["query"]) for v in found] != [("datasource", "Data source", "prometheus")]:
        yield "no variable `datasource`, labelled `Data source`, of Prometheus data sources"


def _template(name: str) -> Callable[[Json], Iterator[str]]:
    def check(dashboard: Json) -> Iterator[str]:
        found = _variables(dashboard).get(name)
        if found is None:
            yield f"no variable `{name}`"
            return
        wanted = {"type": "query", "label": name.title(), "multi": True, "allValue": ".+"}
        for key, value in wanted.items():
            if found.get(key) != value:
                yield f"variable `{name}` has {key} {found.get(key)!r}, not {value!r}"
        if found.get("datasource", {}).get("uid") not in SOURCES:
            yield f"variable `{name}` does not ask the chosen data source"

    return check


def _label_query(dashboard: Json) -> Iterator[str]:
    for name, variable in _variables(dashboard).items():
        if variable["type"] == "query" and not VALUES.fullmatch(variable["query"]):
            yield f"variable `{name}` asks {variable['query']!r}"


def _reload(dashboard: Json) -> Iterator[str]:
    for name, variable in _variables(dashboard).items():
        if variable["type"] == "query" and variable.get("refresh") != 2:
            yield f"variable `{name}` is not asked again when the time range changes"


def _editable(dashboard: Json) -> Iterator[str]:
    if dashboard.get("editable", True):
        yield "it can be edited, and the edit will be lost"


def _panel_source(dashboard: Json) -> Iterator[str]:
    for panel in _queried(dashboard):
        if panel.get("datasource", {}).get("uid") not in SOURCES:
            yield f"{panel['title']!r} does not ask the chosen data source"


def _described(dashboard: Json) -> Iterator[str]:
    for panel in panels(dashboard):
        if not panel.get("title") or not panel.get("description"):
            yield f"panel {panel['id']} has no title or no description"


def _units(dashboard: Json) -> Iterator[str]:
    for panel in _queried(dashboard):
        unit = panel["fieldConfig"]["defaults"].get("unit")
        if unit not in UNITS and panel["type"] != "state-timeline":
            yield f"{panel['title']!r} has the unit {unit!r}"


def _has_targets(dashboard: Json) -> Iterator[str]:
    for panel in _queried(dashboard):
        if not any(target.get("expr") for target in panel.get("targets", ())):
            yield f"{panel['title']!r} asks nothing"


def _rate_interval(dashboard: Json) -> Iterator[str]:
    for where, expr in expressions(dashboard):
        for function, span in RANGE.findall(expr):
            if function in {"rate", "irate"} and span != "$__rate_interval":
                yield f"{where}: {function} over {span}"


def _matcher(label: str) -> Callable[[Json], Iterator[str]]:
    def check(dashboard: Json) -> Iterator[str]:
        for where, expr in expressions(dashboard):
            for metric, matchers in SELECTOR.findall(expr):
                if f'{label}=~"${label}"' not in matchers:
                    yield f"{where}: {metric} is not bound to ${label}"

    return check


def _counters(dashboard: Json) -> Iterator[str]:
    for where, expr in expressions(dashboard):
        for function, span in COUNTER.findall(expr):
            if function not in {"rate", "irate", "increase"} or not span:
                yield f"{where}: a counter outside rate, irate and increase"


def _ids(dashboard: Json) -> Iterator[str]:
    ids = [panel["id"] for panel in (*panels(dashboard), *(p for p in dashboard["panels"] if p["type"] == "row"))]
    if len(ids) != len(set(ids)):
        yield "two panels have one id"


def _overlap(dashboard: Json) -> Iterator[str]:
    for a, b in combinations(dashboard["panels"], 2):
        one, other = a["gridPos"], b["gridPos"]
        aside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        above = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        if not aside and not above:
            yield f"{a['title']!r} covers {b['title']!r}"


def _uid(dashboard: Json) -> Iterator[str]:
    if not re.fullmatch(r"[a-z0-9-]{8,40}", dashboard.get("uid", "")):
        yield f"the uid is {dashboard.get('uid')!r}; it takes 8 to 40 letters, digits and hyphens"


RULES: dict[str, Callable[[Json], Iterator[str]]] = {
    "template-datasource-rule": _datasource,
    "template-job-rule": _template("job"),
    "template-instance-rule": _template("instance"),
    "template-label-promql-rule": _label_query,
    "template-on-time-change-reload-rule": _reload,
    "uneditable-dashboard-rule": _editable,
    "panel-datasource-rule": _panel_source,
    "panel-title-description-rule": _described,
    "panel-units-rule": _units,
    "panel-no-targets-rule": _has_targets,
    "target-rate-interval-rule": _rate_interval,
    "target-job-rule": _matcher("job"),
    "target-instance-rule": _matcher("instance"),
    "target-counter-agg-rule": _counters,
    "unique-panel-id": _ids,
    "no-panel-covers-another": _overlap,
    "stable-uid": _uid,
}


def expressions(dashboard: Json) -> Iterator[tuple[str, str]]:
    """Yield every expression of a dashboard, annotations included, and where it stands."""
    for panel in _queried(dashboard):
        for target in panel["targets"]:
            yield f"{panel['title']!r} {target['refId']}", target["expr"]
    for annotation in dashboard["annotations"]["list"]:
        yield f"annotation {annotation['name']!r}", annotation["expr"]


def _queried(dashboard: Json) -> Iterator[Json]:
    return (panel for panel in panels(dashboard) if panel["type"] != "text")


def _variables(dashboard: Json) -> dict[str, Json]:
    return {variable["name"]: variable for variable in dashboard["templating"]["list"]}
