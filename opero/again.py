"""The failing path: the attempts after the first as one flat function, where nothing but a plain retry takes part.

It does what the layers of the general path do, and keeps what they keep, for an error like most: an `Exception` of the
retry's own types, on which no call of ours inside gave up. What happened so far is `past`: error, wait before
it, start and end of each attempt. The first unusual thing (another error, somebody who hears retries, a deadline) hands
over to the general path, which goes on from there.
"""

from __future__ import annotations

from _bisect import bisect_left
from _thread import get_ident

from opero import clock, events, forks
from opero.call import ATTEMPT_DURATION, ATTEMPT_STARTED, EVERY_CALL, SHORT, spell
from opero.deadlines import deadline, within
from opero.errors import OperoError
from opero.nested import GAVE_UP, gave_up, last, marked
from opero.primitives.retry import DELAY, EXHAUSTED, SCHEDULED, SUCCEEDED
from opero.record import HISTORY, History, Record, ids
from opero.signals import SECONDS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from opero.pipeline import Operation
    from opero.tallies import Failing

    Again = Callable[[tuple[Any, ...], dict[str, Any], list[Any]], Any]

listened = events.watch(*EVERY_CALL, SCHEDULED.name, SUCCEEDED.name, EXHAUSTED.name)
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
        how = _AWAITED if operation.is_async else _PLAIN
        never = retry.wait.never
        parts = {"ahead": "", "paused": _AT_ONCE} if never else {"ahead": _AHEAD, "paused": _PAUSED.format(**how)}
        text = _TEXT.format(**how, **parts)
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
    record.begun = True
    record.delay, record.replay = delay, (error, last.started, last.duration)
    return record


def _meet(operation: Operation, error: BaseException) -> Failing | None:
    """Return where failures of this type are counted; nothing if the retry would not retry them, or might not."""
    retry: Any = operation.retry
    if not isinstance(error, Exception) or isinstance(error, OperoError | BaseExceptionGroup):
        return None
    if not retry.matches(error):
        return None
    return operation.book.failing(error, EXHAUSTED, retry.retries + 1, DELAY)


_TOOLS: dict[str, Any] = {"bisect": bisect_left, "kind_of": type, "within": within, "deadline": deadline}
_TOOLS |= {"clock": clock, "marked": marked, "last": last, "Exception": Exception}
_TOOLS |= {"History": History, "resumed": _resumed, "meet": _meet, "listened": listened, "forks": forks}
_TOOLS |= {"gave_up": gave_up, "ids": ids, "get_ident": get_ident, "spell": spell, "SHORT": SHORT}
_TOOLS |= {"OK": ("ok", ""), "SECONDS": SECONDS, "ATTEMPT_DURATION": ATTEMPT_DURATION, "DELAY": DELAY}
_TOOLS |= {"SUCCEEDED": SUCCEEDED.key, "TRIED": ATTEMPT_STARTED.key}
_TOOLS |= {"HISTORY": HISTORY, "GAVE_UP": GAVE_UP, "NOTES": "__notes__"}
_PLAIN = {"define": "def", "wait": "", "where": "get_ident()", "here": ""}
_AWAITED = {"define": "async def", "wait": "await ", "where": "next(ids)"}
_AWAITED["here"] = "                gave_up.set(where)\n"
_AT_ONCE = "            tally.at_once += 1\n"
_AHEAD = """\
            if made <= retries:
                try:
                    after = retry.delay(made, delay, error)
                except Exception:
                    break
"""
_PAUSED = """\
            delay = after
            book.observe(DELAY, (), delay)
            error = told = None
            try:
                {wait}pause(delay)
            except BaseException:
                past = None
                book.finish("cancelled", "", clock.now() - began, made)
                raise
            book.count(TRIED)
            end = clock.now()
"""
_TEXT = """\
def make(operation, retry, general, pause):
    name, function, book, retries = operation.name, operation.function, operation.book, retry.retries
    failures, bounds = book.failures, book.tally.latency.bounds
    many = f"opero: {{retries + 1}} attempts in "
    soon = many + spell(0.0)

    {define} again(args, kwargs, first):
        error, delay, began, end = first
        first.clear()
        begun, made, past = began, 1, ()
        while True:
            try:
                told = error.__dict__
                tally = failures.get(kind_of(error)) or meet(operation, error)
                if tally is None or told and (GAVE_UP in told or NOTES in told):
                    break
                if (error.__context__ is not None or error.__cause__ is not None) and marked(error):
                    break
                given = last.get()
                if given is not None and given.at > begun:
                    break
            except Exception:
                break
            if listened or within and deadline.get() is not None:
                break
{ahead}            took = end - begun
            tally.attempts[bisect(SECONDS, took) if took > SHORT else 0] += 1
            tally.trying += took
            if made > retries:
                took, where = end - began, {where}
                tally.ends[bisect(bounds, took)] += 1
                tally.seconds += took
                told[HISTORY] = History(past + (None, delay, begun, end))
                told[GAVE_UP] = (forks.pid, end, name, where)
                told[NOTES] = [many + spell(took) if took > SHORT else soon]
{here}                past = [error]
                error = told = None
                raise past.pop()
            past += (error, delay, begun, end)
{paused}\
            made += 1
            error = told = None
            try:
                result = {wait}function(*args, **kwargs) if kwargs else {wait}function(*args)
            except BaseException as failure:
                error, begun, end = failure, end, clock.now()
                continue
            now = clock.now()
            past = None
            book.observe(ATTEMPT_DURATION, OK, now - end)
            book.finish("ok", "", now - began, made)
            book.count(SUCCEEDED)
            return result
        past = [*past, error, delay, begun, end]
        error = told = None
        return {wait}general(operation, args, kwargs, resumed(past))

    return again
"""
