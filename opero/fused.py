"""The fast path: a call where nothing happens, as one flat function with the user's own signature.

Its source is made of the policies' fragments: admit before, settle after; or it is a shortcut, the hit of a cache that
nothing stands before. No coroutine, no layer, no event, no lock.
The first unusual thing (a gate says no, an error, somebody who wants every event) hands over to the general path,
together with what already happened: what its layers hold, and the attempt made. Both differ in nothing but speed.
It is compiled at the first call, once for each text; `f.opero.source()` shows it.
"""

from __future__ import annotations

from _bisect import bisect_left
from _weakref import ref
from types import CoroutineType, FunctionType

from opero import again, clock, events
from opero.call import heard, rejections_heard
from opero.deadlines import late, within
from opero.errors import ConfigurationError
from opero.exclusive import GIL
from opero.kinds import deferred, is_generator_function, read
from opero.record import Record
from opero.shapes import AS_GIVEN, Shape, compiled, defaults, needed, shape_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from opero.pipeline import Operation
    from opero.policy import Fragment, Policy

enabled = GIL  # read when decorating; without a GIL its additions would not be exact
LOOKS = 30  # at results, while no call has succeeded
FRAMES = 100  # that the general path may take, and what it asks of the user's functions
MINDS_THE_END = {"fallback", "timeout", "arg_fallback", "hedge", "circuit_breaker", "bulkhead", "attempt_timeout"}
HAND_OVER, REFUSE = "HAND_OVER", "REFUSE"  # lines of a fragment: let the general path go on from here; refuse the call
_PLAIN = {"define": "def", "wait": ""}
_ASYNC = {"define": "async def", "wait": "await "}


def wrapper(operation: Operation, general: Callable[..., Any], **tools: Any) -> Callable[..., Any]:
    """Return the function that takes the place of the operation's own.

    `general` makes a call by the general path; `tools` are what fragments may use of the driver.
    """
    cold: Any = _cold_async if operation.is_async else _cold
    names: dict[str, Any] = {"__builtins__": _TOOLS, "general": general, "operation": operation, "fast": enabled}
    names.update(tools)  # what all share is in the builtins: a function keeps only what is its own
    wrapped = FunctionType(cold.__code__, names, "call")
    names["me"] = ref(wrapped)
    return wrapped


def compile_again(wrapped: Any) -> None:
    """Make the fast path anew, if it is made: a policy no longer does what it did."""
    wrapped.__globals__.pop("path", None)
    if is_warm(wrapped):
        _warm(wrapped)


def is_warm(wrapped: Any) -> bool:
    """Whether the fast path has taken its place: a call has succeeded."""
    return wrapped.__code__ is not _cold.__code__ and wrapped.__code__ is not _cold_async.__code__


def source(operation: Operation) -> str:
    """Return the text of a fast path, for people: with the names of the parameters, where it does not use them."""
    text, _, shape = _render(operation, enabled)
    return shape.told(text)


def only_counts(operation: Operation) -> bool:
    """Whether a call that succeeds at once is counted, and nothing else: no policy has a part in it."""
    fragments = [policy.fragment() for policy in operation.policies]
    return enabled and not any(f is None or f.acts() for f in fragments)


def held(started: float, by_place: dict[str, Any]) -> Record:
    """Keep what the layers before a gate that said no hold already."""
    record = Record(started)
    record.held = by_place
    return record


def failed(started: float, by_place: dict[str, Any], error: BaseException, ended: float) -> Record:
    """Keep what an attempt ended with, for the general path to go on from."""
    record = begun(started, by_place)
    record.replay = (error, started, ended - started)
    return record


def begun(started: float, by_place: dict[str, Any]) -> Record:
    """Keep what the layers hold of a call whose beginning is counted."""
    record = held(started, by_place)
    record.begun = True
    return record


def _room(frames: int = FRAMES) -> None:
    """Raise RecursionError unless there are as many frames left as the general path may take."""
    if frames:
        _room(frames - 1)


# ruff: noqa: F821
def _cold(*args: Any, **kwargs: Any) -> Any:
    wrapped = me()  # type: ignore[name-defined]
    if wrapped is None:  # it is garbage, and a finalizer calls it
        return general(operation, args, kwargs, None)  # type: ignore[name-defined]
    return ran(wrapped, watched(wrapped)(*args, **kwargs))  # type: ignore[name-defined]


async def _cold_async(*args: Any, **kwargs: Any) -> Any:
    wrapped = me()  # type: ignore[name-defined]
    if wrapped is None:
        return await general(operation, args, kwargs, None)  # type: ignore[name-defined]
    return await warm(wrapped)(*args, **kwargs)  # type: ignore[name-defined]


