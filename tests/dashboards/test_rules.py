"""The rules of Grafana's dashboard-linter hold for every page, and each rule can say no."""

import copy

import pytest

from opero_dashboards import build
from opero_dashboards.rules import RULES, violations

DASHBOARDS = build()


@pytest.mark.parametrize("name", DASHBOARDS)
def test_a_page_breaks_no_rule(name):
    assert violations(DASHBOARDS[name]) == []


def variable(page, name):
    return next(found for found in page["templating"]["list"] if found["name"] == name)


def queried(page):
    return next(panel for panel in page["panels"] if panel["type"] == "timeseries")


def rewrite(page, old, new):
    target = queried(page)["targets"][0]
    assert old in target["expr"]
    target["expr"] = target["expr"].replace(old, new)


BREAKS = {
    "template-datasource-rule": lambda page: variable(page, "datasource").update(name="prometheus"),
    "template-job-rule": lambda page: variable(page, "job").update(allValue=".*"),
    "template-instance-rule": lambda page: variable(page, "instance").update(multi=False),
    "template-label-promql-rule": lambda page: variable(page, "job").update(query="label_values(up{job="),
    "template-on-time-change-reload-rule": lambda page: variable(page, "job").update(refresh=1),
    "uneditable-dashboard-rule": lambda page: page.update(editable=True),
    "panel-datasource-rule": lambda page: queried(page).update(datasource={"type": "prometheus", "uid": "mine"}),
    "panel-title-description-rule": lambda page: queried(page).update(description=""),
    "panel-units-rule": lambda page: queried(page)["fieldConfig"]["defaults"].update(unit="parsecs"),
    "panel-no-targets-rule": lambda page: queried(page).update(targets=[]),
    "target-rate-interval-rule": lambda page: rewrite(page, "$__rate_interval", "5m"),
    "target-job-rule": lambda page: rewrite(page, 'job=~"$job", ', ""),
    "target-instance-rule": lambda page: rewrite(page, 'instance=~"$instance"', 'instance="a"'),
    "target-counter-agg-rule": lambda page: queried(page)["targets"][0].update(
        expr='sum(opero_events_total{job=~"$job", instance=~"$instance"})'
    ),
    "unique-panel-id": lambda page: queried(page).update(id=page["panels"][1]["id"]),
    "no-panel-covers-another": lambda page: queried(page).update(gridPos=page["panels"][1]["gridPos"]),
    "stable-uid": lambda page: page.update(uid="Overview"),
}


def test_every_rule_is_tried():
    assert BREAKS.keys() == RULES.keys()


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_says_no(rule):
    page = copy.deepcopy(DASHBOARDS["overview.json"])
    BREAKS[rule](page)
    assert [text.partition(":")[0] for text in violations(page)] == [rule]
