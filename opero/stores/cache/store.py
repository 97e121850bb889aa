"""What a store of sealed entries does, be it a file or a server. Every wait goes through the runtime port."""

from __future__ import annotations

SAID = 1.0  # seconds; who waits for a lease looks twenty times meanwhile

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Protocol

    from opero.runtime import Runtime

    class Store(Protocol):
        """Bytes under names. A method that cannot do its part raises `Unavailable`; times in seconds."""

        name: str

        async def now(self, runtime: Runtime) -> float:
            """Return the time on the store's own clock."""
            raise NotImplementedError

        async def read(self, runtime: Runtime, names: Sequence[str]) -> list[bytes | None]:
            """Return entries."""
            raise NotImplementedError

        async def claim(
            self, runtime: Runtime, name: str, token: bytes, seconds: float, marks: Sequence[str]
        ) -> tuple[bytes | None, bytes | None, list[bytes | None]]:
            """Return the entry, or who holds the lease (`token`, if it was free), and what marks say that there are."""
            raise NotImplementedError

        async def lock(self, runtime: Runtime, name: str, token: bytes, seconds: float, force: bool) -> bytes | None:
            """Take the lease, by force or if it is free; return who holds it."""
            raise NotImplementedError

        async def write(
            self, runtime: Runtime, names: Sequence[str], data: bytes, seconds: float, token: bytes | None
        ) -> int:
            """Store an entry under the first name and end its lease, if that holds; forget what lies under the others.

            Return how many entries had to go.
            """
            raise NotImplementedError

        async def write_all(self, runtime: Runtime, entries: Sequence[tuple[str, bytes, float]]) -> int:
            """Store entries whatever leases there are: names, data, seconds; return how many others had to go."""
            raise NotImplementedError

        async def extend(self, runtime: Runtime, name: str, token: bytes, seconds: float) -> bool:
            """Hold the lease for so long from now; False if it is no longer held. Asked where nothing may suspend."""
            raise NotImplementedError

        async def release(self, runtime: Runtime, name: str, token: bytes, barren: bool) -> None:
            """End the lease, if it holds; `barren` says for `SAID` seconds that nothing came of it."""

        async def barren(self, runtime: Runtime, name: str, token: bytes) -> bool:
            """Whether it was said of a lease that nothing came of it."""
            raise NotImplementedError

        async def delete(self, runtime: Runtime, names: Sequence[str]) -> int:
            """Forget entries and their leases; return how many there were."""
            raise NotImplementedError

        async def marks(self, runtime: Runtime, marks: Sequence[str]) -> list[bytes | None]:
            """Return what marks say."""
            raise NotImplementedError

        async def mark(self, runtime: Runtime, texts: Sequence[tuple[str, bytes]]) -> list[bytes]:
            """Let marks that are missing say this; return what they say."""
            raise NotImplementedError

        async def remark(self, runtime: Runtime, texts: Sequence[tuple[str, bytes]]) -> None:
            """Let marks say this from now on."""

        async def clear(self, runtime: Runtime, namespace: str) -> None:
            """Forget every entry and mark of a namespace."""
