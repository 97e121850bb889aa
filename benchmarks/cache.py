"""What a hit costs in memory, near and in Redis, what codecs and compression cost, and which policy misses least."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import random
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from typing import TYPE_CHECKING, Any

from benchmarks.harness import Table, blocking, once
from benchmarks.peers import there
from opero import Cache, opero
from opero.stores.cache.codecs import PICKLE, PLAIN, Codecs
from opero.stores.cache.entry import Entry
from opero.stores.cache.envelope import Envelope, Sheet
from opero.stores.cache.keyring import KeyRing
from opero.stores.cache.memory import LruStore, MemoryStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

KEYS = 2000
runner = asyncio.Runner()  # one loop for all rounds: peers' clients do not change loops
RECORDS = [{"id": n, "name": f"record {n}", "price": n / 7, "tags": ["a", "b"]} for n in range(3000)]


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
    found["@opero(cache_ttl=60)"] = opero(cache_ttl=60, retries=0)(work_async)
    return found


@contextlib.contextmanager
def redis_server() -> Iterator[str]:
    """Start a server, and give its address."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        command = ["redis-server", "--bind", "127.0.0.1", "--port", str(port), "--save", "", "--dir", folder]
        server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        try:
            for _ in range(200):
                with contextlib.suppress(OSError):
                    socket.create_connection(("127.0.0.1", port)).close()
                    break
                time.sleep(0.02)
            yield f"redis://127.0.0.1:{port}/0"
        finally:
            server.terminate()
            server.wait()


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
    with contextlib.suppress(ImportError, redis.ConnectionError):  # it refuses servers before 7.4
        from redis.cache import CacheConfig

        tracking = redis.Redis.from_url(url, protocol=3, cache_config=CacheConfig(max_size=2 * KEYS))
        subjects["redis-py's client-side cache"] = warm(lambda x: json.loads(tracking.get(f"raw:{x}")))  # type: ignore[arg-type]
    subjects["@opero, near"] = near
    yield Table("a hit in a near-cache, plain", subjects, blocking, calls=300, rounds=15)
    near_async: dict[str, Any] = {"@opero, near": opero(Cache(60, namespace="b3", near=5.0, **settings))(work_async)}
    if there("cashews"):
        from cashews import Cache as Cashews

        cashews = Cashews()
        cashews.setup(url, client_side=True)
        near_async = {"cashews, client side": cashews(ttl=60)(work_async), **near_async}
    yield Table("a hit in a near-cache, one task", near_async, awaited_warm, calls=300, rounds=8)


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


def bytes_of() -> Iterator[Table]:
    """Yield what it costs to write and read 250 kB of records."""
    plain, rich = Codecs(len, authentic=False), Codecs(len, authentic=True)
    sheet = Sheet(created=0, soft=1, hard=1, gone=1)
    _, body = plain.dump(RECORDS)
    rings = {"signing": KeyRing(b"k" * 32), "encryption": KeyRing(b"e" * 32)}
    envelopes = {
        "checksum": Envelope(),
        "HMAC-SHA-256": Envelope(signing=rings["signing"]),
        "AES-256-GCM": Envelope(encryption=rings["encryption"]),
        "zstd": Envelope(compress_above=0),
        "zstd, AES-256-GCM and HMAC-SHA-256": Envelope(compress_above=0, **rings),  # type: ignore[arg-type]
    }

    def through(envelope: Envelope) -> Callable[[int], Any]:
        return lambda _: envelope.open(b"a", envelope.seal(b"a", sheet, body))

    yield Table(
        f"write and read {len(RECORDS)} records",
        {
            "json": lambda _: json.loads(json.dumps(RECORDS)),
            "MessagePack, types checked": lambda _: plain.load(PLAIN, plain.dump(RECORDS)[1]),
            "pickle 5": lambda _: rich.load(PICKLE, rich._pickle(RECORDS)),  # type: ignore[arg-type]  # noqa: SLF001
        },
        blocking,
        calls=3,
        rounds=9,
    )
    subjects = {f"{name} ({len(e.seal(b'a', sheet, body)) // 1000} kB)": through(e) for name, e in envelopes.items()}
    yield Table(f"seal and open {len(body) // 1000} kB", subjects, blocking, calls=5, rounds=9)


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
    yield Table("a hit in memory, awaited", coroutine(), awaited_warm, calls=1000, rounds=9)
    if shutil.which("redis-server"):
        with redis_server() as url:
            yield from distant(url)
            runner.close()
    yield from bytes_of()
    yield from policies()
