"""`workers="auto"` beside every fixed size: on work that computes, and on work that waits for a real server.

`python -m benchmarks.control.workers`: exit status 1 when "auto", once settled, is more than a tenth behind the best.
"""

from __future__ import annotations

import http.client
import sys
import threading
import time
from itertools import count, repeat
from subprocess import PIPE, Popen
from typing import TYPE_CHECKING, Any

from opero import opmap

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

WORKERS, SECONDS = 15, 0.02  # of the server
MEASURED, SETTLING = 4.0, 20.0
SHARE = 0.9
_connections = threading.local()


def compute(n: int) -> int:
    """Keep a core busy for some milliseconds."""
    return sum(i * i for i in range(20_000 + n % 7))


def ask(port: int) -> bytes:
    """Get an answer, on the connection of this thread."""
    connection = getattr(_connections, "held", None)
    if connection is None or connection.port != port:
        connection = _connections.held = http.client.HTTPConnection("127.0.0.1", port)
    connection.request("GET", "/")
    return connection.getresponse().read()


def rate(mapped: Any, items: Iterable[Any], settling: float) -> float:
    """Return items a second, after some time to settle."""
    started, first, done = time.monotonic(), None, 0
    for _ in (stream := mapped.stream(items)):
        now = time.monotonic()
        if now < started + settling:
            continue
        first = first or now
        done += 1
        if now >= first + MEASURED:
            stream.close()
            return done / (now - first)
    raise RuntimeError("the input ended")


def compare(name: str, function: Callable[..., Any], mode: str, sizes: Iterable[int], items: Any) -> bool:
    """Sweep, let it find the size by itself, and sweep again: the machine may have got busier."""
    known: dict[int, float] = {}
    sizes = tuple(sizes)
    auto = opmap(mode=mode, workers="auto", name=f"auto.{name}")(function)
    halves = []
    for turn in range(2):
        for size in sizes:
            fixed = opmap(mode=mode, workers=size, name=f"fixed.{name}.{turn}.{size}")(function)
            known[size] = known.get(size, 0.0) + rate(fixed, items(), 1.0) / 2
        halves.append(rate(auto, items(), 0.5 * SETTLING))
    found, best = sum(halves) / 2, max(known, key=lambda size: known[size])
    share = found / known[best]
    swept = ", ".join(f"{size}: {value:.0f}" for size, value in known.items())
    print(f"{name:>8} ({mode}): items a second by size {swept}")
    settled = auto.opero.controllers["map.workers"].setpoint
    print(f"{'':>8} auto settled at {settled:.0f} with {found:.0f}, {share:.0%} of the best ({best})", flush=True)
    return share >= SHARE


def main() -> int:
    """Compare both kinds of work."""
    met = compare("compute", compute, "process", (1, 2, 3, 4), count)
    command = [sys.executable, "-m", "benchmarks.control.server", str(WORKERS), str(SECONDS)]
    with Popen(command, stdin=PIPE, stdout=PIPE, text=True) as server:
        assert server.stdout is not None
        assert server.stdin is not None
        port = int(server.stdout.readline())
        met = compare("wait", ask, "thread", (2, 4, 8, 16, 32), lambda: repeat(port)) and met
        server.stdin.close()
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
