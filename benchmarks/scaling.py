"""Whether a call costs the same however many threads, tasks, operations or keys there are."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from typing import TYPE_CHECKING, Any

from benchmarks.harness import Table, once, runner
from benchmarks.subjects import USUAL, closure, closure_async, work, work_async
from opero import CircuitBreaker, catalogue, opero
from opero.catalogue import Family
from opero_telemetry.exposition import text

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

CALLS = 40_000


def threaded(function: Callable[[int], Any], threads: int) -> Callable[[], float]:
    """Return what measures nanoseconds of CPU a call, the calls shared out to threads; each is to be counted once."""

    def some() -> None:
        for x in range(CALLS // threads):
            function(x)

    def measure() -> float:
        before = function.opero.stats()["calls"] if hasattr(function, "opero") else 0
        started = time.process_time_ns()
        running = [threading.Thread(target=some) for _ in range(threads)]
        for thread in running:
            thread.start()
        for thread in running:
            thread.join()
        took = (time.process_time_ns() - started) / CALLS
        if hasattr(function, "opero") and function.opero.stats()["calls"] - before != CALLS // threads * threads:
            raise AssertionError("calls were lost")
        return took

    return measure


def tasks(function: Callable[[int], Awaitable[Any]], count: int) -> Callable[[], float]:
    """Return what measures nanoseconds of CPU a call, so many tasks at once, each of which waits once."""

    async def one(x: int) -> None:
        await asyncio.sleep(0)
        await function(x)

    async def run() -> None:
        for _ in range(max(1, 10_000 // count)):
            await asyncio.gather(*(one(x) for x in range(count)))

    def measure() -> float:
        started = time.thread_time_ns()
        runner.run(run())
        return (time.thread_time_ns() - started) / max(count, 10_000 // count * count)

    return measure


def operations(make: Callable[[int], Callable[[int], Any]], count: int) -> Callable[[], float]:
    """Return what measures nanoseconds of CPU a call, of so many functions at random."""
    made = [make(n) for n in range(count)]
    for function in made:
        function(1)
    chosen = random.Random(1).choices(made, k=CALLS)

    def measure() -> float:
        started = time.thread_time_ns()
        for function in chosen:
            function(1)
        return (time.thread_time_ns() - started) / CALLS

    return measure


def keys(count: int) -> Callable[[], float]:
    """Return what measures nanoseconds of CPU a call, each with a circuit of one of so many keys."""
    function = opero(CircuitBreaker(key="x"))(work)

    def measure() -> float:
        started = time.thread_time_ns()
        for x in range(10_000):
            function(x % count)
        return (time.thread_time_ns() - started) / 10_000

    return measure


def scrapes() -> Iterator[tuple[str, Callable[[], float]]]:
    """Yield what measures microseconds of a scrape for each label set, by how many operations there are."""
    catalogue.NAMES += 10_000  # those of the suites before are gone, and these would be told as one
    functions = [opero(**USUAL, name=f"bench.series{n}")(work) for n in range(1000)]
    for function in functions:
        function(1)
    families = list(catalogue.snapshot())
    for count in (10, 100, 1000):
        names = {f"bench.series{n}" for n in range(count)}
        some = [_only(family, names) for family in families]
        sets = sum(len(family.samples) for family in some)

        def measure(some: list[Family] = some, sets: int = sets) -> float:
            started = time.thread_time()
            text(some, openmetrics=True)
            return (time.thread_time() - started) / sets * 1e6

        yield f"{count} operations, {sets} label sets", measure


def _only(family: Family, names: set[str]) -> Family:
    """Return the series of some operations."""
    found = Family(family.metric)
    for key, value in family.samples.items():
        if key[0] in names:
            found.add(key, value)
    return found


def tables() -> Iterator[Table]:
    """Yield every table."""
    yield Table("a scrape, for each label set", dict(scrapes()), once, rounds=3, unit="µs")
    usual = opero(**USUAL)(work)
    rows = {"bare closure, 1 thread": threaded(closure(work), 1), "bare closure, 8 threads": threaded(closure(work), 8)}
    rows |= {f"@opero, {n} thread{'s' * (n > 1)}": threaded(usual, n) for n in (1, 2, 4, 8)}
    yield Table("threads that call one function", rows, once, rounds=9)
    awaited, bare = opero(**USUAL)(work_async), closure_async(work_async)
    rows = {
        "bare async closure, 1 000 tasks": tasks(bare, 1000),
        "bare async closure, 100 000 tasks": tasks(bare, 100_000),
    }
    rows |= {f"@opero, {n} task{'s' * (n > 1)}": tasks(awaited, n) for n in (1, 100, 10_000, 100_000)}
    yield Table("tasks that await one function", rows, once, rounds=3)
    rows = {f"bare closures, {n}": operations(lambda _: closure(work), n) for n in (1, 10_000)}
    rows |= {
        f"@opero, {n}": operations(lambda n: opero(**USUAL, name=f"bench.o{n}")(work), n) for n in (1, 100, 10_000)
    }
    yield Table("operations in turn", rows, once, rounds=5)
    yield Table("keys of one circuit breaker", {f"{n}": keys(n) for n in (1, 100, 10_000)}, once, rounds=5)
