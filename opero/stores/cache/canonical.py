"""Values as bytes, one value one way: what cache keys are made of.

1. Every value is a tag, a length and its content, so no two values share bytes: 1, True, 1.0 and "1" differ, and so do
   ("ab", "c") and ("a", "bc").
2. Dicts and sets are sorted by the bytes of their members; the order in which they were filled does not matter.
3. No `repr` and no address is ever used. A type that is not known here is refused, with the way out.
4. A class or function that its name does not lead to (`<locals>`, one defined anew) is itself, in this process only.
"""

from __future__ import annotations

import os
import sys
from functools import cached_property
from itertools import count
from struct import pack
from weakref import WeakKeyDictionary

from opero.errors import ConfigurationError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

METHOD = "__opero_key__"
DEPTH = 100
PATHS = ("PurePosixPath", "PureWindowsPath", "PosixPath", "WindowsPath")
CONTAINERS = (list, tuple, dict, set, frozenset, str, bytes, bytearray, int, float, complex)
FUNCTIONS = {"function", "builtin_function_or_method"}
WAY_OUT = (
    "values whose identity is known: plain values, dataclasses, enums, pydantic models, arrays, or objects with a "
    f"method {METHOD}() that returns one of those; or give cache_key="
)
_process = os.urandom(16)
_serials: WeakKeyDictionary[Any, int] = WeakKeyDictionary()
_count = count(1)


def _fork() -> None:
    global _process
    _process = os.urandom(16)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_fork)


def encode(value: object, depth: int = 0) -> bytes:
    """Return the canonical bytes of a value; raise `ConfigurationError` for one whose identity is not known."""
    maker = MAKERS.get(type(value))
    if maker is not None and depth < DEPTH:
        return maker(value, depth + 1)
    if depth >= DEPTH:
        raise ConfigurationError("cache_key", type(value), f"values nested at most {DEPTH} deep")
    return _other(value, depth + 1)


def identity(value: Any) -> bytes:
    """Return what a class or function is called; one that this does not lead to has a serial number."""
    name = _framed(b"n", f"{value.__module__}:{value.__qualname__}".encode())
    return name if _named_so(value) else name + _framed(b"p", _process + pack("<Q", serial(value)))


def _named_so(value: Any) -> bool:
    """Whether the name of a class or function leads to this very object."""
    found: Any = sys.modules.get(value.__module__)
    for part in value.__qualname__.split("."):
        found = getattr(found, part, None)
    return found is value


def serial(value: Any) -> int:
    """Return a number for a class or function that nothing else in this process ever gets."""
    found = _serials.get(value)
    if found is None:
        found = _serials.setdefault(value, next(_count))
    return found


def _framed(tag: bytes, content: bytes) -> bytes:
    return tag + pack("<Q", len(content)) + content


def _text(value: str, _: int) -> bytes:
    return _framed(b"s", value.encode("utf-8", "surrogatepass"))


def _int(value: int, _: int) -> bytes:
    return _framed(b"i", value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True))


def _items(tag: bytes, values: Iterable[object], depth: int) -> bytes:
    return _framed(tag, b"".join([encode(value, depth) for value in values]))


def _dict(value: dict[Any, Any], depth: int) -> bytes:
    pairs = sorted((encode(k, depth), encode(v, depth)) for k, v in value.items())
    return _framed(b"d", b"".join([part for pair in pairs for part in pair]))


def _set(value: Iterable[object], depth: int) -> bytes:
    return _framed(b"S", b"".join(sorted(encode(item, depth) for item in value)))


def _named(value: object, content: bytes) -> bytes:
    return _framed(b"o", identity(type(value)) + content)


MAKERS: dict[type, Callable[[Any, int], bytes]] = {
    type(None): lambda _, __: b"N",
    bool: lambda value, _: b"T" if value else b"F",
    int: _int,
    float: lambda value, _: b"f" + (pack("<d", value) if value == value else b"nan"),  # noqa: PLR0124 - NaN
    complex: lambda value, _: b"c" + pack("<dd", value.real, value.imag),
    str: _text,
    bytes: lambda value, _: _framed(b"b", value),
    bytearray: lambda value, _: _framed(b"B", bytes(value)),
    tuple: lambda value, depth: _items(b"t", value, depth),
    list: lambda value, depth: _items(b"l", value, depth),
    dict: _dict,
    set: _set,
    frozenset: lambda value, depth: _framed(b"Z", _set(value, depth)),
    range: lambda value, depth: _items(b"r", (value.start, value.stop, value.step), depth),
    slice: lambda value, depth: _items(b"/", (value.start, value.stop, value.step), depth),
    type(Ellipsis): lambda _, __: b"E",
}


