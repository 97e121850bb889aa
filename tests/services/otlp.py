"""A real OTLP receiver, over HTTP and gRPC, that tells what it received."""

import json
import time
import urllib.request
from pathlib import Path

import pytest

from services import process

RECEIVER = str(Path(__file__).parents[2] / ".venv/receiver/bin/ddapm-test-agent")


class Receiver:
    def __init__(self):
        self.http_port, self.grpc_port = process.free_port(), process.free_port()
        own = process.free_port()
        ports = ["--otlp-http-port", str(self.http_port), "--otlp-grpc-port", str(self.grpc_port), "-p", str(own)]
        command = [RECEIVER, "--host", "127.0.0.1", *ports]
        self._process = process.start(command, port=self.grpc_port, seconds=60, stderr=process.subprocess.DEVNULL)
        until = time.monotonic() + 30
        while not process.listens(self.http_port) and time.monotonic() < until:
            time.sleep(0.05)

    def endpoint(self, protocol):
        return f"http://127.0.0.1:{self.http_port if protocol == 'http' else self.grpc_port}"

    def clear(self):
        self._get("clear")

    def spans(self):
        return self._records("traces", "resource_spans", "scope_spans", "spans")

    def metrics(self):
        return self._records("metrics", "resource_metrics", "scope_metrics", "metrics")

    def logs(self):
        return self._records("logs", "resource_logs", "scope_logs", "log_records")

    def resources(self):
        return [each["resource"] for sent in self._get("metrics") for each in sent["resource_metrics"]]

    def wait_for(self, read, seconds=30):
        """Read until there is something."""
        until = time.monotonic() + seconds
        while not (found := read()) and time.monotonic() < until:
            time.sleep(0.1)
        return found

    def stop(self):
        process.stop(self._process)

    def _records(self, path, resources, scopes, records):
        return [
            record
            for sent in self._get(path)
            for resource in sent.get(resources, ())
            for scope in resource[scopes]
            for record in scope.get(records, ())
        ]

    def _get(self, path):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.http_port}/test/session/{path}", timeout=20) as answer:
            text = answer.read()
        return json.loads(text) if path != "clear" else None


def attributes(record):
    """Return OTLP attributes as a plain dict."""
    return {each["key"]: next(iter(each["value"].values())) for each in record.get("attributes", ())}


@pytest.fixture(scope="session")
def otlp_receiver_process():
    receiver = Receiver()
    yield receiver
    receiver.stop()


@pytest.fixture
def otlp_receiver(request):
    """The receiver, with nothing in it."""
    receiver = request.getfixturevalue("otlp_receiver_process")
    receiver.clear()
    return receiver
