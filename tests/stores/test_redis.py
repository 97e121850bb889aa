"""Real servers: processes share a state, an outage is nobody's failure, clusters and fail-overs work."""

import asyncio
import gc
import json
import pickle
import subprocess
import sys
import time
from pathlib import Path

import pytest

import opero as o
from opero import events
from opero.stores import key_of
from opero.stores.guard import guard
from opero.stores.redis import RedisStore
from together import together, wait_for

pytestmark = pytest.mark.service("redis")
WORKER = Path(__file__).with_name("worker.py")


class Workers:
    """Four processes that begin together."""

    def __init__(self, url, seconds, *lease):
        command = [sys.executable, WORKER, url, str(seconds), *map(str, lease)]
        self.processes = [
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(4)
        ]
        for process in self.processes:
            assert process.stdout.readline() == "ready\n"
        for process in self.processes:
            process.stdin.write("go\n")
            process.stdin.flush()

    def results(self):
        told = [json.loads(process.communicate(timeout=60)[0]) for process in self.processes]
        assert all(process.returncode == 0 for process in self.processes)
        return told


def test_four_processes_share_a_limit_of_a_hundred_a_second(redis_server):
    told = Workers(redis_server.url, 10).results()
    began = min(each["began"] for each in told)
    gone = [at for each in told for at in each["gone"] if at <= began + 10]
    assert [each["failed"] for each in told] == [[]] * 4
    assert [each["events"] for each in told] == [[]] * 4
    assert 900 <= len(gone) <= 1000 + 100
    assert all(len(each["gone"]) > 100 for each in told)


def test_four_processes_that_lease_never_pass_the_limit(redis_server):
    told = Workers(redis_server.url, 4, 200).results()
    gone = sorted(at for each in told for at in each["gone"])
    assert [each["failed"] for each in told] == [[]] * 4
    assert [each["events"] for each in told] == [[]] * 4
    assert sum(len(each["gone"]) for each in told) > 1500
    for length in (0.05, 0.25, 1.0, 2.0, 4.0):  # any window: the worst begins with a call
        last = 0
        for first, at in enumerate(gone):
            while last < len(gone) and gone[last] <= at + length:
                last += 1
            assert last - first <= 1000 * length + 1000 + 1000 * 0.02  # time.time() is read after the leave to call
    trips = int(redis_server.cli("info", "commandstats").split("evalsha:calls=")[1].split(",")[0])
    assert trips < len(gone)


def test_leased_calls_need_no_trip_and_expire(redis_server):
    limit = o.RateLimit(
        1000, per=40, lease=100, wait=False, store=RedisStore(redis_server.url, timeout=5), name="lease"
    )
    f = o.opero(limit)(lambda: 1)

    def trips():
        return int(redis_server.cli("info", "commandstats").split("evalsha:calls=")[1].split(",")[0])

    for _ in range(700):
        f()
    assert trips() == 1 + 7 + 5  # 1, 2, 4 … 64 and then 100 beside the one that asks
    assert [outcome(f) for _ in range(60)][
        -1
    ] is o.RateLimitedError  # three quarters of the burst went, and the rest waits


def test_a_lease_ends_with_its_time_and_stays_with_its_process(redis_server):
    store = RedisStore(redis_server.url, timeout=5)
    limit = o.RateLimit(20, lease=10, wait=False, store=store, name="short")  # good for a 4th of a second
    for _ in range(4):
        with limit:
            pass
    lease = limit.limiter.lease
    assert lease.left == 1  # 2 and 3 went with their own, or as the one leased beside the first
    time.sleep(0.3)
    assert not lease.take(o.clock.now(), 1)
    keyed = o.RateLimit(20, lease=10, key="tenant", wait=False, store=store, name="keyed")
    f = o.opero(keyed)(lambda tenant: tenant)
    assert [f(n % 3) for n in range(12)] == [n % 3 for n in range(12)]
    for wrong in ({"lease": 11}, {"lease": 0}, {"lease": 5, "store": None}):
        with pytest.raises(o.ConfigurationError, match="lease"):
            o.RateLimit(20, **{"store": store, "name": "wrong"} | wrong)


