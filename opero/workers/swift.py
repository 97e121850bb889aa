"""Numbers that come quickly, in a process worker: what an item costs is a call, a look at its type, and its slot.

A chunk begins so when the one before it gave numbers of one type, in less than `SECONDS` each. It goes on in the
general way after the first result of another type, and after the first error. Between two looks at the clock there is a
run of items; a slow one among them goes by the place of the first.
"""

from __future__ import annotations

from opero import clock
from opero.workers.journal import AT_REST, CODES, SLOT, STOP, USED
from opero.workers.session import SLOW_SECONDS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from opero.workers.worker import Chunk

SECONDS = 5e-5
RUN = 64


def work(chunk: Chunk) -> int | None:
    """Serve the items of a chunk; return the place of the first that is left to the general way, if there is one."""
    worker = chunk.worker
    kind: Any = worker.numbers
    slots, words = worker.journal.take_slots(kind, len(chunk.items)), worker.journal.words
    items, call, now, told = chunk.items, chunk.call, clock.now, words[USED]
    place, number, ended = 0, len(items), chunk.since
    due = ended + worker.patience
    while place < number and not words[STOP]:
        first, began, error = place, ended, None
        for item in items[place : place + RUN]:
            try:
                value = call(item)
            except BaseException as raised:  # noqa: BLE001 - whatever it is, it goes back as the item's outcome
                value, error = None, raised
                break
            if type(value) is not kind:
                break
            try:
                slots[place] = value
            except ValueError:  # more than 64 bits
                break
            place += 1
        else:
            ended = now()
            if ended - began >= SLOW_SECONDS:
                chunk.slow.append((first - chunk.place, ended - began))
            if ended >= due:
                words[USED] |= AT_REST
                _send(chunk, kind, place, ended)
                due, words[USED] = ended + worker.patience, told
            continue
        typical = (began - chunk.since) / (first - chunk.place) if first > chunk.place else SECONDS
        done, took = place - first, now() - began
        _leave(chunk, kind, place, began + min(took * done / (done + 1), typical * done))
        _add(chunk, item, value, error)
        return place + 1
    words[USED] |= AT_REST
    _send(chunk, kind, place, ended, last=True)
    return None


def _send(chunk: Chunk, kind: type, place: int, now: float, *, last: bool = False) -> None:
    """Send the slots before this place."""
    raw = chunk.worker.journal.raw[SLOT * chunk.place : SLOT * place]
    chunk.send(place - chunk.place, bytes(raw), now, only_values=CODES[kind], last=last)


def _leave(chunk: Chunk, kind: type, place: int, now: float) -> None:
    """Let marks and records tell from now on; the item at this place was begun."""
    chunk.worker.numbers = None
    chunk.worker.journal.mark(place + 1)
    _send(chunk, kind, place, now)


def _add(chunk: Chunk, item: Any, value: Any, error: BaseException | None) -> None:
    """Send the outcome that has no slot."""
    began = chunk.since
    chunk.entries.append(chunk.returned(value) if error is None else chunk.raised(item, error, began))
    ended = clock.now()
    if ended - began >= SLOW_SECONDS:
        chunk.slow.append((0, ended - began))
    chunk.flush(ended)
