"""Faults: every item ends in exactly one result or one error that names it, within the bound."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import work

import opero as o
from opero import opmap
from opero.workers import pool, process
from opero.workers.process import Process

HERE = Path(__file__).parent
BOUND = pytest.mark.timeout(30)
pytestmark = BOUND


@pytest.fixture(params=["fork", "forkserver"])
def started(request, monkeypatch):
    monkeypatch.setattr("opero.workers.pool.start_method", lambda: request.param)


BOUND = 10.0  # seconds after which the documentation says every outcome is there, also on a busy machine


def outcome(function, items):
    began = time.monotonic()
    found = function(items)
    assert time.monotonic() - began < BOUND
    assert len(found) == len(items)
    return found


@pytest.mark.usefixtures("started")
@pytest.mark.parametrize(
    ("how", "error", "says"),
    [
        ("kill", o.WorkerLost, "SIGKILL"),
        ("segfault", o.WorkerLost, "SIGSEGV"),
        ("exit", o.WorkerLost, "exit code 7"),
        ("memory", MemoryError, ""),
        ("raise", (RuntimeError, work.Unpicklable), ""),  # distributed teaches pickle to take it
        ("bomb", ValueError, "cannot be read"),
        ("lock", TypeError, "cannot pickle"),
        ("recursion", RecursionError, ""),
    ],
)
def test_a_fault_costs_its_own_item_only(how, error, says):
    items = [*range(50), how, *range(50)]
    found = outcome(work.fragile, items)
    assert [x for x in found if isinstance(x, int)] == [*range(50), *range(50)]
    assert isinstance(found[50], error)
    assert says in str(found[50])


def test_an_error_tells_where_in_its_worker_it_was_raised():
    (error,) = opmap(mode="process", workers=1, errors="return", name="faults.where")(work.plain)([3])
    assert isinstance(error, KeyError)
    (note,) = [note for note in error.__notes__ if note.startswith("in process")]
    assert "work.py" in note
    assert "raise KeyError(x)" in note
    assert "opero/workers" not in note


@pytest.mark.parametrize("how", ["kill", "exit"])
def test_many_faults_in_a_row_end_with_all_outcomes(how):
    items = [how, 1, how, how, 2, 3, how] * 3
    found = outcome(work.fragile, items)
    assert [isinstance(x, o.WorkerLost) for x in found] == [x == how for x in items]


def test_with_retry_on_death_a_killed_item_runs_again_and_a_poisonous_one_is_lost_after_three_tries(tmp_path):
    found = outcome(work.unlucky, [(tmp_path, n) for n in range(20)])
    assert [n for n, x in enumerate(found) if isinstance(x, o.WorkerLost)] == [13]
    assert "3 times" in str(found[13])
    assert [x for x in found if not isinstance(x, o.WorkerLost)] == [n for n in range(20) if n != 13]
    assert len(list(tmp_path.glob("13-*"))) == 3
    assert len(list(tmp_path.glob("7-*"))) == 2
    assert all(len(list(tmp_path.glob(f"{n}-*"))) == 1 for n in (6, 8, 12, 14))  # neighbours ran once


@pytest.mark.parametrize("mode", ["thread", "process"])
def test_an_item_that_hangs_is_ended_at_its_timeout(mode):
    function = opmap(mode=mode, workers=2, item_timeout=0.5, errors="return", name=f"faults.hang.{mode}")(work.hang)
    began = time.monotonic()
    found = function([0, 100, 0, 0])
    assert time.monotonic() - began < 0.5 + BOUND
    assert [found[0], *found[2:]] == [0, 0, 0]
    assert isinstance(found[1], o.CallTimeout)
    assert found[1].scope == "item_timeout"


def test_workers_that_cannot_start_lose_the_items_and_say_why():
    function = opmap(mode="process", workers=1, errors="return", worker_init=work.fail, name="faults.init")(work.hang)
    found = outcome(function, [0, 0])
    assert [type(x) for x in found] == [o.WorkerLost, o.WorkerLost]
    assert "OSError: no licence" in str(found[0])


@pytest.mark.parametrize("mode", ["thread", "process"])
def test_results_before_an_input_that_raises_are_given_before_its_error(mode):
    def items():
        yield from range(5)
        raise OSError("input")

    stream = opmap(mode=mode, workers=2, name=f"faults.input.{mode}")(work.hang).stream(n * 0.01 for n in items())
    assert stream.request(5) == [0, 0.01, 0.02, 0.03, 0.04]
    with pytest.raises(OSError, match="input"):
        next(stream)


def test_nested_maps_end():
    assert work.outer(range(4)) == [sum(n * k for k in range(5)) for n in range(4)]


def test_a_consumer_that_walks_away_leaves_no_worker_busy():
    for _ in range(3):
        stream = work.slow.stream([0, 0, 60, 60, 60])
        next(stream)
        del stream
    assert work.slow([0, 0]) == [0, 0]
    work.slow.pool.close()


# ---- whole programs


def program(name, *arguments):
    return subprocess.Popen(
        [sys.executable, HERE / "programs.py", name, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")])},
    )


def gone(pids, within=BOUND):
    """Whether these processes end in time."""
    until = time.monotonic() + within
    while time.monotonic() < until:
        if not any(alive(pid) for pid in pids):
            return True
        time.sleep(0.05)
    return False


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def started_workers(running, count=2):
    return [int(running.stdout.readline()) for _ in range(count)]


@pytest.mark.parametrize("method", ["fork", "forkserver"])
def test_ctrl_c_ends_the_map_and_its_workers(method):
    running = program("hang", method)
    pids = started_workers(running)
    os.killpg(running.pid, signal.SIGINT)
    _, errors = running.communicate(timeout=15)
    assert "KeyboardInterrupt" in errors
    assert "Traceback" in errors
    assert errors.count("KeyboardInterrupt") == 1  # of the parent, and of no worker
    assert gone(pids)


@pytest.mark.parametrize("method", ["fork", "forkserver"])
def test_workers_end_when_their_parent_is_killed(method):
    running = program("hang", method)
    pids = started_workers(running)
    running.kill()
    running.communicate(timeout=15)
    assert gone(pids)


@pytest.mark.parametrize("name", ["kept", "walked_away", "left_open", "half_started", "in_a_child", "in_threads"])
def test_a_program_with_warm_or_busy_workers_ends_by_itself(name):
    running = program(name)
    output, errors = running.communicate(timeout=20)
    assert (running.returncode, errors) == (0, "")
    assert gone([int(pid) for pid in output.split()])


def test_a_worker_that_starts_while_the_program_ends_is_ended(monkeypatch):
    function = opmap(mode="process", workers=1, name="faults.late")(work.plain)

    def meanwhile(*given):
        started = Process(*given)
        monkeypatch.setattr(process, "_over", os.getpid())  # as `_end_all` in another thread does
        return started

    monkeypatch.setattr(pool, "Process", meanwhile)
    with pytest.raises(SystemExit):
        function([1])
    until = time.monotonic() + 10
    while [child for child in multiprocessing.active_children() if child.name == "faults.late"]:
        assert time.monotonic() < until
        time.sleep(0.05)


def test_worker_exit_functions_run_at_interpreter_exit(tmp_path):
    running = program("exits", tmp_path)
    running.communicate(timeout=20)
    assert running.returncode == 0
    assert len(list(tmp_path.iterdir())) == 2


def test_no_child_is_left():
    multiprocessing.active_children()
    work.fragile.pool.close()
    assert not [child for child in multiprocessing.active_children() if child.name == "work.fragile"]
