"""From a failing function to whoever is woken: real Prometheus, real Alertmanager, rules and routes as written."""

import json
import subprocess
import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

import opero_slo
import opero_telemetry
from opero import ConfigurationError, opero
from opero_slo import cli, openslo, routing
from own_operations import own_operations
from services.process import free_port, start, stop

__all__ = ["own_operations"]
SPECIFICATION = """
apiVersion: openslo/v1
kind: SLO
metadata: {name: pay, annotations: {opero.dev/runbook: "https://runbooks/pay"}}
spec:
  indicator:
    metadata: {name: answered}
    spec: {ratioMetric: {good: {metricSource: {type: Opero, spec: {operation: woken.pay}}},
                         total: {metricSource: {type: Opero, spec: {operation: woken.pay}}}}}
  budgetingMethod: Occurrences
  objectives: [{target: 0.99}]
---
apiVersion: openslo/v1
kind: SLO
metadata: {name: stock}
spec:
  indicator:
    metadata: {name: stocked}
    spec: {ratioMetric: {good: {metricSource: {type: Opero, spec: {operation: woken.stock}}},
                         total: {metricSource: {type: Opero, spec: {operation: woken.stock}}}}}
  budgetingMethod: Occurrences
  objectives: [{target: 0.99}]
  alertPolicies:
    - kind: AlertPolicy
      metadata: {name: stocks}
      spec:
        conditions:
          - kind: AlertCondition
            metadata: {name: burns}
            spec: {severity: page, condition: {kind: burnrate, op: gt, threshold: 2, lookbackWindow: 1h}}
        notificationTargets:
          - kind: AlertNotificationTarget
            metadata: {name: warehouse}
            spec: {target: webhook}
---
apiVersion: opero/v1
kind: SLA
metadata: {name: pay-contract}
spec: {slo: pay, customer: Example GmbH, tiers: [{below: 0.95, credit: 0.1}]}
"""


@pytest.fixture
def specification(tmp_path):
    path = tmp_path / "slo.yaml"
    path.write_text(SPECIFICATION)
    return path


@pytest.fixture
def inbox():
    """Where webhooks arrive: (receiver, alert) of each."""
    told = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            told.extend((body["receiver"], each) for each in body["alerts"])
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/", told
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def alertmanager(tmp_path):
    """Start one with a configuration."""
    started = []

    def run(config):
        (tmp_path / "alertmanager.yml").write_text(config)
        port = free_port()
        arguments = [
            f"--config.file={tmp_path / 'alertmanager.yml'}",
            f"--storage.path={tmp_path / 'alertmanager'}",
            f"--web.listen-address=127.0.0.1:{port}",
            "--cluster.listen-address=",
            "--log.level=error",
        ]
        started.append(start(["prometheus-alertmanager", *arguments], port=port))
        return f"127.0.0.1:{port}"

    yield run
    for server in started:
        stop(server)


def written(*arguments, out):
    assert cli.command([*map(str, arguments), "--out", str(out)]) == 0
    return out.read_text()


@pytest.mark.usefixtures("own_operations")
@pytest.mark.service("alertmanager")
def test_who_is_to_be_woken_is_told_once_and_why(specification, tmp_path, prometheus, alertmanager, inbox):
    url, told = inbox
    receivers = [f"--receiver={name}={url}" for name in ("page", "ticket", "warehouse", "rest")]
    rules = written("rules", specification, out=tmp_path / "slo.rules.yml")
    routes = written("routes", specification, *receivers, out=tmp_path / "routes.yml")
    (tmp_path / "slo.rules.yml").write_text(rules.replace("interval: 30s", "interval: 1s").replace("1m\n", "1s\n", 1))
    address = alertmanager(routes.replace("group_wait: 10s", "group_wait: 3s"))
    config = (
        f"rule_files: [{tmp_path / 'slo.rules.yml'}]\n"
        f"alerting: {{alertmanagers: [{{static_configs: [{{targets: ['{address}']}}]}}]}}\n"
    )
    objectives = opero_slo.start(str(specification), interval=1)
    handle = opero_telemetry.start(0, logs=None, spans="off")

    @opero(retries=0, name="woken.pay")
    def pay():
        raise ConnectionError

    stock = opero(retries=0, name="woken.stock")(pay.__wrapped__)
    try:
        prometheus(handle.url.removeprefix("http://"), config=config).wait_for(["opero_call_active"])
        wanted = {("page", "page-fast"), ("ticket", "contract"), ("warehouse", "burns"), ("page", "burns")}
        until = time.monotonic() + 90
        while time.monotonic() < until and not wanted <= heard(told):
            for function in (pay, stock):
                with suppress(ConnectionError):
                    function()
            time.sleep(0.05)
    finally:
        handle.stop()
        objectives.stop()
    assert heard(told) >= wanted
    tickets = {alert["labels"]["alert"] for receiver, alert in told if receiver == "ticket"}
    assert tickets == {"contract"}  # the others are held back while a page of the same objective goes on
    assert [receiver for receiver, _ in told if receiver == "rest"] == []
    page = next(alert for receiver, alert in told if (receiver, alert["labels"]["alert"]) == ("page", "page-fast"))
    assert page["annotations"]["runbook_url"] == "https://runbooks/pay"
    assert "the error budget burns" in page["annotations"]["summary"]


def heard(told):
    return {(receiver, alert["labels"]["alert"]) for receiver, alert in told}


@pytest.mark.service("alertmanager")
def test_amtool_accepts_the_routes_whatever_targets_are_called(tmp_path):
    slos = openslo.interpret(openslo.reader.parse(SPECIFICATION.replace("name: warehouse", 'name: "we.re-house"'))).slos
    (tmp_path / "routes.yml").write_text(routing.write(slos, {"we.re-house": "https://hook.example/"}))
    done = subprocess.run(
        ["amtool", "check-config", tmp_path / "routes.yml"], capture_output=True, text=True, timeout=30, check=False
    )
    assert (done.returncode, "4 receivers" in done.stdout) == (0, True), done.stdout + done.stderr
    routed = ["amtool", "config", "routes", "test", f"--config.file={tmp_path / 'routes.yml'}"]
    for labels, receivers in {
        ("severity=page",): "page",
        ("severity=ticket",): "ticket",
        ("severity=page", "targets=we.re-house"): "we.re-house,page",
        ("severity=page", "targets=other,we.re-house"): "we.re-house,page",
        ("severity=page", "targets=weXre-house"): "page",
        ("severity=else",): "rest",
    }.items():
        done = subprocess.run([*routed, *labels], capture_output=True, text=True, timeout=30, check=False)
        assert done.stdout.strip() == receivers


@pytest.mark.parametrize("given", ["nobody=https://hook.example", "page=ftp://hook.example", "page"])
def test_a_receiver_that_cannot_be_is_refused(specification, given, capsys):
    assert cli.command(["routes", str(specification), "--receiver", given]) == 2
    assert "receiver=" in capsys.readouterr().err
    with pytest.raises(ConfigurationError):
        routing.write([], {"nobody": "https://hook.example"})
