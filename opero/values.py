"""What the values of a configuration stand for in `@opero`, and what is wrong with them: all of it, by its path."""

from __future__ import annotations

import builtins
from inspect import signature

from opero import conditions, pipeline, settings
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
SAID = {"cache_ttl": "ttl", "timeout": "seconds", "attempt_timeout": "attempt"}  # a policy's word for its setting
CONDITIONS = ("on", "ignore", "errors")
NAMES = 'names of exceptions like "ConnectionError"'


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
    if keyword == "order":
        _check_order(value)
    elif keyword == "record":
        _check_texts(keyword, value, "the name of a parameter, or a list of them")
    else:
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
    return ConfigurationError(keyword, value, _instead_of(keyword, there))


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
    return ConfigurationError(f"{keyword}.{name}", value, _instead_of(name, there))


def _instead_of(name: str, there: Sequence[str]) -> str:
    """Say what was meant; all there are only where nobody can guess: of a file many such lines are read at once."""
    near = settings.near(name, there)
    return f"nothing: there is no such setting; {near or 'there are ' + ', '.join(there)}"


def _condition(field: str, value: Any, *, alone: bool) -> Any:
    """Read names of Python's own exceptions and, where it may stand for results too, HTTP statuses."""
    names = value if isinstance(value, list) else [value]
    statuses = [name for name in names if isinstance(name, int) and not isinstance(name, bool)]
    types = [getattr(builtins, name, None) for name in names if isinstance(name, str)]
    right = len(names) == len(types) + (len(statuses) if alone else 0) > 0
    if not right or not all(isinstance(each, type) and issubclass(each, Exception) for each in types):
        raise ConfigurationError(field, value, f"{NAMES}{', and HTTP statuses' if alone else ''}")
    if not statuses:
        return tuple(types)
    try:
        by_status = conditions.status(*statuses)
    except ConfigurationError as error:
        raise ConfigurationError(field, value, error.allowed) from None
    return conditions.of(field, tuple(types)) | by_status if types else by_status


def _check_texts(keyword: str, value: Any, allowed: str) -> None:
    each = value if isinstance(value, list) else [value]
    if not all(isinstance(name, str) and name for name in each):
        raise ConfigurationError(keyword, value, allowed)


def _check_order(value: Any) -> None:
    places = [*pipeline.ORDER, *settings.added()]
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise ConfigurationError("order", value, f"a list of places, outermost first: {', '.join(places)}")
    wrong = [ConfigurationError("order", each, _instead_of(each, places)) for each in value if each not in places]
    if wrong:
        raise together(wrong)
