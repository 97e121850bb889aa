"""Which outcomes count: an exception type, several types, a predicate, or a `Condition`.

A condition speaks of errors, of results (`result`), or of both (`status`). `&`, `|` and `~` combine them side by side;
`~` of one that speaks of errors speaks of errors only, so `~status(404)` never means a good answer.
"""

from __future__ import annotations

from types import UnionType

from opero.errors import CallTimeout, ConfigurationError, OperoError, Rejected, bare
from opero.kinds import is_coroutine_function, is_generator_function, promises_awaitable, read
from opero.policy import NOT_AWAITED, answered, asked, taking
from opero.responses import status as status_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from re import Pattern
    from typing import Any, TypeAlias, Union

    Matches = Callable[[Any], Any]
    Types: TypeAlias = Union[tuple[type[Exception], ...], list[type[Exception]]]  # noqa: UP007
    ConditionLike: TypeAlias = Union[type[Exception], Types, UnionType, Matches, "Condition"]  # noqa: UP007

__all__ = ["Condition", "cause", "group", "message", "not_types", "result", "status", "types"]


def __dir__() -> list[str]:
    return __all__


ALLOWED = "an exception type, a tuple of them, or a predicate on the error"
STATUSES = "an HTTP status is conditions.status(503)"
COMBINED = "others are combined by |, as KeyError | conditions.status(503)"
ON_RESULT = "a predicate on the result"
NEVER = "Exception stands for all there are: cancellation, KeyboardInterrupt and SystemExit always pass"


class Condition:
    """A predicate on an error, on a result, or on both; None where it does not speak of them."""

    def __init__(self, on_error: Matches | None, text: str, on_result: Matches | None = None) -> None:
        self.on_error = on_error
        self.on_result = on_result
        self.is_async = _is_async(on_error) or _is_async(on_result)
        self._text = text

    def __call__(self, error: BaseException) -> bool:
        return self.on_error is not None and bool(answered(self.on_error(bare(error))))

    def rejects(self, result: object) -> bool:
        """Whether it speaks of results, and matches this one; where nobody awaits."""
        return self.on_result is not None and bool(answered(self.on_result(result)))

    async def judge(self, error: BaseException) -> bool:
        """Say the same where a predicate may be a coroutine function."""
        return self.on_error is not None and await _ask(self.on_error, error)

    async def unwanted(self, result: object) -> bool:
        """Whether it speaks of results, and matches this one."""
        return self.on_result is not None and await _ask(self.on_result, result)

    def __and__(self, other: ConditionLike) -> Condition:
        right = of("condition", other, awaits=True)
        return Condition(
            _joined(_Both, self.on_error, right.on_error, needs_both=True),
            f"{self} & {right}",
            _joined(_Both, self.on_result, right.on_result, needs_both=True),
        )

    def __or__(self, other: ConditionLike) -> Condition:
        right = of("condition", other, awaits=True)
        return Condition(
            _joined(_Either, self.on_error, right.on_error),
            f"({self} | {right})",
            _joined(_Either, self.on_result, right.on_result),
        )

    def __ror__(self, other: ConditionLike) -> Condition:
        return of("condition", other, awaits=True) | self

    def __rand__(self, other: ConditionLike) -> Condition:
        return of("condition", other, awaits=True) & self

    def __invert__(self) -> Condition:
        if self.on_error is None:
            return Condition(None, f"~{self}", self.on_result and _Not(self.on_result))
        return Condition(_Not(self.on_error), f"~{self}")

    def __repr__(self) -> str:
        return self._text


def of(field: str, value: Any, *, awaits: bool = False) -> Condition:
    """Make a condition of what a user may write for one.

    Exception types match their instances. Refusals by Opero itself match only where a type of Opero is named: a local
    rejection says nothing about the dependency. A `ConfigurationError` matches only by that name: what is written wrong
    is so the next time, and nothing may hide it. Coroutine functions are taken where the caller can await them.
    """
    found = value if isinstance(value, Condition) else _made(field, value)
    if found is None:
        raise ConfigurationError(field, value, _instead_of(value))
    if found.is_async and not awaits:
        raise ConfigurationError(field, value, f"{ALLOWED}; {NOT_AWAITED}")
    return found


def types(*kinds: type[BaseException]) -> Condition:
    """Match errors of these types."""
    return of("types", kinds)


def not_types(*kinds: type[BaseException]) -> Condition:
    """Match errors of all types but these."""
    return ~of("not_types", kinds)


