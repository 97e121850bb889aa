"""A limiter of somebody else's in place of a rate: a `RateLimiter`, or an `aiolimiter.AsyncLimiter`."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Protocol

from opero import clock
from opero.errors import ConfigurationError, RateLimitedError
from opero.policy import taking, unread

if TYPE_CHECKING:
    from collections.abc import Hashable
    from typing import Any

    from opero.call import Call

WANTED = "a limiter whose `async def acquire(self, call, key, weight, patience)` returns how many seconds it waited"


class RateLimiter(Protocol):
    """What a rate limit asks for leave; a plugin may be one, and is given in place of the rate."""

    async def acquire(self, call: Call, key: Hashable, weight: float, patience: float) -> float:
        """Wait for the turn of a call, at most `patience` seconds, by `call.runtime`; return how long it took.

        Raise `RateLimitedError`, with `retry_after` where that is known, if it would take longer.
        """
        raise NotImplementedError


class AsyncLimiter(Protocol):
    """An `aiolimiter.AsyncLimiter`, as far as it is used."""

    max_rate: float
    time_period: float

    def has_capacity(self, amount: float, /) -> bool: ...
    async def acquire(self, amount: float, /) -> None: ...


def checked(limiter: Any, **given: object) -> Any:
    """Return what may stand in place of a rate; refuse what it would not be told: only one of ours is asked by key."""
    if not hasattr(limiter, "has_capacity"):
        del given["key"]
        taking(4, limiter.acquire, "rate", limiter, WANTED)  # call, key, weight, patience
    for field, value in given.items():
        unread(field, value, 1.0 if field == "per" else None, "beside a limiter, which decides itself what it admits")
    return limiter


def of(limiter: Any) -> Own | Foreign:
    """Return what asks it."""
    return Foreign(limiter) if hasattr(limiter, "has_capacity") else Own(limiter)


class Own:
    """A `RateLimiter`, and what it answers, looked at."""

    only_async = False

    def __init__(self, limiter: RateLimiter) -> None:
        self._limiter = limiter

    async def acquire(self, call: Call, key: Hashable, weight: float, patience: float) -> float:
        """Wait as it says."""
        answer: Any = self._limiter.acquire(call, key, weight, patience)
        if not hasattr(answer, "__await__"):
            raise self._wrong(answer, " without `async`")
        waited = await answer
        if isinstance(waited, bool) or not isinstance(waited, int | float) or not 0 <= waited < inf:
            raise self._wrong(waited)
        return waited

    def _wrong(self, answer: object, how: str = "") -> ConfigurationError:
        return ConfigurationError("rate", self._limiter, f"{WANTED}; this one returned {answer!r}{how}")


class Foreign:
    """An `aiolimiter.AsyncLimiter`: for coroutine functions, in the event loop it belongs to."""

    only_async = True

    def __init__(self, limiter: AsyncLimiter) -> None:
        self._limiter = limiter

    async def acquire(self, call: Call, key: Hashable, weight: float, patience: float) -> float:
        """Wait until it has capacity; it is looked at as often as it gets some."""
        limiter, started = self._limiter, call.runtime.now()
        pause = weight * limiter.time_period / limiter.max_rate
        if clock.hurried:
            await call.runtime.pause(pause)
            return 0.0
        while patience < inf and not limiter.has_capacity(weight):
            if call.runtime.now() + pause > started + patience:
                raise RateLimitedError(f"{call.operation.name} is over its {limiter!r}", retry_after=pause)
            await call.runtime.sleep(pause)
        await limiter.acquire(weight)
        return call.runtime.now() - started
