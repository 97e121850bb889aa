"""`/metrics` as a scraper sees it."""

import http.client
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request

import pytest
from prometheus_client.parser import text_string_to_metric_families

import opero as o
import opero.testing
import opero_telemetry


@pytest.fixture
def telemetry():
    handle = opero_telemetry.start(metrics_port=0, logs=None)
    yield handle
    handle.stop()


def get(url, **headers):
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=10) as answer:
        return answer.read().decode()


def samples(handle):
    families = text_string_to_metric_families(get(f"{handle.url}/metrics"))
    return {(s.name, *sorted(s.labels.items())): s.value for family in families for s in family.samples}


def value(handle, name, **labels):
    return samples(handle)[name, *sorted(labels.items())]


def test_a_call_is_seen(telemetry):
    failures = iter([OSError()])

    @o.opero(retries=1, min_delay=0, name="seen.here")
    def f():
        for failure in failures:
            raise failure

    events = {
        "opero_call_name": "seen.here",
        "opero_policy_kind": "retry",
        "opero_event_name": "opero.retry.scheduled",
    }
    assert value(telemetry, "opero_events_total", **events) == 0
    f()
    assert value(telemetry, "opero_events_total", **events) == 1
    ok = {"opero_call_name": "seen.here", "opero_outcome": "ok"}
    assert value(telemetry, "opero_call_attempts_sum", **ok) == 2
    assert value(telemetry, "opero_call_duration_seconds_count", error_type="", **ok) == 1
    assert value(telemetry, "opero_call_duration_seconds_bucket", error_type="", le="+Inf", **ok) == 1


def test_counts_are_exact_while_eight_threads_call_and_one_scrapes(telemetry):
    @o.opero(retries=0, name="eight")
    def f(): ...

    def work():
        for _ in range(300):
            f()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        samples(telemetry)
    found = value(
        telemetry, "opero_call_duration_seconds_count", opero_call_name="eight", opero_outcome="ok", error_type=""
    )
    assert found == 2400


def test_instruments_of_the_opentelemetry_api_are_on_the_same_page(telemetry):
    from opentelemetry import metrics

    metrics.get_meter("mine").create_counter("my.own", description="Mine.").add(3)
    assert value(telemetry, "my_own_total") == 3


@pytest.mark.service("prometheus")
def test_promtool_has_nothing_to_say_but_on_a_name_of_the_contract(telemetry):
    everything = {"retries": 1, "timeout": 5, "circuit_breaker": True, "rate_limit": 5, "bulkhead": 2, "fallback": 0}

    @o.opero(**everything, cache_ttl=5, name="lint")
    def f(): ...

    f()
    text = get(f"{telemetry.url}/metrics")
    done = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True, check=False)
    (said,) = done.stderr.splitlines()
    assert said.startswith("opero_cache_entry_count ")
    assert "suffix" in said
    assert done.stdout == ""


def test_openmetrics_is_served_to_who_asks_for_it(telemetry):
    text = get(f"{telemetry.url}/metrics", Accept="application/openmetrics-text; version=1.0.0")
    assert text.endswith("# EOF\n")


def test_health_and_unknown_pages(telemetry):
    assert get(f"{telemetry.url}/healthz") == "ok\n"
    with pytest.raises(urllib.error.HTTPError, match="404"):
        get(f"{telemetry.url}/secret")


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80"])
def test_a_foreign_host_name_is_refused(telemetry, host):
    with pytest.raises(urllib.error.HTTPError, match="403"):
        get(f"{telemetry.url}/metrics", Host=host)


def test_only_loopback_listens(telemetry):
    with pytest.raises(OSError), socket.create_connection((_outer_address(), telemetry.port), timeout=2):
        pass


def _outer_address():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))
        return probe.getsockname()[0]


def test_head_has_no_body(telemetry):
    connection = http.client.HTTPConnection("127.0.0.1", telemetry.port, timeout=10)
    connection.request("HEAD", "/metrics")
    answer = connection.getresponse()
    assert (answer.status, answer.read()) == (200, b"")
    connection.close()


