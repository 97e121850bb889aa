"""The event bus: what was said, to whoever asked. An event nobody asked for is never built."""

from __future__ import annotations

from contextvars import ContextVar

from opero import clock, forks
from opero.errors import ConfigurationError
from opero.kinds import is_awaited, promises_awaitable, read

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from contextlib import AbstractContextManager
    from contextvars import Token
    from typing import Any, Self

    from opero.signals import Event as Signal

    Handler = Callable[["Event"], object]
    Carried = tuple[Callable[[Any], AbstractContextManager[Any]], Any]

__all__ = ["Event", "Subscription", "correlation_id", "current_correlation_id", "subscribe"]


def __dir__() -> list[str]:
    return __all__


class Event:
    """Something that was said. `at` is Unix time in seconds; `call` numbers the calls of this process from 1.

    A handler runs inside the call that speaks, in its thread and context; it may not await. Where the field `error`
    names a class, `sys.exception()` is the error.
    """

    __slots__ = ("at", "call", "correlation_id", "fields", "name", "operation", "severity")

    def __init__(
        self,
        name: str,
        operation: str,
        fields: Mapping[str, Any],
        *,
        severity: str = "info",
        call: int = 0,
        at: float | None = None,
        correlation_id: str | None = None,
    ) -> None:
        self.name = name
        self.operation = operation
        self.fields = fields
        self.severity = severity
        self.call = call
        self.at = clock.wall() if at is None else at
        self.correlation_id = current_correlation_id() if correlation_id is None else correlation_id

    def __repr__(self) -> str:
        return f"<{self.name} {self.operation} {dict(self.fields)}>"


class Subscription:
    """An open subscription; a context manager. `close()` ends it, and may be called twice."""

    def __init__(self, handler: Handler, patterns: tuple[str, ...], when: Callable[[], bool] | None = None) -> None:
        self.handler = handler
        self.patterns = patterns
        self.when = when

    def close(self) -> None:
        """Stop hearing."""
        with _lock:
            if self in _subscriptions:
                _subscriptions.remove(self)
                _changed_locked()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


HANDLER_FAILED = "opero.telemetry.handler_failed"

failures: dict[str, int] = {}  # operation → handlers that raised while it spoke
_subscriptions: list[Subscription] = []
_heard_by: dict[str, tuple[Handler, ...]] = {}
_watched: list[tuple[tuple[str, ...], list[Callable[[], bool]]]] = []
_lock = forks.lock()
_telling: ContextVar[list[Any] | None] = ContextVar("opero.telling", default=None)  # who is told, and who around that
_correlation: ContextVar[str] = ContextVar("opero.correlation_id", default="")
trace_id: Callable[[], str] = str  # an observer puts the active trace's id here


def _carry_nothing() -> None:
    return None


carry: Callable[[], Carried | None] = _carry_nothing  # an observer puts here what lets a worker go on with a trace


def subscribe(handler: Handler, *patterns: str, when: Callable[[], bool] | None = None) -> Subscription:
    """Call `handler(event)` for every event whose name matches a pattern (`*` is any run of characters).

    A handler that raises does not reach the call: the failure is counted and said as `opero.telemetry.handler_failed`.
    It hears nothing of its own work, such as the calls it makes; of what goes on after it has returned it does.
    `when` is asked as a call begins: while every subscriber of its events says no, it stays on the fast path. One that
    asked for them otherwise is heard all the same, so a handler must bear events it did not want.
    """
    for function in (handler, when):
        if function is not None and (is_awaited(function) or promises_awaitable(function)):
            raise ConfigurationError("handler", function, "a plain function of the event: nobody awaits it here")
    if not callable(handler):
        raise ConfigurationError("handler", handler, "a function of the event; patterns go after it")
    for pattern in patterns:
        if pattern == "" or type(pattern) is not str:
            raise ConfigurationError("patterns", pattern, 'names of events, like "opero.retry.*"')
    subscription = Subscription(handler, patterns or ("*",), when)
    with _lock:
        _subscriptions.append(subscription)
        _changed_locked()
    return subscription


