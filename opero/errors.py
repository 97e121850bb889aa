"""Every error Opero raises: what was wrong, with which value, and the way out. All of them pickle."""

from __future__ import annotations

from math import inf

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import timedelta
    from typing import Any, Self


class OperoError(RuntimeError):
    """Base of every error that Opero raises itself; a user's own exception passes through unchanged."""

    def __reduce__(self) -> tuple[Any, ...]:
        slots = (name for kind in type(self).__mro__ for name in kind.__dict__.get("__slots__", ()))
        kept = {**self.__dict__, **{name: getattr(self, name, None) for name in slots}}
        for name in ("owner", "uncalled"):  # which are of this process
            kept.pop(name, None)
        return _rebuild, (type(self), self.args, kept)


class ConfigurationError(OperoError, ValueError):
    """A setting is wrong; raised while decorating wherever that is possible.

    `.field` is the setting, `.value` what it was given, `.allowed` what it takes. Where several are wrong, as in a
    configuration, it is about the first, and `.errors` has one for each of them.
    """

    others: tuple[ConfigurationError, ...] = ()

    def __init__(self, field: str, value: object, allowed: str) -> None:
        super().__init__(f"{field}={_shown(value)}: {field} takes {allowed}")
        self.field = field
        self.value = value
        self.allowed = allowed

    @property
    def errors(self) -> tuple[ConfigurationError, ...]:
        """One for each setting that is wrong; this one is the first."""
        return self, *self.others

    def __str__(self) -> str:
        first = super().__str__()
        if not self.others:
            return first
        return "\n  ".join([f"{len(self.errors)} settings are wrong:", first, *map(str, self.others)])

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.args, {**self.__dict__, "value": _portable(self.value)})


class ExecutionError(OperoError):
    """A call ended without an answer from the function."""


class AllFailedError(ExecutionError, ExceptionGroup[Exception]):
    """Every alternative of `arg_fallback` failed; `.errors` holds the failures in order."""

    def __new__(cls, message: str, errors: Sequence[Exception]) -> Self:
        return ExceptionGroup.__new__(cls, message, errors)

    @property
    def errors(self) -> tuple[Exception, ...]:
        """One error an alternative, in the order they were tried."""
        return self.exceptions

    def derive(self, excs: Sequence[Exception]) -> AllFailedError:  # type: ignore[override]
        return AllFailedError(self.message, excs)


class Rejected(ExecutionError):
    """The function was not called. `.retry_after` (seconds, or None) says when it makes sense to ask again."""

    __slots__ = ("operation", "owner", "retry_after")  # a dictionary would make refusing half as slow again

    primitive: str
    operation: str
    reason: str
    retry_after: float | None
    owner: object

    def __init__(
        self,
        message: str,
        *,
        primitive: str = "",
        operation: str = "",
        reason: str = "",
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.primitive = primitive
        self.operation = operation
        self.reason = reason
        self.retry_after = retry_after
        self.owner = None


class CircuitOpenError(Rejected):
    """The circuit is open, or half-open with all its probes out."""

    __slots__ = ("circuit",)
    primitive = "circuit_breaker"
    reason = "circuit_open"

    circuit: str

    def __init__(self, message: str = "", *, circuit: str = "", **said: Any) -> None:
        super().__init__(message, **{"primitive": self.primitive, "reason": self.reason, **said})
        self.circuit = circuit

    @property
    def args(self) -> tuple[Any, ...]:
        """The message; where there is none, one is made of the attributes: refusing must be quick."""
        given = super().args
        return given if given and given[0] else (self._text(),)

    @args.setter
    def args(self, given: tuple[Any, ...]) -> None:  # pyright: ignore[reportIncompatibleVariableOverride]
        BaseException.__init__(self, *given)  # which keeps them

    def __str__(self) -> str:
        return str(self.args[0])

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.args[0]!r})"

    def _text(self) -> str:
        left = "" if self.retry_after is None else f" for another {self.retry_after:.3g} s"
        return f"the circuit of {self.circuit or self.operation} is open{left}"


