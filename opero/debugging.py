"""The life of each call, as a tree on stderr: what every layer decided, why, and when."""

from __future__ import annotations

import sys
from contextvars import ContextVar

from opero import events
from opero.exclusive import new_lock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, Self, TextIO

STARTED, FINISHED = "opero.call.started", "opero.call.finished"
MAX_OPEN = 1_000  # calls that are followed at once; those beyond go unseen
MAX_LINES = 200  # of one call; what lies between the first ones and the last is counted
_inside: ContextVar[tuple[int, ...]] = ContextVar("opero.debug", default=())


class debug:  # noqa: N801 - used as `with opero.debug():`
    """Print the life of each call when it ends, to `file` (stderr unless given).

    A context manager; `close()` ends it without one. Calls made by a decorated function stand inside of its tree.
    `OPERO_DEBUG=1` in the environment does the same for a whole program. Arguments, results and messages are not shown.
    Thread-safe. While it is on, no call takes the fast path.

    Example:
        >>> from opero import opero
        >>> @opero(retries=1, name="double")
        ... def double(x):
        ...     return 2 * x
        >>> with debug(sys.stdout):  # doctest: +ELLIPSIS
        ...     double(21)
        double: ok after ... ms
        └ ... ms  attempt 1: ok after ... ms
        42
    """

    def __init__(self, file: TextIO | None = None) -> None:
        self._file = file
        self._lives: dict[int, _Life] = {}
        self._lock = new_lock()
        self._subscription = events.subscribe(self._hear, "opero.*")

    def close(self) -> None:
        """Stop; may be called twice."""
        self._subscription.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _hear(self, event: events.Event) -> None:
        around = _inside.get()
        if event.name == STARTED:
            _inside.set((*around, event.call))
        elif event.name == FINISHED and around[-1:] == (event.call,):
            around = around[:-1]
            _inside.set(around)
        with self._lock:
            done = self._note_locked(event, around)
        if done:
            print("\n".join(done), file=self._file or sys.stderr, flush=True)

    def _note_locked(self, event: events.Event, around: tuple[int, ...]) -> list[str]:
        """Write the event into its call's tree; return the lines to print."""
        if event.name == STARTED:
            if len(self._lives) < MAX_OPEN:
                self._lives[event.call] = _Life(event)
            return []
        if event.name == FINISHED:
            life = self._lives.pop(event.call, None)
            if life is None:
                return []
            tree = life.tree(event)
            outer = self._lives.get(around[-1]) if around else None
            if outer is None:
                return tree
            outer.add(life.started, *tree)
            return []
        life = self._lives.get(event.call or (around[-1] if around else 0))
        if life is None:
            return [] if event.call else [f"{event.operation}: {_said(event)}"]
        if event.name != "opero.attempt.started":
            life.add(event.at, _said(event))
        return []


class _Life:
    """What is known of a call that has not ended."""

    __slots__ = ("left_out", "notes", "operation", "started")

    def __init__(self, event: events.Event) -> None:
        self.operation = event.operation
        self.started = event.at
        self.notes: list[list[str]] = []
        self.left_out = 0

    def add(self, at: float, first: str, *rest: str) -> None:
        """Note what happened `at`; `rest` are lines that belong below."""
        if len(self.notes) >= MAX_LINES:
            del self.notes[MAX_LINES // 2]
            self.left_out += 1
        self.notes.append([f"{_milliseconds(at - self.started):>9}  {first}", *(f"{'':>11}{line}" for line in rest)])

    def tree(self, finished: events.Event) -> list[str]:
        """Return the finished tree."""
        fields = finished.fields
        error = f" {fields['error']}" if fields["error"] else ""
        lines = [f"{_plain(self.operation)}: {fields['outcome']}{error} after {_milliseconds(fields['duration'])}"]
        if self.left_out:
            self.notes.insert(MAX_LINES // 2, [f"{'':>11}… {self.left_out} more"])
        for n, (first, *rest) in enumerate(self.notes):
            last = n == len(self.notes) - 1
            lines.append(f"{'└' if last else '├'} {first}")
            lines += [f"{' ' if last else '│'} {line}" for line in rest]
        return lines


def start() -> None:
    """Begin what `OPERO_DEBUG` asks for."""
    import os

    if os.environ.get("OPERO_DEBUG", "") not in {"", "0"}:
        debug()


def _said(event: events.Event) -> str:
    _, subject, what = event.name.split(".", 2)
    if event.name == "opero.attempt.finished":
        error = f" {event.fields['error']}" if event.fields["error"] else ""
        return f"attempt {event.fields['number']}: {event.fields['outcome']}{error} after {_took(event.fields)}"
    why = ", ".join(f"{key}={_value(value)}" for key, value in event.fields.items() if value not in ("", None))
    return f"{subject} {what}".replace("_", " ") + f": {why}" * bool(why)


def _took(fields: Mapping[str, Any]) -> str:
    return _milliseconds(fields["duration"])


def _milliseconds(seconds: float) -> str:
    return f"{1000 * seconds:.1f} ms"


def _value(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else _plain(str(value))


def _plain(text: str) -> str:
    """Return the text without what could steer a terminal."""
    return "".join(char if char.isprintable() else "�" for char in text)
