"""What a rate limit that admits costs: in one process, and in one that shares it with others through Redis."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

from benchmarks.harness import Table, awaited, blocking, handed_over
from benchmarks.peers import there
from benchmarks.servers import redis_server
from benchmarks.subjects import closure, closure_async, work, work_async
from opero import RateLimit, opero

if TYPE_CHECKING:
    from collections.abc import Iterator

RATE = 1_000_000  # a second: it always admits
GCRA = """
local now = redis.call("TIME")
now = now[1] * 1000000 + now[2]
local due = math.max(tonumber(redis.call("GET", KEYS[1]) or "0"), now)
if due > now + tonumber(ARGV[2]) then return due - now end
redis.call("SET", KEYS[1], string.format("%d", due + tonumber(ARGV[1])), "PX", 10000)
return 0
"""


def plain() -> dict[str, Any]:
    """Return the subjects for a plain function."""
    found: dict[str, Any] = {
        "bare closure": closure(work),
        "@opero": opero(RateLimit(RATE * 1000))(work),
        "@opero, a key": opero(RateLimit(RATE * 1000, key="x"))(work),
    }
    if there("pyresilience"):
        import pyresilience

        limit = pyresilience.RateLimiterConfig(max_calls=RATE * 1000, period=1.0)
        found["pyresilience"] = pyresilience.resilient(rate_limiter=limit)(work)
    if there("limits"):
        import limits

        item = limits.RateLimitItemPerSecond(RATE * 1000)
        strategy = limits.strategies.FixedWindowRateLimiter(limits.storage.MemoryStorage())
        found["limits, fixed window"] = lambda x: strategy.hit(item) and work(x)
    return found


def coroutine() -> dict[str, Any]:
    """Return the subjects for a coroutine function."""
    found: dict[str, Any] = {
        "bare async closure": closure_async(work_async),
        "@opero": opero(RateLimit(RATE * 1000))(work_async),
    }
    if there("aiolimiter"):
        import aiolimiter

        limiter = aiolimiter.AsyncLimiter(RATE * 1000, 1)

        async def limited(x: int) -> int:
            async with limiter:
                return await work_async(x)

        found["aiolimiter"] = limited
    return found


def shared(url: str) -> dict[str, Any]:
    """Return the subjects that share their limit through Redis."""
    import redis

    script = redis.Redis.from_url(url).register_script(GCRA)

    def by_script(x: int) -> int:
        if script(keys=["gcra"], args=[1_000_000 // RATE, 1_000_000]):
            raise RuntimeError
        return work(x)

    limits = {
        "@opero": RateLimit(RATE, store=url, name="each"),
        "@opero, leases of 1000": RateLimit(RATE, store=url, name="leased", lease=1000),
    }
    return {"a Lua script by redis-py": by_script, **{name: opero(limit)(work) for name, limit in limits.items()}}


def tables() -> Iterator[Table]:
    """Yield every table; the shared one where the program is installed."""
    yield Table("a limit of one process", plain(), blocking)
    yield Table("a limit of one process, awaited", coroutine(), awaited)
    if shutil.which("redis-server"):
        with redis_server() as url:
            subjects = shared(url)
            for x in range(5000):
                subjects["@opero, leases of 1000"](x)
            yield Table("a limit that processes share", subjects, handed_over, rounds=15)
