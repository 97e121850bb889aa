"""Between calls and a store: an outage without threads, a store that comes and goes, a state that is not ours."""

import asyncio
import gc
import os
import subprocess
import sys
import time
import weakref

import pytest

import opero as o
from opero import clock, events, testing
from opero.stores import key_of
from opero.stores.guard import MOST, RARELY, STEADY, guard
from opero.stores.redis import RedisStore
from shared_store import MappedStore, opened

NO_THREADS = """
import resource, sys, time
from pathlib import Path
import opero
from opero import events
from opero.stores.guard import guard

url = "redis://127.0.0.1:9/0"
limit = opero.RateLimit(5, wait=False, store=url, name="f")
f = opero.opero(limit)(lambda: 1)
with limit:  # imports what there is to import, and finds nobody
    pass
guarded, heard = guard(limit.store), []
guarded.after_fork()  # as if it had not looked yet
events.subscribe(lambda event: heard.append(event.name), "opero.store.lost")
size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (size + 4 * 2**20, resource.RLIM_INFINITY))  # no room for another stack
print([f() for _ in range(3)], heard, guarded.looking)
resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
print(f(), heard, guarded.looking)
"""

AT_EXIT = """
import atexit, opero
f = opero.opero(opero.RateLimit(5, wait=False, store="redis://127.0.0.1:9/0", name="f"))(lambda: 1)
g = opero.opero(opero.Bulkhead(1, store="redis://127.0.0.1:9/0", name="g"))(lambda: 1)
class Last:
    def __del__(self, f=f, g=g):
        print("collected", f(), g())
last = Last()
atexit.register(lambda: print("at exit", f(), g()))
"""


def printed(program):
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stderr == ""
    return done.stdout.splitlines()


@pytest.mark.skipif(sys.platform != "linux", reason="bounds the address space")
def test_an_outage_where_no_thread_can_be_started_reaches_nobody_and_is_looked_into_later():
    assert printed(NO_THREADS) == [
        "[1, 1, 1] ['opero.store.lost'] False",
        "1 ['opero.store.lost'] True",
    ]


def test_an_outage_at_the_end_of_the_interpreter_reaches_nobody():
    assert printed(AT_EXIT) == ["at exit 1 1", "collected 1 1"]


class Store(MappedStore):
    """A store that answers a look, and no question."""

    def __init__(self):
        super().__init__()
        self.down, self.looks = True, []

    def ping(self):
        self.looks.append(clock.now())

    async def reserve(self, *args):
        if self.down:
            raise ConnectionError
        return await super().reserve(*args)


def nobody(_):
    raise ConnectionError


@pytest.fixture
def store(monkeypatch):
    monkeypatch.setattr(RedisStore, "ping", nobody)  # stores that other tests left away are looked for meanwhile
    with opened(Store) as store:
        yield store


