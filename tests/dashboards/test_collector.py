"""`telemetry/collector`: the files a user starts Prometheus and Grafana with fit one another, and Opero."""

import subprocess
from pathlib import Path

import pytest
import yaml

import opero_telemetry
from opero_dashboards import build
from services import process
from services.prometheus import Prometheus

COLLECTOR = Path(__file__).parents[2] / "telemetry/collector"
COMPOSE = yaml.safe_load((COLLECTOR / "compose.yml").read_text())
SERVICES = COMPOSE["services"]
PROVISIONED = yaml.safe_load((COLLECTOR / "grafana/dashboards/opero.yml").read_text())["providers"][0]
SOURCE = yaml.safe_load((COLLECTOR / "grafana/datasources/prometheus.yml").read_text())["datasources"][0]


def mounts(service):
    return {target: source for source, target, *_ in (text.split(":") for text in SERVICES[service]["volumes"])}


def test_nothing_listens_beyond_this_machine():
    ports = [port for service in SERVICES.values() for port in service.get("ports", ())]
    assert len(ports) == 2
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_every_mount_is_there():
    for service in ("prometheus", "grafana"):
        for source in mounts(service).values():
            assert (COLLECTOR / source).exists()


def test_grafana_finds_the_committed_dashboards_and_opens_the_overview():
    folder = COLLECTOR / mounts("grafana")[PROVISIONED["options"]["path"]]
    assert {path.name for path in folder.glob("*.json")} == build().keys()
    home = Path(SERVICES["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"])
    assert str(home.parent) == PROVISIONED["options"]["path"]
    assert (folder / home.name).exists()


def test_grafana_asks_the_prometheus_beside_it_at_the_interval_it_scrapes():
    scraping = yaml.safe_load((COLLECTOR / "prometheus.yml").read_text())
    assert SOURCE["type"] == "prometheus"
    assert SOURCE["url"] == "http://prometheus:9090"
    assert SOURCE["jsonData"]["timeInterval"] == scraping["global"]["scrape_interval"]


def test_the_image_of_the_demo_copies_what_the_wheel_is_made_of():
    kept = {line[1:] for line in (COLLECTOR / "Dockerfile.dockerignore").read_text().split("\n") if line[:1] == "!"}
    assert kept >= {"pyproject.toml", "README.md", "LICENSE", "opero", "telemetry/opero_telemetry"}
    assert all((COLLECTOR.parents[1] / name).exists() for name in kept)


@pytest.mark.service("prometheus")
def test_prometheus_takes_its_configuration_and_scrapes_what_start_serves(tmp_path):
    checked = subprocess.run(
        ["promtool", "check", "config", COLLECTOR / "prometheus.yml"], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stderr
    telemetry = opero_telemetry.start(metrics_port=0, logs=None)
    text = (COLLECTOR / "prometheus.yml").read_text()
    assert "127.0.0.1:9464" in text
    config = tmp_path / "prometheus.yml"
    config.write_text(text.replace("127.0.0.1:9464", telemetry.url.removeprefix("http://")).replace("5s", "1s"))
    port = process.free_port()
    arguments = [f"--config.file={config}", f"--storage.tsdb.path={tmp_path / 'data'}", "--log.level=error"]
    features = [flag for flag in SERVICES["prometheus"]["command"] if "enable-feature" in flag]
    server = process.start(["prometheus", *arguments, *features, f"--web.listen-address=127.0.0.1:{port}"], port=port)
    try:
        assert Prometheus(f"http://127.0.0.1:{port}").wait_for(['up{job="opero"} == 1']) == set()
    finally:
        process.stop(server)
        telemetry.stop()