def of_result(field: str, value: Any, *, awaits: bool = False) -> Condition:
    """Make a condition on results: of one that speaks of them, or of a predicate."""
    if isinstance(value, Condition):
        if value.on_result is None:
            raise ConfigurationError(field, value, ON_RESULT)
        found = Condition(None, repr(value), value.on_result)
    else:
        found = Condition(None, f"result({_name(value)})", _predicate(field, value, ON_RESULT))
    if found.is_async and not awaits:
        raise ConfigurationError(field, value, f"{ON_RESULT}; {NOT_AWAITED}")
    return found


def result(matches: Matches) -> Condition:
    """Match a result; says nothing of errors."""
    return of_result("result", matches, awaits=True)


def status(*codes: int | range) -> Condition:
    """Match HTTP statuses, in errors and in responses: `status(429, range(500, 600))`."""
    if not codes or not all(isinstance(code, range) or _is_status(code) for code in codes):
        raise ConfigurationError("status", codes, "HTTP statuses from 100 to 599, and ranges of them")
    matches = _HasStatus(codes)
    return Condition(matches, f"status({', '.join(map(str, codes))})", matches)


def _is_status(code: object) -> bool:
    return isinstance(code, int) and not isinstance(code, bool) and 100 <= code < 600


def cause(value: ConditionLike) -> Condition:
    """Match an error whose chain of causes (`__cause__`, else `__context__` unless suppressed) holds a match."""
    inner = of("cause", value, awaits=True)
    return Condition(inner.on_error and _InChain(inner.on_error), f"cause({inner})")


def group(value: ConditionLike) -> Condition:
    """Match an `ExceptionGroup` all of whose errors match, those of groups in it too.

    As for `except*`, an error alone is a group of one. A group with an error that ends a program never matches.
    """
    inner = of("group", value, awaits=True)
    return Condition(inner.on_error and _AllOf(inner.on_error), f"group({inner})")


def message(part: str | Pattern[str]) -> Condition:
    """Match an error whose text contains `part`, or a match of a compiled pattern."""
    if not isinstance(part, str) and not hasattr(part, "search"):
        raise ConfigurationError("message", part, "a text, or a compiled regular expression")
    return Condition(_Says(part), f"message({part!r})")


def chain(error: BaseException, *, hidden: bool = False) -> Iterator[BaseException]:
    """Yield an error and its causes, with those that `from None` hides if asked for them."""
    seen: BaseException | None = error
    for _ in range(100):  # a chain may be a circle
        if seen is None:
            return
        yield seen
        seen = _behind(seen, hidden=hidden)


def raised_where_caught(error: BaseException, handled: BaseException) -> bool:
    """Whether the frame that handled one raised the other; so it is if their tracebacks were taken away."""
    trace, caught = error.__traceback__, handled.__traceback__
    if trace is None or caught is None:
        return True
    while trace.tb_next is not None:
        trace = trace.tb_next
    return trace.tb_frame is caught.tb_frame


def _behind(error: BaseException, *, hidden: bool) -> BaseException | None:
    if isinstance(error, CallTimeout | Rejected):
        return None  # what the call failed of before is not what it was refused for
    try:
        cause = error.__cause__
        context = None if error.__suppress_context__ and not hidden else error.__context__
    except Exception:  # noqa: BLE001 - a class that does not tell has nothing behind it
        return None
    return context if cause is None else cause


def _made(field: str, value: Any) -> Condition | None:
    if value is Exception:
        return _ANY
    found = kinds(value)
    if found and all(isinstance(t, type) and issubclass(t, Exception) for t in found):
        return Condition(_OfType(found), " | ".join(t.__name__ for t in found))
    if callable(value) and not isinstance(value, type):
        return Condition(_predicate(field, value, ALLOWED), _name(value))
    return None


def _predicate(field: str, value: Any, allowed: str) -> Any:
    """Return a predicate, which may be a coroutine function: who asks it must see to that."""
    if callable(value) and _is_async(value):
        return taking(1, value, field, value, allowed)
    return asked(field, value, allowed, takes=1)


def _name(matches: Any) -> str:
    return read(matches, "__name__", str) or repr(matches)


def kinds(value: Any) -> tuple[Any, ...]:
    """Return the types of a type, a union, or several."""
    if isinstance(value, UnionType):
        return value.__args__
    return tuple(value) if isinstance(value, tuple | list) else (value,)


def _instead_of(value: Any) -> str:
    """Say what may stand there instead, and which of several is wrong."""
    wrong = [kind for kind in kinds(value) if not (isinstance(kind, type) and issubclass(kind, Exception))]
    which = f"{ALLOWED}; not {wrong[0]!r}" if wrong and wrong != [value] else ALLOWED
    if any(isinstance(kind, type) and issubclass(kind, BaseException) for kind in wrong):
        return f"{which}; {NEVER}"
    if any(isinstance(kind, int) for kind in wrong):
        return f"{which}; {STATUSES}"
    return f"{which}; {COMBINED}" if any(map(callable, wrong)) else which


