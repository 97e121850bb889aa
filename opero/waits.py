"""How long to wait before a retry: `delay(n, previous, outcome)` in seconds, `n` counting retries from 1.

`previous` is the last delay, 0 at first; `outcome` the error, or the unwanted result.
"""

from __future__ import annotations

from _random import Random

from opero import clock, conditions, forks, responses
from opero.errors import ConfigurationError
from opero.policy import answered, asked, duration, is_duration, number
from opero.spelling import read_settings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any, TypeAlias

    from opero.policy import Duration

    WaitLike: TypeAlias = "Wait | Duration | Callable[[int, Any], Duration]"

__all__ = [
    "Wait",
    "between",
    "by_error",
    "constant",
    "decorrelated_jitter",
    "exponential",
    "fibonacci",
    "linear",
    "retry_after",
    "seed",
    "sequence",
    "summed",
]


def __dir__() -> list[str]:
    return __all__


class _Randomness:
    """Our own generator: seeding it changes nobody else's, and a forked child gets another sequence."""

    def __init__(self) -> None:
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
    """Base of the strategies. `a + b` uses each delay of `a` once, then goes on with `b`: only a `sequence` ends."""

    jittered = False  # takes no jitter on top: it draws its own, or is not to be shortened
    never = False  # no delay at all

    def __init_subclass__(cls, **more: Any) -> None:
        super().__init_subclass__(**more)
        read_settings(cls)

    def delay(self, n: int, previous: float, outcome: object) -> float:
        """Seconds before the n-th retry."""
        raise NotImplementedError

    def part(self, n: int, outcome: object) -> tuple[Wait, int]:
        """Return the wait it comes down to after this outcome, and which of that one's retries it is."""
        return self, n

    def steps(self) -> int | None:
        """How many delays there are; None for no end."""
        return None

    def __add__(self, other: WaitLike) -> Wait:
        then = waiting("wait", other)
        if self.steps() is None:
            raise ConfigurationError(
                "wait", self, "a wait that ends before `+`, such as sequence(); summed(a, b) adds two up"
            )
        return _Chain(self, then)

    def __radd__(self, other: WaitLike) -> Wait:
        return waiting("wait", other) + self

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in self.__dict__.items())})"


class _Choice(Wait):
    """Comes down to one of several waits."""

    def delay(self, n: int, previous: float, outcome: object) -> float:
        wait, n = self.part(n, outcome)
        return wait.delay(n, previous, outcome)


class exponential(Wait):  # noqa: N801 - read as waits.exponential(0.1, 30)
    """`min(high, low * factor ** (n - 1))`: with the defaults 0.1, 0.15, 0.225 … 30 s."""

    def __init__(self, low: Duration = 0.1, high: Duration = 30.0, factor: float = 1.5) -> None:
        self.low = duration("low", low, low=0)
        self.high = duration("high", high, low=self.low)
        self.factor = number("factor", factor, low=1)

    @property
    def never(self) -> bool:  # type: ignore[override]
        """Whether every delay is 0."""
        return self.low == 0

    def delay(self, n: int, previous: float, outcome: object) -> float:
        if self.low == 0:
            return 0.0
        try:
            return min(self.high, self.low * self.factor ** (n - 1))
        except OverflowError:
            return self.high


class linear(Wait):  # noqa: N801
    """`min(high, low + (n - 1) * step)`; the step is `low` unless given."""

    def __init__(self, low: Duration = 0.1, high: Duration = 30.0, step: Duration | None = None) -> None:
        self.low = duration("low", low, low=0)
        self.high = duration("high", high, low=self.low)
        self.step = self.low if step is None else duration("step", step, low=0)

    def delay(self, n: int, previous: float, outcome: object) -> float:
        return min(self.high, self.low + (n - 1) * self.step)


class fibonacci(Wait):  # noqa: N801
    """`min(high, low * F(n))` with F = 1, 1, 2, 3, 5, 8 …"""

    def __init__(self, low: Duration = 0.1, high: Duration = 30.0) -> None:
        self.low = duration("low", low, low=0)
        self.high = duration("high", high, low=self.low)

    @property
    def never(self) -> bool:  # type: ignore[override]
        """Whether every delay is 0."""
        return self.low == 0

    def delay(self, n: int, previous: float, outcome: object) -> float:
        if self.low == 0:
            return 0.0
        current, following = 1.0, 1.0  # not whole numbers, whose digits grow
        for _ in range(n - 1):
            current, following = following, current + following
            if current * self.low > self.high:
                return self.high
        return min(self.high, self.low * current)


class constant(Wait):  # noqa: N801
    """The same delay each time, of which `jitter` makes a draw; `jitter="none"` does not."""

    def __init__(self, seconds: Duration = 0.1) -> None:
        self.seconds = duration("seconds", seconds, low=0)

    @property
    def never(self) -> bool:  # type: ignore[override]
        """Whether the delay is 0."""
        return self.seconds == 0

    def delay(self, n: int, previous: float, outcome: object) -> float:
        return self.seconds


