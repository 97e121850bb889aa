"""Processes over one Redis: one load for all."""

import subprocess
import sys
import time

import pytest

pytestmark = pytest.mark.service("redis")

TOGETHER = """
import sys
def together():
    print("ready", flush=True)
    sys.stdin.readline()
"""


def begun_together(program, count, *arguments):
    """Start processes, and let them go on when each has called `together`."""
    command = [sys.executable, "-W", "error", "-c", TOGETHER + program, *arguments]
    processes = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(count)
    ]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    return processes


STAMPEDE = """
import asyncio, sys, threading, time
import redis
from opero import Cache, opero

url, kind = sys.argv[1:]
client = redis.Redis.from_url(url)
policy = Cache(60, backend="redis", url=url, namespace="stampede-" + kind, patience=5.0)

def called():
    client.incr("calls-" + kind)

if kind == "threads":
    @opero(policy)
    def f():
        called()
        time.sleep(0.3)
        return 7
    answers = []
    threads = [threading.Thread(target=lambda: answers.append(f())) for _ in range(250)]
    together()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
else:
    @opero(policy)
    async def f():
        called()
        await asyncio.sleep(0.3)
        return 7
    async def main():
        together()
        return await asyncio.gather(*(f() for _ in range(250)))
    answers = asyncio.run(main())
assert answers == [7] * 250, answers
"""


@pytest.mark.parametrize("kind", ["threads", "tasks"])
def test_a_thousand_callers_in_four_processes_make_one_call(kind, redis_server):
    processes = begun_together(STAMPEDE, 4, redis_server.url, kind)
    for process in processes:
        process.communicate(timeout=60)
    assert [process.returncode for process in processes] == [0] * 4
    assert redis_server.cli("get", f"calls-{kind}") == "1"


FAILING = """
import sys, time
import redis
from opero import Cache, opero

url = sys.argv[1]
client = redis.Redis.from_url(url)

@opero(Cache(60, backend="redis", url=url, namespace="failing", patience=5.0))
def f():
    client.incr("calls")
    time.sleep(1.5)
    raise OSError("down")

together()
began = time.monotonic()
try:
    f()
except OSError:
    pass
print(time.monotonic() - began)
"""


def test_when_the_one_who_loads_fails_the_others_do_not_fail_in_a_row(redis_server):
    processes = begun_together(FAILING, 4, redis_server.url)
    took = sorted(float(process.communicate(timeout=60)[0]) for process in processes)
    assert redis_server.cli("get", "calls") == "4"
    assert took[-1] < 4.5  # one after another it would be 6.0 and more


DYING = """
import sys, time
from opero import Cache, opero

backend, where, seconds = sys.argv[1:]
given = {"url": where} if backend == "redis" else {"directory": where}

@opero(Cache(60, backend=backend, namespace="dying", lease=1.0, patience=5.0, **given))
def f():
    print("loading", flush=True)
    time.sleep(float(seconds))
    return 7

print("begun", flush=True)
print(f(), flush=True)
"""


@pytest.mark.parametrize("backend", ["redis", "disk"])
def test_one_of_those_who_wait_takes_over_from_who_dies_while_loading(backend, redis_server, tmp_path):
    where = redis_server.url if backend == "redis" else str(tmp_path / "c")

    def start(seconds):
        command = [sys.executable, "-W", "error", "-c", DYING, backend, where, seconds]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    first = start("60")
    assert [first.stdout.readline() for _ in range(2)] == ["begun\n", "loading\n"]
    others = [start("0.5") for _ in range(4)]
    assert [process.stdout.readline() for process in others] == ["begun\n"] * 4
    time.sleep(0.3)  # they wait by now
    first.kill()
    first.communicate()
    said = [process.communicate(timeout=30)[0].split() for process in others]
    assert sorted(said) == [["7"], ["7"], ["7"], ["loading", "7"]]
