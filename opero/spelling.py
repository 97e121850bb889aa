"""What was meant by the name of a setting that there is not."""

from __future__ import annotations

from opero.errors import ConfigurationError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any


def instead_of(name: str, there: Sequence[str], what: str = "keyword") -> str:
    """Say what there is instead of a keyword that there is not."""
    meant = near(name, there)
    return f"nothing: there is no such {what}{'; ' if meant else ''}{meant}; there are {', '.join(there)}"


def near(name: str, there: Sequence[str]) -> str:
    """Say which of the names that there are was meant; nothing where nobody can guess."""
    from difflib import get_close_matches

    found = get_close_matches(name, there, 2)
    return f"perhaps {' or '.join(found)} was meant" if found else ""


def made(kind: Callable[..., Any], args: Sequence[Any], given: Mapping[str, Any]) -> Any:
    """Call a policy; a setting that it does not have is said as it is of a keyword."""
    try:
        return kind(*args, **given)
    except TypeError:
        wrong = _unfit(kind, args, given)
        if wrong is None:
            raise
        raise wrong from None


def _unfit(kind: Callable[..., Any], args: Sequence[Any], given: Mapping[str, Any]) -> ConfigurationError | None:
    from inspect import Parameter, signature

    shape = signature(kind)
    there = [name for name, each in shape.parameters.items() if each.kind != Parameter.VAR_KEYWORD]
    try:
        shape.bind(*args, **given)
    except TypeError as error:
        for name in given:
            if name not in there and len(there) == len(shape.parameters):
                return ConfigurationError(name, given[name], instead_of(name, there))
        name = getattr(kind, "__name__", repr(kind))
        return ConfigurationError(name, tuple(map(type, args)), f"its own settings ({error})")  # a value may be secret
    return None
