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

@opero(Cache(60, backend="redis", url=sys.argv[1], namespace="dying", lease=1.0, patience=5.0))
def f():
    print("loading", flush=True)
    time.sleep(float(sys.argv[2]))
    return 7

print(f(), flush=True)
"""


def test_who_dies_while_loading_is_replaced_when_the_lease_ends(redis_server):
    command = [sys.executable, "-c", DYING, redis_server.url]
    first = subprocess.Popen([*command, "60"], stdout=subprocess.PIPE, text=True)
    assert first.stdout.readline() == "loading\n"
    first.kill()
    first.wait()
    first.stdout.close()
    done = subprocess.run([*command, "0"], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout.split() == ["loading", "7"]
