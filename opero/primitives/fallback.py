"""Fallback: an answer when the call has none.

1. Outermost: it sees the final failure, after retries, rejections and timeouts; with `on_result` also an answer that is
   not wanted.
2. A callable is called with the original arguments, anything else is the answer itself. The next one is asked when one
   fails; the error of the last passes through, with the call's as its context.
3. The call's outcome is `fallback`, never `ok`.
4. A generator falls back only before its first item: the answer's items take the place of its own. What has none is no
   answer to it.
"""

from __future__ import annotations

from opero import conditions
from opero.errors import ConfigurationError, OperoError
from opero.kinds import (
    fits,
    is_async_generator_function,
    is_awaited,
    is_coroutine_function,
    is_generator_function,
    promises_awaitable,
    signature_of,
)
from opero.nested import inherit, last
from opero.policy import NOT_AWAITED, Fragment, Policy
from opero.signals import Event, Signals
from opero.strategies import FALLBACK, RAISE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from opero.call import Call, Layer, Next
    from opero.conditions import Condition, ConditionLike

USED = Event("opero.fallback.used", "warning", "The caller got the fallback's answer.", ("error", "answer"))
SIGNALS = Signals("fallback", (USED,))
ITEMS = "what has items that a generator may yield, each time anew, such as a list, or a function that returns some"


class Fallback(Policy):
    """Answer with the first of `answers` that does not fail: a value, or what a function makes of the arguments.

    A coroutine function is awaited. `sys.exception()` in a function is what the call failed of. `by` maps classes of
    errors to an answer of their own, asked before the others. `on` says which other errors are answered at all,
    `on_result` which results are not wanted. What has to be awaited, an answer or a predicate, goes around a coroutine
    function only. Holds no state.

    Example:
        >>> Fallback(0, by={KeyError: "unknown"}).answers
        (0,)
    """

    fills = ()
    place = "fallback"
    asks_functions = True
    SIGNALS = SIGNALS

    answers: tuple[Any, ...]
    by: Mapping[Any, Any] | None
    on: ConditionLike
    on_result: Callable[[Any], object] | None
    condition: Condition
    table: Sequence[tuple[Condition, Any]]

    def __init__(
        self,
        *answers: Any,
        by: Mapping[Any, Any] | None = None,
        on: ConditionLike = Exception,
        on_result: Callable[[Any], object] | None = None,
    ) -> None:
        if not answers and not by:
            raise ConfigurationError(
                "fallback", answers, "at least one answer: a value, or a function of the arguments"
            )
        for answer in (*answers, *(_mapping(by).values())):
            if isinstance(answer, Policy):
                raise ConfigurationError("fallback", answer, "a value, or a function of the arguments; no policy")
        self.freeze(answers=answers, by=by, on=on, on_result=on_result)
        self.start()

    def start(self) -> None:
        on = (Exception, OperoError) if self.on is Exception else self.on
        condition = conditions.of("on", on, awaits=True)
        if self.on_result is not None:
            condition |= conditions.of_result("on_result", self.on_result, awaits=True)
        conditions.in_order("by", self.by or {})
        table = [(conditions.of("by", key, awaits=True), answer) for key, answer in (self.by or {}).items()]
        everything = (*self.answers, *(answer for _, answer in table))
        self._keep(condition=condition, table=table, reads_arguments=any(map(callable, everything)))

    def fragment(self) -> Fragment | None:
        return Fragment() if self.condition.on_result is None else None

    def check(self, function: Callable[..., Any], places: Mapping[str, Policy]) -> None:
        answers = (*self.answers, *(self.by or {}).values())
        for answer in answers:
            _refuse_misfit(answer, function)
        if is_generator_function(function):
            for answer in answers:
                if not _can_stream(answer, is_async=is_awaited(function)):
                    raise ConfigurationError("fallback", answer, ITEMS)
        if is_awaited(function):
            return
        asked = [("on", self.on), ("on_result", self.on_result), *(("by", key) for key in self.by or {})]
        for field, value in asked:
            if conditions.awaited(value):
                raise ConfigurationError(field, value, f"a predicate; {NOT_AWAITED}")
        for answer in answers:
            if is_coroutine_function(answer) or promises_awaitable(answer):
                raise ConfigurationError("fallback", answer, f"an answer or a function that gives one; {NOT_AWAITED}")

    def attach(self, function: Callable[..., Any]) -> Layer:
        return self.layer

    async def layer(self, call: Call, next: Next) -> Any:  # noqa: A002
        """Answer in place of a failure."""
        try:
            result = await next(call)
        except Exception as error:
            answers = await self._answers(call, error)
            if not answers:
                raise
            call.explain(error)  # it is what the answer's own error, if any, is raised upon
            return await self._ask(call, answers, error)
        if (
            self.answers
            and self.condition.on_result
            and not call.committed()
            and await call.agrees("fallback.on_result", self.condition.unwanted, result)
        ):
            return await self._ask(call, self.answers, None)
        return result

    async def _answers(self, call: Call, error: Exception) -> Sequence[Any]:
        """Return what may be asked after this error, in order."""
        action = call.action(error)
        if call.committed() or action == RAISE:
            return ()
        own = [answer for matches, answer in self.table if await call.agrees("fallback.by", matches.judge, error)]
        wanted = own or action == FALLBACK or await call.agrees("fallback.on", self.condition.judge, error)
        return (*own[:1], *self.answers) if wanted else ()

    async def _ask(self, call: Call, answers: Sequence[Any], failure: Exception | None) -> Any:
        for number, answer in enumerate(answers, 1):
            try:
                value = await _value(call, answer)
            except Exception as error:
                if number == len(answers):
                    inherit(call, failure, error)
                    raise
                continue
            call.record.fell_back = True
            last.set(None)  # what was given up inside is made good
            call.emit(USED, error="" if failure is None else type(failure).__name__, answer=number)
            return value
        return None  # not reached: there is an answer, and the last one raises


async def _value(call: Call, answer: Any) -> Any:
    """Return what an answer gives this call."""
    is_async = call.operation.is_async
    value: Any = answer(*call.args, **call.kwargs) if callable(answer) else answer
    if is_async and hasattr(value, "__await__"):
        value = await value
    if is_generator_function(call.operation.function) and not _has_items(value, is_async=is_async):
        raise ConfigurationError("fallback", value, ITEMS)
    return value


def _refuse_misfit(answer: Any, function: Callable[..., Any]) -> None:
    if callable(answer) and not fits(answer, function):
        allowed = f"a function of the arguments, {signature_of(function)}; sys.exception() in it is the error"
        raise ConfigurationError("fallback", answer, allowed)


def _can_stream(answer: Any, *, is_async: bool) -> bool:
    """Whether an answer, or what it will return for all we know, has items, and not only once."""
    if callable(answer):
        return is_async or not is_async_generator_function(answer)
    once = hasattr(answer, "__next__") or hasattr(answer, "__anext__")
    return not once and _has_items(answer, is_async=is_async)


def _has_items(value: Any, *, is_async: bool) -> bool:
    try:
        iter(value)
    except TypeError:
        return is_async and hasattr(value, "__aiter__")
    return True


def _mapping(by: Any) -> Mapping[Any, Any]:
    if by is not None and not hasattr(by, "values"):
        raise ConfigurationError("by", by, "a mapping of exception types to answers")
    return by or {}
