"""How long to wait before a retry: `delay(n, previous, error)` in seconds, `n` counting retries from 1."""

from __future__ import annotations

from opero import forks
from opero.policy import number

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any


class _Randomness:
    """Our own generator: seeding it changes nobody else's, and a forked child gets another sequence."""

    def __init__(self) -> None:
        from random import Random

        self.random = Random()
        forks.remember(self)

    def after_fork(self) -> None:
        self.random.seed()


_randomness: _Randomness | None = None


def uniform(low: float, high: float) -> float:
    """Draw evenly between two bounds."""
    return low + (high - low) * _generator().random.random()


def seed(value: int | None) -> None:
    """Make all draws repeatable; None makes them random again."""
    _generator().random.seed(value)


def _generator() -> _Randomness:
    global _randomness
    if _randomness is None:
        _randomness = _Randomness()
    return _randomness


class Wait:
    """Base of the strategies. `a + b` uses each of `a` once where it ends (`sequence`), then goes on with `b`."""

    jittered = False  # draws its own randomness, and wants no jitter on top

    def delay(self, n: int, previous: float, error: BaseException | None) -> float:
        """Seconds before the n-th retry; `previous` is the last delay, 0 at first."""
        raise NotImplementedError

    def steps(self) -> int | None:
        """How many delays there are; None for no end."""
        return None

    def __add__(self, other: Wait) -> Wait:
        return _Chain(self, other)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in self.__dict__.items())})"


class exponential(Wait):  # noqa: N801 - read as waits.exponential(0.1, 30)
    """`min(high, low * factor ** (n - 1))`: with the defaults 0.1, 0.15, 0.225 … 30 s."""

    def __init__(self, low: float = 0.1, high: float = 30.0, factor: float = 1.5) -> None:
        self.low = number("low", low, low=0)
        self.high = number("high", high, low=self.low)
        self.factor = number("factor", factor, low=1)

    def delay(self, n: int, previous: float, error: BaseException | None) -> float:
        if self.low == 0:
            return 0.0
        try:
            return min(self.high, self.low * self.factor ** (n - 1))
        except OverflowError:
            return self.high


class linear(Wait):  # noqa: N801
    """`min(high, low + (n - 1) * step)`; the step is `low` unless given."""

    def __init__(self, low: float = 0.1, high: float = 30.0, step: float | None = None) -> None:
        self.low = number("low", low, low=0)
        self.high = number("high", high, low=self.low)
        self.step = self.low if step is None else number("step", step, low=0)

    def delay(self, n: int, previous: float, error: BaseException | None) -> float:
        return min(self.high, self.low + (n - 1) * self.step)


class fibonacci(Wait):  # noqa: N801
    """`min(high, low * F(n))` with F = 1, 1, 2, 3, 5, 8 …"""

    def __init__(self, low: float = 0.1, high: float = 30.0) -> None:
        self.low = number("low", low, low=0)
        self.high = number("high", high, low=self.low)

    def delay(self, n: int, previous: float, error: BaseException | None) -> float:
        current, following = 1, 1
        for _ in range(n - 1):
            current, following = following, current + following
            if current * self.low > self.high:
                return self.high
        return min(self.high, self.low * current)


class constant(Wait):  # noqa: N801
    """The same delay each time."""

    def __init__(self, seconds: float = 0.1) -> None:
        self.seconds = number("seconds", seconds, low=0)

    def delay(self, n: int, previous: float, error: BaseException | None) -> float:
        return self.seconds


class decorrelated_jitter(Wait):  # noqa: N801
    """`min(high, uniform(low, 3 * previous))`, starting from `low`.

    Source: Marc Brooker, "Exponential Backoff and Jitter", AWS Architecture Blog, 2015.
    """

    jittered = True

    def __init__(self, low: float = 0.1, high: float = 30.0) -> None:
        self.low = number("low", low, low=0)
        self.high = number("high", high, low=self.low)

    def delay(self, n: int, previous: float, error: BaseException | None) -> float:
        return min(self.high, uniform(self.low, max(self.low, previous) * 3))


class sequence(Wait):  # noqa: N801
    """These delays, in order; the last one repeats, unless another wait is added."""

    def __init__(self, *delays: float) -> None:
        self.delays: Sequence[float] = tuple(number("delays", delay, low=0) for delay in delays) or (0.0,)

    def delay(self, n: int, previous: float, error: BaseException | None) -> float:
        return self.delays[min(n, len(self.delays)) - 1]

    def steps(self) -> int | None:
        return len(self.delays)


class retry_after(Wait):  # noqa: N801
    """What the service asked for, `otherwise` where it did not ask; never more than `high`.

    Reads `error.retry_after`, or the `Retry-After` header of `error.response`, in seconds.
    """

    jittered = True

    def __init__(self, otherwise: Wait | None = None, high: float = 60.0) -> None:
        self.otherwise = otherwise or exponential()
        self.high = number("high", high, low=0)

    def delay(self, n: int, previous: float, error: BaseException | None) -> float:
        asked: Any = getattr(error, "retry_after", None)
        if asked is None:
            asked = getattr(getattr(error, "response", None), "headers", {}).get("Retry-After")
        try:
            return min(self.high, max(0.0, float(asked)))
        except (TypeError, ValueError):
            delay = self.otherwise.delay(n, previous, error)
            return delay if self.otherwise.jittered else uniform(0, delay)


class _Chain(Wait):
    def __init__(self, first: Wait, then: Wait) -> None:
        self.first = first
        self.then = then
        self.jittered = first.jittered and then.jittered

    def delay(self, n: int, previous: float, error: BaseException | None) -> float:
        steps = self.first.steps()
        if steps is None or n <= steps:
            return self.first.delay(n, previous, error)
        return self.then.delay(n - steps, previous, error)

    def steps(self) -> int | None:
        first, then = self.first.steps(), self.then.steps()
        return None if first is None or then is None else first + then
