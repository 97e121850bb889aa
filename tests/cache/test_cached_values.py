"""What comes back is what was stored, of the same type; what would not is not stored."""

import dataclasses
import datetime as dt
import decimal
import enum
import functools
import threading
import warnings
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from caches import DISTANT, KEY, counted, space

import opero as o
from opero import events
from opero.stores.cache import alike


@dataclasses.dataclass
class Point:
    x: int
    y: float


VALUES = [
    None, True, 7, -(2**62), 1.5, "ü", b"bytes", [1, [2, None]], {"a": {"b": [1.0]}}, {1: 2, b"k": "v"}, [], {},
    float("inf"), "x" * 100_000,
]  # fmt: skip
RICH = [2**70, (1, 2), {1, 2}, Point(1, 2.0), np.arange(1000.0).reshape(10, 100), {"a": (1, {2})}, 1 + 2j]


@pytest.mark.parametrize("backend", DISTANT)
def test_plain_values_come_back_the_same(backend, settings):
    policy = o.Cache(60, namespace=space(), **settings(backend))
    for n, value in enumerate(VALUES):

        @o.opero(policy)
        def f(n, value=value):
            f.calls += 1
            return value

        f.calls = 0
        f.opero.cache.clear()
        first, second = f(n), f(n)
        assert (type(second), second, f.calls) == (type(first), first, 1)


@pytest.mark.parametrize("backend", ["disk-signed", "disk-both"])
def test_any_value_comes_back_the_same_where_entries_are_signed(backend, settings):
    for value in RICH:
        f, made = counted(o.Cache(60, namespace=space(), **settings(backend)), value)
        first, second = f(), f()
        assert type(second) is type(first)
        assert np.array_equal(first, second) if isinstance(first, np.ndarray) else first == second
        assert made == [0]
        if isinstance(second, np.ndarray):
            second[0, 0] = 7  # as writable as the function's own
            assert f()[0, 0] == 0


@pytest.mark.parametrize("backend", ["disk"])
def test_a_value_that_would_not_come_back_the_same_is_not_stored_and_told(backend, settings):
    for value in RICH:
        heard = []
        f, made = counted(o.Cache(60, namespace=space(), **settings(backend)), value)
        with events.subscribe(heard.append, "opero.cache.backend_failed"):
            with pytest.warns(RuntimeWarning, match=f"a {type(value).__name__} that .* is not stored.*signing_key"):
                f()
            with warnings.catch_warnings(action="error"):  # no outage of the function either
                assert np.all(f() == value)
        assert made == [0, 0]
        assert [e.fields["reason"] for e in heard] == ["codec", "codec", "RuntimeWarning"]


def test_declared_types_need_no_signature(settings):
    policy = o.Cache(60, namespace=space(), **settings("disk"))

    @o.opero(policy)
    def f(x: int) -> Point:
        f.calls += 1
        return Point(x, 0.5)

    f.calls = 0
    assert f(1) == f(1) == Point(1, 0.5)
    assert f.calls == 1


@pytest.mark.parametrize("backend", ["disk", "disk-both"])
def test_a_value_that_would_not_be_read_again_for_its_size_is_not_stored(backend, settings):
    f, made = counted(o.Cache(60, namespace=space(), max_inflated=1000, **settings(backend)), "x" * 1001)
    with pytest.warns(RuntimeWarning, match=r"more than max_inflated \(1000 bytes\)"):
        assert [f(), f()] == ["x" * 1001] * 2
    assert made == [0, 0]


PASSING = {
    "generator": lambda: (n for n in range(3)),
    "map": lambda: map(abs, range(3)),
    "iterator": lambda: iter(range(3)),
}


@pytest.mark.parametrize("kind", PASSING)
def test_what_its_first_reader_uses_up_is_not_kept(kind):
    @o.opero(o.Cache(60))
    def f():
        return PASSING[kind]()

    for _ in range(2):
        with pytest.warns(RuntimeWarning, match="not stored .*return a list"):
            assert list(f()) == [0, 1, 2]
    with pytest.warns(RuntimeWarning, match="not stored"):
        f.opero.cache.set(PASSING[kind]())
    assert not f.opero.cache.contains()


class Unpicklable(Exception):
    """Also where dask has registered a way to pickle errors."""

    def __init__(self):
        self.held = threading.Lock()


def test_what_the_users_functions_get_wrong_is_told_as_theirs(heard):
    for policy, hook, error in [
        (o.Cache(60, cache_if=lambda result: result.x), "cache_if", "AttributeError"),
        (o.Cache(lambda result: float("nan")), "cache_ttl", "ConfigurationError"),
        (o.Cache(lambda result: "10m"), "cache_ttl", "ConfigurationError"),
        (o.Cache(lambda result: 1 / 0), "cache_ttl", "ZeroDivisionError"),
    ]:
        told = []
        f, _ = counted(policy)
        with events.subscribe(told.append, "opero.call.hook_failed"):
            assert [f(), f()] == [1, 2]
        assert [(e.fields["hook"], e.fields["error"]) for e in told] == [(hook, error)] * 2
    assert heard == []


def test_an_error_that_cannot_be_pickled_is_told_and_passes(heard):
    told = []

    @o.opero(o.Cache(60, errors=Unpicklable), retries=0)
    def f():
        raise Unpicklable

    with events.subscribe(told.append, "opero.call.hook_failed"), pytest.raises(Unpicklable):
        f()
    assert [(e.fields["hook"], e.fields["error"]) for e in told] == [("errors", "TypeError")]
    assert heard == []


