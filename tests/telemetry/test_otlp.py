"""End to end: calls, and what a real receiver and a real Prometheus say they were."""

import json
import os
import subprocess
import sys
import threading
import time

import pytest

import opero as o
import opero_telemetry
from services.otlp import attributes

PROGRAM = """
import sys
import opero as o, opero_telemetry

endpoint, protocol = sys.argv[1:]
handle = opero_telemetry.start(0, logs=None, otlp_endpoint=endpoint, otlp_protocol=protocol, spans="calls")
fails = iter([OSError, None, OSError, OSError, OSError] + [None] * 40)

@o.opero(retries=2, min_delay=0, name="shop.pay")
def pay():
    error = next(fails)
    if error:
        raise error

for _ in range(40):
    try:
        pay()
    except OSError:
        pass
stats = pay.opero.stats()
assert handle.stop(30)
import json
print(json.dumps(stats))
"""


@pytest.mark.service("otlp")
@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_spans_metrics_and_events_agree_with_the_calls_exactly(otlp_receiver, protocol):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, otlp_receiver.endpoint(protocol), protocol],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    stats = json.loads(done.stdout)
    assert (stats["calls"], stats["ok"], stats["errors"], stats["retries"]) == (40, 39, 1, 3)

    spans = otlp_receiver.wait_for(otlp_receiver.spans)
    calls = [span for span in spans if span["name"] == "shop.pay"]
    attempts = [span for span in spans if span["name"] == "shop.pay attempt"]
    outcomes = [attributes(span)["opero.outcome"] for span in calls]
    assert (len(calls), outcomes.count("ok"), outcomes.count("error")) == (40, 39, 1)
    assert len(attempts) == 5  # two of the call that succeeded at its second, three of the one that failed
    assert {span["parent_span_id"] for span in attempts} <= {span["span_id"] for span in calls}

    metrics = {metric["name"]: metric for metric in otlp_receiver.metrics()}
    counted = {}
    for point in metrics["opero.call.duration"]["histogram"]["data_points"]:
        counted[attributes(point)["opero.outcome"]] = int(point.get("count", 0))
    assert {name: count for name, count in counted.items() if count} == {"ok": 39, "error": 1}
    said = {}
    for point in metrics["opero.events"]["sum"]["data_points"]:
        said[attributes(point)["opero.event.name"]] = int(point.get("as_int") or point.get("as_double") or 0)
    assert (said["opero.call.finished"], said["opero.attempt.finished"], said["opero.retry.scheduled"]) == (40, 43, 3)

    logs = [attributes(record) | {"body": record["body"]["string_value"]} for record in otlp_receiver.logs()]
    bodies = [record["body"] for record in logs]
    assert (bodies.count("opero.retry.scheduled"), bodies.count("opero.retry.exhausted")) == (3, 1)
    assert bodies.count("opero.retry.succeeded") == 1
    traces = {record["trace_id"] for record in otlp_receiver.logs()}
    assert traces <= {span["trace_id"] for span in calls}
    instances = {attributes(resource)["service.instance.id"] for resource in otlp_receiver.resources()}
    assert len(instances) == 1


@pytest.mark.service("otlp")
def test_opentelemetrys_own_environment_is_enough(otlp_receiver, tmp_path):
    script = "from opero import opero\n@opero(name='by.environment')\ndef f(): ...\nf()\n"
    environment = {**os.environ, "OTEL_EXPORTER_OTLP_ENDPOINT": otlp_receiver.endpoint("http")}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, timeout=100, capture_output=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, b"")
    names = {span["name"] for span in otlp_receiver.wait_for(otlp_receiver.spans)}
    assert names == {"by.environment"}
    assert "opero.call.duration" in {metric["name"] for metric in otlp_receiver.metrics()}


@pytest.mark.service("prometheus")
def test_prometheus_counts_what_was_called_and_keeps_an_exemplar(prometheus):
    from opentelemetry.sdk.trace import TracerProvider

    from opero_telemetry.spans import Spans

    handle = opero_telemetry.start(0, logs=None, spans="off")
    spans = Spans(TracerProvider()).subscribe()
    try:

        @o.opero(retries=1, min_delay=0, name="scraped")
        def f(fails):
            if fails:
                raise OSError

        for n in range(50):
            try:
                f(n % 10 == 0)
            except OSError:
                continue
        server = prometheus(f"127.0.0.1:{handle.port}")
        assert server.wait_for(["opero_call_duration_seconds_count"]) == set()
        found = server.query('sum by (opero_outcome) (opero_call_duration_seconds_count{opero_call_name="scraped"})')
        assert {
            each["metric"]["opero_outcome"]: float(each["value"][1]) for each in found if each["value"][1] != "0"
        } == {
            "ok": 45,
            "error": 5,
        }
        found = server.query('opero_events_total{opero_call_name="scraped",opero_event_name="opero.retry.scheduled"}')
        assert [float(each["value"][1]) for each in found] == [5]
        assert server.exemplars('opero_call_duration_seconds_bucket{opero_call_name="scraped"}')
    finally:
        spans.close()
        handle.stop()


def test_a_receiver_that_is_down_costs_no_call_and_stop_is_bounded(monkeypatch):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "2")
    handle = opero_telemetry.start(None, logs=None, otlp_endpoint="http://127.0.0.1:9", spans="off")

    @o.opero(name="alone")
    def f():
        return 1

    assert f() == 1
    began = time.monotonic()
    handle.stop(1.0)
    assert time.monotonic() - began < 10
    for thread in threading.enumerate():  # what goes on trying draws random numbers, which other tests forbid
        if thread.name == "opero-stop":
            thread.join(60)
            assert not thread.is_alive()
