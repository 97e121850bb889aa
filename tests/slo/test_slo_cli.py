"""`opero slo` as it is typed, and `/slo` as it is asked for."""

import json
import re
import subprocess
import sys
import textwrap
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

import opero_slo
from opero_slo import cli, openslo, reader
from slo.counters import DAY

ROOT = Path(__file__).parents[2]
SPEC = ROOT / "slo/specs/shop.yaml"
NOW = 1_795_000_000.0


def run(*arguments, **more):
    command = [sys.executable, "-m", "opero", "slo", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, **more)


@pytest.fixture
def events(tmp_path):
    """Ten days of an event a minute: the fifth day is bad for three hours, one call in fifty is slow."""
    lines = []
    for minute in range(10 * 1440):
        bad = 5 * 1440 <= minute < 5 * 1440 + 180
        duration = 0.5 if minute % 50 == 0 else 0.1
        event = {"at": NOW - 10 * DAY + 60 * minute, "operation": "shop.pay", "duration": duration}
        lines.append(json.dumps({**event, "outcome": "error" if bad and minute % 3 else "ok"}))
    lines.append(
        json.dumps({"at": "2026-11-18T10:00:00+00:00", "operation": "shop.catalogue", "cache": "hit", "count": 9})
    )
    lines.append(json.dumps({"timestamp": NOW - 60, "event": "opero.fallback.used", "operation": "shop.pay"}))
    file = tmp_path / "events.jsonl"
    file.write_text("\n".join(lines))
    return file


def test_a_report_of_a_file_of_events_is_the_closed_form(events, tmp_path):
    out = tmp_path / "report.json"
    done = run("report", SPEC, "--events", events, "--at", NOW, "--out", out)
    assert (done.returncode, done.stderr) == (1, "")
    report = json.loads(out.read_text())
    found = {objective["name"]: objective for objective in report["objectives"]}
    checkout = found["checkout-availability"]
    assert (checkout["total"], checkout["bad"]) == (14400, 120)
    assert checkout["sli"] == 14280 / 14400
    assert checkout["error_budget"]["remaining"] == pytest.approx(1 - 120 / 14.4)
    assert (checkout["state"], report["missed"]) == ("missed", True)
    assert sum(day["bad"] for day in checkout["days"]) == 120
    assert {fired["name"] for fired in checkout["alerts_fired"]} >= {"page-fast", "page-slow"}
    assert found["checkout-latency"]["latency_threshold"] == 0.3
    assert found["catalogue-cache"]["state"] == "met"
    (contract,) = report["contracts"]
    assert (contract["months"][-1]["credit"], contract["months"][-1]["amount"]) == (0.1, 400.0)


@pytest.mark.parametrize("kind", ["text", "md", "html", "json"])
def test_every_format_says_the_same(events, kind):
    done = run("report", SPEC, "--events", events, "--at", NOW, "--format", kind)
    assert done.returncode == 1
    for said in ("Checkout answers within 300 ms", "Example GmbH"):
        assert said in done.stdout, said
    if kind != "json":
        assert "99.16 %" in done.stdout


def test_a_page_loads_nothing_and_escapes_every_name(events, tmp_path):
    spec = tmp_path / "hostile.yaml"
    hostile = "<script>alert(1)</script>"
    spec.write_text(SPEC.read_text().replace("Checkout answers\n", f'"{hostile}"\n').replace("shop.pay", "'<b>*'"))
    events.write_text(events.read_text().replace("shop.pay", "<b>pay"))
    page = run("report", spec, "--events", events, "--at", NOW, "--format", "html").stdout
    assert hostile not in page
    assert "<b>pay" not in page
    assert "&lt;script&gt;" in page
    assert re.findall(r'(?:src|href|url)\s*[=(]\s*["\']?(?!#)', page) == []
    assert "default-src 'none'" in page


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "line 2:"),
        ("[]", "line 2:"),
        ('{"operation": "a", "outcome": "ok"}', "at takes Unix seconds"),
        ('{"at": 1, "operation": 5, "outcome": "ok"}', "operation takes a text"),
        ('{"at": 1, "operation": "a"}', "outcome"),
        ('{"at": 1, "operation": "a", "outcome": "ok", "count": -1}', "count a number"),
    ],
    ids=map(str, range(6)),
)
def test_a_wrong_line_is_named(tmp_path, line, said):
    file = tmp_path / "events.jsonl"
    file.write_text(f'{{"at": 1, "operation": "a", "outcome": "ok"}}\n{line}\n')
    done = run("report", SPEC, "--events", file)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_validate_says_where(tmp_path):
    assert run("validate", SPEC).stdout == "6 valid: 1 Service, 4 SLO, 1 SLA\n"
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(SPEC.read_text().replace("target: 0.999}", "target: 99.9}"))
    done = run("validate", wrong)
    assert (done.returncode, done.stdout) == (1, "")
    assert re.search(r"wrong\.yaml:26: spec\.objectives\[0\]\.target: takes a number from 0", done.stderr)


NEVER = """
  alertPolicies:
    - kind: AlertPolicy
      metadata: {name: never}
      spec:
        alertWhenBreaching: true
        conditions:
          - kind: AlertCondition
            metadata: {name: never}
            spec: {severity: page, condition: {kind: burnrate, threshold: 1000, lookbackWindow: 1h, alertAfter: 5m}}
        notificationTargets: [{targetRef: %s}]
  objectives: [{target: 0.999}]"""


