"""What worker processes did, added up by the test from what they noted, is what the parent's `/metrics` says."""

import collections
import math
import sys
import urllib.request
from pathlib import Path

import pytest

import opero_telemetry
from opero import opmap
from opero_telemetry import tables

sys.path.append(str(Path(__file__).parents[1] / "parallel"))
import work


@pytest.fixture
def scraped():
    handle = opero_telemetry.start(metrics_port=0, logs=None)
    yield lambda: tables.of_text(urllib.request.urlopen(f"{handle.url}/metrics", timeout=10).read().decode())
    handle.stop()


def numbers(read, metric, name):
    return {
        tuple(value for key, value in row.labels.items() if key != "opero_call_name"): row.value
        for row in read[metric]
        if row.labels["opero_call_name"] == name and row.value
    }


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_the_parents_metrics_are_the_sums_over_its_workers(scraped, tmp_path, method):
    name = f"map.metrics.{method}"
    function = opmap(
        mode="process", workers=2, retries=1, min_delay=0, errors="return", start_method=method,
        constants={"folder": tmp_path}, name=name,
    )(work.tallied)  # fmt: skip
    with function.pool:
        found = function(range(1, 301))
    ran = [int(n) for file in tmp_path.iterdir() for n in file.read_text().split()]
    tried = collections.Counter(ran)
    failed = [n for n in range(1, 301) if n % 10 == 0]
    assert len(list(tmp_path.iterdir())) == 2 or method == "spawn"  # where a second one may come too late
    assert [n for n, outcome in enumerate(found, 1) if isinstance(outcome, OSError)] == failed
    read = scraped()
    calls = numbers(read, "opero_call_duration_seconds", name)
    assert sum(calls.values()) == 300
    assert sorted(calls.values()) == [30, 270]
    assert sum(numbers(read, "opero_attempt_duration_seconds", name).values()) == len(ran) == sum(tried.values())
    assert numbers(read, "opero_map_items_total", name) == {("ok",): 270, ("error",): 30}
    assert math.isclose(sum(numbers(read, "opero_map_active", name).values()), 0)
    events = numbers(read, "opero_events_total", name)
    retried = sum(times - 1 for times in tried.values())
    assert sum(value for labels, value in events.items() if "opero.retry.scheduled" in labels) == retried
