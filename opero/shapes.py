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
    """A function's parameters by kind: the first `closed` go by position only, `many` and `others` take the rest.

    In a text each has a stand-in, which is no other word of it; `named` gives the code their names.
    """

    def __init__(
        self, positional: Sequence[str], named: Sequence[str], many: str, others: str, *, closed: int = 0
    ) -> None:
        self.only = not many and not others  # nothing but these
        self.names = tuple(name for name in (*positional, *named, many, others) if name)
        self.stand_ins = tuple(f"_{number}" for number, _ in enumerate(self.names))
        count, only = len(positional), len(positional) + len(named)
        first, by_name, rest = self.stand_ins[:count], self.stand_ins[count:only], [*self.stand_ins[only:]]
        stars = [f"*{rest.pop(0)}"] if many else []
        spread = [f"**{rest.pop(0)}"] if others else []
        slash, bare = ["/"] if closed else [], ["*"] if named and not many else []
        given, pairs = [*first, *stars], [*zip(named, by_name, strict=True)]
        self.texts = {
            "parameters": ", ".join([*first[:closed], *slash, *first[closed:], *stars, *bare, *by_name, *spread]),
            "passed": ", ".join([*given, *(f"{name}={stand_in}" for name, stand_in in pairs), *spread]),
            "args": f"({', '.join(given)}{',' if given else ''})",
            "kwargs": f"{{{', '.join([*(f'{name!r}: {stand_in}' for name, stand_in in pairs), *spread])}}}",
        }

    def told(self, text: str) -> str:
        """Return a text with the names of the parameters, but for those that it uses itself."""
        import re

        for stand_in, name in zip(self.stand_ins, self.names, strict=True):
            if not re.search(rf"(?<![.'\w]){name}\b(?!=)", text):
                text = re.sub(rf"\b{stand_in}\b", name, text)
        return text

    def named(self, code: CodeType) -> CodeType:
        """Return code of a text with the names of the parameters: it finds them by their places."""
        return code.replace(co_varnames=(*self.names, *code.co_varnames[len(self.names) :]))


ANY, AS_GIVEN = Shape((), (), "args", "kwargs"), Shape((), (), "args", "kwargs")
AS_GIVEN.texts["args"] = "fitting({passed})".format(**AS_GIVEN.texts)
_NOTHING = "def call({parameters}):\n    pass\n"


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


def shape_of(operation: Operation) -> Shape:
    """Return the parameters of what stands for an operation's function.

    They are the function's own, unless a policy reads the arguments as they were given; any, where what is called
    takes other arguments than its code says.
    """
    function, reading = operation.function, [policy for policy in operation.policies if policy.reads_arguments]
    shape = own_shape(function)
    if not reading or shape is ANY:
        return shape
    told = {"__wrapped__", "__signature__"}.isdisjoint(function.__dict__)
    return AS_GIVEN if told and all(policy.fills is not None for policy in reading) else ANY


def needed(operation: Operation, shape: Shape) -> dict[str, Any]:
    """Return what a text with these parameters uses for them."""
    if shape is not AS_GIVEN:
        return {}
    filled = [name for policy in operation.policies if policy.reads_arguments for name in policy.fills or ()]
    return {"fitting": _fitting(operation.function, filled)}


def shaped(operation: Operation, text: str, names: dict[str, Any]) -> FunctionType:
    """Return a function of a text that stands for the operation's own."""
    shape = shape_of(operation)
    code = shape.named(compiled(text.format(**shape.texts)))
    made = FunctionType(code, names | needed(operation, shape), "call")
    made.__defaults__, made.__kwdefaults__ = defaults(operation.function, shape)
    return made


def defaults(function: Any, shape: Shape) -> tuple[Any, Any]:
    """Return the defaults of a function, and of its parameters by keyword only, where they belong to a shape."""
    return (None, None) if shape in {ANY, AS_GIVEN} else (function.__defaults__, function.__kwdefaults__)


def _fitting(function: Any, filled: Sequence[str]) -> Callable[..., tuple[Any, ...]]:
    """Return what returns arguments, or raises Python's own TypeError for those that the function does not take.

    `filled` are parameters for which a policy has a value where the caller gives none.
    """
    shape, code = own_shape(function), function.__code__
    fit = FunctionType(shape.named(compiled(_NOTHING.format(**shape.texts))), {}, "call")
    fit.__qualname__ = function.__qualname__  # which the error names
    fit.__defaults__, fit.__kwdefaults__ = defaults(function, shape)

    def fitting(*args: Any, **kwargs: Any) -> tuple[Any, ...]:
        given = code.co_varnames[: min(len(args), code.co_argcount)] if filled else ()
        fit(*args, **{name: None for name in filled if name not in given} | kwargs)
        return args

    return fitting


@lru_cache(1024)
def compiled(text: str) -> CodeType:
    """Compile the function `call` of a text."""
    made: dict[str, Any] = {}
    exec(compile(text, "<opero fast path>", "exec"), made)  # noqa: S102 - our fragments and parameter names
    code: CodeType = made["call"].__code__
    return code
