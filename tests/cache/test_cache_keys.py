"""Keys: the same call is the same key, and no two others are."""

import dataclasses
import enum
import itertools
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial, wraps
from pathlib import PurePosixPath
from uuid import UUID

import numpy as np
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

import opero as o
from opero.stores.cache.canonical import encode
from opero.stores.cache.keys import Keys


@dataclasses.dataclass
class Point:
    x: object
    y: object = 0


@dataclasses.dataclass
class Twin:
    x: object
    y: object = 0


class Color(enum.Enum):
    RED = 1
    ROSSO = 1  # noqa: PIE796 - another name of the same
    BLUE = 2


class Model(pydantic.BaseModel):
    a: int
    b: list[str] = []


class Shapeless: ...


class Owner:
    def __init__(self, number):
        self.number = number

    def __opero_key__(self):
        return self.number


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: (
        st.lists(inner)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text() | st.integers(), inner)
        | st.frozensets(st.integers() | st.text())
    ),
    max_leaves=8,
)


def typed(value):
    """A value told apart as keys must: by type, also inside; -0.0 from 0.0, one NaN from nothing."""
    if isinstance(value, list | tuple):
        return (type(value), tuple(map(typed, value)))
    if isinstance(value, dict):
        return (dict, frozenset((typed(k), typed(v)) for k, v in value.items()))
    if isinstance(value, frozenset):
        return (frozenset, frozenset(map(typed, value)))
    return (type(value), repr(value))


@given(plain, plain)
def test_two_values_share_bytes_exactly_if_they_are_alike_in_every_type(a, b):
    assert (encode(a) == encode(b)) == (typed(a) == typed(b))


@given(st.dictionaries(st.text(), st.integers()))
def test_the_order_in_which_a_dict_was_filled_does_not_matter(value):
    assert encode(value) == encode(dict(reversed(value.items())))


DISTINCT = [
    None, True, 1, 1.0, "1", b"1", bytearray(b"1"), (1,), [1], {1}, frozenset({1}), {1: 1}, 1 + 0j, range(1), slice(1),
    0.0, -0.0, float("nan"), float("inf"), 0, False, "", b"", (), [], {}, ("ab", "c"), ("a", "bc"), (("a",), "b"),
    Point(1), Twin(1), Point(True), Point(1, 1), Color.RED, Color.BLUE, "RED", Model(a=1), Owner(1),
    np.arange(4), np.arange(4).reshape(2, 2), np.arange(4.0), np.arange(4, dtype=">i8"), np.int64(1), np.float64(1),
    Model(a=1, b=["x"]), datetime(2026, 1, 1, tzinfo=UTC).replace(tzinfo=None),
    datetime(2026, 1, 1, tzinfo=UTC), timedelta(1), Decimal(1), Decimal("1.0"), UUID(int=1),
    PurePosixPath("a"), Point, Twin, encode, ...,
]  # fmt: skip


def test_values_that_are_easily_mistaken_are_told_apart():
    for a, b in itertools.combinations(DISTINCT, 2):
        assert encode(a) != encode(b), (a, b)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Point([1, {"a": 2}]),
        lambda: Model(a=1, b=["x"]),
        lambda: np.arange(10)[::2],
        lambda: Owner("x"),
        lambda: Color.ROSSO,
    ],
    ids=["dataclass", "pydantic", "array", "own", "enum"],
)
def test_equal_objects_are_one_key(make):
    assert encode(make()) == encode(make())


def test_bytes_are_the_same_in_another_process():
    code = (
        "from opero.stores.cache.canonical import encode; print(encode(({'b': 1, 'a': {2, 1}}, 'x', 1.5, int)).hex())"
    )
    environment = {"PYTHONHASHSEED": "7", "PATH": "/usr/bin:/bin"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.strip() == encode(({"a": {1, 2}, "b": 1}, "x", 1.5, int)).hex()


def test_local_classes_of_one_name_are_told_apart():
    def make():
        @dataclasses.dataclass
        class Local:
            x: int

        return Local

    first, second = make(), make()
    assert encode(first(1)) == encode(first(1))
    assert encode(first(1)) != encode(second(1))


@pytest.mark.parametrize("value", [object(), Shapeless(), np.array([object()])], ids=["object", "own", "array"])
def test_what_has_no_identity_is_refused_with_the_way_out(value):
    with pytest.raises(o.ConfigurationError, match="cache_key="):
        encode([value])


def test_a_value_in_itself_is_refused():
    value = []
    value.append(value)
    with pytest.raises(o.ConfigurationError, match="nested"):
        encode(value)


def signature_of_all_kinds(a, b=2, /, c=3, *rest, d=4, **more): ...


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (((1,), {}), ((1, 2), {}), True),
        (((1,), {}), ((1, 2, 3), {"d": 4}), True),
        (((1, 2), {"c": 3}), ((1, 2, 3), {}), True),
        (((1,), {"d": 4, "e": 5, "f": 6}), ((1,), {"f": 6, "e": 5, "d": 4}), True),
        (((1, 2, 3, 4), {}), ((1, 2, 3), {"d": 4}), False),
        (((1,), {"b": 2}), ((1,), {}), False),  # this b is one of **more
        (((True,), {}), ((1,), {}), False),
        (((1.0,), {}), ((1,), {}), False),
    ],
    ids=range(8),
)
def test_arguments_are_laid_out_by_the_signature(one, other, same):
    keys = Keys(signature_of_all_kinds, None, 0)
    assert (keys.of(*one) == keys.of(*other)) == same


@given(plain, plain)
def test_the_key_in_this_process_and_the_bytes_agree(a, b):
    keys = Keys(lambda x: x, None, 0)
    one, other = keys.of((a,), {}), keys.of((b,), {})
    assert (one == other) == (keys.full(one) == keys.full(other)) == (typed(a) == typed(b))