def in_order(field: str, keys: Iterable[Any]) -> Iterable[Any]:
    """Return keys of which the first that matches an error answers; refuse one that never would."""
    before: tuple[type, ...] = ()
    for key in keys:
        own = tuple(kind for kind in kinds(key) if isinstance(kind, type))
        if own and len(own) == len(kinds(key)):
            if all(issubclass(kind, before) for kind in own):
                raise ConfigurationError(field, key, "no class after its base class: the first that matches answers")
            before += own
    return keys


def awaited(value: Any) -> bool:
    """Whether what a user wrote for a condition has to be awaited."""
    return callable(value) and not isinstance(value, type) and _is_async(value)


def _is_async(matches: Matches | None) -> bool:
    if matches is None or is_generator_function(matches):
        return False
    own = getattr(matches, "is_async", False) is True
    return own or is_coroutine_function(matches) or promises_awaitable(matches)


async def _ask(matches: Matches, outcome: object) -> bool:
    answer = matches(outcome)
    return bool(await answer if hasattr(answer, "__await__") else answer)


def _joined(
    how: type[_Both], left: Matches | None, right: Matches | None, *, needs_both: bool = False
) -> Matches | None:
    if left is None or right is None:
        return None if needs_both else left or right
    return how(left, right)


class _Both:
    """Combines predicates. A coroutine where one of them is; else plain, so that it can be asked anywhere."""

    stops_at = False

    def __init__(self, *parts: Matches) -> None:
        self.parts = parts
        self.is_async = any(map(_is_async, parts))

    def __call__(self, outcome: Any) -> Any:
        if self.is_async:
            return self._judge(outcome)
        return any(bool(answered(part(outcome))) is self.stops_at for part in self.parts) is self.stops_at

    async def _judge(self, outcome: Any) -> bool:
        for part in self.parts:
            if await _ask(part, outcome) is self.stops_at:
                return self.stops_at
        return not self.stops_at


class _Either(_Both):
    stops_at = True


class _Not(_Both):
    def __call__(self, outcome: Any) -> Any:
        if isinstance(outcome, ConfigurationError):
            return False
        return self._judge(outcome) if self.is_async else not answered(self.parts[0](outcome))

    async def _judge(self, outcome: Any) -> bool:
        return not await _ask(self.parts[0], outcome)


class _InChain(_Both):
    def __call__(self, outcome: Any) -> Any:
        return self._judge(outcome) if self.is_async else any(answered(self.parts[0](each)) for each in chain(outcome))

    async def _judge(self, outcome: Any) -> bool:
        for error in chain(outcome):
            if await _ask(self.parts[0], error):
                return True
        return False


class _AllOf(_Both):
    def __call__(self, outcome: Any) -> Any:
        if self.is_async:
            return self._judge(outcome)
        return all(isinstance(each, Exception) and answered(self.parts[0](each)) for each in _leaves(outcome))

    async def _judge(self, outcome: Any) -> bool:
        for each in _leaves(outcome):
            if not isinstance(each, Exception) or not await _ask(self.parts[0], each):
                return False
        return True


def _leaves(error: BaseException) -> Iterator[BaseException]:
    left = [error]
    while left:
        each = left.pop()
        if isinstance(each, BaseExceptionGroup):
            left += reversed(each.exceptions)
        else:
            yield each


class _OfType:
    def __init__(self, kinds: tuple[type[Exception], ...]) -> None:
        self.kinds = kinds
        refusals = () if any(issubclass(t, OperoError) for t in kinds) else (Rejected,)
        misuse = () if any(issubclass(t, ConfigurationError) for t in kinds) else (ConfigurationError,)
        self.spared: tuple[type[Exception], ...] = (*refusals, *misuse)

    def __call__(self, error: BaseException) -> bool:
        return isinstance(error, self.kinds) and not isinstance(error, self.spared)


class _HasStatus:
    def __init__(self, codes: tuple[int | range, ...]) -> None:
        self.codes = codes

    def __call__(self, outcome: object) -> bool:
        found = status_of(outcome)
        return found is not None and any(
            found in code if isinstance(code, range) else found == code for code in self.codes
        )


class _Says:
    def __init__(self, part: str | Pattern[str]) -> None:
        self.part = part

    def __call__(self, error: BaseException) -> bool:
        if isinstance(self.part, str):
            return self.part in str(error)
        return self.part.search(str(error)) is not None


_ANY = Condition(_OfType((Exception,)), "Exception")  # what most retry on
