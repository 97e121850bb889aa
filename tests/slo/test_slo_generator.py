"""The evaluator and Google's slo-generator on the same Prometheus: the same indicator, budget, burn rate and alert."""

import json
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from opero_slo import alerts
from opero_slo.durations import Duration
from opero_slo.evaluator import evaluate
from opero_slo.model import SLO, Query, Ratio, Window
from opero_slo.sources.prometheus import Prometheus
from slo.counters import DAY, openmetrics, scrape, write_blocks

pytestmark = [pytest.mark.soak, pytest.mark.service("prometheus")]
NOW = time.time() // 3600 * 3600 - 3600
RETAIN = "--storage.tsdb.retention.time=400d"
GROWTH = "(sum(x_total{%s} @ %d) - sum(x_total{%s} @ %d))"
WINDOWED = " + 0 * count_over_time(vector(1)[window:5m])"  # it insists on a window of its own


@pytest.fixture
def generator(tmp_path):
    """A Python of its own with slo-generator, which pins much."""
    python = tmp_path / "venv/bin/python"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
    install = [sys.executable, "-m", "uv", "pip", "install", "-q", "--python", python, "slo-generator[prometheus]"]
    done = subprocess.run(install, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode:
        pytest.skip(f"needs slo-generator from the package index: {done.stderr.splitlines()[-1]}")
    return python


@pytest.mark.timeout(400)
def test_slo_generator_says_the_same(generator, prometheus, tmp_path):
    start = NOW - 31 * DAY
    counters = [scrape(n, start, NOW, labels={"pod": n, "code": "200"}, step=60.0) for n in range(2)]
    counters += [scrape(9 + n, start, NOW, labels={"pod": n, "code": "500"}, step=60.0, most=2) for n in range(2)]
    write_blocks(openmetrics(counters, "x"), tmp_path)
    server = prometheus("127.0.0.1:1", RETAIN)
    source, chance, cases, ours = Prometheus(server.url), random.Random(5), [], []
    slo = SLO("x", Ratio(Query("sum(x_total{code='200'})"), Query("sum(x_total)")), 0.5)
    series = source.series(slo, start, NOW)
    for _ in range(300):
        window = chance.randrange(1, 8000) * 300
        at = int(NOW) - chance.randrange(1, (31 * 86400 - window) // 300) * 300
        goal = chance.choice([0.9, 0.95, 0.97, 0.975, 0.98, 0.99])
        threshold = chance.choice([0.5, 1, 1.1, 2, 5])
        good, total = (GROWTH % (label, at, label, at - window) for label in ("code='200'", ""))
        expression = f"{good} / {total}{WINDOWED}"
        cases.append({"window": window, "at": at, "goal": goal, "threshold": threshold, "expression": expression})
        judged = SLO("x", slo.indicator, goal, Window(Duration(window // 60, "m")))
        ours.append(evaluate(judged, series, at))
    text = json.dumps({"url": server.url, "cases": cases})
    script = Path(__file__).parent / "slo_generator_reports.py"
    done = subprocess.run([generator, script], input=text, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    reports = json.loads(done.stdout)
    for case, theirs, status in zip(cases, reports, ours, strict=True):
        assert theirs["valid"], theirs
        assert theirs["sli_measurement"] == round(status.sli, 6)
        # It rounds the indicator to six digits before it goes on
        sli = round(status.sli, 6)
        assert theirs["error_budget_measurement"] == pytest.approx(1 - sli)
        assert theirs["error_budget_consumed_ratio"] == pytest.approx(100 * (1 - status.remaining), abs=0.01)
        assert theirs["error_budget_burn_rate"] == pytest.approx(status.burn, abs=0.0501)
        left = status.remaining * status.slo.budget * case["window"] / 60
        assert theirs["error_budget_remaining_minutes"] == pytest.approx(left, abs=case["window"] / 60 * 1e-6)
        counts = series.between(case["at"] - case["window"], case["at"])
        if abs(status.burn - case["threshold"]) > 0.06:  # it compares the rate rounded to one digit
            assert theirs["alert"] == (alerts.burn_rate(counts, status.slo.budget) > case["threshold"])