class _Path:
    """The fast path of a wrapper. It takes its place when a call has succeeded, or so many have not."""

    def __init__(self, wrapped: Any) -> None:
        names, operation = wrapped.__globals__, wrapped.__globals__["operation"]
        text, bound, shape = _render(operation, names["fast"])
        if operation.controllers is not None:
            operation.controllers.start()
        names.update(bound)
        self.code = shape.named(compiled(text)).replace(co_name=wrapped.__name__)
        self.defaults, self.kwdefaults = defaults(operation.function, shape)
        self.looks = LOOKS

    def put(self, wrapped: Any) -> Any:
        """Let it run in place of the wrapper's own code."""
        wrapped.__code__, wrapped.__defaults__, wrapped.__kwdefaults__ = self.code, self.defaults, self.kwdefaults
        return wrapped


def _warm(wrapped: Any) -> Any:
    return _Path(wrapped).put(wrapped)


def _watched(wrapped: Any) -> Any:
    """Return what makes a call whose result is looked at."""
    names = wrapped.__globals__
    path = names.get("path")
    if path is None:
        path = names["path"] = _Path(wrapped)
    path.looks -= 1
    if path.looks < 0:
        return path.put(wrapped)
    once = FunctionType(path.code, names, wrapped.__name__)
    once.__qualname__ = wrapped.__qualname__
    return path.put(once)


def _ran(wrapped: Any, result: Any) -> Any:
    """Return the result of the first call. What has yet to run is refused, and the next call's looked at, too."""
    operation, path = wrapped.__globals__["operation"], wrapped.__globals__.pop("path", None)
    what = deferred(result)
    if what is None or not (type(result) is CoroutineType or _meant_for_it(operation)):
        if path is not None:
            path.put(wrapped)
        return result
    read(result, "close", object, bool)()
    wrapped.__code__, wrapped.__defaults__, wrapped.__kwdefaults__ = _cold.__code__, None, None
    raise ConfigurationError("function", operation.name, f"no plain function that returns {what}")


def _meant_for_it(operation: Operation) -> bool:
    """Whether a policy is about how the call ends, and would see only that it was begun."""
    retries = operation.retry is not None and operation.retry.retries != 0
    return retries or not MINDS_THE_END.isdisjoint(operation.places)


def _render(operation: Operation, fast: bool) -> tuple[str, dict[str, Any], Shape]:
    shortcut = _shortcut(operation) if fast else None
    if shortcut is not None:
        return shortcut
    plain = not operation.is_async
    fragments = [(policy, policy.fragment() if plain else policy.fragment_async()) for policy in operation.policies]
    bound: dict[str, Any] = {}
    for _, fragment in fragments:
        bound.update(fragment.names if fragment else {})
    found: list[tuple[Policy, Fragment]] | None
    found = [(policy, fragment) for policy, fragment in fragments if fragment is not None]
    if not fast or len(found) < len(fragments) or is_generator_function(operation.function):
        found = None
    shape = shape_of(operation)
    bound.update(needed(operation, shape))
    if found is not None:
        bound.update(_counting(operation, found))
    return _text(operation, shape, found), bound, shape


def _text(operation: Operation, shape: Shape, found: list[tuple[Policy, Fragment]] | None) -> str:
    texts = {**shape.texts, **(_ASYNC if operation.is_async else _PLAIN)}
    if found is None:
        return _GENERAL.format(**texts)
    parts = {name: _part(found, name) for name in ("check", "fail", "settle")}
    parts["owed"] = _part(found, "owed", "    ")
    parts |= {"admit": _admit(found, texts), "already": _already(found)}
    last = _AGAIN if again.plain(operation) else _GO_ON
    parts |= {name: line.format(**texts, **parts) for name, line in last.items()}
    never = {"RecursionError": "room()"} | ({"TypeError": texts["args"]} if shape is AS_GIVEN else {})
    parts["never"] = "".join(_NEVER.format(kind=kind, asked=asked, **parts) for kind, asked in never.items())
    return _FAST.format(**texts, **parts)


def _counting(operation: Operation, found: list[tuple[Policy, Fragment]]) -> dict[str, Any]:
    """Let the tally know what a call counts as; return what the text counts in."""
    tally = operation.book.tally
    tally.passed = {(m.name, attributes): len(m.buckets) + 2 for _, f in found for m, attributes in f.passed}
    tally.refusal = next((fragment.refused for _, fragment in found if fragment.refuse), None)
    bounds = tally.latency.bounds
    return {
        "function": operation.function,
        "started": tally.started,
        "total": tally.total,
        "refused": tally.refused,
        "counts": tally.latency.counts,
        "bounds": bounds,
        "least": bounds[0],
    }


