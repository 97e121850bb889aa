"""What is read for export: exact, bounded, and open to numbers of others."""

import threading

import opero as o
from opero import catalogue
from opero.catalogue import Family
from opero.signals import Metric
from opero_telemetry.reading import OTHER, Reader
from opero_telemetry.relay import Relay

COUNTER = Metric("mine.things", "counter", "{thing}", "Things.")
HISTOGRAM = Metric("mine.times", "histogram", "s", "Times.", buckets=(1.0,))


def family(metric, samples):
    found = Family(metric)
    found.samples.update(samples)
    return found


def test_series_beyond_the_cap_are_one_and_nothing_is_lost():
    samples = {}
    reader = Reader(lambda: [family(COUNTER, samples)], cap=3)
    samples.update({(f"op{n}",): float(n) for n in range(3)})
    assert reader.read()[0].samples == samples
    samples.update({(f"late{n}",): 1.0 for n in range(1000)})
    shown = reader.read()[0].samples
    assert shown == {("op0",): 0, ("op1",): 1, ("op2",): 2, (OTHER,): 1000}


def test_a_series_that_was_shown_stays_shown():
    samples = {("a",): 1.0}
    reader = Reader(lambda: [family(COUNTER, samples)], cap=1)
    reader.read()
    samples.clear()
    samples.update({("b",): 5.0, ("a",): 2.0})
    assert reader.read()[0].samples == {("a",): 2, (OTHER,): 5}


def test_distributions_overflow_bucket_by_bucket():
    samples = {(f"op{n}",): [1.0, 2.0, 3.5] for n in range(4)}
    shown = Reader(lambda: [family(HISTOGRAM, samples)], cap=1).read()[0].samples
    assert shown == {("op0",): [1, 2, 3.5], (OTHER,): [3, 6, 10.5]}


def test_numbers_of_ones_own_are_in_every_snapshot_until_taken_out():
    take_out = catalogue.contribute(lambda: [family(COUNTER, {("mine",): 7.0})])
    assert next(f for f in catalogue.snapshot() if f.metric is COUNTER).samples == {("mine",): 7}
    take_out()
    take_out()
    assert not any(f.metric is COUNTER for f in catalogue.snapshot())


def dropped(sink, reason):
    found = next(f for f in catalogue.snapshot() if f.metric.name == "opero.telemetry.events.dropped")
    return found.samples[sink, reason]


def test_a_relay_writes_everything_in_order_from_many_threads():
    written = []
    relay = Relay("order", written.extend)
    threads = [threading.Thread(target=lambda n=n: [relay.put((n, i)) for i in range(500)]) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert relay.close(30)
    assert len(written) == 4000
    assert all([i for m, i in written if m == n] == list(range(500)) for n in range(8))


def test_what_does_not_fit_is_dropped_and_counted_and_nobody_waits():
    gate, written = threading.Event(), []

    def write(items):
        gate.wait(30)
        written.extend(items)

    relay = Relay("full", write, capacity=10)
    for n in range(500):
        relay.put(n)
    lost = dropped("full", "queue_full")
    assert lost > 0
    gate.set()
    relay.close(30)
    assert len(written) + lost == 500


def test_a_sink_that_fails_costs_its_lines_and_goes_on():
    fails, written = [True], []

    def write(items):
        if fails:
            raise OSError
        written.extend(items)

    relay = Relay("broken", write)
    relay.put(1)
    relay.flush(30)
    assert (relay.failing, dropped("broken", "write_failed")) == ("OSError", 1)
    fails.clear()
    relay.put(2)
    relay.close(30)
    assert (written, relay.failing) == ([2], "")


def test_handlers_that_raise_are_a_series_of_their_operation():
    @o.opero(retries=1, min_delay=0, name="heard-badly")
    def f():
        for failure in failures:
            raise failure

    failures = iter([OSError()])
    with o.events.subscribe(lambda event: 1 / 0, "opero.retry.scheduled"):
        f()
    found = next(x for x in catalogue.snapshot() if x.metric.name == "opero.events")
    assert found.samples["heard-badly", "opero.telemetry.handler_failed", "telemetry"] == 1