def test_who_comes_late_books_again(redis_server):
    limit = o.RateLimit(50, burst=1, store=RedisStore(redis_server.url, timeout=5), name="late")
    went = []

    @o.opero(limit)
    async def f():
        went.append(time.monotonic())

    async def main():
        tasks = [asyncio.create_task(f()) for _ in range(20)]
        await asyncio.sleep(0.05)
        time.sleep(0.3)  # noqa: ASYNC251 - 15 of them miss their time
        await asyncio.gather(*tasks)

    asyncio.run(main())
    assert len(went) == 20
    together = [sum(0 <= later - one < 0.002 for later in went) for one in went]
    assert max(together) < 8


def test_no_call_fails_because_the_server_is_killed_in_the_middle(redis_server):
    workers = Workers(redis_server.url, 5)
    time.sleep(1.5)
    redis_server.kill()
    time.sleep(1.5)
    redis_server.start()
    told = workers.results()
    assert [each["failed"] for each in told] == [[]] * 4
    assert all(each["events"] == ["opero.store.lost", "opero.store.returned"] for each in told)
    assert all(each["longest"] < 0.5 + 0.3 + 2 for each in told)  # its own wait, the bound, and a busy machine
    assert sum(len(each["gone"]) for each in told) > 500


def test_a_server_that_hangs_costs_one_call_a_moment_and_the_others_nothing(redis_server):
    heard, took = [], []
    f = o.opero(o.RateLimit(1000, store=redis_server.url, name="hangs"))(lambda: 1)
    f()
    with events.subscribe(heard.append, "opero.store.*"):
        redis_server.pause()
        for _ in range(50):
            started = time.monotonic()
            assert f() == 1
            took.append(time.monotonic() - started)
        redis_server.resume()
        wait_for(lambda: len(heard) == 2)
    assert [event.name for event in heard] == ["opero.store.lost", "opero.store.returned"]
    assert heard[0].operation == f.opero.name
    assert took[0] < 0.3 + 2
    assert sorted(took[1:])[24] < 0.01


def test_breakers_of_two_processes_are_one(redis_server):
    def down(fails=True):
        if fails:
            raise OSError
        return 1

    def make():
        policy = o.CircuitBreaker(min_calls=4, reset_after=0.3, half_open_probes=1, store=store, name="dep")
        return o.opero(policy)(down)

    store = RedisStore(redis_server.url, timeout=5)
    first, second = make(), make()  # as two processes would: their only bond is the name
    said = []
    assert [outcome(f) for f in (first, second, first)] == [OSError] * 3
    with events.subscribe(lambda event: said.append(event.name.removeprefix("opero.circuit.")), "opero.circuit.*"):
        changes_by_one_are_told_by_one(first, second)
    assert said == ["opened", "half_opened", "closed"]
    first.opero.breaker.force_open()
    assert outcome(second, False) is o.CircuitOpenError
    second.opero.breaker.reset()
    assert outcome(first, False) == 1
    copy = pickle.loads(pickle.dumps(first.opero.policies[0]))
    with copy:
        assert copy.state == "closed"


def changes_by_one_are_told_by_one(first, second):
    assert outcome(second) is OSError
    assert [outcome(f, False) for f in (first, second)] == [o.CircuitOpenError] * 2
    assert (first.opero.breaker.state, second.opero.breaker.state) == ("open", "open")
    time.sleep(0.35)
    assert outcome(second, False) == 1
    assert outcome(first, False) == 1


def outcome(function, *args):
    try:
        return function(*args)
    except Exception as error:
        return type(error)


def test_a_cancelled_wait_gives_its_booking_back(redis_server):
    store = RedisStore(redis_server.url, timeout=5)
    limit = o.RateLimit(1, per=60, burst=1, store=store, name="slow")

    async def call():
        async with limit:
            return 1

    async def main():
        await call()
        task = asyncio.create_task(call())
        await asyncio.sleep(0.2)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(main())
    refused = o.RateLimit(1, per=60, burst=1, wait=False, store=store, name="slow")
    with pytest.raises(o.RateLimitedError) as caught, refused:
        pass
    assert 50 < caught.value.retry_after <= 60


