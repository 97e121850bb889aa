"""One cached result, and what may be done with it at a point in time."""

from __future__ import annotations

from math import inf, log

from opero import waits

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Hashable
    from typing import Any


AHEAD = 60.0  # seconds a clock may go back; what is of a later time is of no known age
SURE = 37.0  # −ln of the smallest chance that is drawn, 2⁻⁵³


class Entry:
    """A result, or an error that was cached on demand. Times in seconds on the clock of its store.

    It is fresh before `soft`, stale before `hard`, and kept for a failing function before `gone`. `load` is how long
    the function took; `born` the store's count of invalidations when that began; `key`, `size`, `uses` are the store's,
    and so is `fresh`: before it, the value answers without a further question.
    """

    __slots__ = ("born", "failed", "fresh", "gone", "hard", "key", "load", "size", "soft", "tags", "uses", "value")

    def __init__(
        self,
        value: Any,
        *,
        soft: float = inf,
        hard: float = inf,
        gone: float = inf,
        load: float = 0.0,
        failed: bool = False,
        tags: tuple[Hashable, ...] = (),
        born: int = 0,
    ) -> None:
        self.value = value
        self.soft = soft
        self.hard = hard
        self.gone = gone
        self.load = load
        self.failed = failed
        self.tags = tags
        self.born = born
        self.key: Hashable = None
        self.fresh = -inf
        self.size = 0
        self.uses = 0

    @property
    def passes(self) -> bool:
        """Whether the first who reads the value uses it up: an iterator, a generator, an open file."""
        kind = type(self.value)
        return hasattr(kind, "__next__") or hasattr(kind, "__anext__")

    def read(self) -> Any:
        """Return the result, or raise the error."""
        return self.value.thaw() if self.failed else self.value


def drawn() -> float:
    """Draw evenly between 0 and 1."""
    return waits.uniform(0.0, 1.0)


def judge(entry: Entry, now: float, early: float, chance: Callable[[], float] = drawn) -> str | None:
    """Say what an entry is good for at `now`: "hit", "stale" (answer and load anew), None (expired).

    `early` is XFetch's β: a load that takes Δ seconds begins at β·Δ·(−ln chance) before the end.
    """
    if now >= entry.hard:
        return None
    if now >= entry.soft:
        return "stale"
    if early and now - entry.load * early * log(chance() or 1e-300) >= entry.hard:
        return "stale"
    return "hit"


def sure(soft: float, hard: float, load: float, early: float) -> float:
    """Return before when an entry is a hit, whatever chance is drawn."""
    return min(soft, hard - load * early * SURE)


class Frozen:
    """An error as bytes: kept without its frames, and a new object each time it is raised."""

    __slots__ = ("data",)

    def __init__(self, data: bytes) -> None:
        self.data = data

    def thaw(self) -> Any:
        """Raise it."""
        from pickle import loads

        raise loads(self.data)  # noqa: S301 - our own bytes; from a store only once their signature was checked


def freeze(error: Exception) -> Frozen:
    """Make an error keepable; raises what pickling it raises."""
    from pickle import dumps, loads

    frozen = Frozen(dumps(error, protocol=5))
    loads(frozen.data)  # noqa: S301 - our own bytes: one that does not come back is not kept
    return frozen
