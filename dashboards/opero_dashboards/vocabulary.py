"""Every metric there is, by its name, as the modules declare it."""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import entry_points
from importlib.util import find_spec
from pkgutil import iter_modules
from typing import TYPE_CHECKING

from opero.errors import ConfigurationError
from opero.signals import CALL, Metric, Signals
from opero_telemetry.naming import label, prometheus_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

SPEAKERS = (  # where `SIGNALS` are; a package speaks through all of its modules
    "opero.call",
    "opero.primitives",
    "opero.parallel",
    "opero.control",
    "opero.workers.gpu_batch",
    "opero_slo.signals",
    "opero_telemetry.relay",
)


class Vocabulary:
    """Metrics by name, the kind of policy that says each, and which of them the pages have shown."""

    def __init__(self, spoken: Mapping[str, tuple[str, Metric]]) -> None:
        self._spoken = dict(spoken)
        self.shown: set[str] = set()

    @classmethod
    def declared(cls) -> Vocabulary:
        """Return what this installation can say, plugins included."""
        found: dict[str, tuple[str, Metric]] = {}
        for signals in _signals():
            found |= {metric.name: (signals.kind, metric) for metric in signals.metrics}
        return cls(found)

    def __iter__(self) -> Iterator[str]:
        return iter(self._spoken)

    def metric(self, name: str) -> Metric:
        """Return a metric, and remember that a page shows it."""
        if name not in self._spoken:
            raise ConfigurationError("metric", name, "the name of a declared metric")
        self.shown.add(name)
        return self._spoken[name][1]

    def kind(self, name: str) -> str:
        """Return the kind of policy that says it."""
        return self._spoken[name][0]

    def prometheus(self, name: str) -> str:
        """Return the name as Prometheus writes it."""
        return prometheus_name(self.metric(name))

    def labels(self, name: str) -> list[str]:
        """Return the labels besides the operation."""
        return [label(attribute) for attribute in self.metric(name).attributes if attribute != CALL]


def _signals() -> Iterator[Signals]:
    for name in SPEAKERS:
        for module in _modules(name):
            signals = getattr(import_module(module), "SIGNALS", None)
            if isinstance(signals, Signals):
                yield signals
    for point in entry_points(group="opero.primitives"):
        signals = getattr(point.load(), "SIGNALS", None)
        if isinstance(signals, Signals):
            yield signals


def _modules(name: str) -> Iterator[str]:
    try:
        spec = find_spec(name)
    except ModuleNotFoundError:
        return
    if spec is None:
        return
    yield name
    for module in iter_modules(spec.submodule_search_locations or ()):
        yield f"{name}.{module.name}"
