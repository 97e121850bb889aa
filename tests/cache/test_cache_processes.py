"""Processes over one Redis: one load for all."""

import subprocess
import sys
import time

import pytest

pytestmark = pytest.mark.service("redis")

STAMPEDE = """
import asyncio, sys, threading, time
import redis
from opero import Cache, opero

url, kind, start = sys.argv[1], sys.argv[2], float(sys.argv[3])
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
    time.sleep(max(0, start - time.time()))
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
        await asyncio.sleep(max(0, start - time.time()))
        return await asyncio.gather(*(f() for _ in range(250)))
    answers = asyncio.run(main())
assert answers == [7] * 250, answers
"""


@pytest.mark.parametrize("kind", ["threads", "tasks"])
def test_a_thousand_callers_in_four_processes_make_one_call(kind, redis_server):
    start = time.time() + 3
    processes = [
        subprocess.Popen([sys.executable, "-W", "error", "-c", STAMPEDE, redis_server.url, kind, str(start)])
        for _ in range(4)
    ]
    assert [process.wait(60) for process in processes] == [0] * 4
    assert redis_server.cli("get", f"calls-{kind}") == "1"


FAILING = """
import sys, time
import redis
from opero import Cache, opero

url, start = sys.argv[1], float(sys.argv[2])
client = redis.Redis.from_url(url)

@opero(Cache(60, backend="redis", url=url, namespace="failing", patience=5.0))
def f():
    client.incr("calls")
    time.sleep(1.5)
    raise OSError("down")

time.sleep(max(0, start - time.time()))
began = time.monotonic()
try:
    f()
except OSError:
    pass
print(time.monotonic() - began)
"""


def test_when_the_one_who_loads_fails_the_others_do_not_fail_in_a_row(redis_server):
    start = time.time() + 2
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", FAILING, redis_server.url, str(start)], stdout=subprocess.PIPE, text=True
        )
        for _ in range(4)
    ]
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
        started = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert started.stdout.readline() == "begun\n"
        return started

    first = start("60")
    assert first.stdout.readline() == "loading\n"
    others = [start("1") for _ in range(4)]
    time.sleep(0.3)  # they wait by now
    first.kill()
    first.communicate()
    said = [process.communicate(timeout=30)[0].split() for process in others]
    assert sorted(said) == [["7"], ["7"], ["7"], ["loading", "7"]]
