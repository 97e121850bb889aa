"""The application's own MeterProvider: Opero's numbers as its instruments, and only there."""

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

import opero as o
from opero_telemetry.exporting import WithOpero
from opero_telemetry.observable import Observables, spread
from opero_telemetry.reading import Reader


@pytest.fixture
def reader():
    return InMemoryMetricReader()


@pytest.fixture
def observables(reader):
    observables = Observables(MeterProvider([reader]), Reader())
    yield observables
    observables.close()


def points(reader, name, operation):
    data = reader.get_metrics_data()
    found = {}
    for scope in data.resource_metrics[0].scope_metrics:
        for metric in scope.metrics:
            if metric.name == name:
                for point in metric.data.data_points:
                    if point.attributes["opero.call.name"] == operation:
                        found[tuple(sorted(point.attributes.items()))] = point
    return found


def test_distributions_are_recorded_and_the_rest_is_observed(reader, observables):
    failures = iter([OSError()])

    @o.opero(retries=1, min_delay=0, circuit_breaker=True, name="provided")
    def f():
        for failure in failures:
            raise failure

    observables.refresh()
    for _ in range(5):
        f()
    (duration,) = points(reader, "opero.call.duration", "provided").values()
    assert (duration.count, duration.attributes["opero.outcome"]) == (5, "ok")
    assert duration.explicit_bounds[0] == 0.001
    attempts = points(reader, "opero.attempt.duration", "provided").values()
    assert sorted(point.count for point in attempts) == [1, 5]
    events = {p.attributes["opero.event.name"]: p.value for p in points(reader, "opero.events", "provided").values()}
    assert events["opero.retry.scheduled"] == 1
    states = {
        p.attributes["opero.circuit.state"]: p.value for p in points(reader, "opero.circuit.state", "provided").values()
    }
    assert states == {"closed": 1, "open": 0, "half_open": 0, "forced_open": 0}


def test_waits_and_delays_are_recorded_when_somebody_collects(reader, observables):
    @o.opero(rate_limit=o.RateLimit(1000, burst=1), retries=1, min_delay=0.002, jitter="none", name="provided.waits")
    def f(fails):
        if fails:
            raise OSError

    observables.refresh()
    for n in range(20):
        try:
            f(n % 5 == 0)
        except OSError:
            continue
    for more in (0, 3):
        for _ in range(more):
            f(False)
        _, distributions, _ = f.opero.operation.book.read()
        for name in ("opero.rate_limiter.wait.duration", "opero.retry.delay"):
            (kept,) = (counts for (metric, _), counts in distributions.items() if metric == name)
            (point,) = points(reader, name, "provided.waits").values()
            assert [*point.bucket_counts] == kept[:-1]
            assert point.sum == pytest.approx(kept[-1], rel=0.01)


@pytest.mark.parametrize("gained", [[3, 0, 0, 0.3], [0, 4, 0, 3.0], [2, 2, 2, 30.0], [5, 0, 0, 0.0], [0, 0, 1, 2.0]])
def test_values_in_place_of_buckets_keep_counts_and_sum(gained):
    made = [value for value, count in spread((0.5, 1.0), gained) for _ in range(count)]
    counts = [sum(low < value <= high for value in made) for low, high in ((-1, 0.5), (0.5, 1.0), (1.0, 1e9))]
    assert counts == gained[:-1]
    assert sum(made) == pytest.approx(gained[-1], abs=1e-6)


def test_the_same_numbers_in_any_exporter(reader):
    class Kept:
        _preferred_temporality = _preferred_aggregation = None

        def export(self, data, timeout_millis, **kwargs):
            self.data = data

    @o.opero(retries=0, name="wrapped")
    def f(): ...

    for _ in range(7):
        f()
    MeterProvider([reader]).get_meter("mine").create_counter("mine").add(1)
    kept = Kept()
    WithOpero(kept, Reader()).export(reader.get_metrics_data())
    scopes = {scope.scope.name: scope for scope in kept.data.resource_metrics[0].scope_metrics}
    assert scopes.keys() == {"mine", "opero"}
    duration = next(m for m in scopes["opero"].metrics if m.name == "opero.call.duration")
    ok = {"opero.call.name": "wrapped", "opero.outcome": "ok"}
    (point,) = (p for p in duration.data.data_points if p.attributes == ok)
    assert (point.count, sum(point.bucket_counts), len(point.bucket_counts)) == (7, 7, len(point.explicit_bounds) + 1)
    assert duration.unit == "s"
