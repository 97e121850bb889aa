"""Faults for a test: disturb a function that has no `Chaos` policy, and let nothing wait."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from opero import catalogue, events
from opero import clock as real
from opero.call import STARTED
from opero.drivers.aio import ways
from opero.errors import ConfigurationError
from opero.kinds import is_generator_function
from opero.policy import whole
from opero.primitives import retry
from opero.primitives.chaos import NOTHING, Chaos
from opero.testing.blocks import Turns, block

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator, Iterator

    from opero.pipeline import Operation
    from opero.primitives.chaos import Raises, Strike

_disturbances, _limits, _hurries = Turns(), Turns(), Turns()


@block
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

    The settings are those of the `Chaos` policy; it strikes where the function would be called. A generator is struck
    before its first item, and `result` is what it yields instead. A map in processes is refused: its function runs
    elsewhere; give it a `Chaos` policy, or disturb its `one`.

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
    if (
        any(is_generator_function(each.function) for each in found)
        and result is not NOTHING
        and not isinstance(result, Iterable)
    ):
        raise ConfigurationError("result", result, "what a generator yields instead: a list of items")
    with _off_the_fast_path(), _disturbances.take(_disturbed_by(policy, found)):
        try:
            yield policy
        finally:
            policy.disable()


@block
def no_waits(attempts: int | None = None) -> Iterator[None]:
    """Let backoffs and waits for a rate limit take no time while the block runs, and time go on as it does.

    Everything else waits as ever: for a slot of a bulkhead, for a hedge, for a store that is away. Use `clock()` where
    windows, timeouts and time to live are under test as well. With `attempts` no call makes more of them.

    Example:
        >>> from opero import opero
        >>> @opero(retries=3, min_delay=30, fallback="later")
        ... def flaky():
        ...     raise ConnectionError
        >>> with no_waits():
        ...     flaky()
        'later'
    """
    most = nullcontext() if attempts is None else _limits.take(_at_most(whole("attempts", attempts, low=1)))
    with _hurries.take(_hurried()), most:
        yield


@contextmanager
def _disturbed_by(policy: Chaos, found: list[Operation]) -> Iterator[None]:
    functions = [each.function for each in found]
    for each in found:
        each.function = _disturber(each)(each.function, policy)
    try:
        yield
    finally:
        for each, function in zip(found, functions, strict=True):
            each.function = function


@contextmanager
def _hurried() -> Iterator[None]:
    before, real.hurried = real.hurried, True
    try:
        yield
    finally:
        real.hurried = before


@contextmanager
def _at_most(attempts: int) -> Iterator[None]:
    before, retry.most = retry.most, attempts
    try:
        with _off_the_fast_path():
            yield
    finally:
        retry.most = before


@contextmanager
def _off_the_fast_path() -> Iterator[None]:
    """Let the general path make all calls, for somebody hears every one."""
    with events.subscribe(_nothing, STARTED.name):
        yield


def _found(operation: str | Callable[..., Any]) -> list[Operation]:
    if not isinstance(operation, str):
        handle = getattr(operation, "opero", None)
        found = getattr(handle, "operation", None)
        if found is None:
            raise ConfigurationError(
                "operation", operation, "what @opero decorated, or the name of it; a mock takes the place of any other"
            )
        if getattr(getattr(operation, "pool", None), "elsewhere", False):
            raise ConfigurationError(
                "operation", operation, "its `one`; the map runs in other processes, where only a Chaos policy strikes"
            )
        return [found]
    named = [each for each in catalogue.operations() if each.name == operation]
    if not named:
        known = ", ".join(sorted({each.name for each in catalogue.operations()})) or "none is decorated yet"
        raise ConfigurationError("operation", operation, f"a decorated function, or the name of one: {known}")
    return named


def _disturber(operation: Operation) -> Callable[[Callable[..., Any], Chaos], Callable[..., Any]]:
    if is_generator_function(operation.function):
        return _disturbed_async_items if operation.is_async else _disturbed_items
    return _disturbed_async if operation.is_async else _disturbed


def _disturbed(function: Callable[..., Any], policy: Chaos) -> Callable[..., Any]:
    def disturbed(*args: Any, **kwargs: Any) -> Any:
        strike = _struck(policy)
        return function(*args, **kwargs) if strike is None or strike.passes() else strike.result

    return disturbed


def _disturbed_items(function: Callable[..., Any], policy: Chaos) -> Callable[..., Any]:
    def disturbed(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        strike = _struck(policy)
        return (yield from function(*args, **kwargs) if strike is None or strike.passes() else strike.result)

    return disturbed


def _disturbed_async(function: Callable[..., Any], policy: Chaos) -> Callable[..., Any]:
    async def disturbed(*args: Any, **kwargs: Any) -> Any:
        strike = await _struck_async(policy)
        return await function(*args, **kwargs) if strike is None or strike.passes() else strike.result

    return disturbed


def _disturbed_async_items(function: Callable[..., Any], policy: Chaos) -> Callable[..., Any]:
    async def disturbed(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        strike = await _struck_async(policy)
        if strike is not None and not strike.passes():
            for item in strike.result:
                yield item
            return
        items: Any = function(*args, **kwargs)
        step, value = items.asend, None
        try:
            while True:
                try:
                    item = await step(value)
                except StopAsyncIteration:
                    return
                try:
                    step, value = items.asend, (yield item)
                except GeneratorExit:
                    raise
                except BaseException as error:  # noqa: BLE001 - it is the generator's to see
                    step, value = items.athrow, error
        finally:
            await items.aclose()

    return disturbed


def _struck(policy: Chaos) -> Strike | None:
    strike = policy.strike(real.now())
    if strike is not None and strike.latency > 0:
        real.sleep(strike.latency)
    return strike


async def _struck_async(policy: Chaos) -> Strike | None:
    strike = policy.strike(real.now())
    if strike is not None and strike.latency > 0:
        await ways().sleep(strike.latency)
    return strike


def _nothing(_: object) -> None:
    """Hear, and do nothing."""
