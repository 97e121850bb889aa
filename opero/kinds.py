"""What kind of function it is: plain, coroutine function, generator, async generator. Looks through what wraps it."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

COROUTINE, GENERATOR, ASYNC_GENERATOR = 0x80, 0x20, 0x200  # inspect's flags, without importing inspect

AWAIT_INSIDE = "it would count as done before it ran; make it `async def` and await inside"


def is_coroutine_function(function: Any) -> bool:
    """Whether calling it returns a coroutine; looks through partials, bound methods and callables."""
    return bool(_flags(function) & COROUTINE) or hasattr(function, "_is_coroutine_mark")  # markcoroutinefunction, 3.12


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
    said = getattr(function, "__annotations__", {}).get("return")
    text = said if isinstance(said, str) else getattr(said, "__name__", None) or repr(said)
    name = text.partition("[")[0].rpartition(".")[2]
    return name in {"Awaitable", "Coroutine"} and not is_coroutine_function(function)


def _flags(function: Any) -> int:
    """Return the code flags of what will run in the end."""
    from functools import partial

    while not hasattr(function, "__code__"):
        if isinstance(function, partial):
            function = function.func
        else:
            function = getattr(function, "__func__", None) or getattr(type(function), "__call__", None)  # noqa: B004
        if function is None or type(function).__name__ in {"wrapper_descriptor", "method-wrapper"}:
            return 0
    return int(function.__code__.co_flags)
