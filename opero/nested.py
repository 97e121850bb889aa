"""What a decorated function retried to its end is not retried again by one further out.

1. Who gives up marks the error, with process, time, operation and place. The mark stays on the error: a copy, or an
   error raised `from` it, leads to it.
2. A retry further out looks for a mark of its own call: made since that began, in its own process, and, where two calls
   are of one operation, in its own thread or task.
3. Of a group each error must have been retried inside.
4. Who gives up on a result keeps it by its identity, for as long as it lives, and lets the context know. An outer retry
   does not want the same object again, nor what its attempt made of it: another result, or an error raised where the
   result was waited for or by who had it in hand.
"""

from __future__ import annotations

import sys
from _contextvars import ContextVar
from _thread import get_ident
from _weakref import ref

from opero import conditions, forks
from opero.errors import notes_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType
    from typing import Any, TypeAlias

    from opero.call import Call

    Mark: TypeAlias = "tuple[int, float, str, int]"

GAVE_UP = "_opero_gave_up"  # on an error: process, time, operation and place of the call that retried it to its end
OURS = (__file__.removesuffix("nested.py"), "<opero ")  # how the names of our files begin
DEEP = 200  # frames of a stack that are looked at
gave_up: ContextVar[int] = ContextVar("opero.gave_up", default=0)


class GivenUp:
    """A result that a call gave up on, when, and which frames waited for it; keeps none of them alive."""

    __slots__ = ("at", "found", "places", "result")

    def __init__(self, found: Mark, result: Callable[[], Any]) -> None:
        self.found = found
        self.at = found[1]
        self.result = result
        self.places = set(_callers(sys._getframe()))  # noqa: SLF001 - documented, and the only way

    def led_to(self, error: BaseException) -> bool:
        """Whether an error was raised where the result was waited for, or by who had it in hand."""
        trace, result = error.__traceback__, self.result()
        if trace is None:
            return False
        while trace.tb_next is not None:
            trace = trace.tb_next
        frame = trace.tb_frame
        if _place(frame) in self.places:
            return True
        return result is not None and any(value is result for value in frame.f_locals.values())


last: ContextVar[GivenUp | None] = ContextVar("opero.given_up", default=None)
_results: dict[int, tuple[ref[Any], Mark]] = {}  # by identity; those that can be referred to weakly


def mark(call: Call, error: BaseException) -> None:
    """Let an outer retry know that this error is at its end, and where: in which thread, or in which task."""
    notes_of(error)[GAVE_UP] = _mark(call)


def mark_result(call: Call, result: object) -> None:
    """Let an outer retry know that this result is final."""
    found, number = _mark(call), id(result)
    weak: Any = _nothing
    try:
        weak = ref(result, lambda _: _results.pop(number, None))
    except TypeError:
        pass  # None, a text, a dict: such are told apart by the context alone
    else:
        _results[number] = weak, found
    last.set(GivenUp(found, weak))


def inherit(call: Call, error: Exception | None, other: Exception) -> None:
    """Let an error that an answer raised be at its end where what it was to stand for is: an error, or a result."""
    if error is None:
        given = _last_of(call)
        marks = [] if given is None else [given.found]
    else:
        marks = [mark for each in _failures(error) if (mark := notes_of(each).get(GAVE_UP)) is not None]
    found = [mark for mark in marks if _is_inside(call, mark, call.record.started)]
    if found:
        notes_of(other)[GAVE_UP] = found[0]


def marked(error: BaseException) -> bool:
    """Whether somebody gave up on it, or on what is behind it."""
    return any(GAVE_UP in notes_of(each) for each in conditions.chain(error, hidden=True))


def retried_inside(call: Call, error: BaseException, since: float) -> str | None:
    """Return the operation that retried this error to its end within this call.

    A mark from before `since` is of an earlier one. One of the same operation is inside only if it was made here: an
    error object that two threads or tasks raise, as mocks do, says nothing about the other's call.
    """
    if isinstance(error, BaseExceptionGroup):
        inner = [retried_inside(call, each, since) for each in error.exceptions]
        return inner[0] if all(inner) else None
    failures = list(_failures(error))
    for each in failures:
        found = notes_of(each).get(GAVE_UP)
        if found is not None and _is_inside(call, found, since):
            return str(found[2])
    given = _last_of(call)
    if given is not None and any(map(given.led_to, failures)):
        notes_of(error)[GAVE_UP] = given.found
        return given.found[2]
    return None


def given_up_inside(call: Call, result: object, since: float) -> str | None:
    """Return the operation that retried this result to its end within this call, or what this attempt made it of."""
    weak, found = _results.get(id(result), (_nothing, None))
    if found is not None and weak() is result and _is_inside(call, found, since):
        return found[2]
    given = _last_of(call)
    return None if given is None else given.found[2]


def _mark(call: Call) -> Mark:
    where = get_ident()
    if call.operation.is_async:
        where = call.record.id
        gave_up.set(where)
    return forks.pid, call.runtime.now(), call.operation.name, where


def _is_inside(call: Call, found: Mark, since: float) -> bool:
    process, at, operation, where = found
    ours = operation != call.operation.name or where in (get_ident(), gave_up.get())
    return process != forks.pid or (at > since and ours)


def _last_of(call: Call) -> GivenUp | None:
    """Return what was given up on last in this context, if that was in the attempt that has just ended."""
    given, record = last.get(), call.record
    began = record.attempts[-1].started if record.attempts else record.started
    return given if given is not None and given.at > began else None


def _callers(frame: FrameType | None) -> Iterator[tuple[int, int]]:
    for _ in range(DEEP):
        if frame is None:
            return
        if not frame.f_code.co_filename.startswith(OURS):
            yield _place(frame)
        frame = frame.f_back


def _place(frame: FrameType) -> tuple[int, int]:
    return id(frame), id(frame.f_code)


def _nothing() -> None:
    """Stand for a reference to a result that cannot be referred to."""


def _failures(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and those it stands for: its causes, and what it took the place of where that was handled.

    An error that was not raised `from` another, or `from None`, stands for it when it was raised where that was caught,
    as who translates errors does. What is raised further in, by something called meanwhile, is another failure.
    """
    shown: BaseException | None = None
    for each in conditions.chain(error, hidden=True):
        if shown is not None and shown.__cause__ is not each and not conditions.raised_where_caught(shown, each):
            return
        yield each
        shown = each
