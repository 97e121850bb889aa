"""A store of the user's own, and what is none."""

import os
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass

import pytest

import opero as o
from opero.stores import StateStore
from opero.stores.guard import guard


def methods(*names):
    return dict.fromkeys(names, lambda *_: None)


WHOLE = {name: each for name, each in vars(StateStore).items() if callable(each) and not name.startswith("_")}


@pytest.mark.parametrize(
    ("store", "why"),
    [
        (3, "takes None, a URL"),
        (StateStore, "takes None, a URL"),
        (type("Half", (), methods("reserve", "ping"))(), "has no name, lease, give_back, pay, admit"),
        (dataclass(type("Equal", (), {**WHOLE, "name": "mine"}))(), "eq=False"),
    ],
)
def test_what_is_no_store_is_refused_where_it_is_given(store, why):
    with pytest.raises(o.ConfigurationError, match=why):
        o.RateLimit(5, store=store, name="own")


def test_one_by_the_protocol_is_taken():
    class Own(StateStore):
        name = "own"

        async def reserve(self, runtime, key, rates, weight, patience):
            return 0.0, "booked"

    f = o.opero(o.RateLimit(1, per=60, wait=False, store=Own(), name="own"))(lambda: 1)
    assert [f() for _ in range(3)] == [1, 1, 1]


def test_what_else_one_has_is_its_own():
    class Own(StateStore):
        name = "own"

        def __init__(self):
            self.known = self.look = self.slots = {"mine": 1}

    store = {"store": Own(), "name": "own"}
    budget = o.RetryBudget(**store)
    policies = o.RateLimit(5, **store), o.CircuitBreaker(**store), o.Bulkhead(2, **store), o.Retry(1, budget=budget)
    f = o.opero(*policies)(lambda: 1)
    observed = [each for policy in f.opero.policies for each in policy.observe(o.clock.now())]
    assert len(observed) > 5
    assert f.opero.breaker.state == "closed"


@pytest.mark.service("redis")
def test_threads_that_ask_at_once_have_connections(redis_server):
    f = o.opero(o.RateLimit(1e6, store=redis_server.url, name="many"))(lambda: 1)
    f()
    barrier, heard = threading.Barrier(150), []

    def once():
        barrier.wait()
        f()

    with o.events.subscribe(lambda event: heard.append(event.fields.get("error")), "opero.store.lost"):
        threads = [threading.Thread(target=once) for _ in range(150)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert "MaxConnectionsError" not in heard
    assert guard(redis_server.url) is guard(redis_server.url)


FORKED = """
import os, sys, threading
from opero.stores import guard
held, done = threading.Event(), threading.Event()
def hold():
    with guard._lock:
        held.set()
        done.wait()
threading.Thread(target=hold, daemon=True).start()
held.wait()
if not (child := os.fork()):
    guard.guard("redis://127.0.0.1:9/0")
    os._exit(7)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
done.set()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no os.fork here")
def test_a_child_forked_while_a_store_is_made_makes_its_own():
    process = subprocess.Popen([sys.executable, "-c", FORKED], stdout=subprocess.PIPE, start_new_session=True)
    try:
        assert process.communicate(timeout=30)[0] == b"7\n"
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise


@pytest.mark.parametrize("password", ["sec/ret", "sec?ret", "sec#ret"])
@pytest.mark.parametrize("scheme", ["redis", "redis+cluster"])
def test_no_part_of_a_password_that_breaks_the_address_is_told(scheme, password):
    with pytest.raises(o.ConfigurationError, match="%2F") as caught:
        o.RateLimit(5, store=f"{scheme}://user:{password}@127.0.0.1:6379", name="told")
    assert "sec" not in str(caught.value)
