"""A program that uses every primitive there is, over and over, so that every series moves, until its stdin closes."""

import asyncio
import contextlib
import itertools
import os
import sys
import threading
import time
from pathlib import Path

import opero as o
import opero_slo
import opero_telemetry
from opero import events

TICK = 0.2  # seconds between rounds
EXPECTED = (ConnectionError, TimeoutError, o.OperoError)  # anything else ends the program, and fails the test


class Flaky:
    """Fails, answers slowly and answers, by turns."""

    def __init__(self):
        self.turns = itertools.count(1)

    def __call__(self):
        turn = next(self.turns)
        if turn % 8 in {0, 1, 2, 5}:  # three in a row: all attempts
            raise ConnectionError
        if turn % 7 == 0:
            time.sleep(0.03)
        return turn


def down():
    raise ConnectionError


def refuse(event):
    raise RuntimeError("a subscriber that fails")


def square(n):
    if n == 13:
        raise ValueError(n)
    return n * n


def embed(batch):
    if len(batch) > 64:
        raise MemoryError
    return batch * 2


def failing():
    """Return calls that fail and are helped."""

    @o.opero(retries=2, min_delay=0.001, max_delay=0.01, fallback=0, rate_limit=200, bulkhead=2, name="shop.price")
    def price(flaky):
        return flaky()

    @o.opero(
        o.CircuitBreaker(min_calls=3, window=1.0, reset_after=0.2, max_reset_after=0.4, half_open_probes=1),
        retries=0,
        name="shop.stock",
    )
    def stock():
        if time.monotonic() % 4 < 2:
            raise ConnectionError

    @o.opero(arg_fallback="host", retries=0, slo=o.SLO(0.9, latency=0.1), name="shop.replica")
    def replica(host):
        if host == "a":
            raise ConnectionError

    budget = o.opero(retries=1, backoff=o.waits.constant(0), retry_budget="adaptive", name="shop.budget")(down)
    flaky = Flaky()
    return [lambda: price(flaky), stock, lambda: replica(["a", "b"]), budget]


def answered():
    """Return calls a cache answers, some of them after it had to make room."""
    if not hasattr(o, "Cache"):
        return []
    cached = o.opero(o.Cache(1.0, max_entries=4), retries=0, name="shop.cached")(lambda key: key)
    keys = itertools.cycle(range(6))
    return [lambda: cached(next(keys)), lambda: cached(0), lambda: cached(0)]


def waiting():
    """Return calls that wait, and are told to."""
    limited = o.opero(o.RateLimit(50, wait=False, burst=1), retries=0, name="shop.limited")(lambda: None)

    @o.opero(o.Bulkhead(1, max_queue=1, max_wait=0.01), retries=0, name="shop.narrow")
    def narrow():
        time.sleep(0.02)

    @o.opero(attempt_timeout=0.01, retries=1, min_delay=0, name="shop.slow")
    async def slow():
        await asyncio.sleep(0.2)

    @o.opero(hedge=0.002, retries=0, name="shop.hedged")
    async def hedged():
        await asyncio.sleep(0.02)

    many_at_once = o.opmap(mode="gpu", errors="return", name="shop.embed")(embed)
    many = o.opmap(mode="thread", workers=2, errors="return", name="shop.parse")(square)
    return [
        limited,
        limited,
        lambda: at_once(narrow, 4),
        lambda: asyncio.run(slow()),
        lambda: asyncio.run(hedged()),
        lambda: many(range(20)),
        lambda: many_at_once(range(400)),
    ]


def at_once(function, n):
    threads = [threading.Thread(target=quietly, args=(function,)) for _ in range(n)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def quietly(function):
    with contextlib.suppress(*EXPECTED):
        function()


def end_with_parent():
    sys.stdin.read()
    os._exit(0)


def main():
    threading.Thread(target=end_with_parent, daemon=True).start()
    telemetry = opero_telemetry.start(metrics_port=0, logs=None, events_file=os.devnull)
    events.subscribe(refuse, "opero.fallback.used")
    opero_slo.start(str(Path(__file__).with_name("contract.yaml")), interval=1)
    calls = failing() + answered() + waiting()
    sys.stdout.write(telemetry.url.removeprefix("http://") + "\n")
    sys.stdout.flush()
    while True:
        for call in calls:
            quietly(call)
        time.sleep(TICK)


if __name__ == "__main__":
    main()
