"""Events as a file of JSON lines, one an event: the input of `opero slo report --events`."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from opero import events
from opero_telemetry.lines import HEARD, line
from opero_telemetry.relay import Relay

if TYPE_CHECKING:
    from opero.events import Event

EVERY_CALL = "opero.call.finished"
MAX_BYTES = 100_000_000


class Journal:
    """Appends the end of every call, and everything of severity info or more.

    At `max_bytes` the file becomes `NAME.1`, in the place of the one before. Several processes may write one file, then
    each by whole lines; its directory has to exist.
    """

    def __init__(self, path: str | os.PathLike[str], *, max_bytes: int = MAX_BYTES) -> None:
        self.path = Path(path)
        self._max_bytes = max_bytes
        self._handle = self._open()
        self._relay = Relay("journal", self._write)
        self._subscription = events.subscribe(self.hear, "opero.*")

    def hear(self, event: Event) -> None:
        """Take an event, in the call that says it."""
        if event.name == EVERY_CALL or event.severity in HEARD:
            self._relay.put(line(event))

    def flush(self, seconds: float = 5.0) -> bool:
        """Wait until everything said so far is written."""
        return self._relay.flush(seconds)

    def close(self) -> None:
        """Write what is left, and close the file."""
        self._subscription.close()
        self._relay.close()
        os.close(self._handle)

    def _open(self) -> int:
        return os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o600)

    def _write(self, lines: list[dict[str, Any]]) -> None:
        text = "".join(f"{json.dumps(told, separators=(',', ':'), default=_named)}\n" for told in lines)
        os.write(self._handle, text.encode())
        if os.fstat(self._handle).st_size >= self._max_bytes:
            self._rotate()

    def _rotate(self) -> None:
        os.close(self._handle)
        self.path.replace(self.path.with_name(f"{self.path.name}.1"))
        self._handle = self._open()


def _named(value: object) -> str:
    """What JSON does not know goes by its type: never by a text that may hold a secret."""
    return f"<{type(value).__name__}>"
