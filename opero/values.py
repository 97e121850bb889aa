"""What the values of a configuration stand for in `@opero`, and what is wrong with them: all of it, by its path."""

from __future__ import annotations

import builtins
from inspect import signature

from opero import conditions, recording, settings, spelling
from opero.errors import ConfigurationError
from opero.objectives import SLO
from opero.primitives.arg_fallback import ArgFallback
from opero.primitives.bulkhead import Bulkhead
from opero.primitives.cache import Cache
from opero.primitives.circuit_breaker import CircuitBreaker
from opero.primitives.hedge import Hedge
from opero.primitives.rate_limit import RateLimit
from opero.primitives.retry_budget import RetryBudget
from opero.primitives.timeout import Timeout

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

TABLES: dict[str, Callable[..., Any]] = {
    "arg_fallback": ArgFallback,
    "attempt_timeout": Timeout,
    "bulkhead": Bulkhead,
    "cache": Cache,
    "circuit_breaker": CircuitBreaker,
    "hedge": Hedge,
    "rate_limit": RateLimit,
    "retry_budget": RetryBudget,
    "slo": SLO,
    "timeout": Timeout,
}
NEEDED = {  # what has no default, and a value to look at the other settings with
    "arg_fallback": ("parameter", "x"),
    "attempt_timeout": ("attempt", 1.0),
    "bulkhead": ("limit", 1),
    "cache": ("ttl", 1e9),
    "hedge": ("delay", 1.0),
    "rate_limit": ("rate", 1.0),
    "slo": ("objective", 0.5),
    "timeout": ("seconds", 1.0),
}
SAID = {  # a policy's word for its setting
    "timeout": "seconds",
    "attempt_timeout": "attempt",
    "arg_fallback": "parameter",
    **{f"cache_{setting}": setting for setting in ("ttl", "backend", "key", "namespace")},
}
CONDITIONS = ("on", "ignore", "errors")
EXCEPTIONS = {
    name: kind for name, kind in vars(builtins).items() if isinstance(kind, type) and issubclass(kind, Exception)
}
NAMES = 'names of exceptions of Python itself like "ConnectionError"'
LISTED = "; several are a list; other exceptions go to @opero as classes"


def meant(keyword: str, value: Any) -> Any:
    """Return what `@opero` takes for a value; policies are made anew."""
    if keyword == "retry_on":
        return _condition(keyword, value, alone=True)
    if keyword == "slo" and isinstance(value, list):
        return [meant(keyword, each) if isinstance(each, dict) else each for each in value]
    if keyword in TABLES and isinstance(value, dict):
        return _made(keyword, value)
    return value


def check(keyword: str, value: Any) -> None:
    """Raise `ConfigurationError` for all that is wrong with one setting."""
    taken = meant(keyword, value)
    try:
        settings.policies_from((), {keyword: taken}, retries=False)
    except ConfigurationError as error:
        raise at(keyword, error, known=()) from None


def unknown(keyword: str, value: object, there: Sequence[str]) -> ConfigurationError | None:
    """Return what is wrong with the name of a setting."""
    if keyword in there or keyword in settings.added():
        return None
    if keyword in settings.known():
        return ConfigurationError(keyword, value, "nothing here: no text can say it; give it to @opero")
    return ConfigurationError(
        keyword, recording.clean(value), _instead_of(keyword, there, table=isinstance(value, dict))
    )


def together(wrong: Sequence[ConfigurationError]) -> ConfigurationError:
    """Return all errors as one."""
    first, *others = [
        ConfigurationError(each.field, each.value, each.allowed) for error in wrong for each in error.errors
    ]
    first.others = tuple(others)
    return first


def at(path: str, error: ConfigurationError, known: Sequence[str]) -> ConfigurationError:
    """Return an error by the path of its setting: one of those `known` further in, else what stands at the path."""
    name = SAID.get(error.field, error.field)
    return ConfigurationError(f"{path}.{name}" if name in known else path, error.value, error.allowed)


def beneath(path: str, error: ConfigurationError) -> ConfigurationError:
    """Return what is wrong in a table, by the path from outside of it."""
    moved = [ConfigurationError(f"{path}.{each.field}", each.value, each.allowed) for each in error.errors]
    return together(moved)


def _made(keyword: str, table: Mapping[str, Any]) -> Any:
    """Make a policy of a table; raise all that is wrong with it at once."""
    kind, (needed, sample) = TABLES[keyword], NEEDED.get(keyword, ("", None))
    there = [name for name in signature(kind).parameters if kind is not Timeout or name in {needed, "how", "name"}]
    given, wrong = _read(keyword, table, there)
    if needed and needed not in table and not wrong:  # else it may have been misspelt
        wrong.append(ConfigurationError(f"{keyword}.{needed}", None, "a value, and has no default"))
    made: Any = None
    while made is None:
        try:
            made = kind(**({needed: sample} if needed else {}) | given)
        except ConfigurationError as error:
            if not wrong or not error.allowed.startswith("nothing but "):  # that follows from what was taken out
                wrong.append(at(keyword, error, there))
            if given.pop(SAID.get(error.field, error.field), error) is error:
                break
    if wrong:
        raise together(wrong)
    return made


def _read(keyword: str, table: Mapping[str, Any], there: Sequence[str]) -> tuple[dict[str, Any], list[Any]]:
    """Return the settings that there are, with exceptions for their names, and what is wrong with the others."""
    given, wrong = {}, []
    for name, value in table.items():
        if name not in there:
            wrong.append(_misnamed(keyword, name, value, there))
            continue
        try:
            given[name] = _condition(name, value, alone=name != "errors") if name in CONDITIONS else value
        except ConfigurationError as error:
            wrong.append(at(keyword, error, there))
    return given, wrong


def _misnamed(keyword: str, name: str, value: object, there: Sequence[str]) -> ConfigurationError:
    return ConfigurationError(f"{keyword}.{name}", recording.clean(value), _instead_of(str(name), there))


def _instead_of(name: str, there: Sequence[str], *, table: bool = False) -> str:
    """Say what was meant; all there are only where nobody can guess: of a file many such lines are read at once."""
    dots = 'a name with dots is one key: operations."shop.pay"'
    near = spelling.near(name, there) or (dots if table else f"there are {', '.join(there)}")
    return f"nothing: there is no such setting; {near}"


def _condition(field: str, value: Any, *, alone: bool) -> Any:
    """Read names of Python's own exceptions and, where it may stand for results too, HTTP statuses."""
    names = value if isinstance(value, list) else [value]
    statuses = [name for name in names if alone and isinstance(name, int) and not isinstance(name, bool)]
    types = [EXCEPTIONS[name] for name in names if isinstance(name, str) and name in EXCEPTIONS]
    if not len(names) == len(types) + len(statuses) > 0:
        wrong = next((each for each in names if each not in (*statuses, *EXCEPTIONS)), value)
        near = spelling.near(wrong, [*EXCEPTIONS]) if isinstance(wrong, str) and wrong.isidentifier() else ""
        allowed = f"{NAMES}{', and HTTP statuses, as numbers' if alone else ''}{f'; {near}' if near else LISTED}"
        raise ConfigurationError(field, wrong, allowed)
    if not statuses:
        return tuple(types)
    try:
        by_status = conditions.status(*statuses)
    except ConfigurationError as error:
        raise ConfigurationError(field, value, error.allowed) from None
    return conditions.of(field, tuple(types)) | by_status if types else by_status
