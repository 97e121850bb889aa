"""How many items travel at once: as many as are some milliseconds of work.

The workers of a map choose, block by block, from what items took (`opero.workers`): here that choice is a wish, so that
it is seen, told and counted as every other, and can be frozen or overridden.
"""

from __future__ import annotations

from typing import NamedTuple

from opero.control.law import Wish

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

PARAMETER = "map.chunk_size"


class Snapshot(NamedTuple):
    """What the workers chose, and the seconds of an item; both of the last look."""

    now: float
    size: float
    chosen: float
    item: float


class ChunkSizeLaw:
    """Agrees with the workers."""

    name = "chunk_size"

    def decide(self, snapshot: Snapshot) -> Sequence[Wish]:
        """Return their choice."""
        return [Wish(PARAMETER, snapshot.chosen, "item_seconds", {"item_seconds": snapshot.item})]
