"""What a process worker leaves behind when it dies: memory that its parent sees as well.

1. Before an item is begun its mark is set, so the parent knows which items a dead worker had begun, and which not.
2. Results that were not sent yet stand in the journal, one record an item; a record counts once the length behind it
   says so. A worker that dies costs the item it had in hand, and no other.
3. The parent writes only while the worker has no chunk, but for the stop flag, which the worker looks at before each
   item.
"""

from __future__ import annotations

import marshal
import mmap
import os
import sys
from io import BytesIO

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MAX_CHUNK = 4096  # items in a worker's hands
MARKS = 64
RECORDS = MARKS + MAX_CHUNK
SIZE = RECORDS + 60 * 1024
USED, BASE, STOP = 0, 1, 2  # words of the head; the fourth is the time at which the item in hand was begun


def available() -> bool:
    """Whether this system lets two processes share a file without a name."""
    return sys.platform != "win32"


def share(size: int) -> int:
    """Make memory to share, and return its descriptor."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("opero", os.MFD_CLOEXEC)
    else:
        from tempfile import TemporaryFile

        with TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    os.truncate(descriptor, size)
    return descriptor


class Journal:
    """The journal of one worker, seen from either side."""

    __slots__ = ("clock", "full", "map", "marks", "words")

    def __init__(self, descriptor: int) -> None:
        self.map = mmap.mmap(descriptor, SIZE)
        view = memoryview(self.map)
        self.words = view[:24].cast("Q")
        self.clock = view[24:32].cast("d")
        self.marks = view[MARKS:RECORDS]
        self.full = SIZE

    def clear(self, items: int) -> None:
        """Make it ready for a chunk; in the parent."""
        self.words[USED] = self.words[BASE] = self.words[STOP] = 0
        self.clock[0] = 0.0
        self.marks[:items] = bytes(items)

    def restart(self, base: int) -> None:
        """Forget what was sent; the next record is that of item `base` of the chunk. In the worker."""
        self.words[USED] = 0
        self.words[BASE] = base

    def read(self) -> tuple[int, list[Any]]:
        """Return the place in the chunk of the first record, and the records; in the parent, of a dead worker."""
        used = self.words[USED]
        stream = BytesIO(self.map[RECORDS : RECORDS + used])
        records = []
        while stream.tell() < used:
            records.append(marshal.load(stream))  # noqa: S302 - of a process we started
        return self.words[BASE], records


class Blank(Journal):
    """The journal where memory cannot be shared: always full, so each item is answered at once."""

    __slots__ = ()

    def __init__(self) -> None:
        self.words, self.clock, self.marks = (memoryview(bytearray(size)) for size in (24, 8, MAX_CHUNK))
        self.words, self.clock = self.words.cast("Q"), self.clock.cast("d")
        self.full = 0
