"""The kinds of panel the pages are made of, each with a title, a description and a unit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from grafanalib import core

from opero_dashboards.promql import CALL, Query

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

GREEN, YELLOW, ORANGE, RED, BLUE, PURPLE, GREY = "green", "yellow", "orange", "red", "blue", "purple", "#8e8e8e"
TEAL = "#1f9e95"
MEANINGS: dict[str, dict[str, str]] = {  # values that look the same on every page, by label
    "opero_outcome": {
        "ok": GREEN,
        "fallback": BLUE,
        "cached": TEAL,
        "error": RED,
        "timeout": ORANGE,
        "rejected": PURPLE,
        "cancelled": GREY,
    },
    "opero_attempt_outcome": {"ok": GREEN, "retryable": YELLOW, "timeout": ORANGE, "fatal": RED, "cancelled": GREY},
    "opero_circuit_state": {"closed": GREEN, "half_open": YELLOW, "open": RED, "forced_open": PURPLE},
    "opero_cache_result": {
        "hit": GREEN,
        "coalesced": TEAL,
        "stale": YELLOW,
        "miss": PURPLE,
        "bypass": GREY,
        "error": RED,
    },
    "opero_hedge_result": {"won": GREEN, "lost": GREY, "cancelled": YELLOW},
    "opero_slo_result": {"good": GREEN, "bad": RED},
    "direction": {"up": GREEN, "down": ORANGE},
}
LITERAL = {"p99": "dark-blue", "p95": BLUE, "p50": "light-blue", "limit": RED, "target": GREY, "errors": RED}
Step = tuple[float, str]
SWITCHES = ("asDropdown", "targetBlank", "includeVars", "keepTime")


def to_operation(title: str = "Operation detail") -> dict[str, Any]:
    """Return the link from a series of an operation to its page."""
    return link(title, f"/d/opero-operation?var-operation=${{__field.labels.{CALL}}}&${{__url_time_range}}")


def link(title: str, url: str) -> dict[str, Any]:
    """Return a link as Grafana's model has it."""
    unused = {"type": "link", "icon": "", "tooltip": "", "tags": []}
    return {"title": title, "url": url, **unused, **dict.fromkeys(SWITCHES, False)}


def good_above(bad: float, good: float) -> list[Step]:
    """Colour by value: red, from `bad` on orange, from `good` on green."""
    return [(0, RED), (bad, ORANGE), (good, GREEN)]


def bad_above(warn: float, bad: float) -> list[Step]:
    """Colour by value: green, from `warn` on orange, from `bad` on red."""
    return [(0, GREEN), (warn, ORANGE), (bad, RED)]


def graph(
    title: str,
    about: str,
    *queries: Query,
    unit: str,
    look: str = "line",
    steps: Sequence[Step] = (),
    top: float | None = None,
    none: str = "",
) -> core.Panel:
    """Return a time series. `look` is line, step, stack or bars; with `steps` the thresholds are drawn as lines."""
    stacked = look in {"stack", "bars"}
    return core.TimeSeries(
        title=title,
        description=about,
        targets=_targets(queries),
        unit=unit,
        drawStyle="bars" if look == "bars" else "line",
        lineInterpolation="stepAfter" if look == "step" else "linear",
        fillOpacity=60 if look == "bars" else 30 if stacked else 8,
        stacking={"mode": "normal" if stacked else "none", "group": "A"},
        showPoints="never",
        legendDisplayMode="table" if any(query.legend for query in queries) else "hidden",
        legendCalcs=["mean", "max", "lastNotNull"],
        tooltipMode="multi",
        tooltipSort="desc",
        thresholdsStyleMode="dashed" if steps else "off",
        thresholds=_steps(steps),
        overrides=list(_colours(queries)),
        extraJson=_defaults(none, min=0, **({} if top is None else {"max": top}), links=_drill(queries)),
    )


