"""What may be tuned while it runs: a number within bounds."""

from __future__ import annotations

from math import isfinite

from opero.errors import ConfigurationError


class Knob:
    """A number that a controller, or you, may change between `low` and `high`. Reading and setting are atomic.

    Example:
        >>> limit = Knob("bulkhead.limit", 10, low=1, high=100)
        >>> limit.set(500)
        100
    """

    __slots__ = ("high", "low", "name", "value")

    def __init__(self, name: str, value: float, *, low: float, high: float) -> None:
        self.name = name
        self.low = low
        self.high = high
        self.value = value

    def set(self, value: float) -> float:
        """Move it, clamped to the bounds, and return the new value; NaN and infinities are refused."""
        if not isfinite(value):
            raise ConfigurationError(self.name, value, f"a number from {self.low:g} to {self.high:g}")
        self.value = min(max(value, self.low), self.high)
        return self.value
