"""`opero demo`: a service that misbehaves on a script, called plainly and through Opero at the same moments."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
import urllib.request
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

MINIMUM = 5.0
NEEDED = ("httpx", "rich", "prometheus_client", "opentelemetry.sdk", "structlog")


def command(arguments: Sequence[str]) -> int:
    """Run the demo; exit status 0 when it ran, 2 when it could not."""
    given = _parse(arguments)
    for module in NEEDED:
        __import__(module)
    try:
        return _run(given)
    except _CannotRun as error:
        print(f"opero demo: {error}", file=sys.stderr)
        return 2


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="opero demo", description=__doc__)
    parser.add_argument("--seconds", type=float, default=45.0, help="how long (default 45, 5 or more)")
    parser.add_argument("--plain", action="store_true", help="print lines, no live table; the default in a pipe")
    parser.add_argument("--port", type=int, default=9464, help="port of /metrics on 127.0.0.1 (default 9464, 0: any)")
    given = parser.parse_args(arguments)
    if not MINIMUM <= given.seconds <= 3600:
        parser.error(f"--seconds {given.seconds:g}: takes 5 to 3600")
    if not 0 <= given.port <= 65535:
        parser.error(f"--port {given.port}: takes 0 to 65535")
    return given


class _CannotRun(Exception):
    """Says in one sentence why, and the way out."""


def _run(given: argparse.Namespace) -> int:
    from opero_telemetry.demo import report, view

    with ExitStack() as stack:
        service = stack.enter_context(_process("service", "--seconds", str(given.seconds)))
        bases = [f"http://127.0.0.1:{port}" for port in _line(service)["ports"]]
        port = ["--port", str(given.port)]
        client = stack.enter_context(_process("client", "--seconds", str(given.seconds), *port, "--bases", *bases))
        url = _line(client)["url"]
        started, state = time.monotonic(), {"done": False}
        shown = view.plain if given.plain or not sys.stdout.isatty() else view.live
        with shown(url) as show:
            while not state.get("done"):
                state = _line(client)
                show(state, _report(bases[1])["phase"], max(0.0, given.seconds - time.monotonic() + started))
        print(report.text(state, _report(bases[1])["counts"], url))
    return 0


@contextmanager
def _process(name: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Start one of our processes; it ends when its stdin closes, and for sure when we leave."""
    line = [sys.executable, "-m", f"opero_telemetry.demo.{name}", *arguments]
    process = subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)  # noqa: S603 - ourselves
    try:
        yield process
    finally:
        assert process.stdin is not None  # noqa: S101 - for the type checkers; it is a pipe
        process.stdin.close()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()


def _line(process: subprocess.Popen[str]) -> dict[str, Any]:
    assert process.stdout is not None  # noqa: S101 - for the type checkers; it is a pipe
    text = process.stdout.readline()
    if not text:
        raise _CannotRun(f"a process of the demo ended early, with exit status {process.wait(5)}")
    said: dict[str, Any] = json.loads(text)
    if "error" in said:
        raise _CannotRun(said["error"])
    return said


def _report(base: str) -> dict[str, Any]:
    with urllib.request.urlopen(f"{base}/report", timeout=10) as answer:  # noqa: S310 - our own service, on loopback
        found: dict[str, Any] = json.load(answer)
    return found
