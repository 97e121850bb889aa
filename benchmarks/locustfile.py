"""Users who ask for both paths of `benchmarks/service.py` in turn; at the end every latency goes to a file."""

from __future__ import annotations

import json
import os
import random
from collections import defaultdict
from pathlib import Path
from typing import Any

from locust import FastHttpUser, constant_throughput, events, task

took: dict[str, list[float]] = defaultdict(list)  # milliseconds


class Reader(FastHttpUser):
    """Asks five times a second."""

    wait_time = constant_throughput(5)

    @task
    def both(self) -> None:
        """Ask for both, in either order: what disturbs one disturbs the other."""
        for path in random.sample(("/plain", "/opero"), 2):
            self.client.get(path)


@events.request.add_listener
def keep(name: str, response_time: float, exception: Exception | None, **_: Any) -> None:
    """Keep one latency."""
    if exception is not None:
        raise exception
    took[name].append(response_time)


@events.quitting.add_listener
def write(**_: Any) -> None:
    """Write them all."""
    Path(os.environ["OPERO_BENCH_LATENCIES"]).write_text(json.dumps(took), encoding="utf-8")
