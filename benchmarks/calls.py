"""What a call costs when nothing goes wrong, when it fails, and when it is refused."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from benchmarks.harness import Table, awaited, blocking, failing, handed_over
from benchmarks.subjects import EVERYTHING, USUAL, boom, closure, closure_async, loop_by_hand, work, work_async
from opero import CircuitBreaker, Retry, Timeout, opero, waits

if TYPE_CHECKING:
    from collections.abc import Iterator


async def timeout_by_asyncio(x: int) -> int:
    """Bound a coroutine by the standard library's means."""
    async with asyncio.timeout(10):
        return await work_async(x)


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
    yield Table(
        "three attempts that fail, without waits",
        {"loop by hand": loop_by_hand, "@opero": opero(Retry(2, wait=waits.constant(0)))(boom), **peers.failing(boom)},
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
