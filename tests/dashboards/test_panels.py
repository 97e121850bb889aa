"""Every panel shows data: its PromQL, asked of a Prometheus that scraped a program which uses everything."""

import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from opero_dashboards import build
from opero_dashboards.commands import command
from opero_dashboards.probe import probe
from opero_dashboards.remote import Server

VALUES = {"$__rate_interval": "30s", "$__range": "5m", "$__interval": "5s"}
PATIENCE = 90  # seconds until every expression has found something


@pytest.fixture(scope="module")
def scraped(module_prometheus):
    command = [sys.executable, Path(__file__).with_name("exercise.py")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as program:
        yield module_prometheus(program.stdout.readline().strip(), interval=3)
        program.stdin.close()


@pytest.mark.service("prometheus")
def test_no_panel_is_empty_and_none_errs(scraped):
    pages, silent, until = build().values(), {}, time.monotonic() + PATIENCE
    found = set()  # a busy machine misses a scrape now and then: what was seen once is there
    while time.monotonic() < until:
        findings = [finding for page in pages for finding in probe(Server(scraped.url), page, VALUES)]
        assert [finding for finding in findings if finding.error] == []
        found |= {finding.expr for finding in findings if finding.series}
        silent = {f.expr: f.place for f in findings if f.expr not in found}
        if not silent:
            break
        time.sleep(3)
    assert silent == {}


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
