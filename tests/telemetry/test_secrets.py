"""Canaries: what a call is given, gives and raises leaves the process by no way out, whatever the primitive."""

import asyncio
import contextlib
import io
import json
import logging
import socket
import subprocess
import sys
import urllib.request

import pytest
import structlog
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import opero as o
import opero_slo
import opero_telemetry
from opero_telemetry.logs import Logs
from opero_telemetry.spans import Spans

CANARIES = ("argument-canary", "keyword-canary", "result-canary", "message-canary", "key-canary", "password-canary")

TEXTS = {".log", ".jsonl", ".json"}


class Denied(Exception):
    """Carries secrets in every place an exception has."""

    def __init__(self):
        super().__init__("message-canary", "https://user:password-canary@host/?token=key-canary")
        self.add_note("message-canary")


def primitives(redis, folder):
    """Return the settings of every primitive, with each kind of store; the wrong password is one more secret."""
    wrong = redis.replace("redis://", "redis://:password-canary@")
    return {
        "retry": {"retries": 2, "min_delay": 0},
        "retry_budget": {"retries": 2, "min_delay": 0, "retry_budget": o.RetryBudget(0.01, min_per_second=0, cap=1)},
        "timeout": {"timeout": 30},
        "attempt_timeout": {"attempt_timeout": 30},
        "circuit_breaker": {"circuit_breaker": o.CircuitBreaker(consecutive=1)},
        "circuit_breaker_store": {"circuit_breaker": o.CircuitBreaker(consecutive=1, store=redis, name="redis")},
        "circuit_breaker_lost": {"circuit_breaker": o.CircuitBreaker(consecutive=1, store=wrong, name="wrong")},
        "circuit_breaker_key": {"circuit_breaker": o.CircuitBreaker(consecutive=1, key=lambda *_, key, **__: key)},
        "rate_limit": {"rate_limit": o.RateLimit(1, per=3600, wait=False)},
        "rate_limit_key": {"rate_limit": o.RateLimit(1, per=3600, wait=False, key=lambda *_, key, **__: key)},
        "rate_limit_store": {"rate_limit": o.RateLimit(1, per=3600, wait=False, store=redis, name="redis")},
        "rate_limit_lost": {"rate_limit": o.RateLimit(1, per=3600, wait=False, store=wrong, name="wrong")},
        "bulkhead": {"bulkhead": 1},
        "fallback": {"fallback": "result-canary"},
        "fallback_fails": {"fallback": denied},
        "arg_fallback": {"arg_fallback": "first"},
        "chaos": {"order": None, "policies": [o.Chaos(error=Denied, enabled=True)]},
        "validate": {"validate": True},
        "cache": {"policies": [o.Cache(60, key=lambda *_, key, **__: key, tags=lambda *_, **__: ["key-canary"])]},
        "cache_disk": {"policies": [o.Cache(60, backend="disk", directory=folder, signing_key=b"key-canary" * 4)]},
        "cache_redis": {"policies": [o.Cache(60, backend="redis", url=redis, signing_key=b"key-canary" * 4)]},
        "cache_lost": {"policies": [o.Cache(60, backend="redis", url=wrong, signing_key=b"key-canary" * 4)]},
        "hedge": {"hedge": 0.001},
    }


def number(text):
    return int(text)


def denied(*_, **__):
    raise Denied


def provoke(redis, folder):
    """Make every primitive say what it can say of a call full of secrets, and return their names."""
    names = []
    for name, given in primitives(redis, folder).items():
        settings = {"retries": 0, **{key: value for key, value in given.items() if key not in {"policies", "order"}}}
        policies = given.get("policies", [])
        names.append(f"canary.{name}")
        asyncio.run(call_async(policies, settings)) if name == "hedge" else call(policies, settings, name)

    @o.opmap(mode="thread", errors="return", name="canary.map")
    def item(value):
        raise Denied

    item(["argument-canary", "key-canary"])
    o.opmap(mode="process", workers=2, errors="return", name="canary.map.process")(number)(["argument-canary"] * 20)
    return [*names, "canary.map", "canary.map.process"]


def call(policies, settings, name):
    @o.opero(*policies, **settings, name=f"canary.{name}")
    def f(first: list[str], *, key: str, fails: bool):
        if fails:
            raise Denied
        return "result-canary"

    for fails in (False, False, True, True):
        try:
            f(["argument-canary", "key-canary"], key="keyword-canary", fails=fails)
        except (Denied, o.OperoError):
            continue
    if "cache" in f.opero.operation.places:
        cache = f.opero.cache
        given = {"key": "keyword-canary", "fails": False}
        acts = (lambda: cache.invalidate(["argument-canary"], **given), lambda: cache.invalidate_tag("key-canary"))
        for act in (*acts, cache.clear):
            with contextlib.suppress(o.CacheError):  # the lost store
                act()
    with contextlib.suppress(o.OperoError, TypeError, ValueError, Denied):  # refused by what is validated
        f(["argument-canary"], key="keyword-canary", fails="message-canary")


