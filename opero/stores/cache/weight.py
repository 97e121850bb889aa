"""An estimate of the bytes a value takes in memory, its parts included, in a time that does not grow with it."""

from __future__ import annotations

import sys
from collections import Counter, deque
from itertools import islice
from math import isqrt

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection
    from typing import Any

LIMIT = 10_000
DEEP = 50
FAR = 100_000  # how far into what cannot be indexed a sample looks
PLAIN = frozenset({type(None), bool, int, float, complex, str, bytes, bytearray})
SHARED = (type, type(sys))  # they are there without the value


def weigh(value: Any, limit: int = LIMIT) -> int:
    """Return how many bytes a value takes; of more than `limit` parts that is reckoned up from a sample."""
    seen: set[int] = set()
    waiting, total = [value], 0
    while waiting:
        item = waiting.pop()
        if id(item) in seen:
            continue
        seen.add(id(item))
        total += _own(item)
        for parts in _parts(item):
            if len(parts) + len(waiting) + len(seen) > limit:
                return max(total, int(_reckon(value, limit, set(), 0)))
            waiting += parts
    return total


def _own(item: Any) -> int:
    return 0 if isinstance(item, SHARED) else sys.getsizeof(item, 64)


def _parts(item: Any) -> list[Collection[Any]]:
    """Return collections of what an object holds."""
    kind = type(item)
    if kind in PLAIN or isinstance(item, SHARED):
        return []
    parts: list[Collection[Any]] = []
    if isinstance(item, dict):
        parts += item.keys(), item.values()
    elif isinstance(item, list | tuple | set | frozenset | deque):
        parts.append(item)
    elif isinstance(item, memoryview):
        parts.append((item.obj,))
    elif kind.__module__ == "numpy" and hasattr(item, "base"):
        parts.append(item.flat if item.dtype.hasobject else (item.base,))
    if hasattr(item, "__dict__"):
        parts.append((item.__dict__,))
    if hasattr(kind, "__struct_fields__"):
        parts.append([getattr(item, name) for name in kind.__struct_fields__])
    elif hasattr(kind, "__slots__"):
        state = object.__getstate__(item)
        parts.append(list(state[1].values()) if isinstance(state, tuple) else ())
    return parts


def _reckon(item: Any, budget: float, seen: set[int], depth: int) -> float:
    """Weigh a sample of the parts, each by a sample of its own, and take the rest to be like it."""
    if id(item) in seen:
        return 0.0
    seen.add(id(item))
    total = float(_own(item))
    if budget < 1 or depth > DEEP:
        return total
    parts = [each for each in _parts(item) if len(each)]
    for each in parts:
        sample = _sample(each, min(len(each), 2 * isqrt(int(budget))))
        share = budget / len(sample) / len(parts)
        often = Counter(map(id, sample))
        for part in sample:
            factor = len(each) / len(sample) if often[id(part)] == 1 else 1.0  # one that is met twice is often there
            total += factor * _reckon(part, share, seen, depth + 1)
    return total


def _sample(parts: Collection[Any], size: int) -> list[Any]:
    if len(parts) == size:
        return list(parts)
    if isinstance(parts, list | tuple):
        from random import Random

        return [parts[index] for index in Random(size).sample(range(len(parts)), size)]
    return list(islice(parts, 0, min(len(parts), FAR), max(1, min(len(parts), FAR) // size)))[:size]
