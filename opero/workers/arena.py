"""Large buffers between a parent and a worker: copied once into memory both see, and used there.

1. The sender lends a segment: it writes the buffer, and sends number and length in the message that needs it.
2. The receiver makes its object over that memory. When the last view of it is gone, the segment goes back with the next
   message, and is warm for the next buffer.
3. A segment belongs to one direction of one pipe, so nobody else writes to it. Segments idle beyond `IDLE_BYTES` are
   forgotten on both sides. Descriptors are closed once the memory is mapped.
"""

from __future__ import annotations

import mmap
import os
from multiprocessing import reduction
from socket import socket
from weakref import finalize

from opero.workers.journal import share
from opero.workers.wire import BIG

TYPE_CHECKING = False
if TYPE_CHECKING:
    import pickle
    from multiprocessing.connection import Connection
    from typing import Any

IDLE_BYTES = 256 * 1024 * 1024
Loan = tuple[int, int]  # the segment, and how many bytes of it


class Lender:
    """The sending side of one direction."""

    def __init__(self) -> None:
        self._segments: dict[int, mmap.mmap] = {}
        self._idle: list[int] = []
        self._made: list[tuple[int, int, int]] = []  # number, size, descriptor: not announced yet
        self._next = 0
        self.forgotten: list[int] = []

    def lend(self, raw: memoryview) -> Loan:
        """Copy a buffer into a segment."""
        size = raw.nbytes
        number = self._fitting(size)
        self._segments[number][:size] = raw
        return number, size

    def carry(self, loans: list[Loan], buffer: pickle.PickleBuffer) -> bool:
        """Lend a large buffer, as a `buffer_callback` of pickle; whether it is to be pickled as it is."""
        try:
            raw = buffer.raw()
        except BufferError:  # not contiguous
            return True
        if raw.nbytes < BIG:
            return True
        loans.append(self.lend(raw))
        return False

    def take_back(self, numbers: list[int]) -> None:
        """Have these segments again."""
        self._idle += numbers
        while self._idle and sum(len(self._segments[n]) for n in self._idle) > IDLE_BYTES:
            number = self._idle.pop(0)
            del self._segments[number]
            self.forgotten.append(number)

    def announce(self, pipe: Connection) -> None:
        """Send the descriptors of new segments, if there are any; before the message that uses them."""
        if not self._made:
            return
        made, self._made = self._made, []
        pipe.send_bytes(b"S" + b"".join(b"%d:%d " % (number, size) for number, size, _ in made))
        try:
            send_descriptors(pipe, [descriptor for _, _, descriptor in made])
        finally:
            for _, _, descriptor in made:
                os.close(descriptor)

    def _fitting(self, size: int) -> int:
        fits = [n for n in self._idle if size <= len(self._segments[n]) <= 4 * size]
        if fits:
            number = min(fits, key=lambda n: len(self._segments[n]))
            self._idle.remove(number)
            return number
        number, self._next = self._next, self._next + 1
        room = -(-size // mmap.PAGESIZE) * mmap.PAGESIZE
        descriptor = share(room)
        self._segments[number] = mmap.mmap(descriptor, room)
        self._made.append((number, room, descriptor))
        return number


class Borrower:
    """The receiving side of one direction."""

    def __init__(self) -> None:
        self._segments: dict[int, mmap.mmap] = {}
        self.returned: list[int] = []

    def learn(self, message: bytes, pipe: Connection) -> None:
        """Map what `announce` announces."""
        made = [tuple(map(int, pair.split(b":"))) for pair in message[1:].split()]
        for (number, size), descriptor in zip(made, receive_descriptors(pipe, len(made)), strict=True):
            self._segments[number] = mmap.mmap(descriptor, size)
            os.close(descriptor)

    def view(self, loan: Loan) -> Any:
        """Return the borrowed memory as a buffer; it goes back when nothing refers to it any more."""
        from ctypes import c_char

        number, size = loan
        buffer = (c_char * size).from_buffer(self._segments[number])
        finalize(buffer, self.returned.append, number).atexit = False
        return buffer

    def collect(self) -> list[int]:
        """Return the numbers of the segments that are free again."""
        found = self.returned[:]
        del self.returned[: len(found)]
        return found

    def forget(self, numbers: list[int]) -> None:
        """Let go of segments the other side gave up."""
        for number in numbers:
            del self._segments[number]


def send_descriptors(pipe: Connection, descriptors: list[int]) -> None:
    """Pass open descriptors through a pipe, which is a socket."""
    with socket(fileno=os.dup(pipe.fileno())) as end:
        reduction.sendfds(end, descriptors)


def receive_descriptors(pipe: Connection, count: int) -> list[int]:
    """Take over descriptors that the other end passed."""
    with socket(fileno=os.dup(pipe.fileno())) as end:
        return reduction.recvfds(end, count)