class decorrelated_jitter(Wait):  # noqa: N801
    """`min(high, uniform(low, 3 * previous))`, starting from `low`.

    Source: Marc Brooker, "Exponential Backoff and Jitter", AWS Architecture Blog, 2015.
    """

    jittered = True

    def __init__(self, low: Duration = 0.1, high: Duration = 30.0) -> None:
        self.low = duration("low", low, low=0)
        self.high = duration("high", high, low=self.low)

    def delay(self, n: int, previous: float, outcome: object) -> float:
        return min(self.high, uniform(self.low, max(self.low, previous) * 3))


class sequence(Wait):  # noqa: N801
    """These delays, in order, jittered; the last one repeats, unless another wait is added."""

    def __init__(self, *delays: Duration) -> None:
        if not delays or hasattr(delays[0], "__iter__"):
            raise ConfigurationError("delays", delays, "seconds, one or more of them: sequence(1, 2, 3)")
        self.delays: Sequence[float] = tuple(duration("delays", delay, low=0) for delay in delays)

    def delay(self, n: int, previous: float, outcome: object) -> float:
        return self.delays[min(n, len(self.delays)) - 1]

    def steps(self) -> int | None:
        return len(self.delays)


class between(Wait):  # noqa: N801
    """An even draw between two bounds."""

    jittered = True

    def __init__(self, low: Duration, high: Duration) -> None:
        self.low = duration("low", low, low=0)
        self.high = duration("high", high, low=self.low)

    def delay(self, n: int, previous: float, outcome: object) -> float:
        return uniform(self.low, self.high)


class retry_after(_Choice):  # noqa: N801
    """What the service asked for, `otherwise` where it did not ask; never more than `high`, and never shortened.

    Reads `.retry_after` of the outcome, or the `Retry-After` header, in seconds or as an HTTP date, of errors and
    responses of httpx, requests, aiohttp and urllib.
    """

    def __init__(self, otherwise: WaitLike | None = None, high: Duration = 60.0) -> None:
        self.otherwise = _or_exponential(otherwise)
        self.high = duration("high", high, low=0)

    def part(self, n: int, outcome: object) -> tuple[Wait, int]:
        asked = responses.retry_after(outcome, clock.wall())
        return self.otherwise.part(n, outcome) if asked is None else (_Exactly(min(self.high, asked)), n)


class by_error(_Choice):  # noqa: N801
    """A wait for each class of errors, the first match: `by_error({Throttled: constant(5)}, otherwise=linear())`."""

    def __init__(self, waits: Mapping[Any, WaitLike], otherwise: WaitLike | None = None) -> None:
        if not hasattr(waits, "items") or (not waits and otherwise is None):
            raise ConfigurationError("by_error", waits, "a mapping of exception types to their waits: {Throttled: 5.0}")
        keys = conditions.in_order("by_error", waits)
        self.entries = tuple((conditions.of("by_error", key), waiting("by_error", waits[key])) for key in keys)
        self.otherwise = _or_exponential(otherwise)

    def part(self, n: int, outcome: object) -> tuple[Wait, int]:
        for matches, wait in self.entries:
            if isinstance(outcome, BaseException) and matches(outcome):
                return wait.part(n, outcome)
        return self.otherwise.part(n, outcome)


class summed(_Choice):  # noqa: N801
    """The sum of several waits: `summed(constant(1), between(0, 0.5))`; jittered if none of them is drawn."""

    def __init__(self, *waits: WaitLike) -> None:
        if not waits:
            raise ConfigurationError("summed", waits, "waits to add up, one or more")
        self.waits = tuple(waiting("summed", wait) for wait in waits)

    def part(self, n: int, outcome: object) -> tuple[Wait, int]:
        return _Sum([wait.part(n, outcome) for wait in self.waits]), n


def waiting(field: str, value: Any) -> Wait:
    """Make a wait of what a user may write for one: a strategy, seconds, or `function(n, outcome)` asked each time."""
    if isinstance(value, Wait):
        return value
    if is_duration(value):
        return constant(value)
    allowed = "a strategy of opero.waits, seconds, or a function of (n, outcome)"
    if isinstance(value, list | tuple):
        allowed += "; delays in an order are waits.sequence(1, 2, 3)"
    if isinstance(value, type):
        raise ConfigurationError(field, value, allowed)
    return _Asked(asked(field, value, allowed, takes=2))


def _or_exponential(otherwise: WaitLike | None) -> Wait:
    return exponential() if otherwise is None else waiting("otherwise", otherwise)


class _Exactly(constant):
    jittered = True


class _Sum(Wait):
    def __init__(self, parts: Sequence[tuple[Wait, int]]) -> None:
        self.parts = parts
        self.jittered = any(wait.jittered for wait, _ in parts)

    def delay(self, n: int, previous: float, outcome: object) -> float:
        return sum(wait.delay(number, previous, outcome) for wait, number in self.parts)


class _Asked(Wait):
    jittered = True

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function

    def delay(self, n: int, previous: float, outcome: object) -> float:
        return duration("wait", answered(self.function(n, outcome)), low=0)


class _Chain(_Choice):
    def __init__(self, first: Wait, then: Wait) -> None:
        self.first = first
        self.then = then
        self.ends = first.steps() or 0

    def part(self, n: int, outcome: object) -> tuple[Wait, int]:
        return self.first.part(n, outcome) if n <= self.ends else self.then.part(n - self.ends, outcome)

    def steps(self) -> int | None:
        then = self.then.steps()
        return None if then is None else self.ends + then
