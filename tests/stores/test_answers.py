"""A store of the user's own that answers what the protocol does not have."""

from math import inf, nan

import pytest

import opero as o
from opero import clock, events
from opero.stores import Admission, Permit
from opero.stores.answers import AnswerError
from opero.stores.guard import guard
from shared_store import MappedStore, opened

RATIOS = {"failure_ratio": 1.0, "slow_ratio": 0.0, "calls": 10, "pause": 5.0}


class Store(MappedStore):
    """One method of it answers what it is told to."""

    def __init__(self):
        super().__init__()
        self.wrong = {}

    def __getattribute__(self, name):
        wrong = super().__getattribute__("__dict__").get("wrong", {})
        if name not in wrong:
            return super().__getattribute__(name)

        async def answer(*_):
            return wrong[name]

        return answer


@pytest.fixture
def store():
    with opened(Store) as store:
        yield store


def policies(store):
    return {
        "reserve": o.RateLimit(2, per=3600, wait=False, store=store, name="own"),
        "lease": o.RateLimit(8, per=3600, burst=8, wait=False, lease=4, store=store, name="own"),
        "pay": o.Retry(2, wait=0, budget=o.RetryBudget(store=store, name="own")),
        "admit": o.CircuitBreaker(store=store, name="own"),
        "settle": o.CircuitBreaker(store=store, name="own"),
        "take": o.Bulkhead(2, store=store, name="own"),
    }


def calls(method, store):
    """Return a function that has to ask by this method; every other call of it works."""
    made = [0]

    @o.opero(policies(store)[method])
    def f():
        made[0] += 1
        if method == "pay" and made[0] % 2:
            raise OSError
        return "worked"

    return f


@pytest.mark.parametrize(
    ("method", "answer"),
    [
        *[("reserve", each) for each in (None, 5, (), ("x", 1), (nan, 1), (inf, 1), (-5, 1), (nan, None), (60, 1))],
        *[("lease", each) for each in (None, (0.0, 1), (0.0, 1, 10**9), (0.0, 1, -1), (0.0, 1, nan), (inf, 1, 0))],
        *[("pay", each) for each in (None, True, (True,), (None, 0.5), (True, nan), (True, 2), (True, "half"))],
        *[("admit", each) for each in (None, True, Permit(1, probe=False))],
        ("admit", Admission(True, "closed", changed=False, retry_after=None)),
        ("admit", Admission(Permit(1, probe=False), "ajar", changed=True, retry_after=None)),
        ("admit", Admission(None, "open", changed=False, retry_after="soon")),
        *[("settle", each) for each in (None, "open", ("open", {}), ("ajar", {}), ("closed", RATIOS), ("", None))],
        ("settle", ("open", RATIOS | {"pause": inf})),
        *[("take", each) for each in (None, ("TAKEN", 1, 0), ("taken",), ("full", -1, 0), ("queued", 1, None), 7)],
    ],
)
def test_a_wrong_answer_is_a_failure_of_the_store_and_reaches_no_call(store, method, answer):
    f, heard = calls(method, store), []
    store.wrong[method] = answer
    with events.subscribe(heard.append, "opero.store.*"):
        assert f() == f() == "worked"
        assert [event.name for event in heard] == ["opero.store.lost"]
        assert heard[0].fields["error"] == "AnswerError"
        assert heard[0].fields["reason"].startswith(f"{method}() answered ")
        store.wrong.clear()
        clock.sleep(5)
        assert not guard(store).away
        clock.sleep(3600)
        assert f() == "worked"
    assert [event.name for event in heard] == ["opero.store.lost", "opero.store.returned"]


@pytest.mark.parametrize(
    ("method", "answer"),
    [
        ("reserve", (0, "any booking")),
        ("lease", (0.0, (), 1)),
        ("pay", (True, 1)),
        ("admit", Admission(Permit("any generation", probe=True), "half_open", changed=True, retry_after=0)),
        ("settle", ("open", RATIOS)),
        ("settle", ("half_open", {})),
        ("take", ("taken", 1, 0)),
    ],
)
def test_a_right_answer_is_taken(store, method, answer):
    f, heard = calls(method, store), []
    store.wrong[method] = answer
    with events.subscribe(heard.append, "opero.store.*"):
        assert f() == "worked"
    assert heard == []


def test_while_answers_are_wrong_each_process_goes_by_its_own_state(store):
    f = calls("reserve", store)
    store.wrong["reserve"] = (0.0, 1, 2)
    assert [f(), f()] == ["worked"] * 2
    with pytest.raises(o.RateLimitedError):
        f()


def test_who_holds_a_circuit_by_hand_hears_of_a_wrong_answer(store):
    f = calls("admit", store)
    store.wrong["hold"] = "ajar"
    with pytest.raises(AnswerError, match=r"hold\(\) answered 'ajar'; it has to answer '' or one of closed"):
        f.opero.breaker.force_open()


def test_an_outage_of_another_kind_tells_no_more_than_its_error(store):
    heard = []
    store.reserve = lambda *_: (_ for _ in ()).throw(ConnectionError("redis://user:secret@host"))
    with events.subscribe(heard.append, "opero.store.lost"):
        assert calls("reserve", store)() == "worked"
    assert heard[0].fields == {"store": "map", "error": "ConnectionError", "reason": ""}
