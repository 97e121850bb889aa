"""The last sampled trace of each bucket of `opero.call.duration`: from a tall bar to a call that made it tall."""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING, NamedTuple

from opero.call import DURATION

if TYPE_CHECKING:
    from opero.events import Event

MAX_SERIES = 1000


class Exemplar(NamedTuple):
    """One call: its trace, its span, what it measured and when (Unix seconds)."""

    trace_id: str
    span_id: str
    value: float
    at: float


_kept: dict[tuple[str, ...], dict[int, Exemplar]] = {}


def keep(event: Event, trace_id: str, span_id: str) -> None:
    """Keep a finished call whose span is sampled."""
    fields = event.fields
    key = (event.operation, fields["outcome"], fields["error"])
    if key not in _kept and len(_kept) >= MAX_SERIES:
        return
    bucket = bisect_left(DURATION.buckets, fields["duration"])
    _kept.setdefault(key, {})[bucket] = Exemplar(trace_id, span_id, fields["duration"], event.at)


def of(metric: str, key: tuple[str, ...], bounds: tuple[float, ...]) -> dict[int, Exemplar]:
    """Return the exemplars of a series by bucket."""
    found = _kept.get(key, {}).copy().values() if metric == DURATION.name else ()
    return {bisect_left(bounds, exemplar.value): exemplar for exemplar in found}
