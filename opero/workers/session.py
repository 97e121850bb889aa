"""What a map asks of its workers, whatever they are."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Protocol

    Done = tuple[int, Any, BaseException | None]

    class Session(Protocol):
        """Workers for one run over a function. Items are handed over in order and come back as they are done."""

        def submit(self, index: int, item: Any) -> None:
            """Hand over an item."""

        async def next(self) -> Done:
            """Wait for one that is done, whichever: its index, its result, its error."""
            raise NotImplementedError

        async def close(self) -> None:
            """End it, also in the middle."""
