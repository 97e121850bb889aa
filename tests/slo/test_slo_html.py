"""The page in a real browser: it shows everything, asks for nothing, and prints."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from opero_slo import openslo, reports
from opero_slo.reports.data import gather
from opero_slo.sources import events

NOW = 1_795_000_000.0
DAY = 86400.0
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
]


def lines():
    """A month with an outage of two hours, slow calls, and two operations."""
    for number in range(30 * 288):
        at = NOW - 30 * DAY + 300 * number
        outage = 12 * 288 <= number < 12 * 288 + 24
        for operation, calls, bad in (("shop.pay", 400, 200 if outage else 0), ("shop.refund", 40, number % 90 == 0)):
            yield {"at": at, "operation": operation, "outcome": "ok", "duration": 0.12, "count": calls - bad - 1}
            yield {"at": at, "operation": operation, "outcome": "ok", "duration": 0.7, "count": 1}
            yield {"at": at, "operation": operation, "outcome": "error", "duration": 0.01, "count": int(bad)}


SPEC = """\
apiVersion: openslo/v1
kind: SLO
metadata: {name: shop, displayName: The shop answers}
spec:
  service: shop
  indicator:
    metadata: {name: answered}
    spec:
      ratioMetric:
        good: {metricSource: {type: Opero, spec: {operation: "shop.*", within: 300ms}}}
        total: {metricSource: {type: Opero, spec: {operation: "shop.*"}}}
  budgetingMethod: Occurrences
  objectives: [{target: 0.99}]
"""


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    tmp_path = tmp_path_factory.mktemp("report")
    (tmp_path / "slo.yaml").write_text(SPEC)
    (tmp_path / "events.jsonl").write_text("\n".join(json.dumps(line) for line in lines()))
    specification = openslo.load([tmp_path / "slo.yaml"])
    report = gather(specification.slos, (), events.read(tmp_path / "events.jsonl"), NOW)
    file = tmp_path / "report.html"
    file.write_text(reports.render(report, "html"))
    return file, report


def chromium(*arguments):
    command = ["chromium", *FLAGS, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)


@pytest.mark.service("chromium")
def test_a_browser_shows_every_picture_and_asks_for_nothing(page, tmp_path):
    file, report = page
    image, log = tmp_path / "page.png", tmp_path / "net.json"
    done = chromium("--window-size=1180,1600", f"--screenshot={image}", f"--log-net-log={log}", f"file://{file}")
    assert done.returncode == 0
    assert image.stat().st_size > 60_000
    if folder := os.environ.get("OPERO_SCREENSHOTS"):
        Path(folder).mkdir(parents=True, exist_ok=True)
        shutil.copy(image, Path(folder, "slo-report.png"))
    assert not [url for url in _urls(log.read_text()) if url.startswith("http") and "shop" in url]
    dom = chromium("--dump-dom", f"file://{file}").stdout
    for picture in ("Error budget left over the period", "Duration of calls", "Compliance by day"):
        assert f'aria-label="{picture}' in dom
    (objective,) = report.objectives
    assert dom.count('class="day') == len(objective.days) == 31
    assert "page-fast" in dom
    assert "shop.refund" in dom
    assert "NaN" not in dom


@pytest.mark.service("chromium")
def test_it_prints(page, tmp_path):
    file, _ = page
    paper = tmp_path / "report.pdf"
    done = chromium("--no-pdf-header-footer", f"--print-to-pdf={paper}", f"file://{file}")
    assert done.returncode == 0
    content = paper.read_bytes()
    assert content.startswith(b"%PDF")
    assert len(content) > 20_000


def test_the_numbers_on_the_page_are_the_closed_form(page):
    _, report = page
    status = report.objectives[0].status
    slots = 30 * 288 - 1  # the window is open at its start
    slow, refused = 2 * slots, sum(number % 90 == 0 for number in range(1, 30 * 288))
    assert status.counts.total == 440 * slots
    assert status.counts.bad == slow + 24 * 200 + refused
    assert {name: counts.bad for name, counts in report.objectives[0].operations} == {
        "shop.pay": slots + 24 * 200,
        "shop.refund": slots + refused,
    }


def _urls(log):
    try:
        entries = json.loads(log)["events"]
    except ValueError:  # the browser ended before it closed the list
        entries = json.loads(log.rstrip().rstrip(",") + "]}")["events"]
    return [entry["params"]["url"] for entry in entries if "url" in entry.get("params", {})]
