"""Canaries: what a call is given, gives and raises leaves the process by no way out, whatever the primitive."""

import io
import json
import logging
import subprocess
import sys
import urllib.request

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import opero as o
import opero_telemetry
from opero_telemetry.journal import Journal
from opero_telemetry.logs import Logs
from opero_telemetry.spans import Spans

CANARIES = ("argument-canary", "keyword-canary", "result-canary", "message-canary", "key-canary", "password-canary")


class Denied(Exception):
    """Carries secrets in every place an exception has."""

    def __init__(self):
        super().__init__("message-canary", "https://user:password-canary@host/?token=key-canary")
        self.add_note("message-canary")


EVERY_PRIMITIVE = {
    "retry": {"retries": 2, "min_delay": 0},
    "timeout": {"timeout": 30},
    "attempt_timeout": {"attempt_timeout": 30},
    "circuit_breaker": {"circuit_breaker": o.CircuitBreaker(consecutive=1)},
    "rate_limit": {"rate_limit": o.RateLimit(1, per=3600, wait=False)},
    "bulkhead": {"bulkhead": 1},
    "fallback": {"fallback": "result-canary"},
    "arg_fallback": {"arg_fallback": "first"},
}


def provoke():
    """Make every primitive say what it can say of a call full of secrets."""
    for name, settings in EVERY_PRIMITIVE.items():

        @o.opero(**{"retries": 0, **settings}, name=f"canary.{name}")
        def f(first, *, key, fails):
            if fails:
                raise Denied
            return "result-canary"

        for fails in (False, True, True):
            try:
                f(["argument-canary", "key-canary"], key="keyword-canary", fails=fails)
            except (Denied, o.OperoError):
                continue

    @o.opmap(mode="thread", errors="return", name="canary.map")
    def item(value):
        raise Denied

    item(["argument-canary", "key-canary"])


def test_no_way_out_tells_a_secret(tmp_path, caplog):
    stream, debugging, exporter = io.StringIO(), io.StringIO(), InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    handle = opero_telemetry.start(0, logs=None, spans="off", processes=str(tmp_path / "folder"))
    every_call = dict.fromkeys(["opero.call.started", "opero.call.finished", "opero.attempt.finished"], "info")
    try:
        journal = Journal(tmp_path / "events.jsonl")
        spans = Spans(provider, every_attempt=True).subscribe()
        with (
            caplog.at_level(logging.DEBUG),
            Logs(stream=stream, severities=every_call),
            Logs("logging"),
            o.debug(debugging),
        ):
            provoke()
        spans.close()
        journal.close()
        pages = [
            urllib.request.urlopen(f"{handle.url}{path}", timeout=10).read()
            for path in ("/metrics", "/state", "/readyz")
        ]
        (said,) = [_first_events(handle)]
    finally:
        handle.stop()
    files = [path.read_text() for path in tmp_path.rglob("*") if path.is_file()]
    told = [stream.getvalue(), debugging.getvalue(), caplog.text, said, *files, *(page.decode() for page in pages)]
    told += [span.to_json() for span in exporter.get_finished_spans()]
    told += [repr(record.__dict__) for record in caplog.records]
    everything = "\n".join(told)
    for name in EVERY_PRIMITIVE:
        assert everything.count(f"canary.{name}") > 10  # it was told about, by many ways
    assert [canary for canary in CANARIES if canary in everything] == []


def _first_events(handle):
    with urllib.request.urlopen(f"{handle.url}/stream", timeout=10) as answer:
        text = b""
        while b"event: state" not in text:
            text += answer.read1(65536)
    return text.decode()


OTLP = """
import sys, pathlib
sys.path[:0] = sys.argv[2:]
import opero_telemetry
from telemetry.test_secrets import provoke
handle = opero_telemetry.start(None, logs=None, spans="attempts", otlp_endpoint=sys.argv[1])
provoke()
handle.stop(30)
"""


@pytest.mark.service("otlp")
def test_nor_does_otlp(otlp_receiver, request):
    tests = str(request.config.rootpath / "tests")
    command = [sys.executable, "-c", OTLP, otlp_receiver.endpoint("http"), tests]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    everything = json.dumps(
        [otlp_receiver.wait_for(otlp_receiver.spans), otlp_receiver.metrics(), otlp_receiver.logs()]
    )
    assert everything.count("canary.retry") > 10
    assert [canary for canary in CANARIES if canary in everything] == []
