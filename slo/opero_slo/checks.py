"""Small checks that a field's value passes, or that say what it should have been. They compose into those of a kind."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from opero_slo import durations

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from opero_slo.reader import Document, Problem

    Check = Callable[[Document, str, Any], Iterator[Problem]]

NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._|/\\-]{0,253}[A-Za-z0-9])?")
LABEL = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")
ANNOTATION = re.compile(r"(?:[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?/)?[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")
START = "%Y-%m-%d %H:%M:%S"


@dataclass(frozen=True)
class Field:
    """How a field of an object is checked, and whether it must be there."""

    check: Check
    required: bool = False


def objects(fields: Mapping[str, Field], rule: Check | None = None) -> Check:
    """Take a mapping of exactly these fields; `rule` sees the whole when every field is right by itself."""

    def check(document: Document, path: str, value: Any) -> Iterator[Problem]:
        if not isinstance(value, dict):
            yield document.problem(path, f"takes fields ({', '.join(fields)}), and got {shown(value)}")
            return
        problems = [*_unknown(document, path, value, fields), *_missing(document, path, value, fields)]
        for name in fields.keys() & value.keys():
            problems += fields[name].check(document, under(path, name), value[name])
        if rule is not None and not problems:
            problems += rule(document, path, value)
        yield from problems

    return check


def lists(item: Check, *, least: int = 0, most: int = 1000) -> Check:
    """Take a list of items."""

    def check(document: Document, path: str, value: Any) -> Iterator[Problem]:
        if not isinstance(value, list):
            yield document.problem(path, f"takes a list, and got {shown(value)}")
        elif not least <= len(value) <= most:
            amount = f"exactly {least}" if least == most else f"{least} to {most}"
            yield document.problem(path, f"takes {amount} item{'s' * (most > 1)}, and got {len(value)}")
        else:
            for number, each in enumerate(value):
                yield from item(document, f"{path}[{number}]", each)

    return check


def matching(wanted: str, accepts: Callable[[Any], object]) -> Check:
    """Take what a predicate accepts."""

    def check(document: Document, path: str, value: Any) -> Iterator[Problem]:
        if not accepts(value):
            yield document.problem(path, f"takes {wanted}, and got {shown(value)}")

    return check


def one_of(*allowed: str) -> Check:
    """Take one of a closed set of texts."""

    def check(document: Document, path: str, value: Any) -> Iterator[Problem]:
        if value not in allowed or not isinstance(value, str):
            hint = guess(value, allowed)
            yield document.problem(path, f"takes {', '.join(allowed)}, and got {shown(value)}{hint}")

    return check


def numbers(wanted: str, accepts: Callable[[float], bool]) -> Check:
    """Take a number that a predicate accepts."""
    return matching(wanted, lambda value: is_number(value) and accepts(float(value)))


def texts(most: int = 10_000) -> Check:
    """Take a text that is not empty."""
    return matching(
        f"a text of 1 to {most} characters", lambda value: isinstance(value, str) and 0 < len(value) <= most
    )


def anything() -> Check:
    """Take any value: what a data source wants is its own affair."""
    return matching("anything", lambda _: True)


def mappings(wanted: str, accepts: Callable[[str, Any], object]) -> Check:
    """Take a mapping whose pairs a predicate accepts."""

    def check(document: Document, path: str, value: Any) -> Iterator[Problem]:
        if not isinstance(value, dict):
            yield document.problem(path, f"takes {wanted}, and got {shown(value)}")
            return
        for key, each in value.items():
            if not accepts(key, each):
                yield document.problem(under(path, key), f"takes {wanted}, and got {shown(each)}")

    return check


def is_number(value: object) -> bool:
    """Whether it is a finite number; true and false are none."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300


def is_name(value: object) -> bool:
    """Whether objects may be called so."""
    return isinstance(value, str) and NAME.fullmatch(value) is not None


def is_label(key: str, value: object) -> bool:
    """Whether a label is a text or a list of texts."""
    values = value if isinstance(value, list) else [value]
    return LABEL.fullmatch(key) is not None and all(isinstance(each, str) for each in values)


def is_annotation(key: str, value: object) -> bool:
    """Whether an annotation has a name that may have a prefix, and a text."""
    return ANNOTATION.fullmatch(key) is not None and isinstance(value, str)


def is_start(value: object) -> bool:
    """Whether it is a moment without a time zone, like 2026-01-31 12:30:00."""
    try:
        return isinstance(value, str) and datetime.strptime(value, START).year > 1970  # noqa: DTZ007 - has a zone beside it
    except ValueError:
        return False


def is_zone(value: object) -> bool:
    """Whether the IANA database knows this time zone."""
    try:
        return isinstance(value, str) and bool(value) and ZoneInfo(value) is not None
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return False


def is_duration(value: object) -> bool:
    """Whether it is a duration as OpenSLO writes it."""
    return durations.parse(value) is not None


def under(path: str, name: str) -> str:
    """Return the path of a field."""
    return f"{path}.{name}" if path else name


def shown(value: object) -> str:
    """Show a value, shortened."""
    if isinstance(value, dict | list):
        return "a list" if isinstance(value, list) else "fields"
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def guess(value: object, allowed: Sequence[str]) -> str:
    """Ask whether a known word was meant."""
    close = get_close_matches(str(value), allowed, n=1) if isinstance(value, str) else []
    return f"; did you mean {close[0]}?" if close else ""


def _unknown(document: Document, path: str, value: dict[str, Any], fields: Mapping[str, Field]) -> Iterator[Problem]:
    for name in value:
        if name not in fields:
            hint = guess(name, tuple(fields)) or f"; there are {', '.join(fields)}"
            yield document.problem(under(path, name), f"there is no such field{hint}")


def _missing(document: Document, path: str, value: dict[str, Any], fields: Mapping[str, Field]) -> Iterator[Problem]:
    for name, field in fields.items():
        if field.required and name not in value:
            yield document.problem(under(path, name), "is missing")
