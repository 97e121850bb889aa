"""Arguments that the user names, for spans and events: cleaned of what looks like a secret, and cut.

1. Numbers and truth values pass; a text is cleaned and cut at 256 characters; anything else is told by its type.
2. Taken out of a text: user info and query of a URL, what follows Authorization or Bearer, PEM blocks, JSON web tokens,
   and runs of 32 or more characters that mix letters and digits as keys do.
"""

from __future__ import annotations

from opero.errors import ConfigurationError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from re import Pattern
    from typing import Any

    Recorder = Callable[[tuple[Any, ...], Mapping[str, Any]], dict[str, Any]]

LONGEST = 256
GONE = "[redacted]"
SECRETS = (
    (r"-----BEGIN [^-]+-----.*?(-----END [^-]+-----|$)", GONE),
    (r"(?i)\b(authorization|proxy-authorization|cookie|set-cookie)\b\s*[:=]\s*[^\r\n]+", r"\1: " + GONE),
    (r"(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{6,}", r"\1 " + GONE),
    (r"(?i)\b(password|passwd|secret|token|api[_-]?key)\b\s*[:=]\s*[^\s,;&]+", r"\1=" + GONE),
    (r"\b(\w[\w+.-]*://)[^/\s@]+@", r"\1" + GONE + "@"),
    (r"(\w[\w+.-]*://[^\s?#]*)[?#][^\s]*", r"\1?" + GONE),
    (r"\beyJ[\w-]+\.[\w-]+\.[\w-]*", GONE),
    (r"\b(?=[\w+/-]*\d)(?=[\w+/-]*[A-Za-z])[\w+/-]{32,}={0,2}", GONE),
)
_patterns: list[tuple[Pattern[str], str]] = []


def of(function: Callable[..., Any], names: object) -> Recorder | None:
    """Return what takes the named arguments out of a call; raise `ConfigurationError` for a name it does not have."""
    if names is None:
        return None
    chosen: Sequence[Any] = (names,) if isinstance(names, str) else names  # type: ignore[assignment]
    from inspect import signature

    shape = signature(function)
    if not isinstance(chosen, list | tuple) or any(name not in shape.parameters for name in chosen):
        raise ConfigurationError(
            "record", names, f"names of parameters: {', '.join(shape.parameters) or 'it has none'}"
        )

    def record(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        try:
            bound = shape.bind(*args, **kwargs)
        except TypeError:  # the function will say it better
            return {}
        bound.apply_defaults()
        return {f"argument.{name}": clean(bound.arguments[name]) for name in chosen}

    return record


def clean(value: object) -> str | int | float | bool:
    """Return what may be told of a value.

    Example:
        >>> clean("https://me:pw@example.org/path?key=1")
        'https://[redacted]@example.org/path?[redacted]'
    """
    if isinstance(value, bool | int | float):
        return value
    if not isinstance(value, str):
        return f"<{type(value).__name__}>"
    if not _patterns:
        from re import DOTALL
        from re import compile as compiled

        _patterns.extend((compiled(pattern, DOTALL), instead) for pattern, instead in SECRETS)
    text = value[: 4 * LONGEST]
    for pattern, instead in _patterns:
        text = pattern.sub(instead, text)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
