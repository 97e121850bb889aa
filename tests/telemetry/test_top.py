"""`opero top`: what happened between two scrapes, as a table."""

import math
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

import opero as o
import opero_telemetry
from opero_telemetry import top
from opero_telemetry.scrape import Scrape, lines
from opero_telemetry.tables import Distribution, of_text


@pytest.fixture
def telemetry():
    handle = opero_telemetry.start(metrics_port=0, logs=None)
    yield handle
    handle.stop()


def page(calls, bad, *, fast=0, active=0, state="closed"):
    states = "\n".join(
        f'opero_circuit_state{{opero_call_name="f",opero_circuit_state="{s}"}} {int(s == state)}'
        for s in ("closed", "half_open", "open")
    )
    label = 'opero_call_name="f",error_type="",opero_outcome='
    return f"""# TYPE opero_call_duration_seconds histogram
opero_call_duration_seconds_bucket{{{label}"ok",le="0.1"}} {fast}
opero_call_duration_seconds_bucket{{{label}"ok",le="1"}} {calls - bad}
opero_call_duration_seconds_bucket{{{label}"ok",le="+Inf"}} {calls - bad}
opero_call_duration_seconds_sum{{{label}"ok"}} 1
opero_call_duration_seconds_bucket{{{label}"error",le="0.1"}} 0
opero_call_duration_seconds_bucket{{{label}"error",le="1"}} {bad}
opero_call_duration_seconds_bucket{{{label}"error",le="+Inf"}} {bad}
opero_call_duration_seconds_bucket{{{label}"cancelled",le="0.1"}} 0
opero_call_duration_seconds_bucket{{{label}"cancelled",le="1"}} {calls}
opero_call_duration_seconds_bucket{{{label}"cancelled",le="+Inf"}} {calls}
# TYPE opero_call_active gauge
opero_call_active{{opero_call_name="f"}} {active}
# TYPE opero_circuit_state gauge
{states}
"""


def test_a_row_is_what_happened_between_two_scrapes():
    before, after = of_text(page(10, 2)), of_text(page(30, 7, fast=0, active=3, state="open"))
    (row,) = lines(Scrape(before, 100.0), Scrape(after, 110.0))
    assert row.rate == pytest.approx((20 + 20) / 10)
    assert row.success == pytest.approx(1 - 5 / 20)
    assert (row.active, row.circuit) == (3, "open")
    assert row.p50 == pytest.approx(0.1 + 0.9 * 0.5)


def test_a_program_that_began_again_is_no_negative_rate():
    (row,) = lines(Scrape(of_text(page(1000, 0)), 0.0), Scrape(of_text(page(5, 0)), 1.0))
    assert row.rate == pytest.approx(10)


def test_an_idle_operation_has_no_percentiles_and_no_success():
    (row,) = lines(Scrape(of_text(page(5, 1)), 0.0), Scrape(of_text(page(5, 1)), 1.0))
    assert row.rate == 0
    assert all(math.isnan(value) for value in (row.success, row.attempts))
    assert (row.p50, row.p99) == (None, None)


@pytest.mark.parametrize(
    ("q", "expected"), [(0.0, 0.0), (0.5, 1.0), (0.75, 1.5), (1.0, 2.0)], ids=["least", "middle", "within", "most"]
)
def test_a_quantile_is_interpolated_within_its_bucket(q, expected):
    assert Distribution((1.0, 2.0), (2, 2, 0), 0.0).quantile(q) == pytest.approx(expected)


def test_a_quantile_beyond_the_last_bound_is_that_bound():
    assert Distribution((1.0,), (1, 99), 0.0).quantile(0.99) == 1.0


def test_it_shows_a_running_program(telemetry):
    f = o.opero(retries=0, circuit_breaker=True, name="seen.by.top")(lambda: None)
    over = threading.Event()

    def work():
        while not over.wait(0.01):
            f()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        done = subprocess.run(
            [sys.executable, "-m", "opero", "top", telemetry.url, "--count", "2", "--every", "0.3"],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    finally:
        over.set()
        thread.join()
    assert (done.returncode, done.stderr) == (0, "")
    lines = [line for line in done.stdout.splitlines() if line.split()[:1] == ["seen.by.top"]]
    assert len(lines) == 2
    assert "100.0 %" in lines[-1]
    assert "closed" in lines[-1]


def test_it_shows_this_process(capsys):
    f = o.opero(retries=0, name="mine\x1b[31m")(lambda: None)
    f()
    top.show(count=1, every=0.1)
    said = capsys.readouterr().out
    assert "mine�[31m" in said
    assert "this process" in said


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "127.0.0.1:9464", "file:///etc/passwd"])
def test_an_address_without_metrics_is_one_sentence(url, capsys):
    assert top.command([url]) == 2
    said = capsys.readouterr()
    assert (said.out, said.err.count("\n")) == ("", 1)


def test_an_answer_that_is_no_metrics_is_one_sentence(capsys):
    class Page(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"<html>{ not metrics")

        def log_message(self, *args): ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        assert top.command([f"http://127.0.0.1:{server.server_address[1]}"]) == 2
        server.shutdown()
    assert "no page of metrics" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["--every", "0"], ["--count", "0"], ["--every", "soon"]])
def test_wrong_arguments_are_told(arguments, capsys):
    with pytest.raises(SystemExit) as ended:
        top.command(arguments)
    assert ended.value.code == 2
    assert arguments[0] in capsys.readouterr().err


def test_sparklines_are_relative_to_the_highest():
    assert top.sparkline([0, 1, 2]) == "▁▅█"
    assert top.sparkline([0, 0]) == "▁▁"