class RateLimitedError(Rejected):
    """The quota is used up for longer than the call may wait."""


class BulkheadFullError(Rejected):
    """As many calls as allowed are in flight, and the queue is full or too slow."""


class RetryBudgetExhausted(Rejected):
    """There was no budget for another retry."""


class CallTimeout(ExecutionError, TimeoutError):
    """The deadline passed; `.seconds` is the timeout, `.scope` says whose: "timeout" or "attempt_timeout"."""

    uncalled = 0  # which call it ended before the function was called

    def __new__(cls, *args: object, **_: object) -> Self:
        return TimeoutError.__new__(cls, *args)

    def __init__(self, message: str = "", *, operation: str = "", seconds: float = 0.0, scope: str = "timeout") -> None:
        super().__init__(message)
        self.operation = operation
        self.seconds = seconds
        self.scope = scope


class RetryNow(ExecutionError):
    """For your function to raise: try again, whatever the retry's conditions say, after `after`.

    That is seconds, a `timedelta`, or what a `Retry-After` header says. Limits, budget and deadline hold. When none is
    left, the caller gets `error`, an exception or its class, else this, with `error` as its text if that is a text.
    """

    again = True

    def __init__(
        self, error: Exception | type[Exception] | str | None = None, *, after: float | timedelta | str = 0.0
    ) -> None:
        self.error = _carried(error)
        super().__init__(*(() if error is None else (error if self.error is None else self.error,)))
        self.after = _pause(after, self.error)


class DoNotRetry(ExecutionError):
    """For your function to raise: do not try again.

    The caller gets `error`, an exception or its class; without one, where it is raised `from` an error or in its
    `except` block, that error; else this, with `error` as its text if that is a text.
    """

    again = False

    def __init__(self, error: Exception | type[Exception] | str | None = None) -> None:
        self.error = _carried(error)
        super().__init__(*(() if error is None else (error if self.error is None else self.error,)))


class CacheError(ExecutionError):
    """A cache could not do what was asked of it."""


class OwnResultError(CacheError, ConfigurationError):
    """A cached function needs its own result for the same arguments: no call of it can end."""


class StateError(ExecutionError):
    """A state in a store cannot be used: `.kind` is what it is of, `.why` tells why, and the way out.

    Calls never see it, they go by the state of their process; who holds a circuit or resets a limit by hand does.
    """

    def __init__(self, kind: str, why: str) -> None:
        super().__init__(f"the state of a {kind} in the store cannot be used: {why}")
        self.kind = kind
        self.why = why


class ConcurrencyError(OperoError):
    """A parallel map could not give every item its result."""


class MapError(ConcurrencyError, ExceptionGroup[Exception]):
    """Items of a map failed: `.failures` maps their index to the exception, `.results` has None in their places."""

    results: list[Any]
    failures: Mapping[int, Exception]

    def __new__(cls, message: str, failures: Mapping[int, Exception], results: Sequence[Any] = ()) -> Self:
        self = ExceptionGroup.__new__(cls, message, list(failures.values()))
        self.failures = dict(failures)
        self.results = list(results)
        return self

    @classmethod
    def of(cls, name: str, failures: Mapping[int, Exception], results: Sequence[Any], items: int) -> Self:
        """Say how many failed, and by cause how many, the first of each, and where."""
        causes: dict[type, list[int]] = {}
        for index, error in failures.items():
            causes.setdefault(type(error), []).append(index)
        told = []
        for kind, indices in sorted(causes.items(), key=lambda pair: -len(pair[1])):
            first = _shown_text(str(failures[indices[0]]))
            told.append(f"{len(indices)} × {kind.__name__}, first at item {indices[0]}: {first}")
        return cls("\n  ".join([f"{len(failures)} of {items} items of {name} failed", *told]), failures, results)

    def __init__(self, message: str, failures: Mapping[int, Exception], results: Sequence[Any] = ()) -> None:
        ConcurrencyError.__init__(self, message, list(failures.values()))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.message, self.failures, self.results), dict(self.__dict__)

    def derive(self, excs: Sequence[Exception]) -> MapError:  # type: ignore[override]
        kept = set(map(id, excs))
        return MapError(self.message, {i: e for i, e in self.failures.items() if id(e) in kept}, self.results)


