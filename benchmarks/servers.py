"""Servers for benchmarks, on free ports of loopback."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import tempfile
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator


def free_port() -> int:
    """Return a port of loopback that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def serving(command: list[str], port: int, **how: Any) -> Iterator[None]:
    """Run a program that serves a port, from when it does."""
    server = subprocess.Popen(command, **how)
    try:
        for _ in range(500):
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", port)).close()
                break
            time.sleep(0.02)
        yield
    finally:
        server.terminate()
        server.wait()


@contextlib.contextmanager
def redis_server() -> Iterator[str]:
    """Start a server, and give its address."""
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        command = ["redis-server", "--bind", "127.0.0.1", "--port", str(port), "--save", "", "--dir", folder]
        with serving(command, port, stdout=subprocess.DEVNULL):
            yield f"redis://127.0.0.1:{port}/0"
