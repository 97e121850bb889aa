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
    """Three primaries with a replica each, which takes over from one that is silent for `patience` seconds."""

    def __init__(self, folder, *, patience=10):  # a busy machine is silent, too
        flags = ["--cluster-enabled", "yes", "--cluster-node-timeout", str(patience * 1000)]
        flags += ["--repl-diskless-sync-delay", "0"]
        self.nodes = []
        for number in range(6):
            home = folder / str(number)
            home.mkdir()
            self.nodes.append(node(home, *flags))
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


def node(home, *flags):
    """Start a node of a cluster. Its bus is on a port 10000 further, which somebody else may have: then on others."""
    for _ in range(5):
        try:
            return RedisServer(home, *flags)
        except RuntimeError:
            continue
    return RedisServer(home, *flags)


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


class RedisSentinels:
    """A primary, a replica, and three Sentinels that watch them."""

    def __init__(self, folder):
        self._folder = folder
        self.primary = self._server("primary")
        self.replica = self._server("replica", "--replicaof", "127.0.0.1", str(self.primary.port))
        self.sentinels = [self._sentinel(number) for number in range(3)]
        places = ",".join(f"127.0.0.1:{port}" for port, _ in self.sentinels)
        self.url = f"redis+sentinel://{places}/opero/0"
        try:
            self.wait_for(self._follows, "the replica to follow")
            self.wait_for(self._agree, "the Sentinels to know each other and the replica")
        except BaseException:
            self.stop()
            raise

    def wait_for(self, holds, what):
        until = time.monotonic() + 30
        while not holds():
            assert time.monotonic() < until, f"waited for {what}"
            time.sleep(0.05)

    def stop(self):
        for _, server in self.sentinels:
            process.stop(server)
        for server in (self.primary, self.replica):
            server.stop()

    def _server(self, name, *arguments):
        home = self._folder / name
        home.mkdir()
        return RedisServer(home, "--repl-diskless-sync-delay", "0", *arguments)

    def _sentinel(self, number):
        port, config = process.free_port(), self._folder / f"sentinel{number}.conf"
        config.write_text(
            f"port {port}\nbind 127.0.0.1\ndir {self._folder}\n"
            f"sentinel monitor opero 127.0.0.1 {self.primary.port} 2\n"
            "sentinel down-after-milliseconds opero 500\nsentinel failover-timeout opero 3000\n"
        )
        return port, process.start(["redis-server", str(config), "--sentinel", "--loglevel", "warning"], port=port)

    def _follows(self):
        return "master_link_status:up" in self.replica.cli("info", "replication")

    def _agree(self):
        for port, _ in self.sentinels:
            command = ["redis-cli", "-p", str(port), "sentinel", "master", "opero"]
            told = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout
            lines = told.split("\n")  # a value may be empty, before a Sentinel has asked the others
            facts = dict(zip(lines[::2], lines[1::2], strict=False))
            if (facts.get("num-slaves"), facts.get("num-other-sentinels")) != ("1", "2"):
                return False
        return True


@pytest.fixture
def redis_sentinels(tmp_path):
    """A group of the test's own."""
    group = RedisSentinels(tmp_path)
    yield group
    group.stop()
