"""Our counts against a real Prometheus on the same random series, and a month of history against the closed form."""

import json
import random
import time
import urllib.parse
import urllib.request
from bisect import bisect_right

import pytest

from opero_slo import alerts, openslo, reader
from opero_slo.evaluator import evaluate
from opero_slo.model import SLO, Query, Ratio, Selection
from opero_slo.reports.data import gather
from opero_slo.series import Series
from opero_slo.sources.prometheus import Prometheus, grid_step
from slo.counters import DAY, openmetrics, scrape, write_blocks

pytestmark = pytest.mark.service("prometheus")
NOW = END = time.time() // 3600 * 3600 - 3600
RETAIN = "--storage.tsdb.retention.time=400d"
WINDOWS = [60.0, 75.0, 300.0, 1800.0, 3600.0, 7200.0, 21600.0, 43200.0, 86400.0]


def ask(server, expression, start, end, step):
    query = urllib.parse.urlencode({"query": expression, "start": start, "end": end, "step": step})
    with urllib.request.urlopen(f"{server.url}/api/v1/query_range?{query}", timeout=60) as answer:
        result = json.load(answer)["data"]["result"]
    return {float(at): float(value) for at, value in result[0]["values"]}


def summed(counters):
    """The sum of several counters, at every moment any of them was scraped."""
    moments = sorted({at for counter in counters for at, _ in counter.samples})
    return [(at, sum(value_at(counter.samples, at) for counter in counters)) for at in moments]


def value_at(samples, at):
    index = bisect_right(samples, at, key=lambda sample: sample[0])
    return samples[max(index - 1, 0)][1]


def test_the_evaluator_counts_what_prometheus_counts(prometheus, tmp_path):
    start = NOW - 3 * DAY
    bad = [scrape(seed, start, NOW, labels={"pod": seed, "code": "500"}, most=4) for seed in range(3)]
    good = [scrape(9 + seed, start, NOW, labels={"pod": seed, "code": "200"}) for seed in range(3)]
    write_blocks(openmetrics([*bad, *good], "requests"), tmp_path)
    server = prometheus("127.0.0.1:1", RETAIN)
    totals, bads = dict(summed([*bad, *good])), dict(summed(bad))
    series = Series()
    last = 0.0
    for at, total in totals.items():
        last = bads.get(at, last)
        series.add(at, total - last, total)
    chance = random.Random(4)
    compared = 0
    slo = SLO("requests", Ratio(Query("x"), Query("y")), 0.999)
    for window in [*WINDOWS, *(float(chance.randrange(30, 80_000)) for _ in range(11))]:
        first = start + window + 300
        step = max(int((NOW - first) / 110), 15)
        exact = {
            name: ask(server, f"sum({x}) - sum({x} offset {window:g}s)", first, NOW, step)
            for name, x in {"bad": 'requests_total{code="500"}', "total": "requests_total"}.items()
        }
        assert len(exact["total"]) > 100
        for at, total in exact["total"].items():
            counts = series.between(at - window, at)
            assert (counts.total, counts.bad) == (total, exact["bad"][at])
            assert alerts.burn_rate(counts, slo.budget) == exact["bad"][at] / total / slo.budget
            compared += 3
    assert compared > 6000


@pytest.fixture
def month(prometheus, tmp_path):
    """Thirty days of two instances that restart; the second appears on day ten."""
    start = NOW - 31 * DAY
    born = NOW - 20 * DAY
    counters = []
    for seed, (instance, since) in enumerate([("a", start), ("b", born)]):
        for outcome, most in (("ok", 60), ("error", 2)):
            labels = {"opero_call_name": "shop.pay", "opero_outcome": outcome, "error_type": "", "instance": instance}
            counters.append(scrape(seed * 7 + most, since, NOW, labels=labels, restarts=12, step=120.0, most=most))
    text = openmetrics(counters, "opero_call_duration_seconds_count").replace("_count_total{", "_count{")
    text = text.replace(
        "# TYPE opero_call_duration_seconds_count counter", "# TYPE opero_call_duration_seconds_count unknown"
    )
    write_blocks(text, tmp_path)
    return Prometheus(prometheus("127.0.0.1:1", RETAIN).url), counters


