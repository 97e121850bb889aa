"""A page: rows of panels on Grafana's grid of 24 columns, with the variables, links and annotations all pages share."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import accumulate, count
from typing import TYPE_CHECKING, Any

from grafanalib import core

from opero_dashboards import model, panels
from opero_dashboards.promql import CALL, OPERATION, PROCESS, PromQL

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from opero_dashboards.vocabulary import Vocabulary

TAG = "opero"
WIDTH = 24


@dataclass(frozen=True)
class Row:
    """Panels side by side, `height` units high; `shares` say how wide each is, evenly unless given."""

    title: str
    panels: Sequence[core.Panel]
    height: int = 8
    shares: Sequence[int] = ()
    folded: bool = False

    def place(self, y: int) -> list[core.Panel]:
        """Give the panels their places, from `y` down."""
        shares = self.shares or [1] * len(self.panels)
        edges = [round(WIDTH * part / sum(shares)) for part in accumulate(shares, initial=0)]
        for panel, left, right in zip(self.panels, edges[:-1], edges[1:], strict=True):
            panel.gridPos = core.GridPos(h=self.height, w=right - left, x=left, y=y)
        return list(self.panels)


@dataclass(frozen=True)
class Page:
    """One dashboard. `runbook` is Markdown: what to do when it is red."""

    uid: str
    title: str
    about: str
    rows: Sequence[Row]
    runbook: str
    variables: Sequence[core.Template] = field(default=())
    one: bool = False  # a single operation is looked at
    scoped: bool = True  # there is an operation to choose

    def json(self, vocabulary: Vocabulary) -> dict[str, Any]:
        """Return it in Grafana's classic model."""
        placed = list(self._panels())
        note = f"/d/{self.uid}?viewPanel={placed[-1].panels[0].id}"
        return model.classic(
            core.Dashboard(
                title=self.title,
                uid=self.uid,
                description=self.about,
                tags=[TAG],
                panels=placed,
                templating=core.Templating(list=[*_variables(vocabulary, self.one, self.scoped), *self.variables]),
                annotations=core.Annotations(list=list(_annotations(vocabulary, scoped=self.scoped))),
                links=[
                    _pages(),
                    {**panels.link("Runbook", note), "icon": "doc", "tooltip": "What to do when this is red"},
                ],
                time=core.Time("now-1h", "now"),
                refresh="30s",
                timezone="browser",
                graphTooltip=1,
                editable=False,
            )
        )

    def _panels(self) -> Iterator[core.Panel]:
        """Number the panels and place them; the runbook, folded, is the last."""
        numbers, y = count(1), 0
        note = Row("Runbook", [panels.note("What to do", self.runbook.strip())], 10, folded=True)
        for row in (*self.rows, note):
            place = core.GridPos(h=1, w=WIDTH, x=0, y=y)
            title = core.RowPanel(title=row.title, collapsed=row.folded, gridPos=place)
            placed = row.place(y + 1)
            for panel in (title, *placed):
                panel.id = next(numbers)
            if row.folded:
                title.panels = placed
                placed = []
            yield from (title, *placed)
            y += 1 + row.height * (not row.folded)


def variable(name: str, label: str, query: str, *, one: bool = False) -> core.Template:
    """Return a choice among the values of a label."""
    several = {} if one else {"includeAll": True, "multi": True, "allValue": ".+"}
    return core.Template(name=name, label=label, query=query, dataSource=model.SOURCE, **several)


def _variables(vocabulary: Vocabulary, one: bool, scoped: bool) -> Iterator[core.Template]:
    known = PromQL(vocabulary, "")
    anything = "opero.call.active"
    yield core.Template(name="datasource", label="Data source", query="prometheus", type="datasource")
    yield variable("job", "Job", f"label_values({known.series(anything)}, job)")
    of_job = PromQL(vocabulary, 'job=~"$job"').series(anything)
    yield variable("instance", "Instance", f"label_values({of_job}, instance)")
    if scoped:
        of_instance = PromQL(vocabulary, PROCESS).series(anything)
        yield variable("operation", "Operation", f"label_values({of_instance}, {CALL})", one=one)


def _annotations(vocabulary: Vocabulary, *, scoped: bool) -> Iterator[dict[str, Any]]:
    p = PromQL(vocabulary, OPERATION if scoped else PROCESS)
    opened = 'opero_circuit_state=~"open|forced_open"'
    shut = 'opero_circuit_state="closed"'
    policy = "opero_policy_name"
    change = p.increase("opero.circuit.transitions", policy, where=opened)
    yield _annotation("Circuit opened", "red", f"{change} > 0", f"circuit {{{{{policy}}}}} opened", policy)
    change = p.increase("opero.circuit.transitions", policy, where=shut)
    yield _annotation("Circuit closed", "green", f"{change} > 0", f"circuit {{{{{policy}}}}} closed", policy)
    process = PromQL(vocabulary, PROCESS)
    labels = process.vocabulary.labels("opero.controller.adjustments")
    change = process.increase("opero.controller.adjustments", *labels)
    title = " ".join(f"{{{{{label}}}}}" for label in labels)
    yield _annotation("Knob turned", "blue", f"{change} > 0", title, ",".join(labels))


def _annotation(name: str, colour: str, expr: str, title: str, tags: str) -> dict[str, Any]:
    return {
        "name": name,
        "datasource": model.SOURCE,
        "enable": True,
        "iconColor": colour,
        "expr": expr,
        "titleFormat": title,
        "tagKeys": tags,
    }


def _pages() -> core.DashboardLink:
    return core.DashboardLink(
        title="Opero", type="dashboards", tags=[TAG], asDropdown=True, includeVars=True, keepTime=True, icon="dashboard"
    )
