"""Whether a value comes back from a codec as the same one: of the same types and parts, all the way."""

from __future__ import annotations

from functools import cached_property

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

SCALARS = frozenset({type(None), bool, int, float, str})
CONTAINERS = (list, tuple, dict, set, frozenset)
RECORDS = ("__dataclass_fields__", "__struct_fields__", "__attrs_attrs__")
OTHERS = (*CONTAINERS, str, bytes, bytearray, int, float, complex)  # a record that is one of them has more than fields
WRITTEN = ("datetime", "decimal", "uuid")  # modules of values that `repr` tells whole
REPEATS = 100_000


class Unfolding:
    """Counts the parts of a value as a codec writes them: a shared one every time, one that holds itself for ever."""

    __slots__ = ("again", "once", "seen")

    def __init__(self) -> None:
        self.seen: set[int] = set()
        self.once = self.again = 0

    def ends(self, item: Any, size: int) -> bool:
        """Count the parts of a container; whether there are not far more of them than in memory."""
        if id(item) in self.seen:
            self.again += size
            return self.again <= REPEATS + 10 * self.once
        self.seen.add(id(item))
        self.once += size
        return True


def exact(value: Any, keys: frozenset[type], *, binary: bool = True) -> bool:
    """Whether a value is made of exactly the types that come back the same, and of not too many of them."""
    waiting, unfolding = [value], Unfolding()
    while waiting:
        item = waiting.pop()
        kind = type(item)
        if kind is list or kind is dict:
            if not unfolding.ends(item, len(item)):
                return False
            if kind is dict and not keys.issuperset(map(type, item)):
                return False
            waiting += item if kind is list else item.values()
        elif kind not in SCALARS and not (kind is bytes and binary):
            return False
    return True


def finite(value: Any) -> bool:
    """Whether a codec comes to the end of a value, records among its parts."""
    waiting, unfolding = [value], Unfolding()
    while waiting:
        item = waiting.pop()
        found: Any = _state(item) if _is_record(item) else item
        if not isinstance(found, CONTAINERS):
            continue
        if not unfolding.ends(item, len(found)):
            return False
        waiting += [*found, *found.values()] if isinstance(found, dict) else found
    return True


def same(value: Any, back: Any) -> bool:
    """Whether two values are one and the same but for where they are: not 1 and 1.0, nor one time in two zones."""
    waiting = [(value, back)]
    while waiting:
        one, other = waiting.pop()
        kind = type(one)
        if kind is not type(other):
            return False
        if one is other:
            continue
        pairs = _pairs(one, other, kind)
        if pairs is None:
            return False
        waiting += pairs
    return True


def _pairs(one: Any, other: Any, kind: type) -> list[tuple[Any, Any]] | None:
    """Return the parts that must be the same for these two to be; None if they are not."""
    if kind in CONTAINERS:
        return _inside(one, other, kind) if len(one) == len(other) else None
    if kind is float or kind.__module__ in WRITTEN:
        zones = type(getattr(one, "tzinfo", None)) is type(getattr(other, "tzinfo", None))
        return [] if zones and repr(one) == repr(other) else None
    if kind in SCALARS or kind in {bytes, bytearray}:
        return [] if one == other else None
    if _is_record(one):
        return [(_state(one), _state(other))]
    named = isinstance(one, tuple) and hasattr(kind, "_fields")
    return [(tuple(one), tuple(other)), (_state(one), _state(other))] if named else None


def _inside(one: Any, other: Any, kind: type) -> list[tuple[Any, Any]] | None:
    if kind is dict:
        return [*zip(one, other, strict=True), *zip(one.values(), other.values(), strict=True)]
    if kind in {set, frozenset}:
        found = {item: item for item in other}
        return [(item, found[item]) for item in one] if one == other else None
    return list(zip(one, other, strict=True))


def _is_record(item: Any) -> bool:
    kind = type(item)
    return any(hasattr(kind, name) for name in RECORDS) and not isinstance(item, (type, *OTHERS))


def _state(item: Any) -> dict[str, Any]:
    """Return every attribute of an object, by name, but for what a `cached_property` may make again."""
    kind = type(item)
    state = {name: getattr(item, name) for name in getattr(kind, "__struct_fields__", ())}
    own: Any = object.__getstate__(item)
    for found in own if isinstance(own, tuple) else (own,):
        state |= found or {}
    return {name: state[name] for name in sorted(state) if not isinstance(getattr(kind, name, None), cached_property)}