def stat(
    title: str,
    about: str,
    query: str,
    *,
    unit: str,
    steps: Sequence[Step] = (),
    none: str = "",
    now: bool = False,
    page: str = "",
) -> core.Panel:
    """Return one number over a sparkline; `now` asks for this moment only. A click opens `page`."""
    return core.Stat(
        title=title,
        description=about,
        targets=_targets([Query(query)], instant=now),
        format=unit,
        colorMode="background" if steps else "value",
        graphMode="none" if now else "area",
        reduceCalc="lastNotNull",
        color={"mode": "thresholds"},
        thresholds=_steps(steps) if steps else [{"color": BLUE, "value": None}],
        extraJson=_defaults(
            none,
            links=[link("More", f"/d/{page}?${{__url_time_range}}")] if page else [],
            decimals=2 if unit == "percentunit" else None,
        ),
    )


def states(title: str, about: str, query: Query, names: Mapping[int, str]) -> core.Panel:
    """Return a timeline in which each value has a name and its colour."""
    colours = MEANINGS["opero_circuit_state"]
    options = {str(n): {"text": name, "color": colours[name], "index": n} for n, name in names.items()}
    return core.StateTimeline(
        title=title,
        description=about,
        targets=_targets([query]),
        mappings=[{"type": "value", "options": options}],
        colorMode="thresholds",
        thresholds=[{"color": GREY, "value": None}],
        fillOpacity=80,
        lineWidth=0,
        showValue="never",
        extraJson=_defaults(""),
    )


def heat(title: str, about: str, expr: str, *, unit: str, none: str = "") -> core.Panel:
    """Return a histogram over time; `expr` is a rate by `le`."""
    return Plain(
        kind="heatmap",
        title=title,
        description=about,
        targets=_targets([Query(expr, "{{le}}")], format="heatmap"),
        defaults={"unit": "ops", "custom": {"hideFrom": {"legend": False, "tooltip": False, "viz": False}}},
        options={
            "calculate": False,
            "color": {
                "mode": "scheme",
                "scheme": "Turbo",
                "exponent": 0.5,
                "steps": 64,
                "reverse": False,
                "fill": "dark-blue",
            },
            "cellGap": 1,
            "filterValues": {"le": 1e-9},
            "rowsFrame": {"layout": "auto"},
            "showValue": "never",
            "yAxis": {"axisPlacement": "left", "reverse": False, "unit": unit},
            "legend": {"show": True},
            "tooltip": {"mode": "single", "yHistogram": True, "showColorScale": True},
            "exemplars": {"color": "rgba(255,0,255,0.7)"},
        },
        extraJson=_defaults(none),
    )


def bars(title: str, about: str, query: Query, *, unit: str, steps: Sequence[Step], none: str = "") -> core.Panel:
    """Return a bar for each series, as it is now; full at 1."""
    return Plain(
        kind="bargauge",
        title=title,
        description=about,
        targets=_targets([query], instant=True),
        thresholds=_steps(steps),
        defaults={"unit": unit, "min": 0, "max": 1, "color": {"mode": "thresholds"}},
        options={
            "displayMode": "lcd",
            "valueMode": "color",
            "namePlacement": "auto",
            "orientation": "horizontal",
            "showUnfilled": True,
            "sizing": "auto",
            "minVizWidth": 8,
            "minVizHeight": 16,
            "maxVizHeight": 300,
            "legend": {"showLegend": False, "displayMode": "list", "placement": "bottom", "calcs": []},
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        },
        extraJson=_defaults(none),
    )


