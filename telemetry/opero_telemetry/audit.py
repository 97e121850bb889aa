"""The audit log: who changed by hand how an operation runs. Append-only lines, each bound to the one before it.

1. A line holds the SHA-256 of the line before; with a key (`OPERO_AUDIT_KEY`) it is an HMAC, which nobody can forge who
   does not have it. Without one, keep the last hash elsewhere: `opero audit verify FILE --last HASH`.
2. An act is written, and on disk, before it is told to anybody else; several processes append in turn.
"""

from __future__ import annotations

import argparse
import getpass
import hashlib
import hmac
import json
import os
import sys
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from opero import acts, events

if TYPE_CHECKING:
    from collections.abc import Sequence

    from opero.events import Event

START = "0" * 64
KEY = "OPERO_AUDIT_KEY"
BLOCK = 65536
HEARD = (acts.ACTED.name, "opero.cache.invalidated")


class Audit:
    """Appends what is done by hand to the file at `path` until closed; readable by this user alone."""

    def __init__(self, path: str | os.PathLike[str], key: bytes | None = None) -> None:
        self.path = Path(path)
        self._key = key if key is not None else os.environ.get(KEY, "").encode()
        self._lock = Lock()
        self._user = _user()
        os.close(self._open())
        self._subscription = events.subscribe(self.hear, *HEARD)

    def hear(self, event: Event) -> None:
        """Write one act."""
        by = event.fields.get("by") or self._user
        entry = {"at": event.at, "operation": event.operation, **event.fields, "by": by, "process": os.getpid()}
        with self._lock:
            self._append(entry)

    def close(self) -> None:
        """End."""
        self._subscription.close()

    def _open(self) -> int:
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0)
        return os.open(self.path, flags, 0o600)

    def _append(self, entry: dict[str, Any]) -> None:
        handle = self._open()
        try:
            _lock_file(handle)
            last = _last(handle)
            numbered = {
                "number": last["number"] + 1 if last else 1,
                **entry,
                "previous": last["hash"] if last else START,
            }
            numbered["hash"] = _hash(numbered, self._key)
            os.write(handle, (json.dumps(numbered, separators=(",", ":")) + "\n").encode())
            os.fsync(handle)
        finally:
            os.close(handle)


def verify(path: Path, key: bytes = b"") -> tuple[int, str]:
    """Return how many acts there are and the last hash; raise `ValueError` at the first line that does not fit."""
    previous, number = START, 0
    with path.open(encoding="utf-8") as lines:
        for number, text in enumerate(lines, 1):
            try:
                entry = json.loads(text)
                fits = entry["number"] == number and entry["previous"] == previous
                fits = fits and hmac.compare_digest(entry["hash"], _hash(entry, key))
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(f"line {number} is no entry") from error
            if not fits:
                raise ValueError(f"line {number} does not follow from the lines before it")
            previous = entry["hash"]
    return number, previous


def command(arguments: Sequence[str]) -> int:
    """Run `opero audit verify FILE`; exit status 0: the chain holds, 1: it does not, 2: it cannot be read."""
    parser = argparse.ArgumentParser(prog="opero audit", description="Check an audit log.")
    verbs = parser.add_subparsers(dest="verb", required=True)
    one = verbs.add_parser("verify", help=f"check that no line was changed, removed or inserted (key: {KEY})")
    one.add_argument("file", type=Path)
    one.add_argument("--last", help="the hash that the last line must have")
    given = parser.parse_args(arguments)
    try:
        count, last = verify(given.file, os.environ.get(KEY, "").encode())
    except OSError as error:
        print(f"opero audit: {given.file}: {error.strerror}", file=sys.stderr)
        return 2
    except ValueError as error:
        print(f"{given.file}: {error}", file=sys.stderr)
        return 1
    if given.last not in (None, last):
        print(f"{given.file}: the last line is {last}, not {given.last}: lines were removed", file=sys.stderr)
        return 1
    acts = f"{count} act{'' if count == 1 else 's'}"
    print(f"{given.file}: {acts}, the chain holds; last {last}" if count else f"{given.file}: nothing was done yet")
    return 0


def _hash(entry: dict[str, Any], key: bytes) -> str:
    told = {name: value for name, value in entry.items() if name != "hash"}
    text = json.dumps(told, separators=(",", ":"), sort_keys=True).encode()
    return hmac.new(key, text, hashlib.sha256).hexdigest() if key else hashlib.sha256(text).hexdigest()


def _last(handle: int) -> dict[str, Any] | None:
    size = os.fstat(handle).st_size
    if not size:
        return None
    os.lseek(handle, max(0, size - BLOCK), os.SEEK_SET)
    last: dict[str, Any] = json.loads(os.read(handle, BLOCK).rstrip(b"\n").rpartition(b"\n")[2])
    return last


def _lock_file(handle: int) -> None:
    try:
        import fcntl
    except ImportError:  # Windows: one process at a time
        return
    fcntl.lockf(handle, fcntl.LOCK_EX)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):  # a container's user may have no name
        return str(os.getuid()) if hasattr(os, "getuid") else "unknown"
