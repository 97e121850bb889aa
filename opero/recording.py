"""What the user wants told of each call, in spans and events: tags, and arguments by name.

Arguments are cleaned of what looks like a secret, and cut:

1. Numbers and truth values pass; a text is cleaned and cut at 256 characters; anything else is told by its type.
2. Taken out of a text: user info and query of a URL, what follows Authorization or Bearer, PEM blocks, JSON web tokens,
   and runs of 32 or more characters that mix letters and digits as keys do.
"""

from __future__ import annotations

from opero.errors import ConfigurationError
from opero.kinds import signature_of

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


def of(function: Callable[..., Any], names: object, tags: Sequence[str] = ()) -> Recorder | None:
    """Return what tells of a call; raise `ConfigurationError` for a parameter the function does not have."""
    always: dict[str, Any] = {"tags": tuple(tags)} if tags else {}
    if names is None:
        return (lambda *_: always) if tags else None
    chosen: Sequence[Any] = (names,) if isinstance(names, str) else names  # type: ignore[assignment]
    shape = signature_of(function)
    if shape is None:
        raise ConfigurationError("record", names, "nothing here: the function does not tell its parameters")
    if not isinstance(chosen, list | tuple) or any(name not in shape.parameters for name in chosen):
        raise ConfigurationError(
            "record", names, f"names of parameters: {', '.join(shape.parameters) or 'it has none'}"
        )

    def record(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        try:
            bound = shape.bind(*args, **kwargs)
        except TypeError:  # the function will say it better
            return always
        bound.apply_defaults()
        return always | {f"argument.{name}": clean(bound.arguments[name]) for name in chosen}

    return record


def tags(given: object) -> tuple[str, ...]:
    """Return what may stand for `tags=` as texts, or raise `ConfigurationError`."""
    each = (given,) if isinstance(given, str) else () if given is None else given
    if not isinstance(each, list | tuple) or not all(isinstance(tag, str) and tag for tag in each):
        raise ConfigurationError("tags", given, "a text, or a list of texts")
    return tuple(each)


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
