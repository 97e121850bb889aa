"""What a call costs when nothing goes wrong, when it fails, and when it is refused."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from benchmarks.harness import Table, awaited, blocking, failing, handed_over
from benchmarks.subjects import EVERYTHING, USUAL, boom, closure, closure_async, loop_by_hand, work, work_async
from opero import (
    Bulkhead,
    Cache,
    Chaos,
    CircuitBreaker,
    Fallback,
    Hedge,
    RateLimit,
    Retry,
    RetryBudget,
    Timeout,
    opero,
    waits,
)

if TYPE_CHECKING:
    from collections.abc import Iterator


async def timeout_by_asyncio(x: int) -> int:
    """Bound a coroutine by the standard library's means."""
    async with asyncio.timeout(10):
        return await work_async(x)


def alone() -> dict[str, Any]:
    """Return each policy without the others, as few of its settings as it needs."""
    found: dict[str, Any] = {
        "Retry": Retry(3),
        "Retry with a budget": Retry(3, budget=RetryBudget()),
        "Timeout, cooperative": Timeout(10, how="cooperative"),
        "CircuitBreaker": CircuitBreaker(),
        "RateLimit": RateLimit(1_000_000_000),
        "Bulkhead": Bulkhead(100),
        "Hedge": Hedge(10.0),
        "Fallback": Fallback(None),
        "Cache": Cache(60),
        "Chaos, not enabled": Chaos(error=ValueError),
    }
    return found


def tables() -> Iterator[Table]:
    """Yield every table; peers are those that are installed."""
    from benchmarks import peers

    yield Table(
        "a call of a plain function",
        {
            "bare closure": closure(work),
            "@opero": opero(work),
            "@opero, breaker, limit": opero(**USUAL)(work),
            "@opero, breaker, limit, bulkhead": opero(**EVERYTHING)(work),
            **peers.plain(work),
        },
        blocking,
    )
    yield Table(
        "a call of a coroutine function",
        {
            "bare async closure": closure_async(work_async),
            "@opero": opero(work_async),
            "@opero, breaker, limit": opero(**USUAL)(work_async),
            "@opero, breaker, limit, timeout": opero(**USUAL, timeout=10)(work_async),
            "asyncio.timeout": timeout_by_asyncio,
            **peers.coroutine(work_async),
        },
        awaited,
    )
    full = opero(*(Timeout(10, how="cooperative"), Fallback(None)), **EVERYTHING)(work)
    plain = {name: opero(policy)(work) for name, policy in alone().items() if name != "Hedge"}
    yield Table("a call with one policy", {"bare closure": closure(work), **plain, "all but Cache": full}, blocking)
    full = opero(Timeout(10), Fallback(None), Hedge(10.0), **EVERYTHING)(work_async)
    awaiting = {name: opero(policy)(work_async) for name, policy in alone().items() if "cooperative" not in name}
    bare = {"bare async closure": closure_async(work_async)}
    yield Table("an awaited call with one policy", {**bare, **awaiting, "all but Cache": full}, awaited, calls=1000)
    with ThreadPoolExecutor(1) as pool:
        yield Table(
            "a timeout around a plain function",
            {
                "hand-over to a thread pool": lambda x: pool.submit(work, x).result(10),
                "@opero(timeout=10)": opero(retries=0, timeout=10)(work),
                "@opero(Timeout(10, how='cooperative'))": opero(Timeout(10, how="cooperative"))(work),
            },
            handed_over,
            calls=300,
        )
    at_once = waits.constant(0)
    yield Table(
        "three attempts that fail, without waits",
        {
            "loop by hand": loop_by_hand,
            "@opero": opero(Retry(2, wait=at_once))(boom),
            "@opero, breaker that stays closed": opero(Retry(2, wait=at_once), CircuitBreaker(consecutive=10**9))(boom),
            **peers.failing(boom),
        },
        failing,
        calls=400,
    )
    opened = opero(CircuitBreaker())(work)
    opened.opero.breaker.force_open()
    yield Table(
        "an open breaker refuses",
        {"a closure that raises": closure(boom), "@opero": opened, **peers.opened(boom)},
        failing,
        calls=400,
    )
