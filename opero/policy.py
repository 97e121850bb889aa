"""What every policy is: frozen, keyword-only, checked when made, and picklable without its state."""

from __future__ import annotations

from functools import wraps
from math import inf, isfinite, isnan

from opero.errors import ConfigurationError
from opero.kinds import is_coroutine_function, is_generator_function, promises_awaitable, signature_of
from opero.signals import Signals
from opero.spelling import read_settings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from datetime import timedelta
    from typing import Any, ClassVar, ParamSpec, TypeVar, overload

    from opero.call import Layer
    from opero.decorators import Decorated
    from opero.signals import Attributes, Metric

    P = ParamSpec("P")
    Q = ParamSpec("Q")
    R = TypeVar("R", covariant=True)
    T = TypeVar("T")
    Duration = float | timedelta
    Observation = tuple[Metric, tuple[str, ...], float]


FINITE = "finite; for no limit leave it out or, where it has a default, give a number like 1e9"
NOT_AWAITED = "no coroutine function: nobody awaits it here; ask what has to be awaited in the decorated function"


class Fragment:
    """What a policy does around a call that succeeds at once, as source for the fast path.

    `admit` runs before the function, where `now` is the time; a line `HAND_OVER` lets the general path go on. `check`
    runs right after it, at `end`, and may still raise. `settle` runs when nothing can fail any more; it `took` so many
    seconds. `fail` runs instead, and may put another `error` in the place of what was raised; `undo`, where a later
    gate hands over; `owed`, which runs nothing of ours in this thread, where no frame is left for the general path.
    `names` are what they refer to. `held` is what the layer finds in `call.record.held` when the path is left halfway.
    In the distributions `passed` each call counts as a 0. A line `REFUSE` ends in `refuse`, which raises, and counts
    as `refused`: kind, reason and error type. A shortcut's calls count as `counted`. Between a read and its write
    nothing may be called.
    """

    __slots__ = (
        "admit",
        "check",
        "counted",
        "fail",
        "held",
        "names",
        "owed",
        "passed",
        "refuse",
        "refused",
        "settle",
        "undo",
    )

    def __init__(
        self,
        admit: str = "",
        settle: str = "",
        *,
        check: str = "",
        fail: str = "",
        undo: str = "",
        owed: str = "",
        names: Mapping[str, Any] | None = None,
        held: str = "",
        passed: Sequence[tuple[Metric, Attributes]] = (),
        refuse: str = "",
        refused: tuple[str, str, str] = ("", "", ""),
        counted: tuple[str, Attributes] | None = None,
    ) -> None:
        self.admit = admit
        self.settle = settle
        self.check = check
        self.fail = fail
        self.undo = undo
        self.owed = owed or undo
        self.names = names or {}
        self.held = held
        self.passed = passed
        self.refuse = refuse
        self.refused = refused
        self.counted = counted

    def acts(self) -> bool:
        """Whether there is anything to do."""
        return bool((self.admit + self.check + self.settle + self.fail).strip())