def _other(value: Any, depth: int) -> bytes:
    kind = type(value)
    if hasattr(kind, METHOD):
        return _named(value, encode(getattr(value, METHOD)(), depth))
    if isinstance(value, type) or (kind.__name__ in FUNCTIONS and not _is_bound(value)):
        return _framed(b"q", identity(value))
    for rule in RULES:
        found = rule(value, kind, depth)
        if found is not None:
            return _named(value, found)
    raise ConfigurationError("cache_key", kind, WAY_OUT)


def _is_bound(function: Any) -> bool:
    owner = getattr(function, "__self__", None)
    return owner is not None and type(owner).__name__ != "module"


def _enum(value: Any, _: type, depth: int) -> bytes | None:
    from enum import Enum, Flag

    if isinstance(value, Flag):
        return encode(value.value, depth)
    return encode(value.name, depth) if isinstance(value, Enum) else None


def _fields(value: Any, kind: Any, depth: int) -> bytes | None:
    """Dataclasses, attrs classes, pydantic models, msgspec structs and named tuples: their fields, by name."""
    for attribute in ("__dataclass_fields__", "model_fields", "__struct_fields__", "_fields"):
        names = getattr(kind, attribute, None)
        if names is not None:
            break
    else:
        names = [a.name for a in getattr(kind, "__attrs_attrs__", ())]
        if not names:
            return None
    if isinstance(value, CONTAINERS) and not (isinstance(value, tuple) and hasattr(kind, "_make")):
        return None
    private = getattr(value, "__pydantic_private__", None) or {}
    extra = {**(getattr(value, "__pydantic_extra__", None) or {}), **private, **_beside(value, kind, names)}
    return encode([*((name, getattr(value, name)) for name in names), extra], depth)


def _beside(value: Any, kind: Any, names: Iterable[str]) -> dict[str, Any]:
    """Return the attributes that are no fields, but for what a `cached_property` may make again."""
    known = {*names, "_attrs_cached_hash"}
    own: Any = object.__getstate__(value)
    state = {name: v for part in (own if isinstance(own, tuple) else (own,)) for name, v in (part or {}).items()}
    made = {name for name in state if type(getattr(kind, name, None)) is cached_property}
    return {n: v for n, v in state.items() if n not in known and n not in made and not n.startswith("__pydantic")}


def _array(value: Any, kind: type, depth: int) -> bytes | None:
    """NumPy arrays and scalars: dtype, shape and content; an array of objects has no content of its own."""
    if kind.__module__ != "numpy" or not hasattr(value, "tobytes"):
        return None
    if value.dtype.hasobject:
        raise ConfigurationError("cache_key", kind, "arrays of numbers or texts, none of objects; or give cache_key=")
    return encode((str(value.dtype.descr), tuple(value.shape), value.tobytes()), depth)


def _standard(value: Any, kind: type, depth: int) -> bytes | None:
    """Dates, times, decimals, fractions, UUIDs and paths, by what they are written as."""
    name = f"{kind.__module__}.{kind.__qualname__}"
    if name in {"datetime.datetime", "datetime.time"}:
        zone = getattr(value.tzinfo, "key", None) or value.tzname()
        return encode((value.isoformat(), value.fold, zone), depth)
    if name == "datetime.timedelta":
        return encode((value.days, value.seconds, value.microseconds), depth)
    if name == "decimal.Decimal":
        return encode(str(value.as_tuple()), depth)
    return encode(str(value), depth) if name in WRITTEN else None


WRITTEN = {
    "datetime.date",
    "datetime.timezone",
    "fractions.Fraction",
    "uuid.UUID",
    *(f"{module}.{name}" for module in ("pathlib", "pathlib._local") for name in PATHS),
}
RULES = (_enum, _fields, _array, _standard)
