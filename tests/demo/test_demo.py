"""The demo as a user runs it."""

import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

import opero
import opero_telemetry.demo.operations as shop
from opero import call, parallel
from opero.primitives import (
    arg_fallback,
    bulkhead,
    circuit_breaker,
    fallback,
    rate_limit,
    retry,
    timeout,
)
from opero.settings import BUILDERS
from opero_telemetry.demo.script import SCRIPT, phase_at
from opero_telemetry.naming import prometheus_name

BUILT = (call, parallel, arg_fallback, bulkhead, circuit_breaker, fallback, rate_limit, retry, timeout)
COMMAND = [sys.executable, "-m", "opero", "demo", "--plain"]
ROW = re.compile(
    r"^(\w+) +([\d.]+) % of +(\d+) +([\d.]+) % of +(\d+) +([\d.]+) % +([\d.]+)x +([\d.]+) s$", re.MULTILINE
)


def children(pid):
    found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=False)
    return [int(line) for line in found.stdout.split()]


def gone(pids, seconds=10):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if not any(Path(f"/proc/{pid}").exists() for pid in pids):
            return True
        time.sleep(0.1)
    return False


def test_it_ends_well_and_compares():
    done = subprocess.run(
        [*COMMAND, "--seconds", "8", "--port", "0"], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    rows = {row[0]: [float(n) for n in row[1:]] for row in ROW.findall(done.stdout)}
    assert rows.keys() == {"price", "stock", "order", "total"}
    for name in ("price", "stock", "order"):
        plain, tried, ok, calls, answered, _, _ = rows[name]
        assert tried == calls  # the same moments
        assert plain + 10 < ok <= answered
    plain, _, ok, calls, answered, amplification, _ = rows["total"]
    assert plain + 15 < ok
    assert calls == sum(row[3] for name, row in rows.items() if name != "total")
    assert answered > 99
    assert amplification < 2
    assert re.search(r"parsed \d+ files of the standard library in processes", done.stdout)
    assert re.search(r"http://127\.0\.0\.1:\d+/metrics", done.stdout)


def test_the_demo_uses_every_primitive_there_is():
    functions = shop.resilient(shop.Shop(["x"], "x"), shop.AsyncShop(["x"], "x"), 45).values()
    assert {policy.place for f in functions for policy in f.opero.policies} == {"retry", *BUILDERS} - {"validate"}


def test_the_script_covers_the_whole_run_and_its_outage_is_ten_of_forty_five_seconds():
    assert sum(phase.share for phase in SCRIPT) == pytest.approx(1)
    assert phase_at(27, 45).outage
    assert phase_at(35.9, 45).outage
    assert not phase_at(36.1, 45).outage
    assert phase_at(1000, 45).name == "recovered"


def test_a_port_in_use_is_one_sentence_and_exit_2():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = subprocess.run([*COMMAND, "--port", port], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(rf"opero demo: metrics_port={port}: .* --port 0 picks one\n", done.stderr)


@pytest.mark.parametrize("wrong", [["--seconds", "1"], ["--seconds", "soon"], ["--port", "-1"], ["--speed"]])
def test_wrong_options_are_exit_2(wrong):
    done = subprocess.run([*COMMAND, *wrong], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert wrong[0] in done.stderr
    assert "Traceback" not in done.stderr


def interruptible():
    """Hear SIGINT also where the tests run in a shell's background, which ignores it and passes that on."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.fixture
def demo():
    command = [*COMMAND, "--seconds", "60", "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, preexec_fn=interruptible)  # noqa: PLW1509
    url = process.stdout.readline().split()[1]
    yield process, url
    process.kill()
    process.wait()
    process.stdout.close()


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_however_it_ends_nothing_is_left_running(demo, how):
    process, _ = demo
    started = children(process.pid)
    assert len(started) == 2
    grandchildren = [pid for child in started for pid in children(child)]
    process.send_signal(how)
    process.wait(60)
    assert gone([*started, *grandchildren])


def get(url):
    with urllib.request.urlopen(url, timeout=10) as answer:
        return answer.read().decode()


@pytest.mark.service("prometheus")
def test_a_real_prometheus_finds_every_series_that_was_declared(demo, prometheus):
    _, url = demo
    server = prometheus(url.removeprefix("http://").removesuffix("/metrics"))
    names = {prometheus_name(metric): metric for module in BUILT for metric in module.SIGNALS.metrics}
    suffixes = {name: f"{name}_count" if metric.type == "histogram" else name for name, metric in names.items()}
    missing = server.wait_for(suffixes.values())
    assert not missing
    said = {event.name for module in BUILT for event in module.SIGNALS.events}
    assert said <= server.values("opero_events_total", "opero_event_name")
    assert server.values("opero_circuit_state", "opero_circuit_state") == set(circuit_breaker.STATES)
    reasons = {reason for module in BUILT for reason in module.SIGNALS.reasons}
    assert reasons <= server.values("opero_rejections_total", "opero_rejection_reason")
    checked = subprocess.run(
        ["promtool", "check", "metrics"], input=get(url), capture_output=True, text=True, check=False
    )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")
    assert get(url.replace("/metrics", "/healthz")) == "ok\n"


def test_the_version_is_said():
    done = subprocess.run([sys.executable, "-m", "opero", "--version"], capture_output=True, text=True, check=False)
    assert done.stdout == f"opero {opero.__version__}\n"
