"""The same map on a Dask scheduler of its own, with two worker processes."""

import asyncio
import gc
import operator
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import dask
import distributed
import pytest
import work

import opero as o
from opero import events, opmap

pytestmark = [
    pytest.mark.timeout(120),
    pytest.mark.filterwarnings("default"),  # those of a foreign library are not ours to fail on
]
HERE = Path(__file__).parent
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")])}


def free_port():
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return listening.getsockname()[1]


class Scheduler:
    def __init__(self, folder):
        self.folder = folder
        self.address = f"tcp://127.0.0.1:{free_port()}"
        port = self.address.rpartition(":")[2]
        self.process = self._start("scheduler", "--host", "127.0.0.1", "--port", port, "--no-dashboard", "--no-show")
        self.workers = []

    def worker(self):
        self.workers.append(self._start("worker", self.address, "--nthreads", "1", "--no-nanny", "--no-dashboard"))
        return self.workers[-1]

    def stop(self):
        for process in [*self.workers, self.process]:
            process.kill()
            process.wait()

    def _start(self, *arguments):
        dask = Path(sys.executable).parent / "dask"
        with (self.folder / f"{arguments[0]}.log").open("ab") as log:
            return subprocess.Popen([dask, *arguments], cwd=self.folder, env=ENVIRONMENT, stdout=log, stderr=log)


@pytest.fixture(scope="module")
def scheduler(tmp_path_factory):
    running = Scheduler(tmp_path_factory.mktemp("dask"))
    running.worker()
    running.worker()
    yield running
    running.stop()


@pytest.fixture(scope="module")
def client(scheduler):
    with distributed.Client(scheduler.address, timeout=60, set_as_default=False) as connected:
        connected.wait_for_workers(2, timeout=60)
        yield connected


def test_results_errors_and_numbers_are_those_of_any_other_mode(client):
    heard = []
    function = opmap(mode="dask", cluster=client, errors="return", retries=1, min_delay=0, name="dask.plain")(
        work.plain
    )
    with events.subscribe(heard.append, "opero.retry.*"), o.correlation_id("req-9"):
        found = function(range(200))
    assert [x for x in found if isinstance(x, int)] == [x * 10 for x in range(200) if x != 3]
    assert isinstance(found[3], KeyError)
    stats = function.opero.stats()
    assert {key: stats[key] for key in ("calls", "ok", "errors", "attempts", "retries")} == {
        "calls": 200,
        "ok": 199,
        "errors": 1,
        "attempts": 201,
        "retries": 1,
    }
    assert {e.correlation_id for e in heard} == {"req-9"}
    assert "opero.retry.exhausted" in {e.name for e in heard}
    sums = function.opero.operation.book.read()[0]
    assert (sums["opero.map.items", ("ok",)], sums["opero.map.items", ("error",)]) == (199, 1)
    assert function.last_run.items == 200


def test_what_a_task_that_takes_too_long_did_not_begin_comes_back(client, monkeypatch):
    monkeypatch.setattr("opero.workers.dask.LONG", 0.05)
    function = opmap(mode="dask", cluster=client, name="dask.turning")(work.napped)
    found = function([0.0] * 3_000 + [0.02] * 40)
    assert len(found) == 3_040
    assert len(set(found[3_000:])) == 2
    assert function.opero.stats()["calls"] == function.last_run.items == 3_040
    assert max(seconds for seconds, _ in function.last_run.slowest) < 1


def test_what_cannot_travel_is_the_error_of_its_item_only(client):
    function = opmap(mode="dask", cluster=client, errors="return", name="dask.fragile")(
        work.fragile.opero.operation.function
    )
    found = function([1, "lock", 2, "bomb", 3, work.Bomb(), 4])
    assert found[::2] == [1, 2, 3, 4]
    assert all(isinstance(e, Exception) for e in found[1::2])


