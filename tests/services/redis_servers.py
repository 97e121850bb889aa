"""Redis servers that can be killed, paused and brought back, and a cluster of them."""

import signal
import subprocess
import time

import pytest

from services import process


class RedisServer:
    """One server with an empty memory; `url` stays the same when it comes back."""

    def __init__(self, folder, *arguments):
        self.port = process.free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._command = ["redis-server", "--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(folder)]
        self._command += ["--save", "", "--appendonly", "no", "--loglevel", "warning", *arguments]
        self._process = None
        self.start()

    def start(self):
        self._process = process.start(self._command, port=self.port)

    def kill(self):
        """End it at once, as a crash would."""
        self._process.kill()
        self._process.wait()

    def pause(self):
        """Let it hang: connections stay open, nothing answers."""
        self._process.send_signal(signal.SIGSTOP)

    def resume(self):
        self._process.send_signal(signal.SIGCONT)

    def stop(self):
        self.resume()
        process.stop(self._process)

    def cli(self, *arguments):
        command = ["redis-cli", "-p", str(self.port), *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout.strip()


class RedisCluster:
    """Three primaries with a replica each."""

    FLAGS = ("--cluster-enabled", "yes", "--cluster-node-timeout", "1000", "--repl-diskless-sync-delay", "0")

    def __init__(self, folder):
        self.nodes = []
        for number in range(6):
            home = folder / str(number)
            home.mkdir()
            self.nodes.append(RedisServer(home, *self.FLAGS))
        addresses = [f"127.0.0.1:{node.port}" for node in self.nodes]
        self.nodes[0].cli("--cluster", "create", *addresses, "--cluster-replicas", "1", "--cluster-yes")
        self.url = self.nodes[0].url
        until = time.monotonic() + 20
        while any("cluster_state:ok" not in node.cli("cluster", "info") for node in self.nodes):
            assert time.monotonic() < until, "the cluster did not form"
            time.sleep(0.05)

    def stop(self):
        for node in self.nodes:
            node.stop()


@pytest.fixture
def redis_server(tmp_path):
    """A server of the test's own."""
    server = RedisServer(tmp_path)
    yield server
    server.stop()


@pytest.fixture(scope="module")
def redis_cluster(tmp_path_factory):
    cluster = RedisCluster(tmp_path_factory.mktemp("cluster"))
    yield cluster
    cluster.stop()
