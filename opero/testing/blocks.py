"""Blocks that are decorators, too: of plain functions, and of coroutine functions while they run."""

from __future__ import annotations

from contextlib import _GeneratorContextManager
from functools import wraps
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from opero.errors import ConfigurationError
from opero.kinds import is_coroutine_function, is_generator_function

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

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


def block(function: Callable[P, Iterator[T]]) -> Callable[P, Block[T]]:
    """Make blocks of a generator function, as `contextlib.contextmanager` does."""
    generator: Any = function

    @wraps(function)
    def made(*args: P.args, **kwargs: P.kwargs) -> Block[T]:
        return Block(generator, args, kwargs)

    return made
