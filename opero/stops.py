"""When to stop trying, besides the number of retries; `&` and `|` combine them.

A stop is asked after a failed attempt: `stop(attempts, elapsed, delay)` gets how many attempts were made, the seconds
since the call began, and the seconds the next one would have to wait.
"""

from __future__ import annotations

from math import inf

from opero.errors import ConfigurationError
from opero.policy import answered, asked, duration, whole
from opero.spelling import read_settings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any, Protocol

    from opero.policy import Duration

    class Flag(Protocol):
        """A `threading.Event`, an `asyncio.Event`, or alike."""

        def is_set(self) -> bool: ...
        def wait(self, *args: Any, **kwargs: Any) -> Any: ...

    Reached = Callable[[int, float, float], object]

__all__ = ["Stop", "attempts", "before", "elapsed", "event"]


def __dir__() -> list[str]:
    return __all__


LOOK = 0.1  # seconds


class Stop:
    """Base of the rules."""

    def __init_subclass__(cls, **more: Any) -> None:
        super().__init_subclass__(**more)
        read_settings(cls)

    def __call__(self, attempts: int, elapsed: float, delay: float) -> bool:
        """Whether to give up."""
        raise NotImplementedError

    def __or__(self, other: Reached) -> Stop:
        return _Any(self, other)

    def __and__(self, other: Reached) -> Stop:
        return _All(self, other)

    def __ror__(self, other: Reached) -> Stop:
        return _Any(other, self)

    def __rand__(self, other: Reached) -> Stop:
        return _All(other, self)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(map(repr, self.__dict__.values()))})"


class attempts(Stop):  # noqa: N801 - read as stops.attempts(5)
    """After so many attempts, the first one counted."""

    def __init__(self, count: int) -> None:
        self.count = whole("attempts", count, low=1)

    def __call__(self, attempts: int, elapsed: float, delay: float) -> bool:
        return attempts >= self.count


class elapsed(Stop):  # noqa: N801
    """Once so many seconds have passed. The last wait may end later: 9 s passed, a wait of 5 s, and 10 s become 14."""

    def __init__(self, seconds: Duration) -> None:
        self.seconds = duration("elapsed", seconds, low=0)

    def __call__(self, attempts: int, elapsed: float, delay: float) -> bool:
        return elapsed >= self.seconds


class before(Stop):  # noqa: N801
    """When the next wait would end after so many seconds: no attempt begins later than that."""

    def __init__(self, seconds: Duration) -> None:
        self.seconds = duration("before", seconds, low=0)

    def __call__(self, attempts: int, elapsed: float, delay: float) -> bool:
        return elapsed + delay > self.seconds


class event(Stop):  # noqa: N801
    """When an event is set, such as one that says the program shuts down; it also ends a wait that has begun.

    An `asyncio.Event` ends waits of coroutine functions only, a `threading.Event` those within a tenth of a second, and
    so does each of several in an `|`. In an `&` it ends no wait: the rule is asked between two attempts.
    """

    def __init__(self, flag: Flag) -> None:
        if not callable(getattr(flag, "is_set", None)):
            raise ConfigurationError("event", flag, "an event: something that says by is_set() whether to stop")
        self.flag = flag

    def __call__(self, attempts: int, elapsed: float, delay: float) -> bool:
        return self.flag.is_set()


def rule(field: str, value: Any) -> Any:
    """Return what may stand for a rule, or raise `ConfigurationError`."""
    return asked(field, value, "a rule of opero.stops, or a function of (attempts, elapsed, delay)", takes=3)


def flag(stop: Reached | None) -> Flag | None:
    """Return the event that alone is enough to stop, or several as one."""
    found = list(_flags(stop))
    return found[0] if len(found) == 1 else _Either(found) if found else None


def _flags(stop: Reached | None) -> Iterator[Flag]:
    if isinstance(stop, event):
        yield stop.flag
    elif isinstance(stop, _Any) and not isinstance(stop, _All):
        for each in stop.rules:
            yield from _flags(each)


class _Either:
    """Events of which each is enough. No thread can wait for several: they are looked at, ten times a second."""

    def __init__(self, flags: list[Flag]) -> None:
        self._flags = flags

    def is_set(self) -> bool:
        return any(each.is_set() for each in self._flags)

    def wait(self, seconds: float = inf) -> bool:
        """Whether one is set within so many seconds."""
        from threading import Event

        never = Event()
        while seconds > 0 and not self.is_set():
            never.wait(min(seconds, LOOK))
            seconds -= LOOK
        return self.is_set()


class _Any(Stop):
    def __init__(self, *rules: Reached) -> None:
        self.rules = tuple(rule("stop", each) for each in rules)

    def __call__(self, attempts: int, elapsed: float, delay: float) -> bool:
        return any(answered(rule(attempts, elapsed, delay)) for rule in self.rules)

    def __repr__(self) -> str:
        return " | ".join(map(repr, self.rules))


class _All(_Any):
    def __call__(self, attempts: int, elapsed: float, delay: float) -> bool:
        return all(answered(rule(attempts, elapsed, delay)) for rule in self.rules)

    def __repr__(self) -> str:
        return f"({' & '.join(map(repr, self.rules))})"
