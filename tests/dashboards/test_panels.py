"""Every panel shows data: its PromQL, asked of a Prometheus that scraped a program which uses everything."""

import re
import time

import exercise
import pytest

import opero_telemetry
from opero_dashboards import build
from opero_dashboards.commands import command
from opero_dashboards.probe import probe
from opero_dashboards.remote import Server
from opero_dashboards.vocabulary import Vocabulary

VALUES = {"$__rate_interval": "15s", "$__range": "5m", "$__interval": "5s"}
AWAITED = re.compile(r"opero[_.\\]+(cache|hedge|gpu_batch|slo_|controller|retry_budget|telemetry_events)")  # not built


@pytest.fixture(scope="module")
def scraped(module_prometheus):
    telemetry = opero_telemetry.start(metrics_port=0, logs=None)
    with exercise.running():
        yield module_prometheus(telemetry.url.removeprefix("http://"))
    telemetry.stop()


@pytest.mark.service("prometheus")
def test_no_panel_is_empty_and_none_errs(scraped):
    until = time.monotonic() + 60
    while True:
        found = [finding for page in build().values() for finding in probe(Server(scraped.url), page, VALUES)]
        silent = {f for f in found if f.error or (not f.series and not AWAITED.search(f.expr))}
        if not silent or time.monotonic() > until:
            break
        time.sleep(1)
    assert silent == set()


@pytest.mark.service("prometheus")
def test_a_user_can_ask_which_panels_would_be_empty(scraped, capsys):
    scraped.wait_for(["opero_call_active"])
    status = command(["check", "--prometheus", scraped.url])
    said = capsys.readouterr().out
    assert re.search(r"overview.json: \d+ of \d+ expressions find something", said)
    assert status == (1 if "  nothing" in said or ": nothing" in said else 0)


@pytest.mark.service("prometheus")
def test_an_expression_prometheus_does_not_take_is_told(scraped):
    page = {
        "panels": [{"id": 1, "type": "stat", "title": "Broken", "targets": [{"refId": "A", "expr": "sum by ("}]}],
        "annotations": {"list": []},
    }
    scraped.wait_for(["up"])
    (finding,) = probe(Server(scraped.url), page)
    assert (finding.series, "parse error" in finding.error) == (0, True)


def test_every_metric_is_on_some_panel():
    text = str(build())
    vocabulary = Vocabulary.declared()
    assert [name for name in vocabulary if vocabulary.prometheus(name) not in text] == []