def test_functions_do_not_share_keys_and_their_variants_do():
    def make():
        return lambda x: x

    f, g = make(), make()
    assert Keys(f, None, 0).of((1,), {}) != Keys(g, None, 0).of((1,), {})
    assert Keys(f, None, 0).of((1,), {}) == Keys(f, None, 0).of((1,), {})
    assert Keys(f, None, 0).of((1,), {}) != Keys(f, None, 1).of((1,), {})


def test_a_template_keeps_values_apart():
    keys = Keys(lambda a, b: None, "{a}:{b}", 0)
    assert keys.of(("x:y", "z"), {}) != keys.of(("x", "y:z"), {})
    assert keys.of(("x", "y"), {}) == keys.of((), {"b": "y", "a": "x"})
    assert keys.of((1, "y"), {}) != keys.of(("1", "y"), {})


@pytest.mark.parametrize("template", ["{nobody}", "{a!r}", "{a:>3}", "{a", "{}"])
def test_a_template_that_nothing_fills_is_refused_when_decorating(template):
    with pytest.raises(o.ConfigurationError, match=r"this function has a, b$|a template like"):
        o.opero(cache_ttl=1, cache_key=template)(lambda a, b: None)


def test_arguments_that_do_not_fit_raise_what_the_function_raises():
    @o.opero(cache_ttl=1, retries=0)
    def f(x): ...

    with pytest.raises(TypeError, match="unexpected keyword argument 'y'"):
        f(1, y=2)
    with pytest.raises(TypeError, match="missing 1 required positional argument"):
        f()
    with pytest.raises(TypeError, match="takes no such arguments"):
        f.opero.cache.get(1, 2)


class Shop:
    @o.opero(cache_ttl=60)
    def price(self, sku):
        return 1

    @o.opero(cache_ttl=60, cache_key="{self.name}:{sku}")
    def named(self, sku):
        return self.name, sku

    @o.opero(cache_ttl=60)
    @classmethod
    def of(cls, sku):
        return cls, sku


def test_a_method_of_an_object_without_identity_is_refused():
    with pytest.raises(o.ConfigurationError, match="__opero_key__"):
        Shop().price("a")


def test_a_method_with_a_key_of_its_own_is_cached_for_each_object():
    one, other = Shop(), Shop()
    one.name, other.name = "a", "b"
    assert [one.named(1), other.named(1), one.named(1)] == [("a", 1), ("b", 1), ("a", 1)]
    assert Shop.named.opero.cache.stats()["hits"] == 1


def test_a_class_method_is_cached_for_each_class():
    class Sub(Shop): ...

    assert [Shop.of(1), Sub.of(1), Shop.of(1)] == [(Shop, 1), (Sub, 1), (Shop, 1)]


def test_partials_and_callable_objects_have_keys():
    f = o.opero(cache_ttl=60)(partial(lambda a, b: (a, b), 1))
    assert [f(2), f(b=2)] == [(1, 2), (1, 2)]
    assert f.opero.cache.stats()["hits"] == 1


def test_one_argument_is_told_apart_by_kind_on_every_path():
    @o.opero(cache_ttl=60)
    def f(x):
        return [type(x), x]

    given = [1, True, 1.0, "1", b"1", None, 0, False, "", (1,), 2**80, -1]
    first = [f(x) for x in given]
    again = [f(x) for x in given]
    assert [one is other for one, other in zip(first, again, strict=True)] == [True] * len(given)
    assert [kind for kind, _ in again] == [type(x) for x in given]
    f.opero.cache.invalidate(1)
    assert f(1) is not first[0]
    assert f(True) is first[1]


@pytest.mark.parametrize("name", ["kind_of_0", "kind_of_1", "cached_alone", "entry", "now"])
def test_parameters_may_be_called_as_the_fast_path_calls_things(name):
    space = {}
    exec(f"def f({name}, b=0): return [{name}, b]", space)
    f = o.opero(cache_ttl=60)(space["f"])
    for n in (1, 2, "x"):
        assert f(n) is f(n)
        assert f(n) == [n, 0]


class Plainer(Point):
    def __init__(self, x, tag):
        super().__init__(x)
        self.tag = tag


@dataclasses.dataclass(slots=True)
class Slotted:
    x: object


class SlottedMore(Slotted):
    __slots__ = ("tag",)

    def __init__(self, x, tag):
        super().__init__(x)
        self.tag = tag


@dataclasses.dataclass
class Listed(list):
    name: str


class Private(pydantic.BaseModel):
    a: int
    _tag: str = pydantic.PrivateAttr("")

    def __init__(self, tag, **fields):
        super().__init__(**fields)
        self._tag = tag


def test_what_is_beside_the_fields_is_part_of_a_key():
    assert encode(Plainer(1, "a")) == encode(Plainer(1, "a")) != encode(Plainer(1, "b"))
    assert encode(SlottedMore(1, "a")) == encode(SlottedMore(1, "a")) != encode(SlottedMore(1, "b"))
    assert encode(Model(a=1)) == encode(Model(a=1, b=[]))
    assert encode(Private("a", a=1)) == encode(Private("a", a=1)) != encode(Private("b", a=1))
    with pytest.raises(o.ConfigurationError, match="cache_key="):
        encode(Listed("a"))


def defined():
    """Be defined anew below."""


def test_functions_of_one_name_are_told_apart():
    @wraps(defined)
    def wrapped(): ...

    assert len({encode(defined), encode(wrapped), encode(earlier)}) == 3
    assert encode(wrapped) == encode(wrapped)


earlier = defined


def defined():
    """Be another."""
