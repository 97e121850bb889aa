"""`slo=` on the decorator: a value in the core, whose latency is a bound of the operation's histogram."""

import pickle

import pytest

from opero import SLO, ConfigurationError, catalogue, objectives, opero, testing


def durations():
    return next(family for family in catalogue.snapshot() if family.metric.name == "opero.call.duration")


def within(name, seconds):
    family = durations()
    bounds = family.bounds(name)
    assert seconds in bounds
    counts = [c for key, c in family.samples.items() if key[:2] == (name, "ok")]
    return sum(sum(each[: bounds.index(seconds) + 1]) for each in counts), sum(sum(each[:-1]) for each in counts)


@pytest.mark.parametrize("spans", [True, False], ids=["general", "fast"])
def test_a_latency_threshold_is_a_bound_and_counted_exactly(spans):
    from opero import events

    name = f"shop.exact.{spans}"
    with testing.clock() as clock:

        @opero(slo=SLO(0.99, latency=0.3), name=name)
        def pay(seconds):
            clock.advance(seconds)

        heard = events.subscribe(lambda _: None, "opero.call.*") if spans else None
        # Powers of two and their sums: exact on the virtual clock
        for seconds in (0.25, 0.28125, 0.3125, 0.5, 0.296875):
            pay(seconds)
        if heard:
            heard.close()
    assert within(name, 0.3) == (3, 5)


def test_two_operations_of_one_name_share_the_bounds_both_have():
    first = opero(slo=SLO(0.9, latency=0.3), name="shop.twins")(abs)
    second = opero(slo=SLO(0.9, latency=0.7), name="shop.twins")(abs)
    plain = opero(name="shop.twins")(abs)
    for function in (first, second, plain):
        function(1)
    bounds = durations().bounds("shop.twins")
    assert 0.3 not in bounds
    assert 0.7 not in bounds
    assert within("shop.twins", 0.25) == (3, 3)
    del first, second, plain
    assert within("shop.twins", 0.25) == (3, 3)


def test_a_threshold_of_a_specification_is_kept_by_what_is_decorated_later(monkeypatch):
    monkeypatch.setattr(objectives, "_expected", [])
    objectives.expect("shop.later.*", 0.123)
    function = opero(name="shop.later.pay")(abs)
    function(1)
    assert within("shop.later.pay", 0.123) == (1, 1)


def test_a_variant_keeps_its_objectives():
    function = opero(slo=[SLO(0.9, latency=0.3), 0.99], name="shop.variant")(abs)
    assert function.opero.with_(retries=5).opero.operation.slos == (SLO(0.9, latency=0.3), SLO(0.99))
    assert function.opero.with_(slo=0.5).opero.operation.slos == (SLO(0.5),)


def test_an_objective_is_a_value():
    slo = SLO(0.999, latency=0.3, window="4w", good="ok", name="pay")
    assert pickle.loads(pickle.dumps(slo)) == slo
    assert {slo: 1}[SLO(0.999, latency=0.3, window="4w", good=("ok",), name="pay")] == 1
    assert slo != SLO(0.999)
    with pytest.raises(AttributeError, match="frozen"):
        slo.objective = 0.9


@pytest.mark.parametrize(
    ("field", "make"),
    [
        ("objective", lambda: SLO(1)),
        ("objective", lambda: SLO(99.9)),
        ("objective", lambda: SLO(float("nan"))),
        ("latency", lambda: SLO(0.9, latency=0)),
        ("latency", lambda: SLO(0.9, latency="300ms")),
        ("window", lambda: SLO(0.9, window="30 days")),
        ("window", lambda: SLO(0.9, window="")),
        ("good", lambda: SLO(0.9, good=("fine",))),
        ("good", lambda: SLO(0.9, good=())),
        ("name", lambda: SLO(0.9, name="")),
        ("slo", lambda: opero(slo="99.9%")),
        ("slo", lambda: opero(slo=[True])),
    ],
    ids=map(str, range(12)),
)
def test_a_wrong_objective_is_refused_where_it_is_written(field, make):
    with pytest.raises(ConfigurationError) as caught:
        make()
    assert caught.value.field == field
