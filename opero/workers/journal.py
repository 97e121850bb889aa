"""What a process worker leaves behind when it dies: memory that its parent sees as well.

1. Before an item is begun its mark is set, so the parent knows which items a dead worker had begun, and which not.
2. Results that were not sent yet stand in the journal, one record an item; a record counts once their length says so,
   or, where items follow one another, once the mark of the next item is set. A worker that dies costs the item it had
   in hand, and no other.
3. The journal speaks of the chunk whose number it bears; the worker writes that when the marks are clear. The parent
   writes nothing but the stop flag, which the worker looks at before each item.
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
USED, BASE, STOP, CHUNK = 0, 1, 2, 3  # words of the head; then comes the time at which the item in hand was begun
BY_MARKS = 1 << 32  # in the place of the records' length: the marks tell how many there are


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
        self.words = view[:32].cast("Q")
        self.clock: memoryview[float] = view[32:40].cast("d")
        self.marks = view[MARKS:RECORDS]
        self.full = SIZE

    def begin(self, chunk: int, items: int) -> None:
        """Make it ready for a chunk; in the worker, as all that writes."""
        self.words[USED] = self.words[BASE] = self.words[CHUNK] = 0
        self.marks[:items] = bytes(items)
        self.words[CHUNK] = chunk

    def restart(self, base: int) -> None:
        """Forget what was sent; the next record is that of item `base` of the chunk."""
        self.words[USED] = 0
        self.words[BASE] = base

    def rewind(self) -> int:
        """Write records from the front, with `map.write`, each before the next mark; return how many bytes fit."""
        self.words[USED] = BY_MARKS
        self.map.seek(RECORDS)
        return self.full - RECORDS

    def read(self, items: int) -> tuple[int, list[Any]]:
        """Return the place of the first record in a chunk of so many, and the records, of a worker that is dead."""
        used, base = self.words[USED], self.words[BASE]
        records: list[Any] = []
        following = bytes(self.marks[:items]).count(1) - base - 1 if used == BY_MARKS else MAX_CHUNK
        stream = BytesIO(self.map[RECORDS : RECORDS + min(used, SIZE)])
        while stream.tell() < used and len(records) < following:
            records.append(marshal.load(stream))  # noqa: S302 - of a process we started
        return base, records


class Blank(Journal):
    """The journal where memory cannot be shared: always full, so each item is answered at once."""

    __slots__ = ()

    def __init__(self) -> None:
        self.map = mmap.mmap(-1, 1)  # nothing is written to it
        self.words = memoryview(bytearray(32)).cast("Q")
        self.clock = memoryview(bytearray(8)).cast("d")
        self.marks = memoryview(bytearray(MAX_CHUNK))
        self.full = 0

    def rewind(self) -> int:
        return 0
