"""An outage that outlives its cause: plain retries stay down, adaptive control recovers.

A real HTTP server in its own process works on 15 requests at once, 100 ms each: 150 a second. 105 calls a second come,
open loop, each with a timeout of 1 s an attempt. For 10 s the workers stand still. Afterwards the line holds requests
that nobody waits for, and every retry adds one: with plain retries that goes on for ever. Both runs, one after the
other, and a plot of good answers a second. Exit status 1 unless plain retries stay down and adaptive control is back
within 10 s. `python -m benchmarks.control.recovery --plot recovery.svg`
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections import Counter
from pathlib import Path
from subprocess import PIPE, Popen
from typing import Any

from benchmarks.control.plot import lines
from opero import SLO, opero

WORKERS, SECONDS, RATE, TIMEOUT = 15, 0.1, 105.0, 1.0
HEALTHY, OUTAGE = 10.0, 10.0
RECOVERED = 0.9  # of the calls that come, answered in each of three seconds in a row

PLAIN: dict[str, Any] = {"retries": 3, "min_delay": 0.05, "attempt_timeout": TIMEOUT}
ADAPTIVE: dict[str, Any] = {**PLAIN, "bulkhead": "adaptive", "retry_budget": "adaptive", "slo": SLO(0.99, latency=0.5)}


async def request(port: int, path: str = "/") -> None:
    """Ask once, on a connection of its own."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        if not (await reader.readline()).startswith(b"HTTP/1.1 200"):
            raise ConnectionError("no answer")
    finally:
        writer.close()


class Run:
    """One policy against one server."""

    def __init__(self, name: str, settings: dict[str, Any], after: float) -> None:
        self.name, self.after = name, after
        self.good: Counter[int] = Counter()
        self.offered: Counter[int] = Counter()
        self.call = opero(**settings, name=f"recovery.{name}")(request)

    async def go(self) -> None:
        """Let calls come, let the server fail, and see."""
        command = [sys.executable, "-m", "benchmarks.control.server", str(WORKERS), str(SECONDS)]
        with Popen(command, stdin=PIPE, stdout=PIPE, text=True) as server:  # noqa: ASYNC220 - nothing else runs yet
            assert server.stdout is not None
            assert server.stdin is not None
            port = int(server.stdout.readline())
            try:
                await request(port)
                await self._calls(port)
            finally:
                server.stdin.close()

    async def _calls(self, port: int) -> None:
        started, number, tasks = time.monotonic(), 0, set()
        switches = [(HEALTHY, "/down"), (HEALTHY + OUTAGE, "/up")]
        while (now := time.monotonic() - started) < HEALTHY + OUTAGE + self.after:
            if switches and now >= switches[0][0]:
                await request(port, switches.pop(0)[1])
            while number < now * RATE:
                number += 1
                self.offered[int(now)] += 1
                task = asyncio.create_task(self._one(port, started))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
            await asyncio.sleep(0.004)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _one(self, port: int, started: float) -> None:
        try:
            await self.call(port)
        except Exception:  # noqa: BLE001 - whatever it is, it is no answer
            return
        self.good[int(time.monotonic() - started)] += 1

    def answered(self, first: int, seconds: int) -> float:
        """Return the share of calls that came in these seconds, as good answers in them."""
        span = range(first, first + seconds)
        return sum(self.good[s] for s in span) / max(1, sum(self.offered[s] for s in span))

    def recovered(self) -> float | None:
        """Seconds from the end of the outage until good answers are back; None if they are not."""
        end = int(HEALTHY + OUTAGE)
        for second in range(end, int(end + self.after) - 2):
            if all(self.good[s] >= RECOVERED * self.offered[s] for s in range(second, second + 3)):
                return float(second - end)
        return None


def main(arguments: list[str]) -> int:
    """Run both, and say which recovered."""
    parser = argparse.ArgumentParser(prog="benchmarks.control.recovery", description=__doc__)
    parser.add_argument("--after", type=float, default=40.0, help="seconds to look on after the outage")
    parser.add_argument("--plot", type=Path, help="where to write an SVG")
    options = parser.parse_args(arguments)
    runs = [Run("plain", PLAIN, options.after), Run("adaptive", ADAPTIVE, options.after)]
    for run in runs:
        asyncio.run(run.go())
        back, stats = run.recovered(), run.call.opero.stats()
        healthy, last = run.answered(0, int(HEALTHY)), run.answered(int(HEALTHY + OUTAGE + options.after) - 10, 10)
        said = "never recovered" if back is None else f"recovered in {back:.0f} s"
        amplification = stats["attempts"] / max(1, stats["calls"])
        shares = f"answered {healthy:.0%} before, {last:.0%} in the last 10 s"
        print(f"{run.name:>9}: {said}; {shares}; {amplification:.2f} attempts a call", flush=True)
    if options.plot:
        points = {
            run.name: [(float(s), float(run.good[s])) for s in range(int(HEALTHY + OUTAGE + options.after))]
            for run in runs
        }
        bands = [(HEALTHY, HEALTHY + OUTAGE, "outage")]
        options.plot.write_text(lines("Good answers a second", points, bands=bands), encoding="utf-8")
    plain, adaptive = (run.recovered() for run in runs)
    fair = all(run.answered(2, int(HEALTHY) - 2) > RECOVERED for run in runs)
    if not fair:
        print("the machine was too busy: a run was not healthy before the outage")
    return 0 if fair and plain is None and adaptive is not None and adaptive <= 10 else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
