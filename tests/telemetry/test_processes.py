"""Several processes as one: nothing counted twice, nothing lost but the last second of one that was killed."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import pytest
from prometheus_client.parser import text_string_to_metric_families

import opero as o
from opero_telemetry.processes import DEAD, Processes
from services.process import free_port, start, stop

WORKER = """
import sys, time
from opero import opero
from opero_telemetry.processes import Processes

@opero(retries=0, name="shared")
def f(): ...

processes = Processes(sys.argv[1])
for _ in range(int(sys.argv[2])):
    f()
processes.write()
print("ready", flush=True)
if sys.stdin.readline():
    processes.close()
"""


@contextlib.contextmanager
def worker(folder, calls):
    process = subprocess.Popen(
        [sys.executable, "-c", WORKER, folder, str(calls)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "ready\n"
    yield process
    process.stdin.close()
    process.wait(30)
    process.stdout.close()


def calls(families, name="shared"):
    family = next(f for f in families if f.metric.name == "opero.call.duration")
    return sum(sum(v[:-1]) for key, v in family.samples.items() if key[0] == name)


@pytest.fixture
def here(tmp_path):
    processes = Processes(tmp_path / "folder")
    yield processes
    processes.close()


def test_the_living_and_the_dead_are_summed_and_files_of_the_dead_go_away(here):
    with worker(here.folder, 10) as alive, worker(here.folder, 100) as ended, worker(here.folder, 1000) as killed:
        assert calls(here.read()) == 1110
        killed.kill()
        ended.stdin.write("end\n")
        ended.stdin.flush()
        killed.wait(30)
        ended.wait(30)
        for _ in range(3):
            assert calls(here.read()) == 1110
        assert len([*here.folder.glob("*-*.json")]) == 2  # the reader and the living
        assert alive.poll() is None
    assert calls(here.read()) == 1110
    assert [*here.folder.glob("*-*.lock")] == [here.folder / f"{here.name}.lock"]


def test_dying_between_adding_and_removing_counts_nothing_twice(here):
    with worker(here.folder, 7) as process:
        process.kill()
        process.wait(30)
        (file,) = (path for path in here.folder.glob("*-*.json") if path.stem != here.name)
        content = file.read_text()
    assert calls(here.read()) == 7
    file.write_text(content)  # as if the fold had ended before its last step
    assert calls(here.read()) == 7
    assert not file.exists()


def test_calls_in_flight_die_with_their_process_and_gauges_show_the_largest(here):
    with worker(here.folder, 1) as process:
        process.kill()
        process.wait(30)
    here.read()
    types = {family["type"] for family in json.loads((here.folder / DEAD).read_text())["families"]}
    assert types == {"counter", "histogram"}


def test_only_a_folder_of_ones_own_is_used(tmp_path):
    open_to_all = tmp_path / "open"
    open_to_all.mkdir()
    open_to_all.chmod(0o777)
    with pytest.raises(o.ConfigurationError, match="nobody else may write"):
        Processes(open_to_all)


def test_what_it_writes_is_for_this_user_alone(here):
    assert {path.stat().st_mode & 0o077 for path in here.folder.iterdir()} == {0}


def test_a_forked_child_is_a_process_of_its_own(here):
    @o.opero(retries=0, name="forked")
    def f(): ...

    f()
    child = os.fork()
    if not child:
        for _ in range(5):
            f()
        time.sleep(30)
        os._exit(0)
    try:
        assert _eventually(lambda: calls(here.read(), "forked"), 6) == 6
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    assert calls(here.read(), "forked") == 6


APPLICATION = """
import os, time
import opero as o, opero_telemetry

opero_telemetry.start(int(os.environ["PORT"]), logs=None, spans="off", processes=os.environ["FOLDER"])

@o.opero(retries=1, min_delay=0, name="web.work")
def work(fails):
    if fails:
        raise OSError

def answer(path):
    if path == "/slow":
        time.sleep(0.2)
        return str(os.getpid()).encode()
    try:
        work(path == "/fail")
    except OSError:
        pass
    return str(os.getpid()).encode()

def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [answer(environ["PATH_INFO"])]

async def asgi(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": answer(scope["path"])})
"""
SERVERS = {
    "gunicorn": ["gunicorn", "-w", "4", "--threads", "4", "application:app", "-b", "127.0.0.1:{port}"],
    "uvicorn": ["uvicorn", "--workers", "4", "--lifespan", "off", "application:asgi", "--port", "{port}"],
}


@pytest.mark.skipif(sys.platform == "win32", reason="gunicorn needs POSIX")
@pytest.mark.parametrize("server", SERVERS)
def test_four_workers_under_load_one_killed(tmp_path, server):
    (tmp_path / "application.py").write_text(APPLICATION)
    web, port = free_port(), free_port()
    environment = {**os.environ, "PORT": str(port), "FOLDER": str(tmp_path / "folder")}
    command = [sys.executable, "-m", *(part.format(port=web) for part in SERVERS[server])]
    master = start(
        command, port=web, seconds=60, cwd=tmp_path, env=environment, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        with ThreadPoolExecutor(16) as pool:
            assert _eventually(lambda: len({*pool.map(lambda _: _get(web, "/slow"), range(32))}), 4, 60) == 4
            paths = ["/fail" if n % 4 == 0 else "/" for n in range(400)]
            pids = {int(pid) for pid in pool.map(lambda path: _get(web, path), paths)}
            assert _eventually(lambda: _finished(port), 400) == 400
            assert _eventually(lambda: _written(tmp_path / "folder"), 400) == 400  # by who is asked, too
            victim = min(pids)
            os.kill(victim, signal.SIGKILL)
            second = [*pool.map(lambda _: _get(web, "/"), range(400))]
        assert str(victim) not in second
        assert _eventually(lambda: _finished(port), 800) == 800
        assert _finished(port, outcome="error") == 100
    finally:
        stop(master)


def _get(port, path):
    for _ in range(50):  # a worker that was just killed drops what it had accepted
        address = f"http://127.0.0.1:{port}{path}"
        with contextlib.suppress(OSError), urllib.request.urlopen(address, timeout=20) as answer:
            return answer.read().decode()
        time.sleep(0.05)
    raise AssertionError(f"{path} was never answered")


def _finished(port, outcome=None):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=20) as answer:
        families = text_string_to_metric_families(answer.read().decode())
    return sum(
        sample.value
        for family in families
        for sample in family.samples
        if sample.name == "opero_call_duration_seconds_count"
        and sample.labels["opero_call_name"] == "web.work"
        and outcome in (None, sample.labels["opero_outcome"])
    )


def _written(folder):
    families = [each for path in folder.glob("*.json") for each in json.loads(path.read_text())["families"]]
    durations = [each["samples"] for each in families if each["name"] == "opero.call.duration"]
    return sum(sum(value[:-1]) for samples in durations for name, *_, value in samples if name == "web.work")


def _eventually(read, wanted, seconds=20):
    until, found = time.monotonic() + seconds, None
    while time.monotonic() < until:
        with contextlib.suppress(OSError):
            found = read()
            if found == wanted:
                break
        time.sleep(0.2)
    return found
