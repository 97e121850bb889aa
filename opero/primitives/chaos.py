"""Chaos: make calls slow, fail or answer wrongly on purpose, to see what the other layers do about it.

1. Off unless switched on: by `enabled=True`, `policy.enable()`, or OPERO_CHAOS=1 in the environment when it is made.
2. Each attempt is struck with chance `rate`, from `window[0]` to `window[1]` seconds after it was switched on. A seed
   makes the same attempts be struck each time.
3. First the latency, then the error, or else the result in place of the function's own. The deadline holds for it.
"""

from __future__ import annotations

import os
from random import Random

from opero import acts, clock, events
from opero.errors import ConfigurationError
from opero.policy import Fragment, Policy, asked, boolean, duration, number, optional
from opero.signals import Event, Signals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from opero.call import Call, Layer, Next
    from opero.policy import Duration

    Raises = BaseException | type[BaseException] | Callable[[], BaseException]

INJECTED = Event("opero.chaos.injected", "warning", "A call was disturbed on purpose.", ("latency", "error", "result"))
SIGNALS = Signals("chaos", (INJECTED,))
NOTHING: Any = type("NOTHING", (), {"__repr__": lambda _: "NOTHING", "__reduce__": lambda _: "NOTHING"})()


class Chaos(Policy):
    """Disturb a share `rate` of the attempts: by `latency` seconds, an `error`, a `result`, or several of them.

    `latency` is seconds, or from and to seconds. `error` is an exception, of which each call gets a copy, its type, or
    a function that makes one; `result` anything, also None. `window` is from and to seconds after it was switched on.

    Example:
        >>> Chaos(error=ConnectionError, rate=0.1, seed=7).enabled
        False

    Source: Casey Rosenthal and others, "Principles of Chaos Engineering", 2015.
    """

    place = "chaos"
    reads_arguments = False
    SIGNALS = SIGNALS

    latency: float | tuple[float, float]
    error: Raises | None
    result: Any
    rate: float
    window: tuple[float, float] | None
    seed: int | None
    enabled: bool
    active: bool

    def __init__(
        self,
        *,
        latency: Duration | tuple[Duration, Duration] = 0.0,
        error: Raises | None = None,
        result: Any = NOTHING,
        rate: float = 1.0,
        window: tuple[Duration, Duration] | None = None,
        seed: int | None = None,
        enabled: bool = False,
        name: str | None = None,
    ) -> None:
        if error is not None and not isinstance(error, BaseException):
            asked("error", error, "an exception, its type, or a function that makes one")
        latency = _latency(latency)
        if not latency and error is None and result is NOTHING:
            raise ConfigurationError("Chaos", (), "latency=, error= or result=: something to happen")
        self.freeze(
            latency=latency,
            error=error,
            result=result,
            rate=number("rate", rate, low=0, high=1),
            window=optional(_span, "window", window),
            seed=optional(_seed, "seed", seed),
            enabled=boolean("enabled", enabled),
            name=name,
        )
        self.start()

    def start(self) -> None:
        self._keep(random=Random(self.seed), active=False, since=0.0)
        if self.enabled or os.environ.get("OPERO_CHAOS") == "1":
            self.enable()

    random: Random
    since: float

    def enable(self) -> None:
        """Begin, and begin the window."""
        self._keep(active=True, since=clock.now())
        self._said("chaos_on")

    def disable(self) -> None:
        """Let every call pass untouched."""
        if self.active:
            self._keep(active=False)
            self._said("chaos_off")

    def _said(self, act: str) -> None:
        events.say(acts.ACTED, self.name or "", acts.about(act, target="chaos", value=self.rate))

    def attach(self, function: Callable[..., Any]) -> Layer:
        return self.layer

    def fragment(self) -> Fragment:
        return Fragment("if chaos.active:\n    HAND_OVER", names={"chaos": self})

    async def layer(self, call: Call, next: Next) -> Any:  # noqa: A002
        """Strike, or call on."""
        strike = self.strike(call.runtime.now())
        if strike is None:
            return await next(call)
        name = type(strike.error).__name__ if strike.error is not None else ""
        call.emit(INJECTED, latency=strike.latency, error=name, result=strike.result is not NOTHING)
        await self._delay(call, strike.latency)
        return await next(call) if strike.passes() else strike.result

    def strike(self, now: float) -> Strike | None:
        """Draw what happens to an attempt; None if nothing does."""
        if not self.active:
            return None
        if self.window is not None and not self.window[0] <= now - self.since < self.window[1]:
            return None
        if self.random.random() >= self.rate:
            return None
        latency = self.random.uniform(*self.latency) if isinstance(self.latency, tuple) else self.latency
        return Strike(latency, None if self.error is None else _made(self.error), self.result)

    async def _delay(self, call: Call, seconds: float) -> None:
        if call.deadline is None or call.time_for(seconds):
            return await call.runtime.sleep(seconds)
        await call.runtime.sleep(call.deadline.at - call.runtime.now())
        raise call.deadline.expire(call.operation)


class Strike:
    """What happens to one attempt."""

    __slots__ = ("error", "latency", "result")

    def __init__(self, latency: float, error: BaseException | None, result: Any) -> None:
        self.latency = latency
        self.error = error
        self.result = result

    def passes(self) -> bool:
        """Whether the function is called after all; raise the error, if there is one."""
        if self.error is not None:
            raise self.error
        return self.result is NOTHING


def _made(error: Raises) -> BaseException:
    return _anew(error) if isinstance(error, BaseException) else error()


def _anew(given: BaseException) -> BaseException:
    """Return another error like the one given: what raising and handling it leaves on an error is gone with it.

    One that cannot be copied is given itself, without its last traceback.
    """
    try:
        error = _copy(given)
        error.args = given.args
        error.__dict__.update(given.__dict__)
    except Exception:  # noqa: BLE001 - whatever its class does
        return given.with_traceback(None)
    if hasattr(given, "__notes__"):
        error.__notes__ = list(given.__notes__)
    error.__context__, error.__cause__ = given.__context__, given.__cause__
    error.__suppress_context__ = given.__suppress_context__
    return error


def _copy(given: BaseException) -> BaseException:
    how: Any = given.__reduce__()  # not by `copy`: what dask registers there shares the `__dict__` of both
    try:
        made: BaseException = how[0](*how[1])
    except Exception:  # noqa: BLE001 - an `__init__` that takes more than `args`: without it then
        made = type(given).__new__(type(given), *given.args)
    return made


def _latency(value: Any) -> float | tuple[float, float]:
    return _span("latency", value) if isinstance(value, tuple | list) else duration("latency", value, low=0)


def _seed(field: str, value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise ConfigurationError(field, value, "a whole number")
    return value


def _span(field: str, value: Any, **_: float) -> tuple[float, float]:
    if not isinstance(value, tuple | list) or len(value) != 2:
        raise ConfigurationError(field, value, "from and to, in seconds")
    start, end = duration(field, value[0], low=0), duration(field, value[1], low=0)
    if start > end:
        raise ConfigurationError(field, value, "from and to, in seconds, in this order")
    return start, end
