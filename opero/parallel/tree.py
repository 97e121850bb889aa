"""Reduction of many to one in a balanced way, from the left to the right. Pure."""

from __future__ import annotations

from opero.workers.session import NOTHING

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


class Tree:
    """Merges neighbours of equal weight, as a binary counter carries: merging n lists copies n log n items, not n².

    `reduce` must be associative; it need not be commutative.

    Example:
        >>> tree = Tree(lambda a, b: f"({a}{b})")
        >>> for letter in "abcde":
        ...     tree.add(letter)
        >>> tree.total()
        '(((ab)(cd))e)'
    """

    def __init__(self, reduce: Callable[[Any, Any], Any]) -> None:
        self._reduce = reduce
        self._parts: list[tuple[int, Any]] = []  # (how many were merged, what they are)

    def add(self, value: Any) -> None:
        """Add at the right."""
        weight = 1
        while self._parts and self._parts[-1][0] == weight:
            _, left = self._parts.pop()
            value, weight = self._reduce(left, value), 2 * weight
        self._parts.append((weight, value))

    def total(self, initial: Any = NOTHING) -> Any:
        """Return everything merged, `initial` leftmost; without anything to merge it must be given."""
        if not self._parts:
            if initial is NOTHING:
                raise TypeError("map_reduce() of no results with no initial value")
            return initial
        _, value = self._parts[-1]
        for _, left in reversed(self._parts[:-1]):
            value = self._reduce(left, value)
        return value if initial is NOTHING else self._reduce(initial, value)