def grown(counters, outcome, start, end):
    chosen = [counter.grown for counter in counters if counter.labels["opero_outcome"] in outcome]
    return sum(value_at(samples, end) - value_at(samples, start) for samples in chosen)


@pytest.mark.parametrize("late", [0, 137], ids=["on the grid", "between"])
def test_a_month_of_history_is_the_closed_form(month, late):
    source, counters = month
    NOW = END - late  # noqa: N806 - any moment will do
    slo = SLO("pay", Ratio(Selection("shop.pay", values=("ok",)), Selection("shop.pay")), 0.98)
    began = time.monotonic()
    report = gather([slo], [], source, NOW)
    took = time.monotonic() - began
    (objective,) = report.objectives
    status = objective.status
    total, good = (grown(counters, outcome, NOW - 30 * DAY, NOW) for outcome in (("ok", "error"), ("ok",)))
    assert (status.counts.total, status.counts.good) == (total, good)
    assert status.sli == good / total
    assert status.remaining == 1 - (total - good) / (slo.budget * total)
    for seconds, rate in status.burn_rates.items():
        part, of = (grown(counters, outcome, NOW - seconds, NOW) for outcome in (("ok",), ("ok", "error")))
        assert rate == pytest.approx((of - part) / of / slo.budget, rel=1e-12)
    assert len(objective.days) in {30, 31}
    assert sum(day.counts.total for day in objective.days) == total
    assert objective.operations == (("shop.pay", status.counts),)
    assert took < 30


def test_a_query_of_the_users_is_counted_as_exactly(month):
    source, counters = month
    total = "sum(opero_call_duration_seconds_count{opero_call_name='shop.pay'})"
    bad = 'sum(opero_call_duration_seconds_count{opero_outcome="error"})'
    slo = SLO("pay", Ratio(Query(bad), Query(total), inverted=True), 0.98)
    status = evaluate(slo, source.series(slo, NOW - 30 * DAY, NOW), NOW)
    assert status.counts.total == grown(counters, ("ok", "error"), NOW - 30 * DAY, NOW)
    assert status.counts.bad == grown(counters, ("error",), NOW - 30 * DAY, NOW)


THRESHOLD = """\
apiVersion: openslo/v1
kind: SLO
metadata: {name: lag}
spec:
  indicator:
    metadata: {name: lag}
    spec: {thresholdMetric: {metricSource: {type: Prometheus, spec: {query: "%s"}}}}
  timeWindow: [{duration: 1d, isRolling: true}]
  budgetingMethod: Timeslices
  objectives: [{op: gt, value: 0.25, target: 0.5, timeSliceTarget: 1, timeSliceWindow: 5m}]
"""


def test_a_threshold_metric_is_judged_at_every_slice(month):
    source, _ = month
    query = "sum(rate(opero_call_duration_seconds_count{opero_outcome='ok'}[{{.window}}]))"
    (slo,) = openslo.interpret(reader.parse(THRESHOLD % query)).slos
    series = source.series(slo, NOW - DAY, NOW)
    rates = ask(source, query.replace("{{.window}}", "300s"), NOW - DAY, NOW, 300)
    above = [at for at, rate in rates.items() if rate > 0.25]
    counts = series.between(NOW - DAY, NOW)
    assert (counts.good, counts.total) == (len([at for at in above if at > NOW - DAY]), 288)


def test_what_a_server_cannot_do_is_one_sentence(month):
    from opero import ConfigurationError

    source, _ = month
    slo = SLO("pay", Ratio(Query("sum(((x"), Query("x")), 0.98)
    with pytest.raises(ConfigurationError, match="parse error"):
        source.series(slo, NOW - DAY, NOW)
    with pytest.raises(ConfigurationError, match="a server that answers"):
        Prometheus("http://127.0.0.1:1").query("x", NOW)
    with pytest.raises(ConfigurationError, match="an address like"):
        Prometheus("file:///etc/passwd")


def test_the_grid_fits_every_window_of_the_alerts():
    slo = SLO("pay", Ratio(Query("x"), Query("y")), 0.999)
    assert grid_step(slo) == 300.0
    laws, _ = alerts.laws(slo)
    assert all(seconds % grid_step(slo) == 0 for law in laws for seconds in (law.long, law.short))