class Policy:
    """Base of all policies. Settings never change; the state one instance carries is shared by all who use it."""

    place: str = ""  # where it stands in the order of the layers
    SIGNALS: ClassVar[Signals]
    name: str | None = None
    settings: Mapping[str, Any]
    turned: tuple[str, ...] = ()  # settings that a knob turns: properties, which show what holds now
    inside = ""  # the place right outside of its own, for a plugin whose place is its own
    control: str | None = None  # the law that turns its knob: "adaptive", or the name of a plugin's
    shadow = False
    only_async = False  # cannot wait for blocking functions
    streams = False  # may stand around a generator
    minds_refusals = True  # of policies further in
    asks_functions = False  # whether a function alone may be its settings
    reads_arguments = True  # in their original shape; else the fast path may pass them by position
    fills: tuple[str, ...] | None = None  # parameters it has a value for where the caller gives none; None: who knows

    def __init_subclass__(cls, **more: Any) -> None:
        super().__init_subclass__(**more)
        if not hasattr(cls, "SIGNALS"):  # a plugin's, which says nothing
            cls.SIGNALS = Signals(cls.place)
        read_settings(cls)
        if "__init__" in cls.__dict__:
            setattr(cls, "__init__", _after_parentheses(cls.__dict__["__init__"]))  # noqa: B010 - mypy's, not a slot

    def freeze(self, **settings: Any) -> None:
        """Keep the settings as attributes, for good; called once, by `__init__`."""
        if "name" in settings:
            optional(text, "name", settings["name"])
        self._keep(settings=settings, **{name: settings[name] for name in settings if name not in self.turned})

    def _keep(self, **attributes: Any) -> None:
        """Set attributes; one by one, so that all instances share the names."""
        for name, value in attributes.items():
            object.__setattr__(self, name, value)

    def start(self) -> None:
        """Make the state; called when constructed and when unpickled."""

    def can_share(self) -> bool:
        """Whether it has a state that processes may share, and no store for it yet."""
        return False

    def share(self, store: Any, name: str) -> None:
        """Keep the state in a store from now on, by this name."""
        raise NotImplementedError

    def parts(self) -> Iterable[Policy]:
        """Yield the policies it brings along, for places that are free."""
        return ()

    def check(self, function: Callable[..., Any], places: Mapping[str, Policy]) -> None:
        """Raise `ConfigurationError` if it cannot do its work around this function, or beside these others."""
        if not self.streams and is_generator_function(function):
            raise ConfigurationError(self.place, self, "no generator function: it cannot stand around one")

    def attach(self, function: Callable[..., Any]) -> Layer:
        """Return the layer that runs around `function`; raise `ConfigurationError` where it cannot."""
        raise NotImplementedError

    def wrap(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return what is called in the function's place, innermost, in each attempt."""
        return function

    def fragment(self) -> Fragment | None:
        """Return its part of the fast path; None if each call needs the layer."""
        return None

    def fragment_async(self) -> Fragment | None:
        """Return the same for a coroutine function."""
        return self.fragment()

    def shortcut(self, function: Callable[..., Any], parameters: Sequence[str]) -> Fragment | None:
        """Return what may answer a call before anything else is done, in `admit`; `parameters` are all there are.

        They are stand-ins: the names are put in their places.
        """
        return None

    def observe(self, now: float) -> Iterable[Observation]:
        """Yield gauges as (metric, attribute values without the policy's name, value)."""
        return ()

    if TYPE_CHECKING:

        @overload
        def __call__(self, function: classmethod[T, Q, R], /) -> classmethod[T, Q, R]: ...
        @overload
        def __call__(self, function: Callable[P, R], /) -> Decorated[P, R]: ...

    def __call__(self, *given: Any, **more: Any) -> Any:
        """Decorate a function with this policy alone: `@Retry(5)` is `@opero(Retry(5))`."""
        if len(given) != 1 or more or not decorates(given[0]):
            kinds = tuple(map(type, (*given, *more.values())))  # the values may be secrets
            allowed = f"a function and nothing else; {_in_parentheses(type(self))}"
            raise ConfigurationError("function", kinds, allowed)
        (function,) = given
        from importlib import import_module  # the doors stand above the policies

        return import_module("opero.decorators").opero(self)(function)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__}.{name}: policies are frozen; make another one")

    def __getstate__(self) -> dict[str, Any]:
        return {**self.settings, **{name: getattr(self, name) for name in self.turned}}

    def __setstate__(self, settings: dict[str, Any]) -> None:
        self.freeze(**settings)
        self.start()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in self.__getstate__().items())})"


def _in_parentheses(kind: type) -> str:
    return f"the settings of a decorator go before it: @{kind.__name__}(...)"


def decorates(value: object) -> bool:
    """Whether a decorator may be given this."""
    return callable(value) or isinstance(value, staticmethod | classmethod | property)


def _after_parentheses(init: Callable[..., None]) -> Callable[..., None]:
    """Refuse the function in place of the settings, where the parentheses of a decorator were forgotten."""

    @wraps(init)
    def checked(self: Policy, *args: Any, **kwargs: Any) -> None:
        if len(args) == 1 and not kwargs and not self.asks_functions and _is_function(args[0]):
            kind = type(self)
            raise ConfigurationError(kind.__name__, args[0], f"no function; {_in_parentheses(kind)}")
        init(self, *args, **kwargs)

    return checked


def _is_function(value: object) -> bool:
    return decorates(value) and hasattr(value, "__qualname__") and not hasattr(value, "acquire")


def number(
    field: str,
    value: object,
    *,
    low: float = -inf,
    above: float = -inf,
    high: float = inf,
    what: str = "a number",
) -> float:
    """Return `value` as a finite float within the bounds, or raise `ConfigurationError`."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise ConfigurationError(field, value, _range(what, low, above, high))
    if not (_is_finite(value) and low <= value <= high and value > above):
        raise ConfigurationError(field, value, f"{_range(what, low, above, high)}{_endless(value, high)}")
    return float(value)


def instead(error: ConfigurationError, allowed: str) -> str:
    """Return what is allowed, in the place of an error's words but for those that say that a number is to be finite."""
    return f"{allowed}; numbers are {FINITE}" if error.allowed.endswith(FINITE) else allowed


