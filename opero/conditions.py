"""Which errors count: a type, several types, a predicate, or a `Condition`; `&`, `|` and `~` combine them."""

from __future__ import annotations

from opero.errors import ConfigurationError, OperoError, Rejected

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeAlias, Union

    Matches = Callable[[BaseException], Any]
    ConditionLike: TypeAlias = Union[type[BaseException], tuple[type[BaseException], ...], Matches, "Condition"]  # noqa: UP007


class Condition:
    """A predicate on an error."""

    def __init__(self, matches: Matches, text: str) -> None:
        self._matches = matches
        self._text = text

    def __call__(self, error: BaseException) -> bool:
        return bool(self._matches(error))

    def __and__(self, other: ConditionLike) -> Condition:
        right = of("condition", other)
        return Condition(_Both(self, right), f"{self} & {right}")

    def __or__(self, other: ConditionLike) -> Condition:
        right = of("condition", other)
        return Condition(_Either(self, right), f"({self} | {right})")

    def __invert__(self) -> Condition:
        return Condition(_Not(self), f"~{self}")

    def __repr__(self) -> str:
        return self._text


def of(field: str, value: Any) -> Condition:
    """Make a condition of what a user may write for one.

    Exception types match their instances. Refusals by Opero itself match only where a type of Opero is named: a local
    rejection says nothing about the dependency.
    """
    if isinstance(value, Condition):
        return value
    types = value if isinstance(value, tuple) else (value,)
    if types and all(isinstance(t, type) and issubclass(t, Exception) for t in types):
        return Condition(_OfType(types), " | ".join(t.__name__ for t in types))
    if callable(value) and not isinstance(value, type):
        return Condition(value, getattr(value, "__name__", repr(value)))
    raise ConfigurationError(field, value, "an exception type, a tuple of them, or a predicate on the error")


def cause(value: ConditionLike) -> Condition:
    """Match an error whose chain of causes (`__cause__`, else `__context__`) holds a match."""
    inner = of("cause", value)
    return Condition(_InChain(inner), f"cause({inner})")


def message(part: str) -> Condition:
    """Match an error whose text contains `part`."""
    return Condition(_Says(part), f"message({part!r})")


class _OfType:
    def __init__(self, types: tuple[type[Exception], ...]) -> None:
        self.types = types
        self.ours = any(issubclass(t, OperoError) for t in types)

    def __call__(self, error: BaseException) -> bool:
        return isinstance(error, self.types) and (self.ours or not isinstance(error, Rejected))


class _Both:
    def __init__(self, *conditions: Condition) -> None:
        self.conditions = conditions

    def __call__(self, error: BaseException) -> bool:
        return all(condition(error) for condition in self.conditions)


class _Either(_Both):
    def __call__(self, error: BaseException) -> bool:
        return any(condition(error) for condition in self.conditions)


class _Not(_Both):
    def __call__(self, error: BaseException) -> bool:
        return not self.conditions[0](error)


class _InChain(_Both):
    def __call__(self, error: BaseException) -> bool:
        seen: BaseException | None = error
        for _ in range(100):  # a chain may be a circle
            if seen is None:
                return False
            if self.conditions[0](seen):
                return True
            seen = seen.__cause__ or seen.__context__
        return False


class _Says:
    def __init__(self, part: str) -> None:
        self.part = part

    def __call__(self, error: BaseException) -> bool:
        return self.part in str(error)
