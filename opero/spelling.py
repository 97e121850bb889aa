"""What is said of a setting that there is not: which was perhaps meant, and which there are."""

from __future__ import annotations

from functools import partial, wraps

from opero import recording
from opero.errors import ConfigurationError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any, TypeVar

    T = TypeVar("T", bound=type)

ATTEMPTS = ("attempts", "max_attempts", "max_tries", "tries")  # what others count


def unknown(keyword: str, value: object, there: Sequence[str], elsewhere: str = "") -> ConfigurationError:
    """Return what is said of a keyword that there is not, or is `elsewhere`; the value may be a secret."""
    return ConfigurationError(keyword, recording.clean(value), instead_of(keyword, there, elsewhere=elsewhere))


def instead_of(name: str, there: Sequence[str], what: str = "keyword", *, elsewhere: str = "") -> str:
    """Say what there is instead of a keyword that there is not."""
    meant = elsewhere or near(name, there)
    are = "there are" if len(there) > 1 else "there is only"
    return f"nothing: there is no such {what}{'; ' if meant else ''}{meant}; {are} {', '.join(there)}"


def elsewhere(keyword: str, kinds: Sequence[type]) -> str:
    """Say which policies have a setting of this name; nothing where none has."""
    from inspect import signature

    having = [kind.__name__ for kind in kinds if keyword in signature(kind).parameters]
    return f"it is one of {' and '.join(having)}, as in @opero({having[0]}({keyword}=...))" if having else ""


def near(name: str, there: Sequence[str]) -> str:
    """Say which of the names that there are was meant; nothing where nobody can guess."""
    from difflib import get_close_matches

    if name in ATTEMPTS and "retries" in there:
        return "retries is one less than the attempts"
    found = get_close_matches(name, there, 2)
    return f"perhaps {' or '.join(found)} was meant" if found else ""


def read_settings(cls: T) -> T:
    """Let a class say of settings that it does not have what is said of a keyword."""
    init = cls.__dict__.get("__init__")
    if init is None:
        return cls

    @wraps(init)
    def read(self: object, *args: Any, **given: Any) -> None:
        made(partial(init, self), args, given, type(self).__name__)

    setattr(cls, "__init__", read)  # noqa: B010 - mypy's, not a slot
    return cls


def made(kind: Callable[..., Any], args: Sequence[Any], given: Mapping[str, Any], name: str) -> Any:
    """Call what is made of settings, by its name; one that it does not have is said as it is of a keyword."""
    try:
        return kind(*args, **given)
    except TypeError:
        wrong = _unfit(kind, args, given, name)
        if wrong is None:
            raise
        raise wrong from None


def _unfit(
    kind: Callable[..., Any], args: Sequence[Any], given: Mapping[str, Any], name: str
) -> ConfigurationError | None:
    from inspect import Parameter, signature

    shape = signature(kind)
    there = [each.name for each in shape.parameters.values() if each.kind != Parameter.VAR_KEYWORD]
    try:
        shape.bind(*args, **given)
    except TypeError as error:
        for keyword in given:
            if keyword not in there and len(there) == len(shape.parameters):
                return unknown(keyword, given[keyword], there)
        return ConfigurationError(name, tuple(map(type, args)), f"its own settings ({error})")  # a value may be secret
    return None