def _is_finite(value: float) -> bool:
    try:
        return isfinite(value)
    except OverflowError:  # an int that is no float
        return False


def _endless(value: Any, high: float) -> str:
    """Say of a number that is above all others, or is none, that it has to be finite."""
    if isinstance(value, float) and isnan(value):
        return ", finite"
    return f", {FINITE}" if value > 0 and high == inf and not _is_finite(value) else ""


def is_duration(value: object) -> bool:
    """Whether it is seconds, or a `datetime.timedelta`."""
    return (isinstance(value, int | float) and not isinstance(value, bool)) or hasattr(value, "total_seconds")


def duration(field: str, value: object, *, low: float = -inf, above: float = -inf) -> float:
    """Return seconds, given as a number or as a `datetime.timedelta`, or raise `ConfigurationError`."""
    asked = getattr(value, "total_seconds", None)
    return number(field, value if asked is None else asked(), low=low, above=above, what="a number of seconds")


def whole(field: str, value: object, *, low: int) -> int:
    """Return `value` as an int of at least `low`, or raise `ConfigurationError`."""
    if not isinstance(value, int) or isinstance(value, bool) or value < low or not _is_finite(value):
        raise ConfigurationError(field, value, f"a whole number, {low} or more")
    return value


def boolean(field: str, value: object) -> bool:
    """Return `value` if it is a bool, or raise `ConfigurationError`: "no" and "false" are true."""
    if not isinstance(value, bool):
        raise ConfigurationError(field, value, "True or False")
    return value


def text(field: str, value: object) -> str:
    """Return `value` if it is a text that is not empty, or raise `ConfigurationError`."""
    if not isinstance(value, str) or not value:
        raise ConfigurationError(field, value, "a text that is not empty")
    return value


def choice(field: str, value: Any, allowed: Sequence[str | None]) -> Any:
    """Return `value` if it is one of the texts `allowed`, or raise `ConfigurationError`."""
    if not isinstance(value, str | None) or value not in allowed:
        raise ConfigurationError(field, value, " or ".join(repr(a) for a in allowed))
    return value


def controlled(value: object) -> str | None:
    """Return the name of a law, or raise `ConfigurationError`; which plugins there are is asked when decorating."""
    if value is not None and (not isinstance(value, str) or not value):
        raise ConfigurationError("control", value, '"adaptive", the name of a plugin of opero.controllers, or None')
    return value


def asked(field: str, value: Any, allowed: str, *, takes: int | None = None) -> Any:
    """Return a function that is called, with so many arguments, and never awaited, or raise `ConfigurationError`.

    What a coroutine function returns is true, whatever it would say.
    """
    if not callable(value) or isinstance(value, Policy):
        raise ConfigurationError(field, value, allowed)
    if answers_later(value):
        raise ConfigurationError(field, value, f"{allowed}; {NOT_AWAITED}")
    return value if takes is None else taking(takes, value, field, value, allowed)


def taking(count: int, function: Any, field: str, value: Any, allowed: str) -> Any:
    """Return a setting whose function may be called with so many arguments, or raise `ConfigurationError`."""
    told = signature_of(function)
    try:
        _ = told and told.bind(*[None] * count)
    except TypeError as error:
        raise ConfigurationError(field, value, f"{allowed}; this one takes {told}") from error
    return value


def answered(answer: Any) -> Any:
    """Return what a function said; raise `TypeError` if that has to be awaited, which nobody does where it is asked."""
    if hasattr(answer, "__await__"):
        getattr(answer, "close", bool)()
        raise TypeError("it returned something to await, which nobody does here")
    return answer


def answers_later(function: Callable[..., Any]) -> bool:
    """Whether what it returns has to be awaited, or iterated, to be an answer."""
    return is_coroutine_function(function) or is_generator_function(function) or promises_awaitable(function)


def unread(field: str, value: object, default: object, why: str) -> None:
    """Raise `ConfigurationError` where a setting is given that nothing would read."""
    if value != default:
        raise ConfigurationError(field, value, f"nothing but {default!r} {why}")


def optional(check: Callable[..., Any], field: str, value: object, **bounds: Any) -> Any:
    """Let None pass, and check everything else."""
    return None if value is None else check(field, value, **bounds)


def _range(what: str, low: float, above: float, high: float) -> str:
    parts = [what]
    if low > -inf:
        parts.append(f"{low:g} or more")
    if above > -inf:
        parts.append(f"above {above:g}")
    if high < inf:
        parts.append(f"up to {high:g}")
    return ", ".join(parts)
