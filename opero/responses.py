"""What an HTTP answer says: its status, and when to come back.

Reads errors and responses of httpx, requests, aiohttp and urllib by the attributes they share.
"""

from __future__ import annotations

from math import isfinite

from opero.kinds import read

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

LONGEST = 16  # digits of a number of seconds among several
HEADER = "Retry-After"


def status(outcome: object) -> int | None:
    """Return the HTTP status of a response, or of an error that carries one."""
    for holder in (outcome, read(outcome, "response")):
        for name in ("status_code", "status", "code"):
            value = read(holder, name, int, 0)
            if 100 <= value < 600:
                return int(value)
    return None


def retry_after(outcome: object, wall: float) -> float | None:
    """Return after how many seconds to come back: its `.retry_after`, else its header, in seconds or as an HTTP date.

    `wall` is the time now, as Unix time. A date that is past means 0.
    """
    own = read(outcome, "retry_after")
    if own is not None:
        return seconds(own, wall)
    for holder in (outcome, read(outcome, "response")):
        found = _header(read(holder, "headers"))
        if found is not None:
            return seconds(found, wall)
    return None


def _header(headers: Any) -> object:
    """Return what the header says; nothing where it does not let itself be asked."""
    try:
        found = headers.get(HEADER)
        return headers.get(HEADER.lower()) if found is None else found
    except Exception:  # noqa: BLE001 - foreign code: its error is none of the call's
        return None


def _told(text: str, wall: float) -> float | None:
    """Read a date; or several headers of seconds, which clients join: who sent them is content with the longest."""
    each = [part.strip() for part in text.split(",")]
    plain = all(part.isascii() and part.isdecimal() and len(part) < LONGEST for part in each)
    return float(max(map(int, each))) if plain else _until(text, wall)


def seconds(value: object, wall: float) -> float | None:
    """Read what a header, or an error's own attribute, says; None where it says nothing."""
    try:
        found = float(value.total_seconds() if hasattr(value, "total_seconds") else value)  # type: ignore[arg-type]
    except Exception:  # noqa: BLE001 - foreign code: its error is none of the call's
        return _told(value, wall) if isinstance(value, str) else None
    return max(0.0, found) if isfinite(found) else None


def _until(date: str, wall: float) -> float | None:
    """Seconds until an HTTP date; a date without a zone is in GMT (RFC 9110, 5.6.7)."""
    from email.utils import mktime_tz, parsedate_tz

    parsed = parsedate_tz(date)
    if parsed is None:
        return None
    try:
        return max(0.0, mktime_tz((*parsed[:9], parsed[9] or 0)) - wall)
    except (ValueError, OverflowError):
        return None
