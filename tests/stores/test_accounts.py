"""The accounts that the docs recommend: with them all of it works on every kind of server, and nothing is denied."""

import asyncio
import re
import subprocess
import time
from pathlib import Path

import pytest

import opero as o
from opero import events
from opero.stores import key_of
from opero.stores.redis import RedisStore

pytestmark = pytest.mark.service("redis")
DOCS = Path(__file__).parents[2] / "docs"
LINE = re.compile(r"ACL SETUSER (\w+) on >secret ([^`\n]*)")
MORE = re.compile(r"[Oo]n the nodes of a cluster `(.*?)`(?: and `(.*?)`)? as well")


def rights(page, user, *, cluster=False):
    """Return what a page gives an account, and on the nodes of a cluster."""
    text = (DOCS / page).read_text()
    given = dict(LINE.findall(text))[user].split()
    return [*given, *filter(None, MORE.search(text).groups())] if cluster else given


def cli(port, *arguments):
    command = ["redis-cli", "-p", str(port), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout.strip()


class Served:
    """Servers of one kind, on which `user` is known by the password `secret`."""

    def __init__(self, kind, group):
        self.kind = kind
        nodes = group.nodes if kind == "cluster" else [group.primary, group.replica] if kind == "sentinels" else [group]
        self.ports = [node.port for node in nodes]
        self.place = group.url.partition("://")[2]
        self.sentinels = [port for port, _ in group.sentinels] if kind == "sentinels" else []

    def allow(self, page, user, ports):
        given = rights(page, user, cluster=self.kind == "cluster")
        for port in ports:
            cli(port, "acl", "setuser", user, "reset", "on", ">secret", *given)
            cli(port, "acl", "log", "reset")

    def denied(self):
        return "".join(cli(port, "acl", "log") for port in (*self.ports, *self.sentinels))


@pytest.fixture(params=["server", "cluster", "sentinels"])
def served(request):
    return Served(request.param, request.getfixturevalue(f"redis_{request.param}"))


class Policies:
    """One of each, that ask every question there is."""

    def __init__(self, store, name):
        self.limit = o.RateLimit(2, per=0.2, burst=1, store=store, name=name)
        self.leasing = o.RateLimit(1000, lease=10, store=store, name=f"{name}-leasing")
        self.pool = o.Bulkhead(1, max_queue=5, max_wait=5, store=store, name=name)
        self.retry = o.Retry(1, wait=0, budget=o.RetryBudget(store=store, name=name))
        self.breakers = [
            o.CircuitBreaker(reset_after=0.1, half_open_probes=1, store=store, name=f"{name}-{n}", **window)
            for n, window in enumerate([{"consecutive": 1}, {"calls": 5, "min_calls": 1}])
        ]


def block(policies):
    for policy in (policies.limit, policies.leasing, policies.pool):
        f = o.opero(policy)(lambda: 1)
        assert [f() for _ in range(2)] == [1, 1]
    assert policies.limit.peek()[0] <= 1
    policies.limit.reset()
    assert outcome(o.opero(policies.retry)(fail)) is OSError
    for breaker in policies.breakers:
        f = o.opero(breaker)(lambda error=None: fail() if error else 1)
        assert [outcome(f, 1), outcome(f)] == [OSError, o.CircuitOpenError]
        time.sleep(0.15)
        assert f() == 1
        f.opero.breaker.force_open()
        f.opero.breaker.reset()


async def suspend(policies):
    assert await policies.limit.apeek() == (1, 0)
    await policies.limit.areset()
    for policy in (policies.limit, policies.leasing, policies.pool):
        f = o.opero(policy)(pause)
        tasks = [asyncio.create_task(f()) for _ in range(4)]
        await asyncio.sleep(0.05)
        tasks[-1].cancel()  # gives its booking back, or leaves the queue
        assert (await asyncio.gather(*tasks, return_exceptions=True))[:3] == [1] * 3
    with pytest.raises(OSError):
        await o.opero(policies.retry)(pause)(fail)
    for breaker in policies.breakers:
        f = o.opero(breaker)(pause)
        with pytest.raises(OSError):
            await f(fail)
        with pytest.raises(o.CircuitOpenError):
            await f()
        await asyncio.sleep(0.15)
        assert await f() == 1


async def pause(then=None):
    await asyncio.sleep(0.02)
    return then() if then else 1


def fail():
    raise OSError


def outcome(function, *args):
    try:
        return function(*args)
    except Exception as error:
        return type(error)


def test_with_the_account_for_it_every_state_is_shared(served):
    served.allow("shared-state.md", "opero", served.ports)
    served.allow("shared-state.md", "watch", served.sentinels)
    scheme = {"server": "redis", "cluster": "redis+cluster", "sentinels": "redis+sentinel"}[served.kind]
    login = "?sentinel_username=watch&sentinel_password=secret" if served.sentinels else ""
    store, heard = RedisStore(f"{scheme}://opero:secret@{served.place}{login}", timeout=5), []
    with events.subscribe(heard.append, "opero.store.*"):
        block(Policies(store, "blocks"))
        asyncio.run(suspend(Policies(store, "suspends")))
        store.ping()
        store.renew(key_of("bulkhead", "blocks", None), ["nobody"])
    assert [event.fields for event in heard] == []
    assert served.denied() == ""


@pytest.mark.parametrize("near", [None, 5.0])
@pytest.mark.parametrize("served", ["server", "cluster"], indirect=True)
def test_with_that_for_a_cache_entries_are_kept_found_and_ended(served, near):
    served.allow("primitives/cache.md", "cache", served.ports)
    ring, heard, made = o.KeyRing([b"k" * 32]), [], []
    kept = {"url": f"redis://cache:secret@{served.place}", "namespace": f"near-{near}", "near": near, "patience": 5.0}
    cache = o.Cache(60, backend="redis", soft_ttl=0.2, tags="n:{x}", signing_key=ring, **kept)

    @o.opero(cache)
    def f(x):
        made.append(x)
        return x

    @o.opero(cache)
    async def g(x):
        made.append(x)
        return x

    async def main():
        assert await asyncio.gather(*(g(n % 9) for n in range(18))) == [n % 9 for n in range(18)]

    with events.subscribe(heard.append, "opero.cache.backend_failed", "opero.cache.entry_refused"):
        for _ in range(2):
            assert [f(n) for n in range(9)] == list(range(9))
            asyncio.run(main())
            time.sleep(0.25)  # stale: one loads it anew
        f.opero.cache.invalidate(1)
        f.opero.cache.invalidate_tag("n:2")
        ring.rotate(b"n" * 32)
        made.clear()
        assert [f(n) for n in (1, 2)] == made == [1, 2]
        f.opero.cache.clear()
    assert [event.fields for event in heard] == []
    assert served.denied() == ""


ELSEWHERE = """
get other; set other 1; keys *; scan 0; randomkey; flushall; flushdb; config get *; function flush; script flush
client list; client kill type normal; client pause 1; sort opero:{x} by other*; info; publish channel x; shutdown
"""


def test_the_account_can_do_nothing_else(redis_server):
    served = Served("server", redis_server)
    served.allow("shared-state.md", "opero", served.ports)
    login = ["--user", "opero", "--pass", "secret", "--no-auth-warning"]
    told = {each: cli(redis_server.port, *login, *each.split()) for each in re.split("[;\n] *", ELSEWHERE.strip())}
    assert {each for each, answer in told.items() if "NOPERM" not in answer} == set()
