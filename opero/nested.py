"""What a decorated function retried to its end is not retried again by one further out.

1. Who gives up marks the error, with process, time, operation and place. The mark stays on the error: a copy, or an
   error raised `from` it, leads to it.
2. A retry further out looks for a mark of its own call: made since that began, in its own process, and, where two calls
   are of one operation, in its own thread or task.
3. Of a group each error must have been retried inside.
"""

from __future__ import annotations

from _contextvars import ContextVar
from _thread import get_ident

from opero import conditions, forks
from opero.errors import notes_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from opero.call import Call

GAVE_UP = "_opero_gave_up"  # on an error: process, time, operation and place of the call that retried it to its end
gave_up: ContextVar[int] = ContextVar("opero.gave_up", default=0)


def mark(call: Call, error: BaseException) -> None:
    """Let an outer retry know that this error is at its end, and where: in which thread, or in which task."""
    where = get_ident()
    if call.operation.is_async:
        where = call.record.id
        gave_up.set(where)
    notes_of(error)[GAVE_UP] = (forks.pid, call.runtime.now(), call.operation.name, where)


def marked(error: BaseException) -> bool:
    """Whether somebody gave up on it, or on what is behind it."""
    return any(GAVE_UP in notes_of(each) for each in conditions.chain(error))


def retried_inside(call: Call, error: BaseException) -> str | None:
    """Return the operation that retried this error to its end within this call.

    A mark older than this call is of an earlier one. One of the same operation is inside only if it was made here: an
    error object that two threads or tasks raise, as mocks do, says nothing about the other's call.
    """
    if isinstance(error, BaseExceptionGroup):
        inner = [retried_inside(call, each) for each in error.exceptions]
        return inner[0] if all(inner) else None
    for each in _failures(error):
        found = notes_of(each).get(GAVE_UP)
        if found is None:
            continue
        process, at, operation, where = found
        ours = operation != call.operation.name or where in (get_ident(), gave_up.get())
        if process != forks.pid or (at > call.record.started and ours):
            return str(operation)
    return None


def _failures(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and those it stands for: its causes, and what it took the place of where that was handled.

    An error that was raised `from` none of them stands for another when it was raised where that was caught, as who
    translates errors does. What is raised further in, by something that was called meanwhile, is another failure.
    """
    shown: BaseException | None = None
    for each in conditions.chain(error):
        if shown is not None and shown.__cause__ is not each and not conditions.raised_where_caught(shown, each):
            return
        yield each
        shown = each
