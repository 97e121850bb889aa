"""The failing path: the attempts after the first as one flat function, where nothing but a plain retry takes part.

It does what the layers of the general path do, and keeps what they keep, for an error like most: an `Exception` of the
retry's own types, with nothing behind it and no call of ours inside. What happened so far is `past`: error, wait before
it, start and end of each attempt. The first unusual thing (another error, somebody who hears retries, a deadline) hands
over to the general path, which goes on from there.
"""

from __future__ import annotations

from _bisect import bisect_left

from opero import clock, events, forks
from opero.call import ATTEMPT_DURATION, HISTORY, History, Record, heard, ids, within
from opero.errors import OperoError
from opero.primitives.retry import DELAY, EXHAUSTED, GAVE_UP, SCHEDULED, SUCCEEDED, gave_up
from opero.signals import ATTEMPTS, SECONDS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from opero.pipeline import Operation

    Again = Callable[[tuple[Any, ...], dict[str, Any], list[Any]], Any]

retries_heard = events.watch(SCHEDULED.name, SUCCEEDED.name, EXHAUSTED.name)
_makers: dict[tuple[bool, bool], Callable[..., Again]] = {}


def plain(operation: Operation) -> bool:
    """Whether all that may be between two attempts is a wait."""
    retry = operation.retry
    return retry is not None and operation.policies == (retry,) and retry.is_plain


def path(operation: Operation, general: Callable[..., Any], pause: Callable[[float], Any]) -> Again:
    """Make what goes on with a call whose first attempt failed, and keep it with the operation."""
    retry: Any = operation.retry
    kind = operation.is_async, retry.wait.never
    if kind not in _makers:
        made: dict[str, Any] = {}
        how = {"define": "async def", "wait": "await "} if operation.is_async else {"define": "def", "wait": ""}
        text = _TEXT.format(**how, paused=_AT_ONCE if retry.wait.never else _PAUSED.format(**how))
        exec(compile(text, "<opero failing path>", "exec"), _TOOLS, made)  # noqa: S102 - the text below
        _makers[kind] = made["make"]
    operation.again = made_for_it = _makers[kind](operation, retry, general, pause)
    return made_for_it


def _resumed(past: list[Any]) -> Record:
    """Return the record of what happened, for the general path to go on from; `past` is empty then."""
    *before, last = History(past).attempts()
    error, delay, _, _ = past[-4:]
    past.clear()
    record = Record((before[0] if before else last).started)
    record.attempts = before
    record.errors = {attempt.number: attempt.error for attempt in before}
    for attempt in before:
        attempt.error = None
    record.delay, record.replay = delay, (error, last.started, last.duration)
    return record


def _meet(operation: Operation, error: BaseException) -> Any:
    """Return where failures of this type are counted; nothing if the retry would not retry them, or might not."""
    if not isinstance(error, Exception) or isinstance(error, OperoError | BaseExceptionGroup):
        return None
    if not operation.retry.matches(error):  # type: ignore[union-attr]
        return None
    return operation.book.failing(error, (SCHEDULED, EXHAUSTED), DELAY)


_TOOLS: dict[str, Any] = {"bisect": bisect_left, "kind_of": type, "heard": heard, "within": within, "clock": clock}
_TOOLS |= {"History": History, "resumed": _resumed, "meet": _meet, "retries_heard": retries_heard, "forks": forks}
_TOOLS |= {"gave_up": gave_up, "ids": ids, "OK": ("ok", ""), "SECONDS": SECONDS, "ATTEMPTS": ATTEMPTS}
_TOOLS |= {"ATTEMPT_DURATION": ATTEMPT_DURATION, "DELAY": DELAY, "SCHEDULED": SCHEDULED.key, "SUCCEEDED": SUCCEEDED.key}
_TOOLS |= {"EXHAUSTED": EXHAUSTED.key, "HISTORY": HISTORY, "GAVE_UP": GAVE_UP, "NOTES": "__notes__"}
_AT_ONCE = "            delays[0] += 1\n"
_PAUSED = """\
            delay = retry.delay(made, delay, error)
            book.observe(DELAY, (), delay)
            error = told = None
            book.attempts[0] -= 1
            try:
                {wait}pause(delay)
            except BaseException:
                started[0] -= 1
                past.clear()
                book.finish("cancelled", "", clock.now() - began, made)
                raise
            finally:
                book.attempts[0] += 1
            end = clock.now()
"""
_TEXT = """\
def make(operation, retry, general, pause):
    name, function, book, retries = operation.name, operation.function, operation.book, retry.retries
    failures, marks, bounds, started = book.failures, book.marks, book.tally.latency.bounds, book.tally.started
    most = bisect(ATTEMPTS, retries + 1)

    {define} again(args, kwargs, past):
        began, made, delay = past[2], 1, 0.0
        while True:
            error, end = past[-4], past[-1]
            told = error.__dict__
            counts = failures.get(kind_of(error)) or meet(operation, error)
            if not counts or error.__context__ is not None or error.__cause__ is not None:
                break
            if told and (GAVE_UP in told or NOTES in told) or heard or retries_heard or within:
                break
            attempts, calls, tries, delays = counts
            took = end - past[-2]
            attempts[bisect(SECONDS, took)] += 1
            attempts[-1] += took
            if made > retries:
                took, number = end - began, next(ids)
                calls[bisect(marks, took)] += 1
                calls[-1] += took
                tries[most] += 1
                tries[-1] += made
                book.sums[EXHAUSTED] += 1
                index, latencies = bisect(bounds, took), book.latencies
                if index not in latencies:
                    latencies.setdefault(index, 0)
                latencies[index] += 1
                started[0] -= 1
                past[-4] = None
                told[HISTORY], told[GAVE_UP] = History(past), (forks.pid, end, name, number)
                told[NOTES] = [f"opero: {{made}} attempts in {{took:.3g}} s"]
                gave_up.set(number)
                past.clear()
                told = None
                try:
                    raise error
                finally:
                    error = None
            book.sums[SCHEDULED] += 1
{paused}\
            made += 1
            error = told = None
            try:
                result = {wait}function(*args, **kwargs)
            except BaseException as failure:
                past += (failure, delay, end, clock.now())
                continue
            now = clock.now()
            started[0] -= 1
            past.clear()
            book.observe(ATTEMPT_DURATION, OK, now - end)
            book.finish("ok", "", now - began, made)
            book.count(SUCCEEDED)
            return result
        error = told = None
        started[0] -= 1
        return {wait}general(operation, args, kwargs, resumed(past))

    return again
"""