def test_a_lifetime_is_seconds_or_a_timedelta():
    assert o.Cache(dt.timedelta(minutes=1), soft_ttl=dt.timedelta(seconds=5)).ttl == 60.0
    f, _ = counted(o.Cache(lambda result: dt.timedelta(minutes=1)))
    assert [f(), f()] == [1, 1]


def test_what_a_setting_cannot_be_is_said_when_it_is_given(tmp_path):
    assert o.Cache(60, directory=tmp_path).backend == "disk"
    for given, match in [
        ({"url": "http://x", "backend": "redis"}, "url"),
        ({"version": object()}, "version"),
        ({"encryption_key": KEY}, "encryption_key"),
        ({"lease": 3}, "lease"),
        ({"compress_above": 10}, "compress_above"),
        ({"error_ttl": 3}, "error_ttl"),
        ({"max_bytes": 10, "backend": "redis"}, "max_bytes"),
        ({"eviction": "lru", "backend": "redis"}, "eviction"),
        ({"signing_key": b"x", "backend": "disk"}, "1 bytes"),
    ]:
        with pytest.raises(o.ConfigurationError, match=match):
            o.Cache(60, **given)


def in_itself():
    value: dict[str, Any] = {"name": "root", "children": []}
    value["children"].append({"name": "kid", "parent": value})
    return value


def shared(depth=60):
    value: list[Any] = [1]
    for _ in range(depth):
        value = [value, value]
    return value


@dataclasses.dataclass
class Node:
    left: Any
    right: Any


def shared_records(depth=60):
    value = Node(1, 2)
    for _ in range(depth):
        value = Node(value, value)
    return value


ENDLESS = {"in-itself": (in_itself, dict), "shared": (shared, list), "records": (shared_records, Node)}


@pytest.mark.parametrize("backend", ["disk", "disk-signed"])
@pytest.mark.parametrize("kind", ENDLESS)
def test_a_value_without_an_end_is_pickled_or_told(kind, backend, settings):
    make, declared = ENDLESS[kind]
    made = []

    def f():
        made.append(1)
        return make()

    f.__annotations__["return"] = declared
    g = o.opero(o.Cache(60, namespace=space(), **settings(backend)))(f)

    def twice():
        with warnings.catch_warnings(action="ignore"):
            assert type(g()) is type(g()) is declared

    thread = threading.Thread(target=twice, daemon=True)
    thread.start()
    thread.join(60)
    assert not thread.is_alive()
    assert len(made) == (1 if backend == "disk-signed" else 2)


@pytest.mark.parametrize("backend", ["disk"])
def test_rows_that_are_one_list_are_stored(backend, settings):
    f, made = counted(o.Cache(60, namespace=space(), **settings(backend)), [[0] * 100] * 100)
    assert f() == f()
    assert made == [0]


class Money(str):
    __slots__ = ()


@dataclasses.dataclass
class Rich(Point):
    z: int = 0


@dataclasses.dataclass
class Held:
    name: str
    secret: Any = dataclasses.field(default=None, compare=False)

    @functools.cached_property
    def upper(self):
        return self.name.upper()


class Pair(NamedTuple):
    a: int
    b: float


class Mood(enum.Enum):
    GOOD = "good"


def tagged(point):
    point.tag = "vip"
    return point


def asked(held):
    assert held.upper == "X"
    return held


BERLIN = dt.datetime(2026, 10, 25, 2, 30, tzinfo=ZoneInfo("Europe/Berlin"), fold=1)
CHANGED = [
    (dt.datetime, lambda: BERLIN),
    (list[dt.datetime], lambda: [BERLIN]),
    (Point, lambda: Point(1, 1)),
    (set[float], lambda: {1}),
    (tuple[str, ...], lambda: (Money("1"),)),
    (list[Point], lambda: [Rich(1, 2.0, 3)]),
    (Point, lambda: tagged(Point(1, 1.5))),
    (Held, lambda: Held("x", (1, 2))),
]
KEPT = [
    (dt.datetime, lambda: BERLIN.astimezone(dt.UTC)),
    (dt.datetime, lambda: dt.datetime(2026, 1, 1)),  # noqa: DTZ001 - without a zone
    (tuple[decimal.Decimal, ...], lambda: (decimal.Decimal("1.10"),)),
    (set[float], lambda: {1.0, -0.0}),
    (dict[str, Point], lambda: {"b": Point(1, 1.5), "a": Point(2, float("nan"))}),
    (Held, lambda: asked(Held("x", "s"))),
    (Pair, lambda: Pair(1, 2.0)),
    (Mood, lambda: Mood.GOOD),
]  # fmt: skip


def twice(declared, make, given):
    """Call a function that declares what it returns, twice; return both results and how often it ran."""
    made = []

    def f():
        made.append(1)
        return make()

    f.__annotations__["return"] = declared
    g = o.opero(o.Cache(60, namespace=space(), **given))(f)
    with warnings.catch_warnings(action="ignore"):
        return g(), g(), len(made)


@pytest.mark.parametrize("case", CHANGED, ids=range(len(CHANGED)))
def test_a_declared_type_that_would_change_the_value_is_not_used(case, settings):
    _, _, made = twice(*case, settings("disk"))
    assert made == 2
    first, second, made = twice(*case, settings("disk-signed"))
    assert made == 1
    assert repr(first) == repr(second)
    if type(first) in {list, tuple, set}:
        assert [type(item) for item in first] == [type(item) for item in second]
    else:
        assert alike.same(first, second)


@pytest.mark.parametrize("case", KEPT, ids=range(len(KEPT)))
def test_a_declared_type_that_keeps_the_value_is_used(case, settings):
    first, second, made = twice(*case, settings("disk"))
    assert made == 1
    assert repr(first) == repr(second)