async def call_async(policies, settings):
    @o.opero(*policies, **settings, name="canary.hedge")
    async def f(first, *, key, fails):
        await asyncio.sleep(0.01)
        if fails:
            raise Denied
        return "result-canary"

    for fails in (False, True):
        with contextlib.suppress(Denied):
            await f("argument-canary", key="keyword-canary", fails=fails)


@pytest.fixture
def agent():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_000_000)
        listening.bind(("127.0.0.1", 0))
        listening.settimeout(0.3)
        yield listening


def lines_of(agent):
    text = b""
    with contextlib.suppress(TimeoutError):
        while True:
            text += agent.recv(65536) + b"\n"
    return text.decode()


@pytest.mark.service("redis")
def test_no_way_out_tells_a_secret(tmp_path, tmp_path_factory, caplog, redis_server, agent):
    stream, debugging, exporter = io.StringIO(), io.StringIO(), InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    objectives = opero_slo.start(interval=1)
    handle = opero_telemetry.start(
        0,
        logs=None,
        spans="off",
        processes=str(tmp_path / "folder"),
        audit_file=str(tmp_path / "audit.log"),
        events_file=str(tmp_path / "events.jsonl"),
        dogstatsd=f"127.0.0.1:{agent.getsockname()[1]}",
    )
    every_call = dict.fromkeys(["opero.call.started", "opero.call.finished", "opero.attempt.finished"], "info")
    try:
        spans = Spans(provider, every_attempt=True).subscribe()
        with (
            caplog.at_level(logging.DEBUG),
            Logs(stream=stream, severities=every_call),
            Logs("logging"),
            Logs("structlog"),
            structlog.testing.capture_logs() as structured,
            o.debug(debugging),
        ):
            names = provoke(redis_server.url, tmp_path_factory.mktemp("cache"))
        spans.close()
        pages = [
            urllib.request.urlopen(f"{handle.url}{path}", timeout=10).read().decode()
            for path in ("/metrics", "/state", "/readyz", "/slo", "/slo?format=json")
        ]
        said = _first_events(handle)
    finally:
        handle.stop()
        objectives.stop()
    ways = {
        "lines": stream.getvalue(),
        "tree": debugging.getvalue(),
        "logging": caplog.text + repr([record.__dict__ for record in caplog.records]),
        "structlog": repr(structured),
        "console": said,
        "pages": "\n".join(pages),
        "statsd": lines_of(agent),
        "files": "\n".join(
            path.read_text() for path in tmp_path.rglob("*") if path.is_file() and path.suffix != ".rdb"
        ),
        "spans": "\n".join(span.to_json() for span in exporter.get_finished_spans()),
    }
    everything = "\n".join(ways.values())
    for name in names:
        assert everything.count(name) > 10  # it was told about, by many ways
    assert all("canary.retry" in told for told in ways.values()), [
        way for way in ways if "canary.retry" not in ways[way]
    ]
    assert "clear_cache" in (tmp_path / "audit.log").read_text()
    assert [(way, canary) for way, told in ways.items() for canary in CANARIES if canary in told] == []


def _first_events(handle):
    with urllib.request.urlopen(f"{handle.url}/stream", timeout=10) as answer:
        text = b""
        while b"event: state" not in text:
            text += answer.read1(65536)
    return text.decode()


OTLP = """
import sys, tempfile
sys.path[:0] = sys.argv[4:]
import opero_telemetry
from telemetry.test_secrets import provoke
if __name__ == "__main__":
    receiver = {"otlp_endpoint": sys.argv[1], "otlp_protocol": sys.argv[2]}
    handle = opero_telemetry.start(None, logs=None, spans="attempts", **receiver)
    with tempfile.TemporaryDirectory() as folder:
        provoke(sys.argv[3], folder)
    handle.stop(30)
"""


@pytest.mark.service("otlp")
@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_nor_does_otlp(otlp_receiver, redis_server, request, tmp_path, protocol):
    tests = str(request.config.rootpath / "tests")
    script = tmp_path / "script.py"
    script.write_text(OTLP)
    command = [sys.executable, script, otlp_receiver.endpoint(protocol), protocol, redis_server.url, tests]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    assert [canary for canary in CANARIES if canary in done.stderr + done.stdout] == []
    for read in (otlp_receiver.spans, otlp_receiver.metrics, otlp_receiver.logs):
        told = json.dumps(otlp_receiver.wait_for(read))
        assert told.count("canary.retry") > 5
        assert [canary for canary in CANARIES if canary in told] == []
