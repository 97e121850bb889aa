"""Maps beside their peers: trivial items, computing, waiting in threads and in tasks, large arrays, start-up.

Pools are warm, except for start-up. The first row of a table is the yardstick: what cannot be beaten, or what everybody
has. All processes share the same cores, two workers each.
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import pickle
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from benchmarks.harness import Table, once
from benchmarks.peers import there
from opero import opmap

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

WORKERS = 2
TRIVIAL, SMALL, BUSY, WAITS, ARRAYS = 1_000_000, 50_000, 400, 10_000, 16
SPIN, WAIT, THREADS, TASKS = 0.001, 0.01, 256, 1000
SLOW = ("mpire", "joblib (loky)")
BOUND = "pickle, pipe and work, on 2 cores"


def add(x: int) -> int:
    """Cost nothing."""
    return x + 1


def sum_up(x: int) -> int:
    """Compute for about 7 µs."""
    return sum(range(x % 7 + 1130))


def spin(x: int) -> int:
    """Compute for a millisecond of CPU time."""
    until = time.thread_time() + SPIN
    while time.thread_time() < until:
        pass
    return x


def wait(x: int) -> int:
    """Wait 10 ms, as for a server."""
    time.sleep(WAIT)
    return x


async def wait_async(x: int) -> int:
    """Wait 10 ms in a task."""
    await asyncio.sleep(WAIT)
    return x


def double(array: Any) -> Any:
    """Return 10 MB for 10 MB."""
    return array * 2


def timed(work: Callable[[], Any], scale: float) -> Callable[[], float]:
    """Return how long it takes, times `scale`."""

    def measure() -> float:
        started = time.perf_counter()
        work()
        return (time.perf_counter() - started) * scale

    return measure


def pools(
    function: Callable[[Any], Any], items: Any, *, chunk: int, without: tuple[str, ...] = ()
) -> dict[str, Callable[[], Any]]:
    """Everybody's process map over the same items, warm."""
    pool = multiprocessing.Pool(WORKERS)
    executor = ProcessPoolExecutor(WORKERS)
    found: dict[str, Callable[[], Any]] = {
        "multiprocessing.Pool.map": lambda: pool.map(function, items),
        "multiprocessing.Pool.imap, tuned chunks": lambda: list(pool.imap(function, items, chunksize=chunk)),
        "ProcessPoolExecutor.map, tuned chunks": lambda: list(executor.map(function, items, chunksize=chunk)),
    }
    if there("mpire") and "mpire" not in without:
        import mpire

        mpires = mpire.WorkerPool(WORKERS, keep_alive=True)
        found["mpire"] = lambda: mpires.map(function, items)
    if there("joblib") and "joblib (loky)" not in without:
        import joblib

        found["joblib (loky)"] = lambda: joblib.Parallel(WORKERS)(joblib.delayed(function)(x) for x in items)
    for work in found.values():
        work()
    return found


def bound(function: Callable[[Any], Any], items: Any, chunk: int) -> Callable[[], None]:
    """Return what no process pool can do without: pickle items and results, through a pipe, and do the work.

    Spread over all cores it is the least there can be, so a row divides its time by `WORKERS`.
    """
    ours, theirs = multiprocessing.Pipe()

    def work() -> None:
        for start in range(0, len(items), chunk):
            ours.send_bytes(pickle.dumps(items[start : start + chunk], 5))
            theirs.send_bytes(pickle.dumps([function(x) for x in pickle.loads(theirs.recv_bytes())], 5))
            pickle.loads(ours.recv_bytes())

    return work


