"""States that a map's processes share: how much of one there is room for, and what becomes of one that is larger."""

import pytest

import opero as o
from opero import events
from opero.runtime import run
from opero.stores import key_of, mapped
from opero.stores.guard import guard
from shared_store import opened


@pytest.fixture
def store():
    with opened() as store:
        yield store


def fail():
    raise OSError


def outcome(function):
    try:
        return function()
    except Exception as error:
        return type(error)


def test_a_window_of_thousands_of_calls_is_shared(store):
    rules = {"calls": 4000, "min_calls": 4000}
    first, second = (o.CircuitBreaker(store=store, name="dep", **rules) for _ in range(2))
    f, g = o.opero(first)(fail), o.opero(second)(fail)
    for _ in range(2000):
        assert outcome(f) is outcome(g) is OSError
    assert outcome(f) is o.CircuitOpenError
    assert not guard(store).away


def test_hundreds_of_slots_and_waiters_are_shared(store):
    key = key_of("bulkhead", "pool", None)
    for n in range(800):
        verdict = run(store.take(None, key, f"{n:016x}", 400, 400))
    assert verdict == ("queued", 400, 400)


def test_a_state_that_does_not_fit_says_so_and_the_others_are_shared(store, monkeypatch):
    monkeypatch.setattr(mapped, "HALF", 1000)
    heard = []
    wide = o.CircuitBreaker(calls=1000, min_calls=1000, store=store, name="wide")
    f = o.opero(wide)(fail)
    limits = [o.opero(o.RateLimit(3, per=60, wait=False, store=store, name="limit"))(lambda: 1) for _ in range(2)]
    with events.subscribe(heard.append, "opero.store.*"):
        for _ in range(500):
            assert outcome(f) is OSError
    assert [(event.name, event.fields["kind"]) for event in heard] == [("opero.store.unusable", "circuit")]
    assert "calls=" in heard[0].fields["reason"]
    assert [outcome(limits[n % 2]) for n in range(4)] == [1, 1, 1, o.RateLimitedError]
    assert not guard(store).away