def test_streams_and_reductions(client):
    function = opmap(mode="dask", cluster=client, name="dask.letter")(work.letter)
    assert function.map_reduce([*range(10)] * 20, operator.add) == "abcdefghij" * 20
    with function.stream(iter(lambda: 1, 2)) as stream:
        assert stream.request(5) == ["b"] * 5


def test_a_worker_killed_in_the_middle_costs_no_item(scheduler, client):
    function = opmap(mode="dask", cluster=client, chunk_size=5, name="dask.killed")(work.hang)
    stream = function.stream([0.02] * 150)
    found = stream.request(20)
    victim = scheduler.workers.pop(0)
    victim.send_signal(signal.SIGKILL)
    victim.wait()
    scheduler.worker()
    found += stream
    assert found == [0.02] * 150


def ending(error):
    raise error


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, GeneratorExit, asyncio.CancelledError])
def test_what_ends_a_program_ends_the_map_and_no_worker_of_the_cluster(client, error):
    function = opmap(mode="dask", cluster=client, errors="return", name=f"dask.{error.__name__}")(ending)
    before = set(client.run(os.getpid).values())
    with pytest.raises(error):
        function([error(3)])
    assert set(client.run(os.getpid).values()) == before


@pytest.mark.soak
def test_a_poisonous_item_is_lost_after_it_killed_its_workers_and_the_others_are_not():
    local = {"n_workers": 2, "threads_per_worker": 1, "host": "127.0.0.1", "dashboard_address": "127.0.0.1:0"}
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 0}),
        distributed.LocalCluster(**local) as cluster,
    ):
        fragile = work.fragile.opero.operation.function
        function = opmap(mode="dask", cluster=cluster, errors="return", chunk_size=3, name="dask.poison")(fragile)
        found = function([1, 2, 3, 4, "kill", 6, 7])
        function.pool.close()
    assert [x for x in found if x != found[4]] == [1, 2, 3, 4, 6, 7]
    assert isinstance(found[4], o.WorkerLost)


def test_without_the_library_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(o.ConfigurationError, match=r"pip install 'opero\[dask\]'"):
        opmap(mode="dask", name="dask.none")(work.plain)([1])


def left(x):
    return o.remaining()


def test_the_callers_deadline_goes_along_to_a_cluster(client):
    function = opmap(mode="dask", cluster=client, name="dask.deadline")(left)
    around = o.opero(timeout=1000.0, retries=0, name="dask.deadline.around")(lambda: function(range(4)))
    assert all(900 < seconds < 1000 for seconds in around())


def napping(x):
    time.sleep(x)
    return x


def test_an_attempt_that_takes_too_long_on_a_cluster_is_left(client):
    function = opmap(mode="dask", cluster=client, attempt_timeout=0.3, errors="return", name="dask.napping")(napping)
    found = function([0, 5, 0])
    assert found[::2] == [0, 0]
    assert isinstance(found[1], o.CallTimeout)


@pytest.mark.parametrize("errors", ["raise", "return"])
def test_a_map_on_a_cluster_ends_at_the_callers_deadline_and_leaves_nothing_running(client, errors):
    function = opmap(mode="dask", cluster=client, errors=errors, name="dask.cut")(napping)
    with pytest.raises(o.CallTimeout) as caught, o.Timeout(0.5):
        function([0.02] * 3000)
    assert "of 3000 items were done" in "".join(caught.value.__notes__)
    until = time.monotonic() + 20
    while (any(client.processing().values()) or client.futures) and time.monotonic() < until:
        gc.collect()  # errors of other tests may hold futures
        time.sleep(0.05)
    assert not any(client.processing().values())
    assert not client.futures
    sums = function.opero.operation.book.read()[0]
    assert sums["opero.map.active", ()] == sums["opero.map.concurrency.limit", ()] == 0
    assert sums["opero.map.items", ("ok",)] + sums["opero.map.items", ("error",)] == function.last_run.items
    with function.stream([0.0] * 5) as stream:
        assert stream.request(2) == [0.0, 0.0]
    assert function([0.0] * 5) == [0.0] * 5