def test_a_store_that_comes_and_goes_is_looked_for_more_and_more_rarely(store):
    f, heard = o.opero(o.RateLimit(1e6, store=store, name="f"))(lambda: 1), []
    with events.subscribe(lambda event: heard.append(event.name), "opero.store.*"):
        for _ in range(500):
            assert f() == 1
            clock.sleep(2)
    assert heard == ["opero.store.lost", "opero.store.returned"] * (len(heard) // 2) + heard[len(heard) // 2 * 2 :]
    assert len(heard) < 100  # in 1 000 s; it were 1 000
    pauses = [later - sooner for sooner, later in zip(store.looks, store.looks[1:], strict=False)]
    assert max(pauses) > RARELY / 2 > MOST
    store.down = False
    clock.sleep(RARELY)
    assert f() == 1
    assert not guard(store).away
    clock.sleep(STEADY + 1)
    store.down, store.looks = True, []
    lost = clock.now()
    f()
    clock.sleep(1)
    assert store.looks[0] - lost <= 0.1  # it was back for long enough: this is another outage


class Odd(Store):
    """A store in which one state cannot be used."""

    def __init__(self):
        super().__init__()
        self.down, self.odd = False, True

    async def reserve(self, runtime, key, *args):
        if self.odd and "{b}" in key:
            raise o.errors.StateError("rate_limit", "somebody else's")
        return await super().reserve(runtime, key, *args)


def test_a_state_that_cannot_be_used_is_left_alone_and_tried_again_and_the_others_are_used():
    store, heard = Odd(), []
    with testing.clock(), events.subscribe(heard.append, "opero.store.*"):
        a, b = (o.opero(o.RateLimit(1, per=30, store=store, wait=False, name=name))(lambda: 1) for name in "ab")
        assert [outcome(each) for each in (b, b, a, a)] == [1, o.RateLimitedError] * 2  # `b` by its own quota
        clock.sleep(90)
        assert outcome(b) == 1
        assert [(event.name, event.fields["kind"]) for event in heard] == [("opero.store.unusable", "rate_limit")]
        store.odd = False
        clock.sleep(90)
        assert outcome(b) == 1
        store.odd = True
        clock.sleep(90)
        assert outcome(b) == 1
    assert [event.name for event in heard] == ["opero.store.unusable"] * 2
    assert not guard(store).away
    os.close(store.descriptor)


def outcome(function, *args):
    try:
        return function(*args)
    except Exception as error:
        return type(error)


def policies(store):
    """One of each, whose states lie in the store."""
    return {
        "rate_limit": o.RateLimit(1000, store=store, name="ours"),
        "circuit": o.CircuitBreaker(store=store, name="ours"),
        "bulkhead": o.Bulkhead(5, store=store, name="ours"),
        "retry_budget": o.RetryBudget(store=store, name="ours"),
    }


@pytest.mark.service("redis")
def test_a_key_of_another_type_under_our_name_is_said_once_and_nothing_else_is_lost(redis_server):
    store, heard = RedisStore(redis_server.url, timeout=5), []
    every = policies(store)
    for kind in every:
        redis_server.cli("set", key_of(kind, "ours", None), "somebody's secret")
    f = o.opero(every["rate_limit"], every["circuit"], every["bulkhead"])(lambda: 1)
    retried = o.opero(o.Retry(1, wait=0, budget=every["retry_budget"]))(fail)

    @o.opero(every["rate_limit"], every["circuit"], every["bulkhead"])
    async def g():
        return 1

    other = o.opero(o.RateLimit(2, per=60, wait=False, store=store, name="other"))(lambda: 1)
    with events.subscribe(heard.append, "opero.store.*"):
        for _ in range(20):
            assert f() == asyncio.run(g()) == 1
            assert outcome(retried) is OSError
        assert [outcome(other) for _ in range(3)] == [1, 1, o.RateLimitedError]
    assert [event.name for event in heard] == ["opero.store.unusable"] * 4
    assert {event.fields["kind"] for event in heard} == set(every)
    assert "secret" not in repr(heard)
    assert not guard(store).away
    assert redis_server.cli("get", key_of("circuit", "ours", None)) == "somebody's secret"
    with pytest.raises(o.errors.StateError, match=r"circuit.*delete"):
        f.opero.breaker.force_open()


@pytest.mark.service("redis")
def test_a_key_of_our_type_that_others_filled_is_not_ours_either(redis_server):
    store, heard = RedisStore(redis_server.url, timeout=5), []
    redis_server.cli("hset", key_of("rate_limit", "ours", None), "1", "x")
    redis_server.cli("hset", key_of("circuit", "ours", None), "state", "open", "out", "x")
    f = o.opero(*(policies(store)[kind] for kind in ("rate_limit", "circuit")))(lambda: 1)
    with events.subscribe(heard.append, "opero.store.*"):
        assert [f() for _ in range(5)] == [1] * 5
    assert {event.name for event in heard} <= {"opero.store.unusable"}
    assert "circuit" in {event.fields["kind"] for event in heard}


def fail():
    raise OSError


@pytest.mark.service("redis")
def test_an_account_that_may_run_no_scripts_is_an_outage_until_it_may(redis_server):
    rights = ("on", ">secret", "~opero:*", "+@read", "+@write", "+@connection", "+time")
    redis_server.cli("acl", "setuser", "opero", *rights, "-@scripting")
    heard = []
    url = f"redis://opero:secret@{redis_server.url.partition('://')[2]}"
    f = o.opero(o.RateLimit(1e6, store=url, name="f"))(lambda: 1)
    with events.subscribe(heard.append, "opero.store.*"):
        until = time.monotonic() + 1.5
        while time.monotonic() < until:
            assert f() == 1
        assert [event.name for event in heard] == ["opero.store.lost"]
        assert heard[0].fields["error"] == "NoPermissionError"
        redis_server.cli("acl", "setuser", "opero", "+@scripting")
        until = time.monotonic() + 15
        while guard(url).away:
            assert time.monotonic() < until
            time.sleep(0.01)
        f()
    assert [event.name for event in heard] == ["opero.store.lost", "opero.store.returned"]
    assert redis_server.cli("exists", key_of("rate_limit", "f", None)) == "1"
    assert not guard(url).looking


@pytest.mark.service("redis")
def test_it_is_looked_for_where_it_was_lost(redis_server):
    store = RedisStore(redis_server.url, timeout=1)
    f = o.opero(o.RateLimit(1e6, key="tenant", store=store, name="f"))(lambda tenant: 1)
    f("mine")
    (known,) = redis_server.cli("keys", "*").split()
    redis_server.kill()
    f("mine")
    redis_server.start()
    store.ping()
    (looked,) = redis_server.cli("keys", "*").split()
    assert looked.partition("}")[0] == known.partition("}")[0]  # in the slot, and on the node, of a cluster


@pytest.mark.service("redis")
@pytest.mark.parametrize("mode", ["blocking", "suspending"])
def test_a_store_that_nobody_has_any_more_goes_with_its_connections(redis_server, mode):
    def clients():
        return redis_server.cli("client", "list").count("id=")

    def once():
        store = RedisStore(redis_server.url, timeout=5)
        limit = o.RateLimit(1e6, store=store, name="brief")
        if mode == "blocking":
            assert o.opero(limit)(lambda: 1)() == 1
        else:

            @o.opero(limit)
            async def f():
                return 1

            assert asyncio.run(f()) == 1
        assert guard(store) is guard(store)
        return weakref.ref(store)

    before = clients()
    stores = [once() for _ in range(3)]
    until = time.monotonic() + 10
    while any(store() for store in stores) or clients() > before:
        assert time.monotonic() < until
        gc.collect()
        time.sleep(0.05)
