"""For your tests: a virtual clock, what was said as plain data, faults on purpose, and no waiting."""

from __future__ import annotations

from opero.testing.capture import Captured, capture
from opero.testing.faults import chaos, no_waits
from opero.testing.stores import check_store
from opero.testing.timeline import Clock
from opero.testing.virtual import clock

__all__ = ["Captured", "Clock", "capture", "chaos", "check_store", "clock", "no_waits"]


def __dir__() -> list[str]:
    return __all__
