"""The client: a process of its own that calls the service, once plainly and once through Opero, at the same moments.

The moments are fixed beforehand: no call waits for the answer to another one, so an outage meets as many as a calm.
Says what it sees in JSON lines on stdout, the last one with `"done": true`, and ends when its stdin does.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
import sysconfig
import time
import warnings
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock, Thread
from typing import TYPE_CHECKING, Any, cast

import opero_telemetry
from opero.errors import ConfigurationError
from opero_telemetry.demo.operations import FAILED, AsyncShop, Shop, parse, resilient

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

RATES = {"price": 14, "stock": 7, "order": 14}  # calls a second, each way
AT_ONCE = 100  # threads, each way: what waits for a slow answer must not hold up the next call
SKUS = [f"sku-{n}" for n in range(20)]


class Client:
    """Load, and the count of what the plain calls gave."""

    def __init__(self, bases: list[str], seconds: float) -> None:
        self.started = time.monotonic()
        self.seconds = seconds
        self.bases = bases
        self.plain: Counter[str] = Counter()
        self.shop = Shop(bases, "opero")
        self.functions = resilient(self.shop, AsyncShop(bases, "opero"), seconds)
        self.parsed: dict[str, Any] = {}
        self._lock = Lock()

    def run(self) -> None:
        """Call until the time is over and every answer there, reporting twice a second."""
        threads = [Thread(target=work, daemon=True) for work in (self._call, self._order, self._parse)]
        for thread in threads:
            thread.start()
        for thread in threads:
            while thread.is_alive():
                thread.join(0.5)
                say(self.state())
        say({**self.state(), "done": True})

    def state(self) -> dict[str, Any]:
        """Return everything the view shows."""
        operations = {}
        for name, function in {**self.functions, "parse": parse}.items():
            operations[name] = function.opero.stats()
            if "circuit_breaker" in [policy.place for policy in function.opero.policies]:
                operations[name]["circuit"] = function.opero.breaker.state
        return {"operations": operations, "plain": self.plain, "parsed": self.parsed}

    def _call(self) -> None:
        plain = Shop(self.bases, "plain")
        with ThreadPoolExecutor(AT_ONCE) as plainly, ThreadPoolExecutor(AT_ONCE) as resiliently:
            for at, operation, sku in self._moments("price", "stock"):
                time.sleep(max(0.0, at - time.monotonic()))
                plainly.submit(self._plainly, plain, operation, sku)
                resiliently.submit(_answered, self.functions[operation], sku, self.bases)

    def _plainly(self, shop: Shop, operation: str, sku: str) -> None:
        self._count(operation, answered=_answered(shop.get, operation, sku))

    def _moments(self, *operations: str) -> Iterator[tuple[float, str, str]]:
        """Yield when to call what, in order of time."""
        times = [
            (n / RATES[operation], operation, SKUS[n % len(SKUS)])
            for operation in operations
            for n in range(int(self.seconds * RATES[operation]))
        ]
        return ((self.started + after, operation, sku) for after, operation, sku in sorted(times))

    def _count(self, operation: str, *, answered: bool) -> None:
        with self._lock:
            self.plain[f"{operation} calls"] += 1
            self.plain[f"{operation} ok"] += answered

    def _order(self) -> None:
        asyncio.run(self._orders())

    async def _orders(self) -> None:
        # httpx binds its connections to the loop that opens them
        shop = AsyncShop(self.bases, "opero")
        self.functions.update(order=resilient(self.shop, shop, self.seconds)["order"])
        plain = AsyncShop(self.bases, "plain")
        async with asyncio.TaskGroup() as tasks:
            for at, _, sku in self._moments("order"):
                await asyncio.sleep(max(0.0, at - time.monotonic()))
                tasks.create_task(self._order_plainly(plain, sku))
                tasks.create_task(_answered_async(self.functions["order"](sku)))

    async def _order_plainly(self, shop: AsyncShop, sku: str) -> None:
        self._count("order", answered=await _answered_async(shop.order(sku)))

    def _parse(self) -> None:
        files = sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))
        started = time.monotonic()
        found = parse(files)
        good = [pair for pair in cast("list[object]", found) if isinstance(pair, tuple)]
        self.parsed = {
            "files": len(files),
            "failed": len(found) - len(good),
            "functions": sum(functions for functions, _ in good),
            "classes": sum(classes for _, classes in good),
            "seconds": time.monotonic() - started,
        }


def _answered(call: Callable[..., object], *args: object) -> bool:
    try:
        call(*args)
    except (*FAILED, RuntimeError, ExceptionGroup):
        return False
    return True


async def _answered_async(call: Awaitable[object]) -> bool:
    try:
        await call
    except (*FAILED, RuntimeError, ExceptionGroup):
        return False
    return True


def say(state: dict[str, Any]) -> None:
    """Write one line to whoever started us."""
    print(json.dumps(state), flush=True)


def _end_with_parent() -> None:
    sys.stdin.read()
    os._exit(1)


def main() -> int:
    """Run; exit status 2 when the port for /metrics is in use."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--bases", nargs=2, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--port", type=int, required=True)
    given = parser.parse_args()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Thread(target=_end_with_parent, daemon=True).start()
    try:
        telemetry = opero_telemetry.start(metrics_port=given.port, logs=None)
    except ConfigurationError as error:
        say({"error": f"{error}; opero demo --port 0 picks one"})
        return 2
    say({"url": telemetry.url})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SyntaxWarning)  # of the sources we parse
        Client(given.bases, given.seconds).run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