def test_an_alert_that_can_never_fire_is_refused(tmp_path):
    spec = tmp_path / "never.yaml"
    target = "{kind: AlertNotificationTarget, metadata: {name: a}, spec: {target: mail}}"
    policy = NEVER.replace("{targetRef: %s}", target)
    spec.write_text(SPEC.read_text().replace("\n  objectives: [{target: 0.999}]", policy))
    for done in (run("validate", spec), run("rules", spec)):
        assert done.returncode == 1
        assert "alert never refused: a burn rate above 1000 cannot be" in done.stderr
    spec.write_text(SPEC.read_text().replace("\n  objectives: [{target: 0.999}]", NEVER % "elsewhere"))
    done = run("validate", spec)
    assert done.returncode == 0
    assert "warning: " in done.stderr
    assert run("validate", "--strict", spec).returncode == 1


def test_runbooks_are_written_once(tmp_path):
    done = run("runbooks", SPEC, "--out", tmp_path)
    assert done.returncode == 0
    page = tmp_path / "checkout-availability.md"
    assert "burn rate above 14.4 over 1h/5m" in page.read_text()
    page.write_text("ours")
    assert "is there, and kept" in run("runbooks", SPEC, "--out", tmp_path).stdout
    assert page.read_text() == "ours"


@pytest.mark.parametrize(
    "arguments",
    [
        ["report", SPEC, "--events", "/nowhere"],
        ["report", SPEC, "--prometheus", "http://127.0.0.1:1"],
        ["report", "--live", "http://127.0.0.1:1"],
        ["report", "--prometheus", "http://127.0.0.1:1"],
        ["report", SPEC, "--events", SPEC, "--at", "noon"],
        ["init", "--live", "ftp://x"],
        ["init", "--live", "http://127.0.0.1:1", "--target", "2"],
        ["rules"],
        [],
    ],
    ids=map(str, range(9)),
)
def test_a_wrong_request_is_a_sentence_and_exit_2(arguments):
    done = run(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr
    assert "Traceback" not in done.stderr


APP = """
import sys
import opero_telemetry
from opero import SLO, opero

@opero(slo=SLO(0.9, latency=0.25), retries=0, name="shop.pay")
def pay(fail):
    if fail:
        raise ValueError

handle = opero_telemetry.start(metrics_port=0, logs=None)
for number in range(100):
    try:
        pay(number < 5)
    except ValueError:
        pass
print(handle.url, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def app():
    """A process of a user's, with telemetry and an objective."""
    process = subprocess.Popen([sys.executable, "-c", APP], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    yield process.stdout.readline().strip()
    process.communicate("", timeout=20)


def test_a_running_process_reports_on_itself(app, tmp_path):
    done = run("report", "--live", app, "--format", "json")
    assert done.returncode == 0, done.stderr
    (objective,) = json.loads(done.stdout)["objectives"]
    assert (objective["name"], objective["good"], objective["total"]) == ("shop-pay", 95, 100)
    with urllib.request.urlopen(f"{app}/slo", timeout=10) as page:
        assert page.headers["Content-Type"] == "text/html; charset=utf-8"
        assert "shop.pay answers within 250ms" in page.read().decode()
    assert "95.0 %" in run("report", "--live", app).stdout
    spec = tmp_path / "slo.yaml"
    done = run("init", "--live", app, "--out", spec)
    assert (done.returncode, done.stderr) == (0, "")
    (slo,) = openslo.load([spec]).slos
    assert (slo.operation, slo.latency) == ("shop.pay", 0.1)
    assert run("validate", spec).stdout == "1 valid: 1 SLO\n"
    assert run("report", spec, "--live", app).returncode == 0
    assert "a process that judges catalogue-cache, checkout-availability" in run("report", SPEC, "--live", app).stderr
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(f"{app}/nothing", timeout=10)


def test_the_environment_starts_objectives_without_code(tmp_path):
    code = textwrap.dedent("""
        from opero import opero
        function = opero(retries=0, name="shop.pay")(abs)
        function(1)
        import opero_slo
        slos = {status.slo.name: status for status in opero_slo.start().statuses()}
        print(sorted(slos), slos["checkout-availability"].counts.total)
        opero_slo.start().stop()
    """)
    database = tmp_path / "slo.db"
    environment = {"OPERO_SLO": str(SPEC), "OPERO_SLO_HISTORY": str(database), "PATH": "/usr/bin:/bin"}
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.stderr == ""
        names = "['catalogue-cache', 'checkout-availability', 'checkout-latency', 'prices-fresh']"
        assert done.stdout.startswith(names)
    assert database.exists()


def test_a_page_that_fails_does_not_take_the_server_with_it(monkeypatch):
    import opero_slo
    from opero_telemetry.server import Server

    def broken(*_, **__):
        raise RuntimeError("secret")

    monkeypatch.setattr(opero_slo, "start", broken)
    server = Server("127.0.0.1", 0)
    try:
        for _ in range(2):
            with pytest.raises(urllib.error.HTTPError) as caught:
                urllib.request.urlopen(f"{server.url}/slo", timeout=10)
            with caught.value as answer:
                assert answer.code == 500
                assert b"secret" not in answer.read()
    finally:
        server.stop()


def test_the_example_specification_is_read_and_written_back():
    documents = reader.read([SPEC])
    assert [d.value for d in reader.parse(openslo.write(documents))] == [d.value for d in documents]
    assert cli.command(["validate", str(SPEC)]) == 0
    assert time.time() > NOW - 1e9


def test_a_second_start_that_asks_for_more_says_that_it_did_nothing():
    handle = opero_slo.start()
    try:
        assert opero_slo.start() is handle
        with pytest.warns(RuntimeWarning, match="it runs already"):
            assert opero_slo.start(rules=[opero_slo.Rule(opero_slo.Log())]) is handle
    finally:
        handle.stop()
