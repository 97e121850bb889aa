"""What kind of function it is: plain, coroutine function, generator, async generator. Looks through what wraps it.

A callable may be anything: a mock or a client of a remote service has whatever attribute it is asked for, and a method
of a C type lacks what every function has. So nothing foreign is believed, or called, but what is of the right type.
"""

from __future__ import annotations

import sys
from functools import WRAPPER_ASSIGNMENTS, partial
from math import inf
from types import AsyncGeneratorType, CodeType, CoroutineType, GeneratorType, MethodType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from inspect import Signature
    from typing import Any

COROUTINE, GENERATOR, ASYNC_GENERATOR = 0x80, 0x20, 0x200  # inspect's flags, without importing inspect
MARKS = (  # on a function, what it is, and where that is: 3.12's, 3.13's, and what mocks have
    ("_is_coroutine_marker", "_is_coroutine_marker", "inspect"),
    ("_is_coroutine_marker", "_is_coroutine_mark", "inspect"),
    ("_is_coroutine", "_is_coroutine", "asyncio.coroutines"),
)
TOLD = ("__module__", "__name__", "__qualname__")
LOOKS = {"__annotations__": dict, "__type_params__": tuple, "__annotate__": object}

COUNTS = "it would count as done before it ran"
AWAIT_INSIDE = f"{COUNTS}; make it `async def` and await inside"
DEFERRED = (  # of modules that are imported only by who uses them
    ("concurrent.futures._base", "Future", f"a future: {COUNTS}; return its .result() inside"),
    (
        "contextlib",
        "_GeneratorContextManagerBase",
        f"a context manager: {COUNTS}; put @contextmanager above this decorator",
    ),
)


def read(thing: object, name: str, kind: Any = object, default: Any = None) -> Any:
    """Return an attribute of something foreign, if it is of a type; whatever its reading raises means it is not."""
    try:
        value = getattr(thing, name, default)
        return value if isinstance(value, kind) else default
    except Exception:  # noqa: BLE001 - foreign code: its error is none of the call's
        return default


def is_coroutine_function(function: Any) -> bool:
    """Whether calling it returns a coroutine; looks through partials, bound methods and callables."""
    return bool(_flags(function) & COROUTINE) or _marked(_behind(function))


def is_generator_function(function: Any) -> bool:
    """Whether calling it returns a generator, plain or asynchronous."""
    return bool(_flags(function) & (GENERATOR | ASYNC_GENERATOR))


def is_async_generator_function(function: Any) -> bool:
    """Whether calling it returns an asynchronous generator."""
    return bool(_flags(function) & ASYNC_GENERATOR)


def is_awaited(function: Any) -> bool:
    """Whether who calls it may await meanwhile: a coroutine function, or an asynchronous generator's."""
    return bool(_flags(function) & (COROUTINE | ASYNC_GENERATOR)) or is_coroutine_function(function)


def promises_awaitable(function: Any) -> bool:
    """Whether a plain function is annotated to return something to await."""
    said = read(function, "__annotations__", dict, {}).get("return")
    text = said if isinstance(said, str) else read(said, "__name__", str) or repr(said)
    name = text.partition("[")[0].rpartition(".")[2]
    return name in {"Awaitable", "Coroutine"} and not is_coroutine_function(function)


def deferred(result: object) -> str | None:
    """Return what a result is that has yet to run, and the way out; None for an ordinary value."""
    kind = type(result)
    if kind is CoroutineType:
        return f"a coroutine: {AWAIT_INSIDE}"
    if kind is GeneratorType:
        return f"a generator: {COUNTS}; `yield from` it inside, or return a list"
    if kind is AsyncGeneratorType:
        return f"an asynchronous generator: {COUNTS}; make it `async def`, and yield its items in an `async for` inside"
    if hasattr(kind, "__await__"):
        return f"an awaitable: {AWAIT_INSIDE}"
    for module, name, what in DEFERRED:
        if issubclass(kind, getattr(sys.modules.get(module), name, ())):
            return what
    return None


