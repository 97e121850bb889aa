"""Copies in several processes are never older than said, also when Redis dies and comes back with nothing."""

import json
import subprocess
import sys
import time

import pytest
import redis

from services.redis_servers import RedisServer

pytestmark = pytest.mark.service("redis")

# Each process reads and writes 20 keys; the truth is in a Redis of its own, which lives. A write draws a version, sets
# the truth and invalidates, again until that is done: until then readers may see the old one, after it for the bound.
PROCESS = """
import json, random, sys, time
import redis
from opero import Cache, CacheError, events, opero

url, truth_url, seed, steps, bound = sys.argv[1], sys.argv[2], *map(float, sys.argv[3:])
truth = redis.Redis.from_url(truth_url, socket_timeout=10, protocol=2)
chance = random.Random(seed)
troubles = set()
events.subscribe(lambda e: troubles.add(e.fields["reason"]), "opero.cache.backend_failed", "opero.cache.entry_refused")

@opero(Cache(60, backend="redis", url=url, namespace="coherent", near=bound, patience=2.0))
def f(key):
    return int(truth.get(f"truth:{key}") or 0)

def invalidate(key):
    while True:
        try:
            return f.opero.cache.invalidate(key)
        except CacheError:
            time.sleep(0.01)

reads, writes = [], []
for _ in range(int(steps)):
    key = chance.randrange(20)
    if chance.random() < 0.02:
        version = truth.incr("version")
        truth.eval("if tonumber(redis.call('GET', KEYS[1]) or 0) < tonumber(ARGV[1]) then "
                   "redis.call('SET', KEYS[1], ARGV[1]) end", 1, f"truth:{key}", version)
        set_at = time.monotonic()
        invalidate(key)
        writes.append((set_at, time.monotonic(), key, version))
    else:
        began = time.monotonic()
        reads.append((began, key, f(key)))
stats = f.opero.cache.stats()
print(json.dumps({"reads": reads, "writes": writes, "troubles": sorted(troubles), "hits": stats["hits"]}))
"""
PROCESSES, WRITTEN = 3, 0.02
CHANNEL = (
    "--rename-command",
    "HELLO",
    "",
)  # without HELLO there is no tracking, and copies hear of writes by a channel


@pytest.fixture(params=["tracking", "channel"])
def servers(request, tmp_path):
    """A Redis to cache in, that tracks or does not, and one for the truth."""
    both = []
    for name, more in (("cache", CHANNEL if request.param == "channel" else ()), ("truth", ())):
        (tmp_path / name).mkdir()
        both.append(RedisServer(tmp_path / name, *more))
    yield both
    for server in both:
        server.stop()


class Run:
    """What three processes read and wrote, in the order of time."""

    def __init__(self, servers, *, steps, bound, outages=()):
        """`outages`: for how many seconds Redis is gone each time, evenly over the run."""
        self.bound, self.returned = bound, []
        cache, truth = servers
        processes = [
            subprocess.Popen(
                [sys.executable, "-W", "error", "-c", PROCESS, cache.url, truth.url, *map(str, (seed, steps, bound))],
                stdout=subprocess.PIPE,
                text=True,
            )
            for seed in range(PROCESSES)
        ]
        try:
            with redis.Redis.from_url(truth.url, protocol=2) as client:
                for number, seconds in enumerate(outages, 1):
                    due = PROCESSES * steps * WRITTEN * number / (len(outages) + 1)
                    while int(client.get("version") or 0) < due:
                        assert all(process.poll() is None for process in processes)
                        time.sleep(0.01)
                    cache.kill()
                    killed = time.monotonic()
                    time.sleep(seconds)
                    before = time.monotonic()
                    cache.start()
                    self.returned.append((before, max(time.monotonic(), killed + bound)))
            said = [json.loads(process.communicate(timeout=110)[0]) for process in processes]
        finally:
            for process in processes:
                process.kill()
                process.wait()
        self.troubles = {trouble for told in said for trouble in told["troubles"]}
        self.reads = sorted((at, key, version) for told in said for at, key, version in told["reads"])
        self.writes = [tuple(write) for told in said for write in told["writes"]]
        self.hits = sum(told["hits"] for told in said)

    def check(self):
        """Hold every read to the bound; say how far behind the oldest was."""
        self._hold(sorted((done + self.bound, key, version) for _, done, key, version in self.writes))
        for before, after in self.returned:  # nothing from before an outage is left, whatever became of invalidating
            self._hold([(after, key, version) for at, _, key, version in self.writes if at < before])
        share = self.hits / len(self.reads)
        operations = len(self.reads) + len(self.writes)
        sys.stderr.write(
            f"{operations} operations, {len(self.returned)} outages, bound {self.bound * 1000:.0f} ms, "
            f"oldest read {self._oldest() * 1000:.1f} ms behind, {share:.1%} hits\n"
        )
        assert share > 0.5
        return operations

    def _hold(self, demands):
        """Let no read that begins after a demand's moment give less than its version."""
        newest, following = {}, 0
        for at, key, version in self.reads:
            while following < len(demands) and demands[following][0] < at:
                _, written, new = demands[following]
                newest[written] = max(newest.get(written, 0), new)
                following += 1
            assert version >= newest.get(key, 0), (at, key, version, newest[key])

    def _oldest(self):
        by_key = {}
        for _, done, key, version in self.writes:
            by_key.setdefault(key, []).append((done, version))
        return max(
            (
                at - done
                for at, key, seen in self.reads
                for done, new in by_key.get(key, ())
                if new > seen and done < at
            ),
            default=0.0,
        )


def test_no_copy_is_older_than_the_bound(servers):
    run = Run(servers, steps=3_000, bound=1.0)
    assert run.check() == 9_000
    assert run.troubles == set()


def test_no_copy_survives_that_redis_died_and_came_back(servers):
    run = Run(servers, steps=3_000, bound=0.5, outages=[0.0])  # back before the copies are too old
    assert run.check() == 9_000


@pytest.mark.soak
def test_a_hundred_thousand_operations_and_three_deaths_of_redis_stay_within_the_bound(servers):
    run = Run(servers, steps=34_000, bound=0.5, outages=[0.0, 1.0, 0.2])
    assert run.check() >= 100_000
    assert run.troubles & {"connection", "timeout"}
