"""The misbehaving service: a process of its own, on two loopback ports. The second is a replica that has no outage.

Says its ports in one JSON line on stdout, and ends when its stdin does.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import sys
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from typing import Any

from opero_telemetry.demo import script


class Service:
    """What both ports share: the script's clock, the dice, and the count of what was asked and answered."""

    def __init__(self, seconds: float, seed: int) -> None:
        self.seconds = seconds
        self.started = time.monotonic()
        self.counts: Counter[str] = Counter()
        self._random = random.Random(seed)
        self._lock = Lock()

    def phase(self) -> script.Phase:
        """Where the script is."""
        return script.phase_at(time.monotonic() - self.started, self.seconds)

    def roll(self) -> float:
        """Draw from 0 to 1."""
        with self._lock:
            return self._random.random()

    def count(self, caller: str, operation: str, answer: str) -> None:
        """Count one answer, and the request it was for."""
        with self._lock:
            self.counts[f"{caller} {operation} {answer}"] += 1
            self.counts[f"{caller} {operation} requests"] += 1


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Any

    def do_GET(self) -> None:
        if self.path == "/report":
            self._answer(200, {"counts": self.server.service.counts, "phase": self.server.service.phase().name})
        else:
            self._misbehave()

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self._misbehave()

    def _misbehave(self) -> None:
        service, phase = self.server.service, self.server.service.phase()
        answer = _decide(phase, service.roll(), outage=not self.server.replica)
        service.count(self.headers.get("X-Caller", "?"), self.path.split("/")[1], answer)
        if answer == "dropped":
            self.close_connection = True
            return
        low, high = script.SPIKE if answer == "slow" else script.LATENCY
        time.sleep(low + (high - low) * service.roll())
        if answer == "busy":
            self._answer(429, {"error": "busy"}, {"Retry-After": str(script.RETRY_AFTER)})
        elif answer == "error":
            self._answer(500, {"error": "broken"})
        else:
            self._answer(200, {"value": round(100 * service.roll(), 2)})

    def _answer(self, status: int, body: dict[str, Any], headers: dict[str, str] | None = None) -> None:
        payload = json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(payload)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(payload)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name http.server calls
        """Say nothing."""


class _Port(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, service: Service, *, replica: bool) -> None:
        self.service = service
        self.replica = replica
        super().__init__(("127.0.0.1", 0), _Handler)
        Thread(target=self.serve_forever, daemon=True).start()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Callers that stopped waiting hang up; that is the point."""


def _decide(phase: script.Phase, roll: float, *, outage: bool) -> str:
    if phase.outage:
        return "dropped" if outage else "ok"
    for answer, share in (("error", phase.errors), ("busy", phase.busy), ("slow", phase.slow)):
        if roll < share:
            return answer
        roll -= share
    return "ok"


def main() -> None:
    """Serve until stdin closes."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    service = Service(given.seconds, given.seed)
    ports = [_Port(service, replica=replica).server_address[1] for replica in (False, True)]
    print(json.dumps({"ports": ports}), flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