def trivial() -> Table:
    """10⁶ items that cost nothing: what moving an item costs."""
    items = range(TRIVIAL)
    auto = opmap(mode="auto", name="bench.auto")(add)
    process = opmap(mode="process", workers=WORKERS, name="bench.trivial")(add)
    process(range(100_000))
    some = range(TRIVIAL // 20)  # of those that take long
    slow = {name: work for name, work in pools(add, some, chunk=1000).items() if name in SLOW}
    fast = pools(add, items, chunk=10_000, without=SLOW)
    subjects = {
        "a list comprehension": timed(lambda: [add(x) for x in items], 1e6 / TRIVIAL),
        BOUND: timed(bound(add, [*items], 10_000), 1e6 / TRIVIAL / WORKERS),
        '@opmap(mode="auto")': timed(lambda: auto(items), 1e6 / TRIVIAL),
        '@opmap(mode="process")': timed(lambda: process(items), 1e6 / TRIVIAL),
        **{name: timed(work, 1e6 / TRIVIAL) for name, work in fast.items()},
        **{name: timed(work, 1e6 / len(some)) for name, work in slow.items()},
    }
    if there("dask"):
        import dask.bag

        bag = dask.bag.from_sequence(some, npartitions=WORKERS).map(add)
        subjects["dask.bag"] = timed(lambda: bag.compute(scheduler="processes", num_workers=WORKERS), 1e6 / len(some))
    return Table("map: trivial items", subjects, once, rounds=5, unit="µs/item")


def small() -> Table:
    """7 µs items: where chunks must be neither small nor few."""
    items = range(SMALL)
    process = opmap(mode="process", workers=WORKERS, name="bench.small")(sum_up)
    process(items)
    scale = 1e6 / SMALL
    subjects = {
        "one process": timed(lambda: [sum_up(x) for x in items], scale),
        BOUND: timed(bound(sum_up, [*items], 1000), scale / WORKERS),
        '@opmap(mode="process")': timed(lambda: process(items), scale),
        **{name: timed(work, scale) for name, work in pools(sum_up, items, chunk=1000).items()},
    }
    return Table("map: 7 µs of computing an item", subjects, once, rounds=5, unit="µs/item")


def computing() -> Table:
    """1 ms items: how evenly the cores are kept busy."""
    items = range(BUSY)
    process = opmap(mode="process", workers=WORKERS, name="bench.spin")(spin)
    stealing = opmap(mode="process", workers=WORKERS, schedule="stealing", name="bench.stealing")(spin)
    process(items)
    stealing(items)
    scale = 1e3 / BUSY
    subjects = {
        "one process": timed(lambda: [spin(x) for x in items], scale),
        BOUND: timed(bound(spin, [*items], 10), scale / WORKERS),
        '@opmap(mode="process")': timed(lambda: process(items), scale),
        '@opmap(mode="process", schedule="stealing")': timed(lambda: stealing(items), scale),
        **{name: timed(work, scale) for name, work in pools(spin, items, chunk=10).items()},
    }
    return Table("map: 1 ms of computing an item", subjects, once, rounds=5, unit="ms/item")


def waiting() -> Table:
    """10⁴ waits of 10 ms, 256 at once, in threads."""
    items = range(WAITS)
    threads = opmap(mode="thread", workers=THREADS, name="bench.wait")(wait)
    auto = opmap(mode="auto", workers=THREADS, name="bench.wait.auto")(wait)
    executor = ThreadPoolExecutor(THREADS)
    scale = 1e3 / WAITS
    subjects = {
        "the waits alone": lambda: WAIT / THREADS * 1e3,
        "ThreadPoolExecutor.map": timed(lambda: list(executor.map(wait, items)), scale),
        '@opmap(mode="thread")': timed(lambda: threads(items), scale),
        '@opmap(mode="auto")': timed(lambda: auto(items), scale),
    }
    if there("joblib"):
        import joblib

        subjects["joblib (threading)"] = timed(
            lambda: joblib.Parallel(THREADS, backend="threading")(joblib.delayed(wait)(x) for x in items), scale
        )
    if there("pqdm"):
        from pqdm.threads import pqdm

        subjects["pqdm"] = timed(lambda: pqdm(items, wait, n_jobs=THREADS, disable=True), scale)
    return Table("map: waits of 10 ms, 256 threads", subjects, once, rounds=5, unit="ms/item")


def tasks() -> Table:
    """10⁴ waits of 10 ms, 1 000 at once, in tasks."""
    items = range(WAITS)
    mapped = opmap(workers=TASKS, name="bench.tasks")(wait_async)

    async def gathered() -> None:
        limit = asyncio.Semaphore(TASKS)

        async def one(x: int) -> int:
            async with limit:
                return await wait_async(x)

        await asyncio.gather(*map(one, items))

    scale = 1e6 / WAITS
    subjects = {
        "the waits alone": lambda: WAIT / TASKS * 1e6,
        "gather and a semaphore": timed(lambda: asyncio.run(gathered()), scale),
        "@opmap": timed(lambda: asyncio.run(mapped(items)), scale),
    }
    if there("aiometer"):
        import aiometer

        async def metered() -> None:
            await aiometer.run_on_each(wait_async, list(items), max_at_once=TASKS)

        subjects["aiometer"] = timed(lambda: asyncio.run(metered()), scale)
    if there("aiomultiprocess"):
        import aiomultiprocess

        async def multiplied() -> None:
            async with aiomultiprocess.Pool(WORKERS, childconcurrency=TASKS // WORKERS) as pool:
                await pool.map(wait_async, items)

        subjects["aiomultiprocess, start included"] = timed(lambda: asyncio.run(multiplied()), scale)
    return Table("map: waits of 10 ms, 1 000 tasks", subjects, once, rounds=3, unit="µs/item")


def rayed(items: list[Any], stack: contextlib.ExitStack) -> Callable[[], Any]:
    """Return ray's way to map the arrays, started and warm, on loopback; it ends with the stack."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    import ray

    ray.init(
        num_cpus=WORKERS,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="error",
        _node_ip_address="127.0.0.1",
    )
    stack.callback(ray.shutdown)
    remote = ray.remote(double)

    def work() -> Any:
        return ray.get([remote.remote(array) for array in items])

    work()
    return work


def arrays() -> Iterator[Table]:
    """10 MB there and 10 MB back."""
    if not there("numpy"):
        return
    import numpy as np

    items = [np.ones(1_250_000) * n for n in range(ARRAYS)]
    process = opmap(mode="process", workers=WORKERS, name="bench.double")(double)
    process(items)
    process(items)
    subjects: dict[str, Any] = {
        "one process": timed(lambda: [double(x) for x in items], 1e3 / ARRAYS),
        "a copy there, the work, a copy back, on 2 cores": timed(
            lambda: [(x.copy() * 2).copy() for x in items], 1e3 / ARRAYS / WORKERS
        ),
        "pickle, there and back": timed(
            lambda: [pickle.loads(pickle.dumps(pickle.loads(pickle.dumps(x, 5)) * 2, 5)) for x in items], 1e3 / ARRAYS
        ),
        '@opmap(mode="process")': timed(lambda: process(items), 1e3 / ARRAYS),
        **{name: timed(work, 1e3 / ARRAYS) for name, work in pools(double, items, chunk=1).items()},
    }
    with contextlib.ExitStack() as stack:
        if there("ray"):
            subjects["ray"] = timed(rayed(items, stack), 1e3 / ARRAYS)
        yield Table("map: arrays of 10 MB", subjects, once, rounds=5, unit="ms/item")


def starting() -> Table:
    """A new map of one item: how long until its result."""

    def pool() -> None:
        with multiprocessing.Pool(WORKERS) as fresh:
            fresh.map(add, [1])

    def executor() -> None:
        with ProcessPoolExecutor(WORKERS) as fresh:
            list(fresh.map(add, [1]))

    def process() -> None:
        fresh = opmap(mode="process", workers=WORKERS, start_method="fork", name="bench.start")(add)
        with fresh.pool:
            fresh([1])

    def threads() -> None:
        opmap(mode="thread", workers=WORKERS, name="bench.threads")(add)([1])

    subjects = {
        "multiprocessing.Pool": timed(pool, 1e3),
        "ProcessPoolExecutor": timed(executor, 1e3),
        '@opmap(mode="process"), forked': timed(process, 1e3),
        '@opmap(mode="thread")': timed(threads, 1e3),
    }
    if there("mpire"):
        import mpire

        def mpires() -> None:
            with mpire.WorkerPool(WORKERS) as fresh:
                fresh.map(add, [1])

        subjects["mpire"] = timed(mpires, 1e3)
    return Table("map: start, one item, end", subjects, once, rounds=7, unit="ms")


def tables() -> Iterator[Table]:
    """Yield every table."""
    yield starting()
    yield trivial()
    yield small()
    yield computing()
    yield waiting()
    yield tasks()
    yield from arrays()
