"""ArgFallback: try several values of one argument, in order, until one works.

1. The alternatives are the policy's own, or a list or tuple the caller passes; the function gets one of them. Any other
   value is passed on.
2. The next one is tried at once after an error that `on` matches; any other error, a refusal by Opero itself that `on`
   does not name, and the call's deadline end the round. When all failed, `AllFailedError` holds each error; a retry
   starts the round again.
3. With `cooldown` it is a key ring. An alternative that failed rests: after a 429 as long as Retry-After says, after a
   401 until it is replaced, else for the cool-down. Those that rest are tried last.
4. What a key did wrong is no failure of the service: the circuit breaker does not count it.
5. Alternatives may be secrets. What is said names them by their position, from 1.
"""

from __future__ import annotations

from math import inf

from opero import clock, conditions, responses
from opero.errors import AllFailedError, ConfigurationError, Rejected
from opero.kinds import is_awaited, signature_of
from opero.policy import Policy, asked, boolean, duration, optional
from opero.ring import Refreshing, Ring
from opero.signals import Event, Signals
from opero.strategies import ROTATE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from typing import Any

    from opero.call import Call, Layer, Next
    from opero.conditions import Condition, ConditionLike
    from opero.policy import Duration
    from opero.ring import Flight
    from opero.runtime import Waiter

    Find = Callable[[Call], tuple[Any, Callable[[Any], Call]]]

ADVANCED = Event(
    "opero.arg_fallback.advanced",
    "info",
    "An alternative failed, the next one is tried.",
    ("parameter", "alternative", "error"),
)
RESTED = Event(
    "opero.arg_fallback.rested",
    "warning",
    "An alternative is not tried first for `seconds`; None: until it is replaced.",
    ("parameter", "alternative", "seconds"),
)
SIGNALS = Signals("arg_fallback", (ADVANCED, RESTED), (), ("no_alternative",))

KEY_FAILED = conditions.status(401, 429)
UNKNOWN = 401
LONGEST_REST = 3600.0  # seconds; what a Retry-After may ask for


