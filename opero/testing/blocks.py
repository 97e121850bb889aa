"""Blocks that are decorators, too: of plain functions, and of coroutine functions while they run."""

from __future__ import annotations

from contextlib import _GeneratorContextManager, contextmanager
from functools import wraps
from threading import RLock
from types import FunctionType
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from opero.errors import ConfigurationError
from opero.kinds import is_coroutine_function, is_generator_function

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

P = ParamSpec("P")
T = TypeVar("T")
F = TypeVar("F", bound="Callable[..., Any]")


class Block(_GeneratorContextManager[T]):
    """What `with` takes, once; as a decorator it is made anew for each call."""

    def __call__(self, function: F) -> F:
        made: Any = self
        if is_generator_function(function):
            raise ConfigurationError("function", function, "no generator: use `with` inside of it")
        if not is_coroutine_function(function):
            return super().__call__(function)

        @wraps(function)
        async def inside(*args: Any, **kwargs: Any) -> Any:
            with made._recreate_cm():  # noqa: SLF001 - as its own decorator does
                return await function(*args, **kwargs)

        return inside  # type: ignore[return-value]


class Turns:
    """Changes of one kind, which are put back the last first, in whatever order the blocks end that made them.

    Blocks of two threads or tasks overlap: the one that began first may end first, and must leave no change for ever.
    """

    def __init__(self) -> None:
        self._lock = RLock()
        self._made: list[tuple[AbstractContextManager[Any], list[None]]] = []  # the change, and whether its block ended

    @contextmanager
    def take(self, change: AbstractContextManager[T]) -> Iterator[T]:
        """Make a change; put it back once this block and all that began in it have ended."""
        ended: list[None] = []
        with self._lock:
            value = change.__enter__()
            self._made.append((change, ended))
        try:
            yield value
        finally:
            with self._lock:
                ended.append(None)
                while self._made and self._made[-1][1]:
                    self._made.pop()[0].__exit__(None, None, None)


def block(function: Callable[P, Iterator[T]]) -> Callable[P, Block[T]]:
    """Make blocks of a generator function, as `contextlib.contextmanager` does."""
    generator: Any = function

    @wraps(function)
    def made(*args: P.args, **kwargs: P.kwargs) -> Block[T]:
        if len(args) == 1 and not kwargs and isinstance(args[0], FunctionType) and not hasattr(args[0], "opero"):
            name = function.__name__
            raise ConfigurationError(name, args[0], f"no function; what it takes goes before it: @testing.{name}(...)")
        return Block(generator, args, kwargs)

    return made
