"""What there is to export: the families of this process and of its siblings, each with a bounded number of series."""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING

from opero import catalogue

if TYPE_CHECKING:
    from collections.abc import Callable

    from opero.catalogue import Family

CAP = 1000  # series an instrument; what comes later is summed into one
OTHER = "_OTHER"


class Reader:
    """Reads everything once. A series that was shown once is shown for ever; thread-safe."""

    def __init__(self, read: Callable[[], list[Family]] | None = None, *, cap: int = CAP) -> None:
        self._read = read or catalogue.snapshot
        self._cap = cap
        self._shown: dict[str, set[tuple[str, ...]]] = {}
        self._lock = Lock()

    def read(self) -> list[Family]:
        """Return the families; with more than `cap` series, those that came last are one named `_OTHER`."""
        families = self._read()
        with self._lock:
            for family in families:
                self._bound_locked(family)
        return families

    def _bound_locked(self, family: Family) -> None:
        shown = self._shown.setdefault(family.metric.name, set())
        surplus = []
        for key in family.samples:
            if key not in shown:
                if len(shown) >= self._cap:
                    surplus.append(key)
                else:
                    shown.add(key)
        other = (OTHER,) * len(family.attributes)
        for key in surplus:
            value = family.samples.pop(key)
            if isinstance(value, list):
                value = catalogue.coarsen(value, family.bounds(key[0]), family.metric.buckets)
            family.add(other, value)