def test_a_second_start_returns_what_runs_and_stop_frees_everything(telemetry):
    assert opero_telemetry.start(metrics_port=0) is telemetry
    port = telemetry.port
    telemetry.stop()
    telemetry.stop()
    again = opero_telemetry.start(metrics_port=port, logs=None)
    assert again is not telemetry
    assert get(f"{again.url}/healthz") == "ok\n"
    again.stop()


def test_a_port_in_use_is_one_clear_error():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(o.ConfigurationError, match=f"metrics_port={port}: .* free port"):
            opero_telemetry.start(metrics_port=port)


@pytest.mark.parametrize(
    "wrong",
    [{"metrics_port": "9464"}, {"metrics_port": -1}, {"logs": "xml"}, {"spans": "some"}, {"metrics_port": True}],
)
def test_wrong_settings_name_field_and_value(wrong):
    (field, given), *_ = wrong.items()
    with pytest.raises(o.ConfigurationError, match=f"{field}={given!r}"):
        opero_telemetry.start(**wrong)


SCRIPT = """
from opero import opero
@opero(name="by-environment")
def f(): ...
f()
print("went on", flush=True)
"""
SCRAPED = """
import sys, urllib.request
text = urllib.request.urlopen(f"http://127.0.0.1:{sys.argv[1]}/metrics", timeout=10).read().decode()
assert 'opero_call_name="by-environment"' in text
"""


def run(script, port):
    return subprocess.run(
        [sys.executable, "-c", script, str(port)],
        env={**os.environ, "OPERO_METRICS_PORT": str(port)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_environment_starts_it_without_code():
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    assert run(SCRIPT + SCRAPED, port).returncode == 0


def test_an_environment_that_cannot_be_met_warns_and_the_program_goes_on():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = run(SCRIPT, taken.getsockname()[1])
    assert "telemetry did not start: metrics_port" in done.stderr
    assert (done.returncode, done.stdout) == (0, "went on\n")


def test_an_operation_may_have_bounds_of_its_own():
    handle = opero_telemetry.start(metrics_port=0, logs=None, buckets={"own.buckets*": [0.02, 0.2]})
    try:
        o.opero(name="own.buckets.here")(lambda: 1)()
        bounds = {
            dict(key[1:])["le"]
            for key in samples(handle)
            if key[0] == "opero_call_duration_seconds_bucket" and "own.buckets.here" in str(key)
        }
        assert {"0.02", "0.2", "0.025"} <= bounds
    finally:
        handle.stop()


def test_levels_are_what_is_there_now(telemetry):
    inside, out = threading.Event(), threading.Event()

    @o.opero(o.Cache(60, max_bytes=10_000), o.Bulkhead(1, max_queue=1), retries=0, name="levels")
    def f(n):
        inside.set()
        out.wait(10)
        return "x" * 100

    threads = [threading.Thread(target=f, args=(n,)) for n in range(2)]
    threads[0].start()
    inside.wait(10)
    threads[1].start()

    def now(name):
        return value(telemetry, name, opero_call_name="levels", **POLICY if name != "opero_call_active" else {})

    try:
        until = time.monotonic() + 10
        while now("opero_bulkhead_queue_length") != 1 and time.monotonic() < until:
            time.sleep(0.01)
        levels = [now(n) for n in ("opero_call_active", "opero_bulkhead_usage", "opero_bulkhead_queue_length")]
        assert levels == [2, 1, 1]
    finally:
        out.set()
        for thread in threads:
            thread.join()
    levels = [now(n) for n in ("opero_call_active", "opero_bulkhead_usage", "opero_cache_entry_count")]
    assert levels == [0, 0, 2]
    assert now("opero_cache_usage_bytes") > 200


POLICY = {"opero_policy_name": "levels"}


def test_the_share_of_slow_calls_is_told(telemetry):
    @o.opero(o.CircuitBreaker(slow_call=1.0, min_calls=10), retries=0, name="slow")
    def f(seconds):
        clock.advance(seconds)

    with opero.testing.clock() as clock:
        for seconds in (2.0, 0.1, 0.1, 0.1):
            f(seconds)
        assert value(telemetry, "opero_circuit_slow_ratio", opero_call_name="slow", opero_policy_name="slow") == 0.25