def table(
    title: str, about: str, key: str, columns: Mapping[str, tuple[str, str, Sequence[Step]]], *, none: str = ""
) -> core.Panel:
    """Return a row for each value of the label `key`; a column is query, unit and thresholds. The first one sorts."""
    queries = [Query(expr, name) for name, (expr, _, _) in columns.items()]
    names = {f"Value #{chr(ord('A') + n)}": query.legend for n, query in enumerate(queries)}
    head = {CALL: "operation"}.get(key, key.replace("_", " "))
    overrides = [_column(name, unit, steps) for name, (_, unit, steps) in columns.items()]
    if key == CALL:
        url = "/d/opero-operation?var-operation=${__value.raw}&${__url_time_range}"
        overrides.append(_override("byName", head, {"links": [link("Operation detail", url)]}))
    hidden = {"excludeByName": {"Time": True}, "indexByName": {}, "renameByName": {key: head, **names}}
    return core.Table(
        title=title,
        description=about,
        targets=_targets(queries, instant=True, format="table"),
        unit="short",
        overrides=overrides,
        transformations=[{"id": "merge", "options": {}}, {"id": "organize", "options": hidden}],
        extraJson={
            **_defaults(none),
            "options": {"sortBy": [{"displayName": queries[0].legend, "desc": True}]},
        },
    )


def note(title: str, text: str) -> core.Panel:
    """Return a text in Markdown."""
    return core.Text(title=title, description="What to do when this page is red.", content=text, mode="markdown")


class Plain(core.Panel):
    """A kind of panel that grafanalib does not know in its present form."""

    def __init__(self, kind: str, defaults: dict[str, Any], options: dict[str, Any], **fields: Any) -> None:
        super().__init__(**fields)
        self._kind, self._defaults, self._options = kind, defaults, options

    def to_json_data(self) -> dict[str, Any]:
        """Return its JSON, as grafanalib asks for it."""
        fields = {"defaults": self._defaults, "overrides": []}
        return self.panel_json({"type": self._kind, "options": self._options, "fieldConfig": fields})


def _targets(queries: Iterable[Query], *, instant: bool = False, format: str = "time_series") -> list[core.Target]:  # noqa: A002
    return [
        core.Target(expr=query.expr, legendFormat=query.legend or "__auto", instant=instant, format=format)
        for query in queries
    ]


def _steps(steps: Sequence[Step]) -> list[dict[str, Any]]:
    """Return thresholds; the first one reaches down to minus infinity, which Grafana writes as null."""
    if not steps:
        return [{"color": "text", "value": None}]
    return [{"color": colour, "value": None if n == 0 else value} for n, (value, colour) in enumerate(steps)]


def _defaults(none: str, **more: Any) -> dict[str, Any]:
    return {"fieldConfig": {"defaults": {"noValue": none or "nothing yet", **more}}}


def _drill(queries: Iterable[Query]) -> list[dict[str, Any]]:
    return [to_operation()] if all(f"{{{{{CALL}}}}}" in query.legend for query in queries) else []


def _colours(queries: Iterable[Query]) -> Iterator[dict[str, Any]]:
    """Yield the colours of legends with a fixed meaning: a name, or a label's value alone or at the end."""
    for query in queries:
        if query.legend in LITERAL:
            yield _override("byName", query.legend, _fixed(LITERAL[query.legend]))
        front, _, label = query.legend.removesuffix("}}").rpartition("{{")
        for value, colour in MEANINGS.get(label, {}).items():
            matcher = ("byRegexp", f"/{value}$/") if front else ("byName", value)
            yield _override(*matcher, _fixed(colour))


def _fixed(colour: str) -> dict[str, Any]:
    return {"color": {"mode": "fixed", "fixedColor": colour}}


def _column(name: str, unit: str, steps: Sequence[Step]) -> dict[str, Any]:
    properties: dict[str, Any] = {"unit": unit}
    if steps:
        properties |= {
            "thresholds": {"mode": "absolute", "steps": _steps(steps)},
            "color": {"mode": "thresholds"},
            "custom.cellOptions": {"type": "color-text"},
        }
    return _override("byName", name, properties)


def _override(matcher: str, name: str, properties: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "matcher": {"id": matcher, "options": name},
        "properties": [{"id": key, "value": value} for key, value in properties.items()],
    }
