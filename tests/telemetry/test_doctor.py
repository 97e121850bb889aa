"""`opero doctor` says what is wrong, and the way out."""

import re
import socket

import pytest

import opero as o
import opero_telemetry
from opero_telemetry.doctor import command


@pytest.fixture(autouse=True)
def _quiet(monkeypatch):
    for name in ("OPERO_METRICS_PORT", "OTEL_EXPORTER_OTLP_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)


def told(capsys, *arguments):
    status = command(arguments)
    return status, capsys.readouterr().out


def test_a_healthy_machine_has_nothing_wrong(capsys):
    status, said = told(capsys)
    assert (status, "✗" in said) == (0, False), said
    assert f"opero {o.__version__}" in said
    assert re.search(r"✓ extra telemetry: .*opentelemetry-sdk 1\.45", said)


@pytest.mark.parametrize("port", ["http", "70000", "-1"])
def test_a_port_that_is_none_is_wrong(port, capsys, monkeypatch):
    monkeypatch.setenv("OPERO_METRICS_PORT", port)
    status, said = told(capsys)
    assert status == 1
    assert f"✗ OPERO_METRICS_PORT={port}" in said
    assert "  → a number" in said


def test_a_port_in_use_and_a_free_one_are_told_apart(capsys, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        monkeypatch.setenv("OPERO_METRICS_PORT", str(port))
        assert f"{port}: somebody listens" in told(capsys)[1]
    assert f"{port}: free" in told(capsys)[1]


def test_an_exporter_nobody_listens_to_is_wrong(capsys, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as collector:
        port = collector.getsockname()[1]
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", f"http://127.0.0.1:{port}/v1/traces")
        assert told(capsys)[0] == 0
    status, said = told(capsys)
    assert status == 1
    assert f"✗ OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: nobody listens at 127.0.0.1:{port}" in said


def test_a_plugin_that_does_not_load_is_named(capsys, monkeypatch, tmp_path):
    info = tmp_path / "broken_plugin-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: broken-plugin\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[opero.primitives]\nlost = nowhere_at_all:Policy\n")
    monkeypatch.syspath_prepend(tmp_path)
    status, said = told(capsys)
    assert status == 1
    assert "✗ plugin lost (primitives) of broken-plugin: No module named 'nowhere_at_all'" in said
    assert "  → pip uninstall broken-plugin" in said


def test_a_running_program_is_looked_at(capsys):
    handle = opero_telemetry.start(metrics_port=0, logs=None)
    f = o.opero(retries=0, name="seen")(lambda: None)
    f()
    try:
        status, said = told(capsys, "--metrics", handle.url)
    finally:
        handle.stop()
    assert status == 0
    assert re.search(r"✓ http://127\.0\.0\.1:\d+: \d+ operations?, \d+ series", said)
    status, said = told(capsys, "--metrics", handle.url)
    assert status == 1
    assert "does not answer" in said


@pytest.mark.service("redis")
def test_redis_and_its_clock_are_looked_at(redis_server, capsys):
    status, said = told(capsys, "--redis", redis_server.url)
    assert status == 0
    assert re.search(r"✓ Redis \d+\.\d+\.\d+ at 127\.0\.0\.1:\d+ answers in", said)
    redis_server.kill()
    status, said = told(capsys, "--redis", redis_server.url.replace("//", "//user:s3cret@"))
    assert (status, "s3cret" in said) == (1, False)
    assert "✗ Redis at 127.0.0.1" in said
    assert "  → calls go on without it" in said