class ArgFallback(Policy):
    """Take the alternatives from the argument named `parameter`; where the caller leaves it out, from `alternatives`.

    `on` says which errors lead to the next one: any, or with a cool-down those that say 401 or 429. `cooldown` seconds
    make it a key ring, whose state is shared by all functions that share the policy. `spread` begins each call with
    another one. `refresh` is called, once for all who wait, when every alternative was refused for good, and returns
    new ones; it may be a coroutine function around one. When it fails, one who waits tries once more. `replace()` does
    the same by hand.

    Example:
        >>> ArgFallback("key", alternatives=["k-1", "k-2"], cooldown=30)
        ArgFallback(parameter='key', alternatives=<2>, cooldown=30.0)
    """

    place = "arg_fallback"
    streams = True
    SIGNALS = SIGNALS

    parameter: str
    alternatives: Sequence[Any] | None
    on: ConditionLike | None
    cooldown: float | None
    spread: bool
    refresh: Callable[[], Any] | None
    condition: Condition
    ring: Ring

    def __init__(
        self,
        parameter: str,
        *,
        alternatives: Sequence[Any] | None = None,
        on: ConditionLike | None = None,
        cooldown: Duration | None = None,
        spread: bool = False,
        refresh: Callable[[], Any] | None = None,
    ) -> None:
        if not isinstance(parameter, str) or not parameter.isidentifier():  # type: ignore[redundant-expr]
            raise ConfigurationError("arg_fallback", parameter, "the name of a parameter")
        if refresh is not None and alternatives is None:
            raise ConfigurationError(
                "refresh", refresh, "a function that returns new alternatives, beside alternatives="
            )
        if refresh is not None and cooldown is None:
            raise ConfigurationError("refresh", refresh, "nothing but None without cooldown=: no alternative rests")
        if refresh is not None and (not callable(refresh) or isinstance(refresh, Policy)):  # type: ignore[redundant-expr]
            raise ConfigurationError("refresh", refresh, "a function that returns new alternatives")
        self.freeze(
            parameter=parameter,
            alternatives=None if alternatives is None else _several("alternatives", alternatives),
            on=on,
            cooldown=optional(duration, "cooldown", cooldown, low=0),
            spread=boolean("spread", spread),
            refresh=refresh,
        )
        self.start()

    def start(self) -> None:
        default = Exception if self.cooldown is None else KEY_FAILED
        condition = conditions.of("on", default if self.on is None else self.on)
        fills = () if self.alternatives is None else (self.parameter,)
        self._keep(condition=condition, ring=Ring(self.alternatives), fills=fills)

    def replace(self, alternatives: Sequence[Any]) -> None:
        """Go on with these, all rested."""
        self.ring.replace(_several("alternatives", alternatives))

    def attach(self, function: Callable[..., Any]) -> Layer:
        if self.refresh is not None and not is_awaited(function):
            asked("refresh", self.refresh, "a function that returns new alternatives")
        find, default = _finder(function, self.parameter)

        async def layer(call: Call, next: Next) -> Any:  # noqa: A002
            """Try one alternative after the other; once more if all our own were refused by that, or are new."""
            passed, branch = find(call)
            errors: list[Exception] = []
            fresh = self._spent(passed)
            given = await self._given(call, passed, default)
            if given is None:
                return await next(call)
            if self.cooldown is not None:
                call.record.excused = self.condition
            try:
                result = await self._round(call, lambda value: next(branch(value)), given, errors)
                if result is MISSING and not fresh and self._spent(passed, given):
                    given = await self._given(call, passed, default) or given
                    result = await self._round(call, lambda value: next(branch(value)), given, errors)
                if result is MISSING:
                    raise AllFailedError(f"every alternative of {self.parameter} failed", errors)
                return result
            finally:
                del errors  # their tracebacks hold this frame

        return layer

    async def _round(
        self, call: Call, attempt: Callable[[Any], Awaitable[Any]], given: Sequence[Any], errors: list[Exception]
    ) -> Any:
        """Return the first result, MISSING if there is none; add the errors."""
        order = self._order(call, given)
        try:
            for turn, position in enumerate(order, 1):
                try:
                    return await attempt(given[position])
                except Exception as error:
                    if not self._passes_over(call, error):
                        raise
                    errors.append(error)
                    self._rest(call, given[position], position + 1, error)
                    if turn < len(order):
                        self._say(call, ADVANCED, position + 1, error=type(error).__name__)
            return MISSING
        finally:
            del errors  # their tracebacks hold this frame

    def _passes_over(self, call: Call, error: Exception) -> bool:
        if isinstance(error, Rejected) and self.on is None:
            return False
        if call.committed() or (call.deadline is not None and call.deadline.hit):
            return False
        action = call.action(error)
        return call.says("arg_fallback.on", self.condition, error) if action is None else action == ROTATE

    def _order(self, call: Call, given: Sequence[Any]) -> Sequence[int]:
        """Return the positions to try; refuse the call when there is none."""
        ring = self.ring
        if not given:
            raise ConfigurationError(self.parameter, given, "at least one alternative")
        order = ring.order(given, call.runtime.now(), spread=self.spread)
        if not order:
            raise self._no_alternative(call, "was refused for good; replace() them, or give refresh=")
        return order

    async def _given(self, call: Call, passed: Any, default: Any) -> Sequence[Any] | None:
        """Return the alternatives of this call, after a refresh if all our own were refused."""
        ring = self.ring
        if passed is not MISSING or ring.alternatives is None:
            passed = default if passed is MISSING else passed
            return passed if isinstance(passed, list | tuple) else None
        if self.refresh is not None and ring.refused():
            await self._refresh(call, self.refresh)
        return ring.alternatives

    def _spent(self, passed: Any, given: Sequence[Any] | None = None) -> bool:
        """Whether a call is to get others: all our own were refused, or replaced while it tried those `given`."""
        ring = self.ring
        if passed is not MISSING or ring.alternatives is None:
            return False
        if ring.refused():
            return self.refresh is not None
        return given is not None and given is not ring.alternatives

    async def _refresh(self, call: Call, refresh: Callable[[], Any]) -> None:
        """Have new alternatives, by a refresh of our own or of somebody else's."""
        ring, waiter = self.ring, call.runtime.waiter()
        flight = ring.join(waiter, blocks=not call.runtime.suspends)
        if flight.leader is waiter or await self._follow(call, flight, waiter):
            with Refreshing(ring, flight):
                if ring.refused():  # else somebody was quicker
                    fresh = refresh()
                    self.replace(await fresh if call.operation.is_async and hasattr(fresh, "__await__") else fresh)
        elif ring.refused():
            raise self._no_alternative(call, f"was refused for good, and refresh= failed ({flight.failure})")

    async def _follow(self, call: Call, flight: Flight, waiter: Waiter) -> bool:
        """Wait until a refresh ends; whether it was handed to us."""
        woken = False
        try:
            if flight.waits_for_itself(blocks=not call.runtime.suspends):
                text = "was refused for good, and refresh= waits for itself: it calls what it refreshes for, or this "
                raise self._no_alternative(call, f"{text}blocks its loop; pass a value for {self.parameter}")
            woken = await call.runtime.park(waiter, None if call.deadline is None else call.deadline.at)
        finally:
            if not woken:
                self.ring.leave(flight, waiter)
        if not woken and call.deadline is not None:
            raise call.deadline.expire(call.operation)
        return flight.leader is waiter

    def _no_alternative(self, call: Call, why: str) -> Rejected:
        text = f"every alternative of {self.parameter} {why}"
        return call.reject(Rejected(text, primitive="arg_fallback", reason="no_alternative"))

    def _rest(self, call: Call, alternative: Any, position: int, error: Exception) -> None:
        if self.cooldown is None:
            return
        status = responses.status(error)
        asked = responses.retry_after(error, clock.wall()) if status != UNKNOWN else None
        seconds = inf if status == UNKNOWN else self.cooldown if asked is None else min(asked, LONGEST_REST)
        self.ring.rest(alternative, call.runtime.now() + seconds)
        self._say(call, RESTED, position, seconds=None if seconds == inf else seconds)

    def _say(self, call: Call, event: Event, position: int, **fields: Any) -> None:
        call.emit(event, parameter=self.parameter, alternative=position, **fields)

    def __repr__(self) -> str:
        shown = {k: v for k, v in self.settings.items() if v not in (None, False)}
        if self.alternatives is not None:
            shown["alternatives"] = _Count(len(self.alternatives))
        return f"ArgFallback({', '.join(f'{k}={v!r}' for k, v in shown.items())})"


