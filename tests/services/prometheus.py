"""A real Prometheus, on a free loopback port."""

import json
import time
import urllib.error
import urllib.parse
import urllib.request
from contextlib import contextmanager

import pytest

from services import process

CONFIG = """
global: {{scrape_interval: {interval}s}}
scrape_configs: [{{job_name: opero, static_configs: [{{targets: ["{target}"]}}]}}]
"""


class Prometheus:
    def __init__(self, url):
        self.url = url

    def wait_until_ready(self, seconds=30):
        """It listens before it has read its blocks."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            try:
                urllib.request.urlopen(f"{self.url}/-/ready", timeout=5).close()
            except urllib.error.URLError:
                time.sleep(0.05)
            else:
                return
        raise RuntimeError(f"{self.url} is not ready after {seconds} s")

    def query(self, expression):
        address = f"{self.url}/api/v1/query?{urllib.parse.urlencode({'query': expression})}"
        with urllib.request.urlopen(address, timeout=10) as answer:
            return json.load(answer)["data"]["result"]

    def wait_for(self, names, seconds=30):
        """Return the names that have no series after so long."""
        missing, until = set(names), time.monotonic() + seconds
        while missing and time.monotonic() < until:
            missing = {name for name in missing if not self._found(name)}
            time.sleep(0.2)
        return missing

    def values(self, metric, label):
        return {found["metric"][label] for found in self.query(f"group by ({label}) ({metric})")}

    def exemplars(self, expression, seconds=30):
        """Wait for exemplars of the last hour."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            span = {"query": expression, "start": time.time() - 3600, "end": time.time() + 60}
            address = f"{self.url}/api/v1/query_exemplars?{urllib.parse.urlencode(span)}"
            with urllib.request.urlopen(address, timeout=10) as answer:
                if found := json.load(answer)["data"]:
                    return found
            time.sleep(0.2)
        return []

    def _found(self, name):
        try:
            return self.query(name)
        except urllib.error.URLError:  # it is still starting
            return []


@contextmanager
def servers(folder):
    started = []

    def start(target, *more, interval=1, config=""):
        port = process.free_port()
        (folder / "prometheus.yml").write_text(CONFIG.format(target=target, interval=interval) + config)
        arguments = [
            f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
            "--enable-feature=exemplar-storage",
            "--log.level=error",
            *more,
        ]
        started.append(process.start(["prometheus", *arguments], port=port))
        server = Prometheus(f"http://127.0.0.1:{port}")
        server.wait_until_ready()
        return server

    yield start
    for server in started:
        process.stop(server)


@pytest.fixture
def prometheus(tmp_path):
    """Start a server that scrapes a target, `host:port`, once a second; `more` are arguments, `config` more YAML."""
    with servers(tmp_path) as start:
        yield start


@pytest.fixture(scope="module")
def module_prometheus(tmp_path_factory):
    """The same, for all tests of a module."""
    with servers(tmp_path_factory.mktemp("prometheus")) as start:
        yield start
