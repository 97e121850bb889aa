"""A web service whose answer waits for a dependency, plainly at /plain and through Opero at /opero."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from benchmarks.subjects import EVERYTHING
from opero import opero

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

DEPENDENCY = 0.02  # seconds


async def plain(path: str) -> bytes:
    """Wait, as for a database."""
    await asyncio.sleep(DEPENDENCY)
    return path.encode()


PATHS = {"/plain": plain, "/opero": opero(**EVERYTHING, timeout=10.0, name="bench.dependency")(plain)}


async def app(scope: dict[str, Any], _: object, send: Callable[[dict[str, Any]], Awaitable[None]]) -> None:
    """Answer one request."""
    body = await PATHS[scope["path"]](scope["path"])
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})