class _Missing:
    """What the caller passed when it passed nothing."""


MISSING = _Missing()


class _Count:
    def __init__(self, count: int) -> None:
        self.count = count

    def __repr__(self) -> str:
        return f"<{self.count}>"


def _several(field: str, alternatives: Any) -> tuple[Any, ...]:
    if not (isinstance(alternatives, list | tuple) and alternatives):
        raise ConfigurationError(field, type(alternatives).__name__, "a list or tuple of at least one alternative")
    return tuple(alternatives)


def _finder(function: Callable[..., Any], parameter: str) -> tuple[Find, Any]:
    """Return what finds the argument in a call, and makes the call with another one; and its default."""
    from inspect import Parameter

    variable = {Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD}
    told = signature_of(function)
    parameters = {} if told is None else told.parameters
    found = parameters.get(parameter)
    if found is None or found.kind in variable:
        named = ", ".join(p.name for p in parameters.values() if p.kind not in variable)
        raise ConfigurationError("arg_fallback", parameter, f"a parameter of the function: {named or 'it has none'}")
    default = MISSING if found.default is Parameter.empty else found.default
    place = inf if found.kind is Parameter.KEYWORD_ONLY else list(parameters).index(parameter)

    def find(call: Call) -> tuple[Any, Callable[[Any], Call]]:
        args, kwargs = call.args, call.kwargs
        if place < len(args):
            before, after = args[: int(place)], args[int(place) + 1 :]
            return args[int(place)], lambda value: call.branch((*before, value, *after), kwargs)
        return kwargs.get(parameter, MISSING), lambda value: call.branch(args, {**kwargs, parameter: value})

    return find, default
