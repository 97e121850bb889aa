"""Faults for a test: disturb a function that has no `Chaos` policy, and let nothing wait."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from opero import catalogue, events
from opero import clock as real
from opero.call import STARTED
from opero.drivers.aio import Aio, ways
from opero.errors import ConfigurationError
from opero.primitives.chaos import NOTHING, Chaos

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from opero.pipeline import Operation
    from opero.primitives.chaos import Raises


@contextmanager
def chaos(
    operation: str | Callable[..., Any],
    *,
    error: Raises | None = None,
    latency: float | tuple[float, float] = 0.0,
    result: Any = NOTHING,
    rate: float = 1.0,
    seed: int | None = 0,
) -> Iterator[Chaos]:
    """Disturb a decorated function, or all operations of a name, while the block runs.

    The settings are those of the `Chaos` policy; it strikes where the function would be called. Not for `@opmap` in
    processes: there the function runs elsewhere.

    Example:
        >>> from opero import opero
        >>> double = opero(retries=0, fallback=0)(lambda x: 2 * x)
        >>> with chaos(double, error=ConnectionError):
        ...     double(21)
        0
        >>> double(21)
        42
    """
    found = _found(operation)
    name = found[0].name
    policy = Chaos(error=error, latency=latency, result=result, rate=rate, seed=seed, enabled=True, name=name)
    functions = [each.function for each in found]
    for each in found:
        each.function = (_disturbed_async if each.is_async else _disturbed)(each.function, policy)
    try:
        with events.subscribe(_nothing, STARTED.name):  # who hears every call takes them off the fast path
            yield policy
    finally:
        policy.disable()
        for each, function in zip(found, functions, strict=True):
            each.function = function


@contextmanager
def no_waits() -> Iterator[None]:
    """Let backoffs and waits for a rate limit take no time while the block runs, and time go on as it does.

    Use `clock()` where windows, timeouts and time to live are under test as well.

    Example:
        >>> from opero import opero
        >>> @opero(retries=3, min_delay=30, fallback="later")
        ... def flaky():
        ...     raise ConnectionError
        >>> with no_waits():
        ...     flaky()
        'later'
    """

    async def pass_on(self: Aio, seconds: float, flag: Any = None) -> None:  # noqa: ARG001 - takes the place of a method
        await ways().sleep(0)

    saved, real.sleep = real.sleep, _nothing
    saved_aio, Aio.sleep = Aio.sleep, pass_on  # type: ignore[method-assign]
    try:
        yield
    finally:
        real.sleep, Aio.sleep = saved, saved_aio  # type: ignore[method-assign]


def _found(operation: str | Callable[..., Any]) -> list[Operation]:
    if not isinstance(operation, str):
        return [operation.opero.operation]  # type: ignore[attr-defined]
    found = [each for each in catalogue.operations() if each.name == operation]
    if not found:
        known = sorted({each.name for each in catalogue.operations()})
        raise ConfigurationError(
            "operation", operation, f"a decorated function, or the name of one: {', '.join(known)}"
        )
    return found


def _disturbed(function: Callable[..., Any], policy: Chaos) -> Callable[..., Any]:
    def disturbed(*args: Any, **kwargs: Any) -> Any:
        strike = policy.strike(real.now())
        if strike is None:
            return function(*args, **kwargs)
        real.sleep(strike.latency)
        return function(*args, **kwargs) if strike.passes() else strike.result

    return disturbed


def _disturbed_async(function: Callable[..., Any], policy: Chaos) -> Callable[..., Any]:
    async def disturbed(*args: Any, **kwargs: Any) -> Any:
        strike = policy.strike(real.now())
        if strike is None:
            return await function(*args, **kwargs)
        await asyncio.sleep(strike.latency)
        return await function(*args, **kwargs) if strike.passes() else strike.result

    return disturbed


def _nothing(_: object) -> None:
    """Hear, and do nothing."""
