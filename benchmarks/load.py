"""Latency percentiles of a web service under load, with and without Opero: uvicorn, asked by locust over loopback."""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.harness import Table, once
from benchmarks.peers import there
from benchmarks.servers import free_port, serving

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parent
USERS, SECONDS = 50, 12
PERCENTILES = {"p50": 50, "p90": 90, "p95": 95, "p99": 99}


@contextlib.contextmanager
def service() -> Iterator[str]:
    """Start the service, and give its address."""
    port = free_port()
    command = ["-m", "uvicorn", "benchmarks.service:app", "--port", str(port), "--lifespan", "off", "--no-access-log"]
    with serving([sys.executable, *command, "--log-level", "warning"], port, cwd=HERE.parent):
        yield f"http://127.0.0.1:{port}"


def latencies(url: str, path: Path) -> dict[str, list[float]]:
    """Return milliseconds of every request, by path."""
    command = ["-m", "locust", "-f", str(HERE / "locustfile.py"), "--headless", "--host", url, "--only-summary"]
    limits = ["-u", str(USERS), "-r", str(USERS), "-t", f"{SECONDS}s", "--exit-code-on-error", "1"]
    environment = {**os.environ, "OPERO_BENCH_LATENCIES": str(path)}
    done = subprocess.run(
        [sys.executable, *command, *limits],
        cwd=HERE.parent,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    found: dict[str, list[float]] = json.loads(path.read_text(encoding="utf-8"))
    return found


def tables() -> Iterator[Table]:
    """Yield the table, where locust is."""
    if not there("locust"):
        return
    with tempfile.TemporaryDirectory() as folder, service() as url:
        found = latencies(url, Path(folder) / "latencies.json")
    cut = {path: statistics.quantiles(values, n=100) for path, values in found.items()}
    rows = {
        f"{label}, {name}": lambda value=cut[path][at - 1]: value
        for name, at in PERCENTILES.items()
        for label, path in (("plain", "/plain"), ("@opero", "/opero"))
    }
    yield Table("latency of a web service under load", rows, once, rounds=1, unit="ms")
