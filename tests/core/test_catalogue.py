import gc
import threading

import pytest

import opero as o
from opero import catalogue
from opero.aggregates import ERROR_TYPES


def series(name, metric):
    """Return the samples of one operation, by attributes."""
    family = next(f for f in catalogue.snapshot() if f.metric.name == metric)
    return {key[1:]: value for key, value in family.samples.items() if key[0] == name}


def test_every_series_of_an_operation_exists_at_zero_from_decoration_on():
    @o.opero(retries=1, timeout=5, circuit_breaker=True, rate_limit=5, bulkhead=2, fallback=0, name="zero")
    def f(): ...

    outcomes = {key[0] for key in series("zero", "opero.call.duration")}
    assert outcomes == {"ok", "error", "cancelled", "timeout", "rejected", "fallback"}
    events = series("zero", "opero.events")
    declared = [(e.name, e.kind) for p in f.opero.policies for e in p.SIGNALS.events]
    assert set(declared) <= events.keys()
    assert not any(events.values())
    assert series("zero", "opero.rejections").keys() >= {
        ("circuit_breaker", "circuit_open"),
        ("bulkhead", "queue_full"),
    }
    assert series("zero", "opero.circuit.state") == {
        ("zero", "closed"): 1,
        ("zero", "open"): 0,
        ("zero", "half_open"): 0,
        ("zero", "forced_open"): 0,
    }
    assert series("zero", "opero.rate_limiter.available") == {("zero",): 5}
    assert f.opero.stats()["calls"] == 0


@pytest.mark.parametrize("retries", [0, 2])
def test_counts_are_exact_under_eight_threads(retries):
    @o.opero(retries=retries, circuit_breaker=True, name=f"threads-{retries}")
    def f():
        return 1

    def work():
        for _ in range(500):
            f()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    stats = f.opero.stats()
    assert (stats["calls"], stats["ok"], stats["attempts"], stats["active"]) == (4000, 4000, 4000, 0)


def test_a_function_that_is_gone_leaves_its_sums_and_nothing_else():
    def make():
        @o.opero(retries=0, name="gone")
        def f():
            return 1

        f()
        return f

    for _ in range(3):
        make()
    gc.collect()
    assert sum(series("gone", "opero.call.duration")["ok", ""][:-1]) == 3
    assert all(operation.name != "gone" for operation in catalogue.operations())


def test_names_that_are_gone_are_bounded_and_what_comes_later_is_one(monkeypatch):
    gc.collect()
    catalogue.operations()
    monkeypatch.setattr(catalogue, "NAMES", len(catalogue._names) + 2)
    before = dict(catalogue._retired)
    monkeypatch.setattr(catalogue, "_retired", dict(before))
    monkeypatch.setattr(catalogue, "_names", set(catalogue._names))

    def tenant(number):
        @o.opero(retries=0, circuit_breaker=True, name=f"tenant-{number}")
        def f():
            return 1

        f()
        return f

    def count(name):
        return sum(series(name, "opero.call.duration").get(("ok", ""), [0])[:-1])

    for number in range(3):
        tenant(number)
        gc.collect()
        assert count(f"tenant-{number}") == (number < 2)
    kept, again = tenant(3), tenant(0)
    assert [count(f"tenant-{number}") for number in range(4)] == [2, 1, 0, 0]
    assert (count("_OTHER"), kept.opero.stats()["calls"]) == (2, 1)
    assert (series("_OTHER", "opero.circuit.state"), len(series("tenant-0", "opero.circuit.state"))) == ({}, 4)
    del kept, again
    for number in range(4, 20):
        tenant(number)
    gc.collect()
    mine = {key[0] for key in catalogue._retired.keys() - before if key[0].startswith(("tenant-", "_OTHER"))}
    assert (count("_OTHER"), mine) == (18, {"tenant-0", "tenant-1", "_OTHER"})


def test_functions_of_one_name_are_summed_and_each_keeps_its_own_stats():
    @o.opero(retries=0, name="same")
    def f():
        return 1

    g = f.opero.with_(timeout=5)
    f()
    g()
    g()
    assert sum(series("same", "opero.call.duration")["ok", ""][:-1]) == 3
    assert (f.opero.stats()["calls"], g.opero.stats()["calls"]) == (1, 2)


def test_error_types_are_a_bounded_set():
    @o.opero(retries=0, name="many")
    def f(n):
        raise type(f"E{n}", (OSError,), {})

    for n in range(ERROR_TYPES + 10):
        with pytest.raises(OSError):
            f(n)
    names = {key[1] for key in series("many", "opero.call.duration")}
    assert len(names) <= ERROR_TYPES + 2
    assert "_OTHER" in names


def test_the_duration_histogram_counts_into_the_right_bucket():
    from opero.call import DURATION

    book = o.opero(lambda: 1).opero.operation.book
    for value in (0.001, 0.0011, 29, 31):
        book.observe(DURATION, ("ok", ""), value)
    counts = book.read()[1]["opero.call.duration", ("ok", "")]
    assert counts[0] == counts[1] == counts[-3] == counts[-2] == 1
    assert counts[-1] == pytest.approx(60.0021)


class Broken(o.Bulkhead):
    def observe(self, now):
        yield from super().observe(now)
        raise ZeroDivisionError("no gauge")


def test_a_policy_that_fails_to_tell_its_state_is_said_and_takes_nothing_else_along():
    @o.opero(Broken(3), o.RateLimit(5), name="shop.broken")
    def f():
        return 1

    f()
    with pytest.warns(RuntimeWarning, match="shop.broken has no gauges of its Broken: ZeroDivisionError: no gauge"):
        families = {family.metric.name: family.samples for family in catalogue.snapshot()}
    assert families["opero.rate_limiter.available"]["shop.broken", "shop.broken"] == 4
    assert sum(families["opero.call.duration"]["shop.broken", "ok", ""][:-1]) == 1
    assert not any(key[0] == "shop.broken" for key in families.get("opero.bulkhead.usage", ()))
