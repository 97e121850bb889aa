"""Where the items come from: pulled as far as the workers want, and no further than the bound."""

from __future__ import annotations

from itertools import islice

from opero import clock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

TURN_SECONDS = 0.002  # an input that is slower is handed over as it comes


class Source:
    """An ordinary input. An error of the input waits until the items before it are done."""

    def __init__(self, items: Iterable[Any]) -> None:
        self._items = iter(items)
        self.error: BaseException | None = None
        self.exhausted = False

    def take(self, count: int) -> Sequence[Any]:
        """Pull at most so many; fewer when the input is slow."""
        found: list[Any] = []
        step, until = 1, clock.now() + TURN_SECONDS
        while count > len(found):
            wanted = min(step, count - len(found)) + len(found)
            try:
                found.extend(islice(self._items, wanted - len(found)))
            except Exception as error:  # noqa: BLE001 - the map raises it, after the items before it
                self.error = error
            if len(found) < wanted:
                self.exhausted = True
                break
            if clock.now() >= until:
                break
            step *= 8
        return found

    async def close(self) -> None:
        """Nothing to end: the caller owns its iterator."""


class Slices(Source):
    """An input that can be cut. A range stays one, so that no item is made before it is used."""

    def __init__(self, items: Sequence[Any]) -> None:
        super().__init__(())
        self._whole = items
        self._taken = 0

    def take(self, count: int) -> Sequence[Any]:
        """Take at most so many."""
        found = self._whole[self._taken : self._taken + count]
        self._taken += len(found)
        self.exhausted = self._taken >= len(self._whole)
        return found


def of(items: Iterable[Any]) -> Source:
    """Return where an ordinary input is taken from."""
    return Slices(items) if type(items) in {list, tuple, range} else Source(items)  # type: ignore[arg-type]
