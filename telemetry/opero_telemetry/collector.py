"""What Opero measured, as Prometheus families: read when scraped, nothing is kept."""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING, Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from opero import catalogue
from opero_telemetry.naming import label, prometheus_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from prometheus_client import Metric

    from opero.catalogue import Family


class OperoCollector(Collector):
    """Yields one family an instrument, with `opero_call_name` as the first label."""

    def collect(self) -> Iterator[Metric]:
        """Read every book once."""
        for family in catalogue.snapshot():
            yield _histogram(family) if family.metric.type == "histogram" else _plain(family)


def _plain(family: Family) -> Metric:
    kind = CounterMetricFamily if family.metric.type == "counter" else GaugeMetricFamily
    name = prometheus_name(family.metric).removesuffix("_total")
    out: Any = kind(name, family.metric.help, labels=[label(a) for a in family.attributes])
    for values, value in family.samples.items():
        out.add_metric(values, value)
    return out  # type: ignore[no-any-return]


def _histogram(family: Family) -> Metric:
    out = HistogramMetricFamily(
        prometheus_name(family.metric), family.metric.help, labels=[label(a) for a in family.attributes]
    )
    for values, counts in family.samples.items():
        if isinstance(counts, list):
            bounds = [*map(floatToGoString, family.bounds(values[0])), "+Inf"]
            out.add_metric(values, _buckets(bounds, counts), counts[-1])
    return out


def _buckets(bounds: Sequence[str], counts: list[float]) -> list[tuple[str, float]]:
    return list(zip(bounds, accumulate(counts[:-1]), strict=True))