class WorkerLost(ConcurrencyError):
    """A worker died with an item: `.index` is its place in the input, `.exitcode` negative for a signal."""

    def __init__(self, message: str = "", *, index: int = -1, exitcode: int | None = None) -> None:
        super().__init__(message)
        self.index = index
        self.exitcode = exitcode


class Stopped(Exception):
    """Carries a StopIteration of the user's, which no coroutine may raise, through ours."""

    def __init__(self, error: StopIteration) -> None:
        self.error = error


class Unwanted(BaseException):
    """Ends what a call has no use for any more, in a thread that cannot be cancelled; nobody sees it."""


def claim(error: BaseException, owner: object) -> None:
    """Write on an error of ours which operation raised it: two that are stacked have one name."""
    error.owner = owner  # type: ignore[attr-defined]


def belongs(error: BaseException, owner: object) -> bool:
    """Whether this operation, in this process, ended the call with this error."""
    return isinstance(error, CallTimeout | Rejected) and getattr(error, "owner", None) is owner


def notes_of(error: BaseException) -> dict[str, Any]:
    """Return where an error keeps what is written on it; a class may refuse, and then nothing is kept."""
    try:
        return error.__dict__
    except Exception:  # noqa: BLE001 - the user's error passes as it is, whatever its class does
        return {}


def note(error: BaseException, start: str, text: str) -> None:
    """Add a note in place of any that starts alike: an error object may be raised again and again."""
    notes = notes_of(error).setdefault("__notes__", [])
    if isinstance(notes, list):
        notes[:] = [old for old in notes if not str(old).startswith(start)]
        notes.append(start + text)


def bare(error: BaseException) -> BaseException:
    """Return the error as the user's function raised it."""
    return error.error if isinstance(error, Stopped) else error


def _carried(error: object) -> Exception | None:
    """Return the exception that the caller will get; none where a text, or nothing, was given."""
    if isinstance(error, type) and issubclass(error, Exception):
        return error()
    if error is None or isinstance(error, str):
        return None
    if not isinstance(error, Exception):
        raise ConfigurationError("error", error, "an exception, a class of exceptions, or a text")
    return error


def _pause(after: Any, error: Exception | None) -> float:
    """Return seconds; where that cannot be, `error` is not lost: it is the cause of what is raised."""
    from opero import clock, responses

    given = after.total_seconds() if hasattr(after, "total_seconds") else after
    if isinstance(given, str):
        given = responses.seconds(given, clock.wall())
    if isinstance(given, bool) or not isinstance(given, int | float) or not 0 <= given < inf:
        allowed = "seconds, 0 or more, a timedelta, or the text of a Retry-After header"
        raise ConfigurationError("after", after, allowed) from error
    return float(given)


def _shown(value: object, limit: int = 80) -> str:
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001 - a repr that fails must not hide the error we are here to tell
        text = f"<{type(value).__name__}>"
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def _shown_text(text: str, limit: int = 120) -> str:
    line = text.partition("\n")[0]
    return line if len(line) <= limit else f"{line[: limit - 1]}…"


def _portable(value: object) -> object:
    """Return the value, or its text where it does not pickle."""
    from pickle import dumps

    try:
        dumps(value)
    except Exception:  # noqa: BLE001 - any error of a foreign __reduce__ means the same
        return _shown(value)
    return value


def _rebuild(kind: type[OperoError], args: tuple[Any, ...], state: dict[str, Any]) -> OperoError:
    error = kind.__new__(kind, *args)
    error.args = args
    for name, value in state.items():
        setattr(error, name, value)
    return error
