"""How items and results cross a pipe between two of our own processes.

Numbers and texts cross as they are, many in one go. Everything else is pickled by itself, so that what cannot travel,
or explodes when it arrives, is the fate of its own item. What pickle refuses goes through cloudpickle, if installed.
"""

from __future__ import annotations

import os
import pickle
import sys
from traceback import extract_tb, format_list

from opero.kinds import named
from opero.workers import mains

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

NUMBERS = frozenset({int, float, bool, type(None)})
TEXTS = frozenset({str, bytes})
PLAIN = NUMBERS | TEXTS
TRACEBACKS, FRAMES, MAX_KINDS = 3, 8, 100  # that travel: of each kind of error, of each traceback, kinds
OURS = os.path.dirname(os.path.dirname(__file__))  # noqa: PTH120 - as traceback spells it
_noted: dict[type, int] = {}
BIG = 64 * 1024  # bytes from which a text or a buffer counts as large
FLAT = 2  # the version of marshal that looks for no repetitions: half the time for numbers
PICKLED, FAILED = 1, 2  # what a tuple holds: a pickled result, a pickled error; all else is the result itself
REFUSALS = (pickle.PicklingError, AttributeError, TypeError)  # how pickle says that it cannot


def are_plain(values: list[Any]) -> bool:
    """Whether all of them can cross as they are."""
    kinds = set(map(type, values))
    if kinds <= NUMBERS:
        return True
    return kinds <= PLAIN and all(len(v) < BIG for v in values if type(v) in TEXTS)


def dumps(value: Any, take: Callable[[pickle.PickleBuffer], bool] | None = None) -> bytes:
    """Pickle; `take` gets each buffer, and returns False for one that it carries itself."""
    try:
        return pickle.dumps(value, protocol=5, buffer_callback=take)
    except REFUSALS:
        return mains.dumps(value, take)


def dumps_down(value: Any, take: Callable[[pickle.PickleBuffer], bool] | None = None) -> bytes:
    """Pickle for a worker of ours, which has our main module if that can be imported."""
    payload = dumps(value, take)
    return mains.dumps(value, take) if mains.stays_here() and _of_main(payload) else payload


def dumps_far(value: Any) -> bytes:
    """Pickle for a process that may have another main module."""
    payload = dumps(value)
    return mains.dumps(value) if _of_main(payload) else payload


def _of_main(payload: bytes) -> bool:
    return mains.MAIN in payload and mains.cloudpickle() is not None


def loads(payload: bytes, buffers: list[Any]) -> Any:
    """Unpickle what came with buffers of its own; without a payload the only buffer is it."""
    return pickle.loads(payload, buffers=buffers) if payload else pickle.loads(buffers[0])  # noqa: S301


def encode_error(error: BaseException) -> bytes:
    """Pickle an error that surely unpickles: as itself, else as a plain one that names it.

    Tracebacks do not travel; the first few of each kind do as a note, without our own frames.
    """
    if error.__traceback__ is not None:
        _note(error)
        error.__traceback__ = None
    try:
        payload = dumps(error)
        pickle.loads(payload)  # noqa: S301 - our own bytes, a line old
    except Exception:  # noqa: BLE001 - any error of a foreign __reduce__ means the same
        payload = pickle.dumps(RuntimeError(f"{type(error).__qualname__}: {error} (the error itself does not pickle)"))
    return payload


def _note(error: BaseException) -> None:
    kind = type(error)
    if _noted.get(kind, 0) >= TRACEBACKS or len(_noted) > MAX_KINDS:
        return
    _noted[kind] = _noted.get(kind, 0) + 1
    frames = [f for f in extract_tb(error.__traceback__) if not f.filename.startswith((OURS, "<opero"))]
    if frames:
        text = f"in process {os.getpid()}:\n{''.join(format_list(frames[-FRAMES:]))}".rstrip()
        error.__dict__.setdefault("__notes__", []).append(text)


def can_be_found(function: Any) -> bool:
    """Whether another process finds this very object by its module and name."""
    module, name = named(function)
    found: Any = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    return found is function and module != "__main__"
