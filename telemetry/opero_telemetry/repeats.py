"""The same thing over and over: the first few are told, the rest is counted, and the count is told."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_KINDS = 1000


class Repeats:
    """Lets `limit` lines of a kind (event and operation) pass in `per` seconds. Pure: `now` is an argument.

    With 20 in 10 s a storm of 1 260 a period is 20 lines, and then one that says `more: 1240`.
    """

    def __init__(self, limit: int = 20, per: float = 10.0) -> None:
        self.limit = limit
        self.per = per
        self._kinds: dict[tuple[str, str], _Kind] = {}

    def admit(self, line: dict[str, Any], now: float) -> Iterator[dict[str, Any]]:
        """Yield what is to be written: a count that is due, and the line unless there were too many."""
        key = (line["event"], line["operation"])
        kind = self._kinds.get(key)
        if kind is not None and now >= kind.until:
            yield from self._end(key)
            kind = None
        if kind is None:
            if len(self._kinds) >= MAX_KINDS:
                yield line
                return
            kind = self._kinds[key] = _Kind(now + self.per)
        kind.seen += 1
        if kind.seen <= self.limit:
            yield line
        else:
            kind.last = line

    def due(self, now: float) -> Iterator[dict[str, Any]]:
        """Yield the counts of periods that are over; `inf` ends all."""
        for key in [key for key, kind in self._kinds.items() if now >= kind.until]:
            yield from self._end(key)

    def _end(self, key: tuple[str, str]) -> Iterator[dict[str, Any]]:
        kind = self._kinds.pop(key)
        if kind.last is not None:
            more = kind.seen - self.limit
            about = {name: kind.last[name] for name in ("event", "level", "timestamp", "operation")}
            yield {**about, "more": more, "note": f"and {more} more in {self.per:g} s"}


class _Kind:
    __slots__ = ("last", "seen", "until")

    def __init__(self, until: float) -> None:
        self.until = until
        self.seen = 0
        self.last: dict[str, Any] | None = None