def named(function: Any) -> tuple[str, str]:
    """Return its module and qualified name; those of its type, for a callable object."""
    function = _behind(function)
    name = read(function, "__qualname__", str)
    if name is None:
        return type(function).__module__, type(function).__qualname__
    owner = read(function, "__objclass__", type) or type(read(function, "__self__"))  # of a method of a C type
    return read(function, "__module__", str) or owner.__module__, name


def signature_of(function: Callable[..., Any]) -> Signature | None:
    """Return its signature; None where it does not tell, as some built-in functions."""
    from inspect import Signature, signature

    if not isinstance(read(function, "__signature__", object, None), Signature | None):
        return None
    try:
        return signature(function)
    except Exception:  # noqa: BLE001 - foreign code was asked for it
        return None


def fits(answer: Callable[..., Any], function: Callable[..., Any]) -> bool:
    """Whether there is a call of `function` that `answer` takes, too; so for all we know, where one does not tell."""
    given, taken = own_signature(function), own_signature(answer)
    if given is None or taken is None:
        return True
    theirs, ours = _Parameters(given), _Parameters(taken)
    if theirs.many or theirs.others:
        return True
    return theirs.reach(ours) and ours.take(theirs)


class _Parameters:
    """Those of a signature, by how they are given."""

    def __init__(self, signature: Signature) -> None:
        each = signature.parameters.values()
        self.many = any(p.kind == p.VAR_POSITIONAL for p in each)
        self.others = any(p.kind == p.VAR_KEYWORD for p in each)
        own = [p for p in each if p.kind not in {p.VAR_POSITIONAL, p.VAR_KEYWORD}]
        self.by_place = [p.name for p in own if p.kind != p.KEYWORD_ONLY]
        self.by_name = {p.name for p in own if p.kind != p.POSITIONAL_ONLY}
        self.required = [p.name for p in own if p.default is p.empty]

    def place(self, name: str) -> float:
        """Return where a parameter stands; infinitely far where it goes by name only."""
        return self.by_place.index(name) if name in self.by_place else inf

    def reach(self, other: _Parameters) -> bool:
        """Whether a call that gives all of these gives what the other one requires."""
        return all(
            other.place(name) < len(self.by_place) or name in self.by_name & other.by_name for name in other.required
        )

    def take(self, other: _Parameters) -> bool:
        """Whether there is room for what the other one requires."""
        room = inf if self.many else len(self.by_place)
        return all(
            other.place(name) < room or (name in other.by_name and (self.others or name in self.by_name))
            for name in other.required
        )


def own_signature(function: Callable[..., Any]) -> Signature | None:
    """Return the signature of a function that shows no other's as its own."""
    shown = [read(function, name, object, None) for name in ("__wrapped__", "__signature__")]
    return signature_of(function) if shown == [None, None] else None


def dress(wrapper: Any, function: Any) -> None:
    """Let a wrapper look like what it wraps, as `functools.update_wrapper` does, where that says something sound."""
    for name in WRAPPER_ASSIGNMENTS:
        value = read(function, name, str if name in TOLD else LOOKS.get(name, str))
        if value is not None:
            setattr(wrapper, name, value)
    if read(function, "__qualname__", str) is None:  # a partial, or an object that is called
        wrapper.__module__, wrapper.__qualname__ = named(function)
        wrapper.__name__ = read(function, "__name__", str) or wrapper.__qualname__.rpartition(".")[2]
    wrapper.__dict__.update(read(function, "__dict__", dict, {}))
    wrapper.__wrapped__ = function


def _behind(function: Any) -> Any:
    """Return what partials and bound methods call."""
    while isinstance(function, partial | MethodType):
        function = function.func if isinstance(function, partial) else function.__func__
    return function


def _flags(function: Any) -> int:
    """Return the code flags of what will run in the end."""
    last = None
    while function is not last:  # the type of what calls itself
        last = function = _behind(function)
        code = read(function, "__code__", CodeType)
        if code is not None:
            return int(code.co_flags)
        function = getattr(type(function), "__call__", None)  # noqa: B004 - what will run
    return 0


def _marked(function: Any) -> bool:
    """Whether somebody marked it as a coroutine function, as `inspect.markcoroutinefunction` and mocks do."""
    for attribute, name, module in MARKS:
        mark = getattr(sys.modules.get(module), name, None)
        if mark is not None and read(function, attribute) is mark:
            return True
    return False
