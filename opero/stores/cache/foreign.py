"""A store of the user's own: an object with `get(name)`, `set(name, data, seconds)` and `delete(name)`, plain or async.

It gets sealed bytes under names that are digests. It has no leases, so each process loads for itself. `clear(prefix)`
is optional. A coroutine function awaits async methods, and calls plain ones in a thread.
"""

from __future__ import annotations

from opero import clock
from opero.stores.cache.trouble import Unavailable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from opero.runtime import Runtime

MARKED = 7 * 24 * 3600.0  # seconds a mark lives; a lost one ends its entries


class ForeignStore:
    """Adapts a backend object. What it raises is told, and the function runs."""

    def __init__(self, backend: Any) -> None:
        self.backend = backend
        self.name = type(backend).__name__

    async def now(self, runtime: Runtime) -> float:
        return clock.wall()

    async def read(self, runtime: Runtime, names: Sequence[str]) -> list[bytes | None]:
        return [_bytes(await self._call(runtime, self.backend.get, name)) for name in names]

    async def claim(
        self, runtime: Runtime, name: str, token: bytes, seconds: float, marks: Sequence[str]
    ) -> tuple[bytes | None, bytes | None, list[bytes | None]]:
        data, *texts = await self.read(runtime, [name, *marks])
        return data, None if data is not None else token, texts

    async def lock(self, runtime: Runtime, name: str, token: bytes, seconds: float, force: bool) -> bytes | None:
        return token

    async def write(
        self, runtime: Runtime, names: Sequence[str], data: bytes, seconds: float, token: bytes | None
    ) -> int:
        name, *older = names
        await self._call(runtime, self.backend.set, name, data, seconds)
        for each in older:
            await self._call(runtime, self.backend.delete, each)
        return 0

    async def write_all(self, runtime: Runtime, entries: Sequence[tuple[str, bytes, float]]) -> int:
        return sum([await self.write(runtime, [name], data, seconds, None) for name, data, seconds in entries])

    async def extend(self, runtime: Runtime, name: str, token: bytes, seconds: float) -> bool:
        return False

    async def release(self, runtime: Runtime, name: str, token: bytes, barren: bool) -> None:
        """Hold nothing."""

    async def barren(self, runtime: Runtime, name: str, token: bytes) -> bool:
        return False

    async def delete(self, runtime: Runtime, names: Sequence[str]) -> int:
        found = await self.read(runtime, names)
        for name in names:
            await self._call(runtime, self.backend.delete, name)
        return len(found) - found.count(None)

    async def marks(self, runtime: Runtime, marks: Sequence[str]) -> list[bytes | None]:
        return await self.read(runtime, marks)

    async def mark(self, runtime: Runtime, texts: Sequence[tuple[str, bytes]]) -> list[bytes]:
        await self.remark(runtime, texts)
        return [text for _, text in texts]

    async def remark(self, runtime: Runtime, texts: Sequence[tuple[str, bytes]]) -> None:
        for mark, text in texts:
            await self._call(runtime, self.backend.set, mark, text, MARKED)

    async def clear(self, runtime: Runtime, namespace: str) -> None:
        clear = getattr(self.backend, "clear", None)
        if clear is None:
            raise Unavailable(f"{self.name} has no clear(prefix)")
        if not _takes(clear, f"{namespace}:"):
            raise Unavailable(f"clear of {self.name} takes no prefix")
        await self._call(runtime, clear, f"{namespace}:")

    async def _call(self, runtime: Runtime, method: Any, *args: Any) -> Any:
        try:
            answer = await runtime.offload(method, *args)
            return await answer if hasattr(answer, "__await__") else answer
        except Exception as error:
            raise Unavailable(type(error).__name__) from error


def _takes(method: Any, argument: object) -> bool:
    from inspect import signature

    try:
        signature(method).bind(argument)
    except TypeError:
        return False
    except ValueError:  # written in C, and tells nothing
        pass
    return True


def _bytes(answer: Any) -> bytes | None:
    """Return what a backend gave; what are no bytes is empty, and so refused as foreign."""
    if answer is None or isinstance(answer, bytes):
        return answer
    return bytes(answer) if isinstance(answer, bytearray | memoryview) else b""
