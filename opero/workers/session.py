"""What a map asks of its workers, whatever they are."""

from __future__ import annotations

from opero import clock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, Protocol

NOTHING: Any = object()  # what a fold begins with
SLOW_SECONDS = 0.001  # items below are counted together: they share the lowest bucket

if TYPE_CHECKING:

    class Session(Protocol):
        """Workers for one run over a function. Items are handed over in order and come back as they are done."""

        @property
        def insights(self) -> list[Insight]:
            """What each of its workers did."""
            raise NotImplementedError

        def room(self) -> int:
            """How many more items the workers want to have at hand."""
            raise NotImplementedError

        def ahead(self) -> int:
            """How many items may be pulled and not consumed, unless the user says."""
            raise NotImplementedError

        def submit(self, indices: Sequence[int], items: Sequence[Any]) -> None:
            """Hand over items."""

        def poll(self) -> list[Block]:
            """Return what is done, without waiting."""
            raise NotImplementedError

        async def next(self, until: float | None) -> list[Block]:
            """Wait for something that is done, whichever; return nothing if that would be later than `until`."""
            raise NotImplementedError

        def chunk(self) -> int:
            """How many items travel at once by its own choice; 0 if that is no question here."""
            raise NotImplementedError

        def resize(self, workers: int, chunk: int | None) -> None:
            """Have so many workers from now on; `chunk` items travel at once, as it chooses if None."""

        async def close(self) -> None:
            """End it, also in the middle."""


def left(until: float | None) -> float | None:
    """Return the seconds until then."""
    return None if until is None else max(0.0, until - clock.now())


class Block:
    """Outcomes of some items: values, with None in the places of errors; or, when reduced, `partial` for all of them.

    `slow` holds places and seconds of those that took a millisecond or more, and among how many from that place each
    is, where that is all that is known; all together took `seconds`.
    """

    __slots__ = ("errors", "indices", "partial", "seconds", "slow", "values")

    def __init__(
        self,
        indices: Sequence[int],
        values: list[Any],
        errors: dict[int, BaseException] | None = None,
        *,
        slow: Sequence[tuple[int, float, int]] = (),
        seconds: float = 0.0,
        partial: Any = NOTHING,
    ) -> None:
        self.indices = indices
        self.values = values
        self.errors = errors or {}  # by place in the block
        self.slow = slow
        self.seconds = seconds
        self.partial = partial


class Insight:
    """What one worker of a run did. Times in seconds."""

    __slots__ = ("busy", "chunks", "items", "name", "started", "starting", "waiting")

    def __init__(self, name: str, started: float) -> None:
        self.name = name
        self.started = started  # on the monotonic clock
        self.starting = 0.0  # until it was ready
        self.busy = 0.0
        self.waiting = 0.0  # for items, once the run has ended
        self.items = 0
        self.chunks = 0

    def served(self, items: int, seconds: float) -> None:
        """Count work."""
        self.items += items
        self.busy += seconds

    def __repr__(self) -> str:
        return f"<{self.name}: {self.items} items in {self.chunks} chunks, busy {self.busy:.3g} s>"
