"""A program that uses every primitive there is, over and over, so that every series moves."""

import asyncio
import contextlib
import threading
import time

import opero as o
from opero import events

TICK = 0.05  # seconds between rounds


class Flaky:
    """Fails, answers slowly and answers, by turns."""

    def __init__(self):
        self.turn = 0

    def __call__(self):
        self.turn += 1
        if self.turn % 8 in {0, 1, 2, 5}:  # three in a row: all attempts
            raise ConnectionError
        if self.turn % 7 == 0:
            time.sleep(0.03)
        return self.turn


def square(n):
    if n == 13:
        raise ValueError(n)
    return n * n


def functions():
    """Return what is called in a round."""

    @o.opero(retries=2, min_delay=0.001, max_delay=0.01, fallback=0, rate_limit=200, bulkhead=2, name="shop.price")
    def price(flaky):
        return flaky()

    @o.opero(
        o.CircuitBreaker(min_calls=3, window=1.0, reset_after=0.2, max_reset_after=0.4, half_open_probes=1),
        retries=0,
        name="shop.stock",
    )
    def stock():
        if time.monotonic() % 2 < 1:
            raise ConnectionError

    @o.opero(o.RateLimit(50, wait=False, burst=1), retries=0, name="shop.limited")
    def limited(): ...

    @o.opero(o.Bulkhead(1, max_queue=1, max_wait=0.01), retries=0, name="shop.narrow")
    def narrow():
        time.sleep(0.02)

    @o.opero(attempt_timeout=0.01, retries=1, min_delay=0, name="shop.slow")
    async def slow():
        await asyncio.sleep(0.2)

    @o.opero(arg_fallback="host", retries=0, name="shop.replica")
    def replica(host):
        if host == "a":
            raise ConnectionError

    many = o.opmap(mode="thread", workers=2, errors="return", name="shop.parse")(square)
    flaky = Flaky()
    return [
        lambda: price(flaky),
        stock,
        limited,
        limited,
        lambda: _at_once(narrow, 4),
        lambda: asyncio.run(slow()),
        lambda: replica(["a", "b"]),
        lambda: many(range(20)),
    ]


def _at_once(function, n):
    threads = [threading.Thread(target=_quietly, args=(function,)) for _ in range(n)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _quietly(function):
    with contextlib.suppress(Exception):
        function()


@contextlib.contextmanager
def running():
    """Call everything until the block ends."""
    over = threading.Event()

    def refuse(event):
        raise RuntimeError("a subscriber that fails")

    def work():
        calls = functions()
        while not over.wait(TICK):
            for call in calls:
                _quietly(call)

    with events.subscribe(refuse, "opero.fallback.used"):
        thread = threading.Thread(target=work)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
