"""What a hit costs in memory, near and in Redis, and which policy misses least."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import random
import shutil
import threading
import time
from typing import TYPE_CHECKING, Any

from benchmarks.harness import Table, awaited, blocking, once, runner
from benchmarks.peers import there
from benchmarks.servers import redis_server
from opero import Cache, opero
from opero.stores.cache.entry import Entry
from opero.stores.cache.memory import LruStore, MemoryStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

KEYS = 2000


def work(x: int) -> int:
    """Do what is cached."""
    return x


async def work_async(x: int) -> int:
    """Do the same, in a coroutine."""
    return x


def warm(function: Callable[[int], Any]) -> Callable[[int], Any]:
    """Let every key be cached."""
    for x in range(KEYS):
        function(x)
    return function


def by_hand(function: Callable[[int], int]) -> Callable[[int], int]:
    """Cache as one writes it by hand: a dict, a lifetime, a lock for what is not there."""
    held: dict[int, tuple[float, int]] = {}
    lock = threading.Lock()

    def wrapper(x: int) -> int:
        found = held.get(x)
        if found is not None and time.monotonic() < found[0]:
            return found[1]
        with lock:
            value = function(x)
            held[x] = (time.monotonic() + 60, value)
            return value

    return wrapper


def plain() -> dict[str, Any]:
    """Return subjects of a hit in memory."""
    found: dict[str, Any] = {"functools.lru_cache": functools.lru_cache(KEYS)(work), "by hand, with TTL": by_hand(work)}
    if there("cachetools"):
        import cachetools

        cache: Any = cachetools.TTLCache(2 * KEYS, 60)
        found["cachetools, TTL and lock"] = cachetools.cached(cache, lock=threading.Lock())(work)
    if there("pyresilience"):
        import pyresilience

        kept = pyresilience.CacheConfig(max_size=2 * KEYS, ttl=60)
        found["pyresilience, cache"] = pyresilience.resilient(cache=kept)(work)
    found["@opero(cache_ttl=60)"] = opero(cache_ttl=60, retries=0)(work)
    return {name: warm(function) for name, function in found.items()}


def coroutine() -> dict[str, Any]:
    """Return subjects of a hit in memory, awaited."""
    found: dict[str, Any] = {}
    if there("aiocache"):
        import aiocache

        found["aiocache, memory"] = aiocache.cached(ttl=60)(work_async)
    if there("cashews"):
        from cashews import Cache as Cashews

        cashews = Cashews()
        cashews.setup("mem://")
        found["cashews, memory"] = cashews(ttl=60)(work_async)
    if there("pyresilience"):
        import pyresilience

        kept = pyresilience.CacheConfig(max_size=2 * KEYS, ttl=60)
        found["pyresilience, cache"] = pyresilience.resilient(cache=kept)(work_async)
    found["@opero(cache_ttl=60)"] = opero(cache_ttl=60, retries=0)(work_async)
    return found


def distant(url: str) -> Iterator[Table]:
    """Yield the tables over a real Redis."""
    import redis

    client = redis.Redis.from_url(url)
    client.mset({f"raw:{x}": json.dumps(x) for x in range(KEYS)})

    def raw(x: int) -> Any:
        return json.loads(client.get(f"raw:{x}"))  # type: ignore[arg-type]

    settings: dict[str, Any] = {"backend": "redis", "url": url, "patience": 5.0}
    signed: dict[str, Any] = {"signing_key": b"k" * 32, "encryption_key": b"e" * 32}
    yield Table(
        "a hit in Redis, plain",
        {
            "redis-py GET and json": raw,
            "@opero, redis": warm(opero(Cache(60, namespace="b1", **settings))(work)),
            "@opero, redis, signed and encrypted": warm(opero(Cache(60, namespace="b2", **settings, **signed))(work)),
        },
        blocking,
        calls=300,
        rounds=15,
    )
    yield Table("a hit in Redis, one task", distant_async(url, settings), awaited_warm, calls=300, rounds=10)
    yield Table("a hit in Redis, 100 tasks at once", distant_async(url, settings), gathered, calls=1000, rounds=6)
    near = opero(Cache(60, namespace="b3", near=5.0, **settings))(work)
    while near.opero.cache.stats()["entries"] < KEYS:
        warm(near)
    subjects: dict[str, Any] = {"redis-py GET and json": raw}
    with contextlib.suppress(ImportError):
        from redis.cache import CacheConfig
        from redis.connection import CacheProxyConnection

        CacheProxyConnection.MIN_ALLOWED_VERSION = "6.0.0"  # servers before 7.4 track keys, too
        tracking = redis.Redis.from_url(url, protocol=3, cache_config=CacheConfig(max_size=2 * KEYS))
        subjects["redis-py's client-side cache"] = warm(lambda x: json.loads(tracking.get(f"raw:{x}")))  # type: ignore[arg-type]
    subjects["@opero, near"] = near
    yield Table("a hit in a near-cache, plain", subjects, blocking, calls=KEYS, rounds=9)
    near_async: dict[str, Any] = {"@opero, near": opero(Cache(60, namespace="b3", near=5.0, **settings))(work_async)}
    if there("cashews"):
        from cashews import Cache as Cashews

        cashews = Cashews()
        cashews.setup(url, client_side=True)
        near_async = {"cashews, client side": cashews(ttl=60)(work_async), **near_async}
    yield Table("a hit in a near-cache, one task", near_async, awaited_warm, calls=1000, rounds=8)


def distant_async(url: str, settings: dict[str, Any]) -> dict[str, Any]:
    """Return subjects of a hit in Redis, awaited; each loop has clients of its own."""
    from redis import asyncio as redis

    client = redis.Redis.from_url(url, max_connections=200)

    async def raw(x: int) -> Any:
        return json.loads(await client.get(f"raw:{x}"))

    found: dict[str, Any] = {"redis.asyncio GET and json": raw}
    if there("cashews"):
        from cashews import Cache as Cashews

        cashews = Cashews()
        cashews.setup(url)
        found["cashews, redis"] = cashews(ttl=60)(work_async)
    if there("aiocache"):
        import aiocache
        from aiocache.serializers import JsonSerializer

        port = int(url.rpartition(":")[2].partition("/")[0])
        peer = aiocache.cached(
            ttl=60, cache=aiocache.Cache.REDIS, port=port, namespace="aio", serializer=JsonSerializer()
        )
        found["aiocache, redis"] = peer(work_async)
    found["@opero, redis"] = opero(Cache(60, namespace="b4", **settings))(work_async)
    return found


def gathered(function: Callable[[int], Any], calls: int) -> float:
    """Return nanoseconds a call, a hundred at a time."""

    async def run() -> float:
        await asyncio.gather(*(function(x) for x in range(100)))
        started = time.perf_counter_ns()
        for _ in range(calls // 100):
            await asyncio.gather(*(function(x) for x in range(100)))
        return (time.perf_counter_ns() - started) / calls

    return runner.run(run())


def awaited_warm(function: Callable[[int], Any], calls: int) -> float:
    """Return nanoseconds a call, once every key has been asked for and its copy is here."""

    async def run() -> float:
        for _ in range(3):
            for x in range(calls):
                await function(x)
            await asyncio.sleep(0.1)
        started = time.perf_counter_ns()
        for x in range(calls):
            await function(x)
        return (time.perf_counter_ns() - started) / calls

    return runner.run(run())


def traces() -> dict[str, list[int]]:
    """Return requests as they come: skewed, skewed with scans, in a loop, and with a set of favourites that moves."""
    chance = random.Random(1)
    count, keys = 60_000, 20_000
    weights = [1 / (n + 1) ** 0.9 for n in range(keys)]
    skewed = chance.choices(range(keys), weights, k=count)
    scans = list(skewed)
    for start in range(0, count, 6000):
        scans[start : start + 1500] = range(10**6 + start, 10**6 + start + 1500)
    moving = [(x + n // 6000 * 50) % keys for n, x in enumerate(skewed)]
    return {
        "Zipf 0.9": skewed,
        "Zipf 0.9 with scans": scans,
        "a loop": [n % 2500 for n in range(count)],
        "moving": moving,
    }


def missed(kind: type[MemoryStore], size: int, trace: list[int]) -> float:
    """Return the share of requests that miss, in percent."""
    store, misses = kind(size), 0
    for key in trace:
        if store.get(key, 0.0) is None:
            misses += 1
            store.put(key, Entry(None), 0.0)
    return 100 * misses / len(trace)


def missed_by_theine(size: int, trace: list[int]) -> float:
    """Return the same for W-TinyLFU as theine has it."""
    import theine

    cache: Any = theine.Cache(size)
    misses = 0
    for key in trace:
        if cache.get(key)[1] is False:
            misses += 1
            cache.set(key, True)
    cache.close()
    return 100 * misses / len(trace)


def policies() -> Iterator[Table]:
    """Yield the miss ratio by policy and size."""
    for name, trace in traces().items():
        for size in (200, 2000):
            subjects: dict[str, Any] = {
                "LRU": functools.partial(missed, LruStore, size, trace),
                "S3-FIFO": functools.partial(missed, MemoryStore, size, trace),
            }
            if there("theine"):
                subjects["W-TinyLFU (theine)"] = functools.partial(missed_by_theine, size, trace)
            yield Table(f"misses, {name}, {size} entries", subjects, once, rounds=3, unit="%")


def tables() -> Iterator[Table]:
    """Yield every table; those over Redis where the program is installed."""
    yield Table("a hit in memory, plain", plain(), blocking)
    yield Table("a hit in memory, awaited", coroutine(), awaited, calls=1000, rounds=9)
    if shutil.which("redis-server"):
        with redis_server() as url:
            yield from distant(url)
    yield from policies()