def leave() -> None:
    """Close every subscription: in a worker, whose parent hears what it says."""
    with _lock:
        _subscriptions.clear()
        _changed_locked()


def wanted(name: str) -> tuple[Handler, ...]:
    """Who wants events of this name; empty for most names, most of the time."""
    known = _heard_by
    handlers = known.get(name)
    if handlers is None:
        handlers = known[name] = tuple(s.handler for s in _subscriptions.copy() if _matches(name, s.patterns))
    return handlers


def watch(*names: str) -> list[Callable[[], bool]]:
    """Return the list of conditions of those who want any of these names; kept up to date as they come and go."""
    conditions: list[Callable[[], bool]] = []
    with _lock:
        _watched.append((names, conditions))
        _changed_locked()
    return conditions


def asked(conditions: list[Callable[[], bool]]) -> bool:
    """Whether one of them holds now; one that fails does."""
    for condition in conditions:
        try:
            if condition():
                return True
        except Exception:  # noqa: BLE001 - an observer never breaks a call; its handler will fail, and be counted
            return True
    return False


def say(signal: Signal, operation: str, fields: Mapping[str, Any], call: int = 0) -> None:
    """Tell whoever wants it; costs one dictionary look-up when nobody does."""
    handlers = wanted(signal.name)
    if handlers:
        publish(Event(signal.name, operation, fields, severity=signal.severity, call=call), handlers)


def publish(event: Event, handlers: tuple[Handler, ...]) -> None:
    """Hand a finished event to the handlers, but not to one in whose work it was said: that would have no end."""
    around = _telling.get()
    for handler in handlers:
        if around is not None and _is_told(handler, around):
            continue
        telling = [handler, around]
        _telling.set(telling)
        try:
            handler(event)
        except Exception as error:  # noqa: BLE001 - an observer never breaks a call; the failure is counted and said
            failures[event.operation] = failures.get(event.operation, 0) + 1
            if event.name != HANDLER_FAILED:
                fields = {"event": event.name, "handler": _name(handler), "error": type(error).__name__}
                others = tuple(other for other in wanted(HANDLER_FAILED) if other != handler)
                publish(Event(HANDLER_FAILED, event.operation, fields, severity="error"), others)
        finally:
            telling[0] = None  # what it has begun, such as a task, goes on in a copy of this context
            _telling.set(around)


def _is_told(handler: Handler, telling: list[Any] | None) -> bool:
    while telling is not None:
        told, telling = telling
        if told is handler:
            return True
    return False


class correlation_id:  # noqa: N801 - used as `with opero.correlation_id("req-42"):`
    """Mark every event said inside with this id; None is none. A context manager; follows tasks and copied contexts."""

    def __init__(self, value: str | None) -> None:
        if not isinstance(value, str | None):
            raise ConfigurationError("correlation_id", value, "a string, or None: say str(...) of anything else")
        self.value = value or ""
        self._tokens: list[Token[str]] = []

    def __enter__(self) -> str:
        self._tokens.append(_correlation.set(self.value))
        return self.value

    def __exit__(self, *_: object) -> None:
        _correlation.reset(self._tokens.pop())


def current_correlation_id() -> str:
    """Return the id given by `correlation_id`, else that of the active trace, else an empty string."""
    return _correlation.get() or trace_id()


def patterns() -> Iterator[str]:
    """Every pattern somebody listens to."""
    for subscription in _subscriptions:
        yield from subscription.patterns


def _changed_locked() -> None:
    global _heard_by
    _heard_by = {}  # not cleared: who looks just now puts what it found into the old one
    for names, conditions in _watched:
        wanting = [s for s in _subscriptions.copy() if any(_matches(name, s.patterns) for name in names)]
        conditions[:] = [subscription.when or _always for subscription in wanting]


def _always() -> bool:
    return True


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    from fnmatch import fnmatchcase

    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _name(handler: Handler) -> str:
    name: str = read(handler, "__qualname__", str, type(handler).__name__)
    return name
