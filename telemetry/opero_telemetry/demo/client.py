"""The client: a process of its own that calls the service, once plainly and once through Opero, at the same moments.

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
from pathlib import Path
from threading import Lock, Thread
from typing import TYPE_CHECKING, Any, cast

import opero_telemetry
from opero.errors import ConfigurationError
from opero_telemetry.demo.operations import FAILED, AsyncShop, Shop, parse, resilient

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

THREADS, TASKS = 6, 6
PACE = 0.1  # seconds from one call of a thread or task to its next
SKUS = [f"sku-{n}" for n in range(20)]


class Client:
    """Load, and the count of what the plain calls gave."""

    def __init__(self, bases: list[str], seconds: float) -> None:
        self.until = time.monotonic() + seconds
        self.bases = bases
        self.plain: Counter[str] = Counter()
        self.shop = Shop(bases, "opero")
        self.functions = resilient(self.shop, AsyncShop(bases, "opero"))
        self.parsed: dict[str, Any] = {}
        self._lock = Lock()

    def run(self) -> None:
        """Call until the time is over, reporting twice a second."""
        calling = [Thread(target=self._call, args=(n,), daemon=True) for n in range(THREADS)]
        others = [Thread(target=self._order, daemon=True), Thread(target=self._parse, daemon=True)]
        for thread in (*calling, *others):
            thread.start()
        for thread in (*calling, *others):
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

    def _call(self, n: int) -> None:
        plain = Shop(self.bases, "plain")
        turn = n
        while time.monotonic() < self.until:
            sku, operation = SKUS[turn % len(SKUS)], "stock" if turn % 3 == 0 else "price"
            arguments = (sku, self.bases) if operation == "stock" else (sku,)
            self._count(operation, answered=_answered(lambda: plain.get(operation, sku)))  # noqa: B023 - called at once
            _answered(lambda: self.functions[operation](*arguments))  # noqa: B023 - called at once
            turn += 1
            time.sleep(_rest())

    def _count(self, operation: str, *, answered: bool) -> None:
        with self._lock:
            self.plain[f"{operation} calls"] += 1
            self.plain[f"{operation} ok"] += answered

    def _order(self) -> None:
        asyncio.run(self._orders())

    async def _orders(self) -> None:
        # httpx binds its connections to the loop that opens them
        self.functions.update(order=resilient(self.shop, AsyncShop(self.bases, "opero"))["order"])
        plain = AsyncShop(self.bases, "plain")
        await asyncio.gather(*(self._order_loop(plain) for _ in range(TASKS)))

    async def _order_loop(self, plain: AsyncShop) -> None:
        while time.monotonic() < self.until:
            self._count("order", answered=await _answered_async(plain.order(SKUS[0])))
            await _answered_async(self.functions["order"](SKUS[0]))
            await asyncio.sleep(_rest())

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


def _answered(call: Callable[[], object]) -> bool:
    try:
        call()
    except (*FAILED, RuntimeError, ExceptionGroup):
        return False
    return True


async def _answered_async(call: Awaitable[object]) -> bool:
    try:
        await call
    except (*FAILED, RuntimeError, ExceptionGroup):
        return False
    return True


def _rest() -> float:
    """Seconds to the next beat: a call that fails fast is not made more often than one that takes its time."""
    return PACE - time.monotonic() % PACE


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
