"""What a process worker leaves behind when it dies: memory that its parent sees as well.

1. Before an item is begun its mark is set, so the parent knows which items a dead worker had begun, and which not.
2. Results that were not sent yet stand in the journal, one record an item; a record counts once their length says so,
   or, where items follow one another, once the mark of the next item is set. A worker that dies costs the item it had
   in hand, and no other.
3. Where numbers of one type come quickly, each stands in its slot instead, and no mark is set: the first empty slot is
   that of the item in hand. What an empty slot holds is drawn for each worker, so no function gives it as a result.
4. The journal speaks of the chunk whose number it bears; the worker writes that when the marks are clear. The parent
   writes what an empty slot holds, before anything else, and the stop flag, which the worker looks at before each item,
   and among quick numbers before each run of them.
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

MAX_CHUNK = 16_384  # items in a worker's hands
MARKS = 64
SLOTS = MARKS + MAX_CHUNK
SLOT = 8
EMPTY = slice(40, 40 + SLOT)  # where it stands what an empty slot holds
RECORDS = SLOTS + SLOT * MAX_CHUNK
SIZE = RECORDS + 60 * 1024
CODES = {int: "q", float: "d"}  # what has a slot, and how it stands there
USED, BASE, STOP, CHUNK = 0, 1, 2, 3  # words of the head; then comes the time at which the item in hand was begun
BY_MARKS = 1 << 32  # in the place of the records' length: the marks tell how many there are
BY_SLOTS = 1 << 33  # the slots do; the low byte is their code
AT_REST = 1 << 34  # and no item is in hand


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

    __slots__ = ("clock", "empty", "full", "map", "marks", "raw", "slots", "words")

    def __init__(self, descriptor: int, empty: bytes | None = None) -> None:
        self.map = mmap.mmap(descriptor, SIZE)
        if empty is not None:
            self.map[EMPTY] = empty
        self.empty = self.map[EMPTY]
        view = memoryview(self.map)
        self.words = view[:32].cast("Q")
        self.clock: memoryview[float] = view[32:40].cast("d")
        self.marks = view[MARKS:SLOTS]
        self.raw = view[SLOTS:RECORDS]
        self.slots: dict[type, memoryview[Any]] = {kind: self.raw.cast(code) for kind, code in CODES.items()}  # type: ignore[call-overload]
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

    def take_slots(self, kind: type, items: int) -> memoryview[Any]:
        """Return the slots for numbers of this type, empty for a chunk of so many; they tell from now on."""
        self.raw[: SLOT * items] = self.empty * items
        self.words[USED] = BY_SLOTS + ord(CODES[kind])
        return self.slots[kind]

    def mark(self, begun: int) -> None:
        """Set the marks of so many items."""
        self.marks[:begun] = b"\1" * begun

    def close(self) -> None:
        """Write nothing more, and let whoever tries fail."""
        for view in (*self.slots.values(), self.raw, self.marks, self.clock, self.words):
            view.release()
        self.map.close()

    def read(self, items: int) -> tuple[int, list[Any], list[int]]:
        """Return what a dead worker tells of a chunk of so many.

        That is the place of the first record, the records, and the places of items begun without one.
        """
        used, base = self.words[USED], self.words[BASE]
        if used >= BY_SLOTS:
            return self._read_slots(items, used, base)
        begun = bytes(self.marks[:items])
        records: list[Any] = []
        most = begun.count(1) - base - 1 if used == BY_MARKS else MAX_CHUNK
        stream = BytesIO(self.map[RECORDS : RECORDS + min(used, SIZE)])
        while stream.tell() < used and len(records) < most:
            records.append(marshal.load(stream))  # noqa: S302 - of a process we started
        return base, records, [n for n in range(base + len(records), items) if begun[n]]

    def _read_slots(self, items: int, used: int, base: int) -> tuple[int, list[Any], list[int]]:
        code, raw = chr(used & 0xFF), bytes(self.raw[SLOT * base : SLOT * items])
        done = next((n for n in range(items - base) if raw[SLOT * n : SLOT * (n + 1)] == self.empty), items - base)
        records = memoryview(raw[: SLOT * done]).cast(code).tolist()  # type: ignore[call-overload]
        in_hand = base + done < items and not used & AT_REST
        return base, records, [base + done] if in_hand else []


class Blank(Journal):
    """The journal where memory cannot be shared: always full, so each item is answered at once."""

    __slots__ = ()

    def __init__(self) -> None:
        self.map = mmap.mmap(-1, 1)  # nothing is written to it
        self.words = memoryview(bytearray(32)).cast("Q")
        self.clock = memoryview(bytearray(8)).cast("d")
        self.marks = memoryview(bytearray(MAX_CHUNK))
        self.slots = {}
        self.full = 0

    def rewind(self) -> int:
        return 0