def test_loops_may_close_and_others_open_and_threads_go_on(redis_server):
    store = RedisStore(redis_server.url, timeout=5)
    f = o.opero(o.RateLimit(10_000, store=store, name="loops"))(lambda: 1)

    @o.opero(f.opero.policies[0])
    async def g():
        return 1

    async def many():
        return sum(await asyncio.gather(*(g() for _ in range(20))))

    def work():
        return asyncio.run(many()) + f()

    assert [*together(*[work] * 4), work()] == [21] * 5
    assert not guard(store).away


def test_a_loop_keeps_its_connections_and_closes_them_when_it_ends(redis_server):
    f = o.opero(o.RateLimit(1e6, store=RedisStore(redis_server.url, timeout=5), name="loops"))(lambda: 1)
    g = o.opero(f.opero.policies[0])(one)

    def received():
        return int(redis_server.cli("info", "stats").split("total_connections_received:")[1].split()[0])

    async def main():
        await asyncio.gather(*(g() for _ in range(20)))
        before = received()
        for _ in range(3):
            await asyncio.sleep(0)
            await asyncio.gather(*(g() for _ in range(10)))
        assert received() == before + 1  # that of the question

    for _ in range(3):
        asyncio.run(main())
        assert len(redis_server.cli("client", "list").splitlines()) == 1
        gc.collect()  # a connection of a closed loop would complain


async def one():
    return 1


def test_keys_leave_the_process_as_digests_and_only_some_types_are_keys(redis_server):
    store = RedisStore(redis_server.url, timeout=5)
    limit = o.RateLimit(5, key="tenant", store=store, name="tenants", wait=False)
    f = o.opero(limit)(lambda tenant: tenant)
    tenants = ["ann@example.com", ("ann", 5), b"ann", 5, 5.0, True]
    assert [f(tenant) for tenant in tenants] == tenants
    kept = redis_server.cli("keys", "opero:*").split()
    assert len(kept) == len(tenants)
    assert not any("ann" in key for key in kept)
    with pytest.raises(o.ConfigurationError, match=r"key takes a text, bytes, .* of the rate_limit 'tenants'$"):
        f(object())
    with pytest.raises(o.ConfigurationError, match="of the circuit 'tenants'"):
        o.opero(o.CircuitBreaker(key="tenant", store=store, name="tenants"))(lambda tenant: tenant)(("ann", None))


def test_a_cluster_shares_all_of_it(redis_cluster):
    url = RedisStore(f"redis+cluster://{redis_cluster.url.partition('://')[2]}", timeout=5)  # the machine may be busy
    keyed = o.RateLimit(2, per=60, key="tenant", wait=False, store=url, name="tenants")
    f = o.opero(keyed, o.CircuitBreaker(store=url, name="dep"), o.Bulkhead(5, store=url, name="pool"))(lambda tenant: 1)
    g = o.opero(o.RateLimit(2, per=60, key="tenant", wait=False, store=url, name="tenants"))(lambda tenant: 1)
    assert [outcome(h, n) for n in range(20) for h in (f, g, f)] == [1, 1, o.RateLimitedError] * 20

    @o.opero(keyed)
    async def h(tenant):
        return tenant

    async def main():
        return await asyncio.gather(*(h(f"t{n}") for n in range(20)))

    assert len(asyncio.run(main())) == 20
    assert not guard(url).away
    assert sum(node.cli("dbsize") != "0" for node in redis_cluster.nodes) >= 3


def test_a_sentinel_fail_over_is_survived(redis_sentinels):
    heard = []
    store = RedisStore(redis_sentinels.url, timeout=2)
    f = o.opero(o.RateLimit(10_000, burst=10_000, store=store, name="f"))(lambda: 1)
    assert f() == 1
    assert redis_sentinels.primary.cli("exists", key_of("rate_limit", "f", None)) == "1"
    with events.subscribe(heard.append, "opero.store.*"):
        redis_sentinels.primary.kill()
        until = time.monotonic() + 30
        while [event.name for event in heard][-1:] != ["opero.store.returned"]:
            assert f() == 1
            assert time.monotonic() < until
            time.sleep(0.01)
        assert f() == 1
    assert redis_sentinels.replica.cli("info", "replication").splitlines()[1].strip() == "role:master"
    assert redis_sentinels.replica.cli("exists", key_of("rate_limit", "f", None)) == "1"
    assert [event.name for event in heard] == ["opero.store.lost", "opero.store.returned"]


