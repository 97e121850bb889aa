"""How what a script or a notebook defines itself travels to another process: by its name, or by its value.

1. A worker of a script imports the script anew. What is found by its name there is meant, so `isinstance` holds and a
   constant of the script is the same one; what is not, as below `if __name__ == "__main__"`, comes by value.
2. A notebook cannot be imported, nor can a worker on a cluster import our script: everything comes by value.
3. A forked worker has the very module.
"""

from __future__ import annotations

import os
import pickle
import sys
from functools import cache, lru_cache
from io import BytesIO
from types import FunctionType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

MAIN = b"__main__"
AGAIN = "__mp_main__"  # what multiprocessing calls the main module that a worker imported anew
DECORATORS = 10  # around one function, at most
_ours = os.urandom(8)  # of this process, and of those forked from it


@cache
def cloudpickle() -> Any:
    """Return the module if it is installed."""
    try:
        import cloudpickle as module  # type: ignore[import-untyped]
    except ImportError:
        return None
    return module


@cache
def stays_here() -> bool:
    """Whether no worker can import the main module: there is no file of it."""
    main = sys.modules.get("__main__")
    return getattr(main, "__spec__", None) is None and getattr(main, "__file__", None) is None


def dumps(value: Any, take: Callable[[pickle.PickleBuffer], bool] | None = None) -> bytes:
    """Pickle by cloudpickle; where it is not installed by pickle, and a decorated function's own one by its name."""
    return _dumped(_pickler(type | FunctionType), value, take)


def _dumped(pickler: Any, value: Any, take: Callable[[pickle.PickleBuffer], bool] | None = None) -> bytes:
    with BytesIO() as file:
        pickler(file, protocol=5, buffer_callback=take).dump(value)
        return file.getvalue()


@lru_cache
def _pickler(named: Any) -> Any:
    """Make a pickler that gives what the main module defines of these kinds a name, and a value beside it."""
    plain: Any = cloudpickle().Pickler if cloudpickle() else pickle.Pickler
    otherwise = getattr(plain, "reducer_override", lambda *_: NotImplemented)

    class Pickler(plain):  # type: ignore[misc]
        def reducer_override(self, obj: Any) -> Any:
            if isinstance(obj, named) and obj.__module__ == "__main__":
                depth = _depth(sys.modules["__main__"], obj)
                if depth is not None:
                    return _load, (_ours, obj.__qualname__, depth, _by_value(obj))
            return otherwise(self, obj)

    def _by_value(value: Any) -> bytes:
        """Return it for who does not know the name; the classes a function uses may be known all the same."""
        try:
            return _dumped(plain if isinstance(value, type) else _pickler(type), value)
        except Exception:  # noqa: BLE001 - it may be found by its name all the same
            return b""

    return Pickler


def _depth(main: Any, value: Any) -> int | None:
    """How many decorators lie around a value where its name leads to; None if it is not there."""
    found = _find(main, value.__qualname__)
    for depth in range(DECORATORS):
        if found is value:
            return depth
        found = getattr(found, "__wrapped__", None)
    return None


def _load(whose: bytes, name: str, depth: int, by_value: bytes) -> Any:
    main = sys.modules.get("__main__")
    there = whose == _ours or getattr(main, "__name__", "") == AGAIN
    found = _find(main, name) if there else None
    for _ in range(depth):
        found = getattr(found, "__wrapped__", None)
    if found is None and not by_value:
        raise AttributeError(f"{name} of the main module can be sent neither by its name nor by its value")
    return pickle.loads(by_value) if found is None else found  # noqa: S301 - part of the pickle that is loaded


def _find(main: Any, name: str) -> Any:
    found = main
    for part in name.split("."):
        found = getattr(found, part, None)
    return found