def _shortcut(operation: Operation) -> tuple[str, dict[str, Any], Shape] | None:
    """Return what answers a call before anything else, if a policy has such and none further out has a part in it."""
    function, shape = operation.function, shape_of(operation)
    if not shape.only or "__wrapped__" in function.__dict__ or "__signature__" in function.__dict__:
        return None
    policy, fragment = _first(operation, shape)
    if policy is None or fragment is None:
        return None
    tally = operation.book.tally
    tally.answered = fragment.counted
    return _answer(operation, policy, fragment, shape), {**fragment.names, "answers": tally.answers}, shape


def _first(operation: Operation, shape: Shape) -> tuple[Policy | None, Fragment | None]:
    for policy in operation.policies:
        fragment = policy.shortcut(operation.function, shape.stand_ins)
        around = policy.fragment() if fragment is None else None
        if fragment is not None or around is None or around.acts():
            return policy, fragment
    return None, None


def _answer(operation: Operation, policy: Policy, fragment: Fragment, shape: Shape) -> str:
    texts = {**shape.texts, **(_ASYNC if operation.is_async else _PLAIN)}
    over = _OVER.format(**texts, place=policy.place, has=fragment.held)
    answer = "".join(f"        {line}\n" for line in fragment.admit.replace(HAND_OVER, over).splitlines())
    return _SHORTCUT.format(**texts, answer=answer)


_GENERAL = """\
{define} call({parameters}):
    return {wait}general(operation, {args}, {kwargs}, None)
"""
_FAST = """\
{define} call({parameters}):
    if heard and asked(heard) or within and late():
        return {wait}general(operation, {args}, {kwargs}, None)
    now = clock.now()
{admit}    started[0] += 1
    try:
        result = {wait}function({passed})
        end = clock.now()
{check}        took = end - now
        index = bisect(bounds, took) if took > least else 0
{never}    except BaseException as error:
{keep}
    else:
        counts[index] += 1
        total[0] += took
{settle}        return result
    return {wait}{go_on}
"""
_NEVER = """\
    except {kind} as error:
        fine = True
        try:
            {asked}
        except {kind}:
            fine = False
        if not fine:
            started[0] -= 1
{owed}            raise
{keep}
"""
_GO_ON = {
    "keep": "{fail}        record = failed(now, {already}, error, clock.now())",
    "go_on": "general(operation, {args}, {kwargs}, record)",
}
_AGAIN = {
    "keep": "        past = [error, 0.0, now, clock.now()]",
    "go_on": "(operation.again or again(operation, general, pause))({args}, {kwargs}, past)",
}
_SHORTCUT = """\
{define} call({parameters}):
    if not (heard and asked(heard)):
{answer}    return {wait}general(operation, {args}, {kwargs}, None)
"""
_OVER = "return {wait}general(operation, {args}, {kwargs}, begun(now, {{{place!r}: {has}}}))"
_TOOLS: dict[str, Any] = {"heard": heard, "rejections_heard": rejections_heard, "within": within, "late": late}
_TOOLS |= {"clock": clock, "bisect": bisect_left, "held": held, "begun": begun, "failed": failed}
_TOOLS |= {"asked": events.asked, "again": again.path, "kind_of": type, "warm": _warm}
_TOOLS |= {"BaseException": BaseException, "KeyError": KeyError, "RecursionError": RecursionError, "room": _room}
_TOOLS |= {"TypeError": TypeError, "watched": _watched, "ran": _ran}


def _admit(found: list[tuple[Policy, Fragment]], texts: dict[str, str]) -> str:
    text = ""
    for number, (_, fragment) in enumerate(found):
        before = found[:number]
        undo = [line for _, each in reversed(before) for line in each.undo.splitlines()]
        over = "return {wait}general(operation, {args}, {kwargs}, held(now, {already}))"
        leave = [*undo, over.format(**texts, already=_already(before))]
        refuse = [*undo, "refused[0] += 1", fragment.refuse] if _may_refuse(before) else leave
        for line in fragment.admit.splitlines():
            margin = "    " + line[: len(line) - len(line.lstrip())]
            lines = {HAND_OVER: leave, REFUSE: refuse}.get(line.strip(), [line.strip()])
            text += "".join(f"{margin}{each}\n" for each in lines)
    return text


def _may_refuse(before: list[tuple[Policy, Fragment]]) -> bool:
    """Whether nobody further out would do anything about a refusal, or must be given back what it admitted."""
    return not any(policy.minds_refusals or fragment.held for policy, fragment in before)


def _part(fragments: list[tuple[Policy, Fragment]], name: str, margin: str = "") -> str:
    lines = [line for _, fragment in reversed(fragments) for line in getattr(fragment, name).splitlines()]
    return "".join(f"{margin}        {line}\n" for line in lines)


def _already(fragments: list[tuple[Policy, Fragment]]) -> str:
    return f"{{{', '.join(f'{policy.place!r}: {fragment.held}' for policy, fragment in fragments if fragment.held)}}}"
