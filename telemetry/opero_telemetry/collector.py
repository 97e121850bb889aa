"""What Opero measured, as Prometheus families: read when scraped, nothing is kept."""

from __future__ import annotations

from contextvars import ContextVar
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar
from prometheus_client.utils import floatToGoString

from opero_telemetry import exemplars
from opero_telemetry.naming import label, prometheus_name
from opero_telemetry.reading import Reader

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from prometheus_client import Metric

    from opero.catalogue import Family


silent: ContextVar[bool] = ContextVar("opero.telemetry.silent", default=False)


class OperoCollector(Collector):
    """Yields one family an instrument, with `opero_call_name` as the first label."""

    def __init__(self, reader: Reader | None = None) -> None:
        self._reader = reader or Reader()

    def collect(self) -> Iterator[Metric]:
        """Read every book once; nothing while `/metrics` is written, which has read them."""
        if silent.get():
            return
        for family in self._reader.read():
            yield _histogram(family) if family.metric.type == "histogram" else _plain(family)


def _plain(family: Family) -> Metric:
    kind = CounterMetricFamily if family.metric.type == "counter" else GaugeMetricFamily
    name = prometheus_name(family.metric).removesuffix("_total")
    out: Any = kind(name, family.metric.help, labels=[label(a) for a in family.attributes])
    for values, value in family.samples.items():
        out.add_metric(values, value)
    return out  # type: ignore[no-any-return]


def _histogram(family: Family) -> Metric:
    metric = family.metric
    out: Any = HistogramMetricFamily(prometheus_name(metric), metric.help, labels=[label(a) for a in family.attributes])
    for values, counts in family.samples.items():
        if isinstance(counts, list):
            bounds = family.bounds(values[0])
            texts = [*map(floatToGoString, bounds), "+Inf"]
            out.add_metric(values, _buckets(texts, counts, exemplars.of(metric.name, values, bounds)), counts[-1])
    return out  # type: ignore[no-any-return]


def _buckets(
    bounds: Sequence[str], counts: list[float], found: dict[int, exemplars.Exemplar]
) -> list[tuple[str, float, Exemplar | None]]:
    sums = accumulate(counts[:-1])
    return [(bound, value, _exemplar(found.get(n))) for n, (bound, value) in enumerate(zip(bounds, sums, strict=True))]


def _exemplar(kept: exemplars.Exemplar | None) -> Exemplar | None:
    if kept is None:
        return None
    return Exemplar({"trace_id": kept.trace_id, "span_id": kept.span_id}, kept.value, kept.at)
