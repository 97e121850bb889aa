"""Numbers by their Prometheus names, from this process or from somebody's `/metrics`: what the board and `top` read."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, NamedTuple

from opero_telemetry.naming import label, prometheus_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from opero.catalogue import Family


class Distribution(NamedTuple):
    """Counts by upper bound, the last for what lies above all bounds, and the sum of the values."""

    bounds: tuple[float, ...]
    counts: tuple[float, ...]
    total: float

    def plus(self, other: Distribution) -> Distribution:
        """Return both together; their bounds are the same."""
        counts = tuple(a + b for a, b in zip(self.counts, other.counts, strict=True))
        return Distribution(self.bounds, counts, self.total + other.total)

    def since(self, before: Distribution | None) -> Distribution:
        """Return what came after an earlier reading; one that fell, or changed its bounds, began again at 0."""
        if before is None or before.bounds != self.bounds or sum(before.counts) > sum(self.counts):
            return self
        counts = tuple(now - then for now, then in zip(self.counts, before.counts, strict=True))
        return Distribution(self.bounds, counts, self.total - before.total)

    def quantile(self, q: float) -> float | None:
        """Return where the share `q` of the values lies below, even within a bucket; None without values.

        What lies above all bounds counts as the last bound, as Prometheus has it.
        """
        total = sum(self.counts)
        if not total:
            return None
        rank, below = q * total, 0.0
        for n, count in enumerate(self.counts[: len(self.bounds)]):
            if count and below + count >= rank:
                low = self.bounds[n - 1] if n else 0.0
                return low + (self.bounds[n] - low) * (rank - below) / count
            below += count
        return self.bounds[-1] if self.bounds else None


class Row:
    """One series; `row["opero_outcome"]` is a label's value, empty where it has none."""

    __slots__ = ("distribution", "labels", "value")

    def __init__(self, labels: dict[str, str], value: float, distribution: Distribution | None = None) -> None:
        self.labels = labels
        self.value = value
        self.distribution = distribution

    def __getitem__(self, name: str) -> str:
        return self.labels.get(name, "")


class Tables:
    """Rows by metric name."""

    def __init__(self, rows: dict[str, list[Row]]) -> None:
        self._rows = rows

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __getitem__(self, name: str) -> list[Row]:
        return self._rows.get(name, [])


def of_families(families: Iterable[Family]) -> Tables:
    """Read a snapshot."""
    return Tables({prometheus_name(family.metric): [*_rows(family)] for family in families})


def of_text(text: str) -> Tables:
    """Read a page of `/metrics`."""
    from prometheus_client.parser import text_string_to_metric_families

    rows: dict[str, list[Row]] = {}
    parts: dict[tuple[str, tuple[tuple[str, str], ...]], dict[float, float]] = {}
    sums: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}
    for family in text_string_to_metric_families(text):
        if not family.name.startswith("opero_"):
            continue
        for sample in family.samples:
            labels = {name: value for name, value in sample.labels.items() if name != "le"}
            key = (family.name, tuple(sorted(labels.items())))
            if family.type != "histogram":
                rows.setdefault(sample.name, []).append(Row(labels, sample.value))
            elif sample.name.endswith("_bucket"):
                parts.setdefault(key, {})[float(sample.labels["le"])] = sample.value
            elif sample.name.endswith("_sum"):
                sums[key] = sample.value
    for key, cumulated in parts.items():
        distribution = _distribution(cumulated, sums.get(key, 0.0))
        rows.setdefault(key[0], []).append(Row(dict(key[1]), sum(distribution.counts), distribution))
    return Tables(rows)


def _rows(family: Family) -> Iterator[Row]:
    names = [*map(label, family.attributes)]
    for key, value in family.samples.items():
        labels = dict(zip(names, key, strict=True))
        if isinstance(value, list):
            distribution = Distribution(family.bounds(key[0]), tuple(value[:-1]), value[-1])
            yield Row(labels, sum(distribution.counts), distribution)
        else:
            yield Row(labels, value)


def _distribution(cumulated: dict[float, float], total: float) -> Distribution:
    bounds = sorted(cumulated)
    counts = [cumulated[bound] - (cumulated[bounds[n - 1]] if n else 0.0) for n, bound in enumerate(bounds)]
    return Distribution(tuple(bound for bound in bounds if bound < inf), tuple(counts), total)
