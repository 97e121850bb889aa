"""Functions made of texts, with the parameters of the user's own."""

from __future__ import annotations

from functools import lru_cache
from types import FunctionType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import CodeType
    from typing import Any

    from opero.pipeline import Operation

VARARGS, VARKEYWORDS = 0x04, 0x08


class Shape:
    """A function's parameters by kind: the first `closed` go by position only, `many` and `others` take the rest."""

    def __init__(
        self, positional: Sequence[str], named: Sequence[str], many: str, others: str, *, closed: int = 0
    ) -> None:
        self.names = {*positional, *named, many, others}
        self.parameters = (*positional, *named)
        self.only = not many and not others  # nothing but these
        stars, spread = [f"*{many}"] if many else [], [f"**{others}"] if others else []
        slash, bare = ["/"] if closed else [], ["*"] if named and not many else []
        given = [*positional, *stars]
        self.texts = {
            "parameters": ", ".join(
                [*positional[:closed], *slash, *positional[closed:], *stars, *bare, *named, *spread]
            ),
            "passed": ", ".join([*given, *(f"{name}={name}" for name in named), *spread]),
            "args": f"({', '.join(given)}{',' if given else ''})",
            "kwargs": f"{{{', '.join([*(f'{name!r}: {name}' for name in named), *spread])}}}",
        }


ANY = Shape((), (), "args", "kwargs")


def own_shape(function: Callable[..., Any]) -> Shape:
    """Return the parameters of a function; any, where it does not tell."""
    if type(function) is not FunctionType:
        return ANY
    code = function.__code__
    count, only = code.co_argcount, code.co_kwonlyargcount
    rest = list(code.co_varnames[count + only :])
    many = rest.pop(0) if code.co_flags & VARARGS else ""
    others = rest.pop(0) if code.co_flags & VARKEYWORDS else ""
    positional, named = code.co_varnames[:count], code.co_varnames[count : count + only]
    return Shape(positional, named, many, others, closed=code.co_posonlyargcount)


def shaped(operation: Operation, text: str, names: dict[str, Any]) -> FunctionType:
    """Return a function of a text, with the parameters of the operation's own unless a policy reads them as given."""
    function, shape = operation.function, own_shape(operation.function)
    if any(policy.reads_arguments for policy in operation.policies) or not shape.names.isdisjoint(words(text)):
        shape = ANY
    made = FunctionType(compiled(text.format(**shape.texts)), names, "call")
    if shape is not ANY:
        made.__defaults__, made.__kwdefaults__ = function.__defaults__, function.__kwdefaults__
    return made


@lru_cache(1024)
def compiled(text: str) -> CodeType:
    """Compile the function `call` of a text."""
    made: dict[str, Any] = {}
    exec(compile(text, "<opero fast path>", "exec"), made)  # noqa: S102 - our fragments and parameter names
    code: CodeType = made["call"].__code__
    return code


@lru_cache(1024)
def words(text: str) -> set[str]:
    """Return the names in a text, which a parameter must not have; what stands behind a dot is no name."""
    spaced = "".join(letter if letter.isalnum() or letter in "_." else " " for letter in text)
    return {word.partition(".")[0] for word in spaced.split()}
