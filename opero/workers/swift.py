"""Numbers that come quickly, in a process worker: what an item costs is a call, a look at its type, and its slot.

1. A chunk begins so when the one before it gave numbers of one type, in less than `SECONDS` each. It goes on in the
   general way after the first result of another type, and after the first error.
2. Between two looks at the clock there is a run of items, as many as took `RUN_SECONDS` before. Where one among them
   is slow, that is all there is to say: one of so many.
3. A run whose items turn slow is cut short by another thread, which empties the list it is served from: a loop over it
   ends then, and pays nothing for that.
"""

from __future__ import annotations

from opero import clock
from opero.workers.journal import AT_REST, CODES, SLOT, STOP, USED
from opero.workers.session import SLOW_SECONDS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from opero.workers.chunk import Chunk

SECONDS = 5e-5
RUN = 64
RUN_SECONDS = 2e-4
_run: list[Any] = []  # that is served now, or was last
_heard: list[Any] = _run  # that was served when the bell rang


def ring() -> None:
    """Cut short what was served the last time already; in another thread, now and then."""
    global _heard
    if _heard is _run:
        _heard.clear()
    _heard = _run


def work(chunk: Chunk) -> int | None:
    """Serve the items of a chunk; return the place of the first that is left to the general way, if there is one."""
    global _run
    worker = chunk.worker
    kind: Any = worker.numbers
    slots, words = worker.journal.take_slots(kind, len(chunk.items)), worker.journal.words
    items, call, now, told = chunk.items, chunk.call, clock.now, words[USED]
    place, number, ended, length, typical = 0, len(items), chunk.since, 1, SECONDS
    due = ended + worker.patience
    while place < number and not words[STOP]:
        first, began, error = place, ended, None
        _run = run = items[place : place + length]
        for item in run:
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
            ended, done = now(), place - first
            item = (ended - began) / max(1, done)
            if (more := ended - began - typical * (done - 1)) >= SLOW_SECONDS:
                chunk.slow.append((first - chunk.place, more, done))
            else:
                typical = item
            length = max(1, min(RUN, 4 * length, int(RUN_SECONDS / max(item, 1e-6))))
            if ended >= due:
                if ended >= chunk.over:
                    break
                words[USED] |= AT_REST
                _send(chunk, kind, place, ended)
                due, words[USED] = ended + worker.patience, told
            continue
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
        chunk.slow.append((0, ended - began, 1))
    chunk.flush(ended)
