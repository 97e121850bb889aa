"""One retry budget for many processes, on a real server; and each its own while that is away."""

import asyncio
import json
import pickle
import subprocess
import sys
import time

import pytest

import opero as o
from opero import events
from opero.stores import key_of
from opero.stores.guard import guard
from opero.stores.redis import RedisStore

pytestmark = pytest.mark.service("redis")
PROCESS = """
import sys, opero as o
from opero import events
from opero.stores.redis import RedisStore
budget = o.RetryBudget(min_per_second=0, store=RedisStore(sys.argv[1], timeout=5), name="dep")
@o.opero(o.Retry(3, wait=0, budget=budget))
def down():
    raise OSError
heard = []
events.subscribe(heard.append, "opero.store.*")
print("ready", flush=True)
sys.stdin.readline()
for _ in range(50):
    try:
        down()
    except OSError:
        pass
assert not heard
print(down.opero.stats()["retries"])
"""


def test_four_processes_in_an_outage_make_the_retries_of_one(redis_server):
    command = [sys.executable, "-c", PROCESS, redis_server.url]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen(command, **pipes) for _ in range(4)]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    told = [json.loads(process.communicate(timeout=60)[0]) for process in processes]
    assert sum(told) == 10


def budgets(server, **settings):
    """Make two, as two processes would: their only bond is the name."""
    store = RedisStore(server.url, timeout=5)
    return [o.RetryBudget(store=store, name="dep", **{"min_per_second": 0} | settings) for _ in range(2)]


def test_what_one_pays_the_other_lacks_and_a_retry_that_succeeds_gives_back(redis_server):
    first, second = budgets(redis_server, cap=3)
    fails = [True, False]

    @o.opero(o.Retry(1, wait=0, budget=first))
    def f():
        if fails.pop(0):
            raise OSError
        return 1

    first.spend()
    second.spend()
    assert f() == 1  # takes the third, and owes it to the store
    with pytest.raises(o.RetryBudgetExhausted):
        second.spend()
    first.spend()  # which brought it along, and took it
    with pytest.raises(o.RetryBudgetExhausted):
        first.spend()
    assert redis_server.cli("hget", key_of("retry_budget", "dep", None), "left") == "0"
    copy = pickle.loads(pickle.dumps(second))
    with pytest.raises(o.RetryBudgetExhausted):
        copy.spend()


def test_coroutine_functions_and_hedges_pay_from_it_too(redis_server):
    first, second = budgets(redis_server, cap=2)

    @o.opero(o.Retry(5, wait=0, budget=first))
    async def f():
        raise OSError

    @o.opero(o.Hedge(0.01), second)
    async def g():
        await asyncio.sleep(0.1)
        return 1

    async def main():
        with pytest.raises(OSError):
            await f()
        return await g()

    assert asyncio.run(main()) == 1
    assert f.opero.stats()["retries"] == 2
    assert g.opero.stats()["attempts"] == 1
    assert first.shared.utilization == 1.0


def test_successes_of_one_process_pay_for_the_retries_of_another(redis_server):
    first, second = budgets(redis_server, ratio=1.0)
    for _ in range(10):
        second.spend()

    @o.opero(first)
    def fast():
        return 1

    for _ in range(250):
        fast()
    assert "tell()" in fast.opero.source()
    until = time.monotonic() + 15
    while redis_server.cli("hget", key_of("retry_budget", "dep", None), "left") == "0":
        assert time.monotonic() < until
        time.sleep(0.02)
    for _ in range(90):  # what it keeps fades with the rate of successes
        second.spend()


def test_an_outage_of_the_store_leaves_each_process_a_budget_of_its_own(redis_server):
    heard = []
    budget = o.RetryBudget(min_per_second=0, cap=5, store=RedisStore(redis_server.url, timeout=0.25), name="dep")

    @o.opero(o.Retry(3, wait=0, budget=budget))
    def down():
        raise OSError

    with events.subscribe(heard.append, "opero.store.*"):
        budget.spend()
        redis_server.kill()
        for _ in range(5):
            with pytest.raises(OSError):
                down()
        assert down.opero.stats()["retries"] == 5  # its own, not those that are left in the store
        assert [event.name for event in heard] == ["opero.store.lost"]
        redis_server.start()
        until = time.monotonic() + 15
        while guard(budget.store).away:
            assert time.monotonic() < until
            time.sleep(0.01)
        with pytest.raises(OSError):
            down()
    assert [event.name for event in heard] == ["opero.store.lost", "opero.store.returned"]
    assert (
        redis_server.cli("hget", key_of("retry_budget", "dep", None), "left") == "2"
    )  # of five anew, in an empty store