def test_a_server_that_was_never_there_is_said_once_and_costs_nothing():
    heard = []
    with events.subscribe(heard.append, "opero.store.*"):
        policy = o.RateLimit(5, wait=False, store="redis://127.0.0.1:9/0", name="nobody")
        f = o.opero(policy)(lambda: 1)
        assert [outcome(f) for _ in range(6)] == [1] * 5 + [o.RateLimitedError]  # the process's own quota holds
    assert [event.name for event in heard] == ["opero.store.lost"]


def test_a_breaker_shows_the_worst_of_its_shared_circuits_and_that_of_each_key(redis_server):
    policy = o.CircuitBreaker(consecutive=1, key="tenant", store=redis_server.url, name="tenants")

    @o.opero(policy, retries=0)
    def f(tenant, fails=False):
        if fails:
            raise OSError

    breaker = f.opero.breaker
    f("good")
    with pytest.raises(OSError):
        f("bad", fails=True)
    f("good")
    assert (breaker.state, breaker.of("bad").state, breaker.of("good").state) == ("open", "open", "closed")
    breaker.of("good").force_open()
    assert (breaker.state, breaker.of("good").state) == ("forced_open", "forced_open")
    for tenant in ("good", "bad"):
        breaker.of(tenant).reset()
    assert (breaker.state, breaker.of("bad").state, breaker.of("good").state) == ("closed", "closed", "closed")


def test_states_that_last_for_ages_are_kept(redis_server):
    said = []
    with o.events.subscribe(lambda event: said.append(event.name), "opero.store.*"):
        limit = o.RateLimit(1, per=1e15, wait=False, store=redis_server.url, name="ages")
        with limit:
            pass
        with pytest.raises(o.RateLimitedError), limit:
            pass
        with o.CircuitBreaker(window=1e14, store=redis_server.url, name="ages"):
            pass
    assert not said


def test_no_password_is_shown_and_no_nonsense_taken():
    policy = o.RateLimit(5, store="rediss://:secret@db:6379/0?ssl_cert_reqs=none", name="f")
    assert "secret" not in repr(policy)
    assert "secret" not in repr(policy.settings)
    assert pickle.loads(pickle.dumps(policy)).store == "rediss://:secret@db:6379/0?ssl_cert_reqs=none"
    for wrong in ("http://:secret@x", "redis+sentinel://:secret@host", "redis://:secret@host:port/0", 5):
        with pytest.raises(o.ConfigurationError, match="store takes None, a URL") as caught:
            o.Bulkhead(5, store=wrong, name="f")
        assert "secret" not in str(caught.value)
    with pytest.raises(o.ConfigurationError, match="processes share a state by its name"):
        o.CircuitBreaker(store="redis://host")


@pytest.mark.parametrize("name", ["}x", "a\nb", "\ud800"])
def test_a_name_that_would_take_the_whole_store_away_is_refused(name):
    with pytest.raises(o.ConfigurationError, match="name takes a text without line breaks and the like, and none that"):
        o.CircuitBreaker(store="redis://host", name=name)


@pytest.mark.parametrize("name", ["a}b", "{a}", "tarif été", "{"])
def test_what_lies_under_a_name_is_in_one_slot_of_a_cluster(name):
    from redis.crc import key_slot

    o.CircuitBreaker(store="redis://host", name=name)
    key = key_of("circuit", name, "tenant")
    assert key_slot(key.encode()) == key_slot(f"{key}:ring".encode())


def test_keys_that_differ_have_states_that_differ():
    keys = [1, 1.0, True, False, "1", "True", b"1", b"True", b"False", (1,), (1, 1), ((1,), 1), ("a", "b"), ("ab",)]
    assert len({key_of("rate_limit", "f", key) for key in keys}) == len(keys)
