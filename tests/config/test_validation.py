"""`validate=True`: what goes in and out is what the annotations say."""

import asyncio
import re

import pytest
from pydantic import BaseModel, ValidationError

import opero as o
from opero import opero


class Order(BaseModel):
    sku: str
    count: int


@opero(validate=True, retries=0)
def place(order: Order, *, express: bool = False) -> dict[str, int]:
    return {order.sku: order.count + express}


def test_arguments_are_converted_or_refused_before_anything_else():
    assert place({"sku": "a", "count": "2"}, express=1) == {"a": 3}
    f = o.opero(validate=True, retries=3, fallback={})(place.__wrapped__)
    with pytest.raises(ValidationError):
        f({"sku": "a"})
    assert f.opero.stats()["attempts"] == 0


def test_a_wrong_result_is_an_error_of_the_attempt():
    answers = iter(["x", "5"])

    @opero(validate=True, retries=2, min_delay=0)
    def f() -> int:
        return next(answers)

    assert f() == 5
    assert f.opero.stats()["attempts"] == 2


def test_methods_and_coroutine_functions():
    class Shop:
        @opero(validate=True)
        async def price(self, sku: str, *more: int, **rest: float) -> float:
            return "1.5" if (sku, more, rest) == ("a", (1,), {"x": 2.0}) else None

    assert asyncio.run(Shop().price("a", "1", x="2")) == 1.5
    with pytest.raises(ValidationError):
        asyncio.run(o.opero(validate=True, retries=0)(Shop.price.__wrapped__)(Shop(), "b"))


def test_a_variant_checks_once_and_what_cannot_be_checked_is_refused():
    variant = place.opero.with_(timeout=5)
    assert variant({"sku": "a", "count": 2}) == {"a": 2}
    assert opero(validate=False)(lambda x: x)(3) == 3
    with pytest.raises(o.ConfigurationError, match="validate=3: validate takes True or False"):
        opero(validate=3)(len)

    def items() -> int:
        yield 1

    with pytest.raises(o.ConfigurationError, match="generator"):
        opero(validate=True)(items)


class Foreign:
    pass


def late(x: "Decimal") -> int:  # noqa: F821 - as it is under `if TYPE_CHECKING`
    return x


def unread(x: Foreign) -> int:
    return x


async def unread_result(x: int) -> Foreign:
    return x


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (
            late,
            r"run time, whose names are there when it is decorated: .*; of \S+\.late: name 'Decimal'",
        ),
        (unread, r"at run time; of \S+\.unread: Unable to generate"),
        (unread_result, r"at run time; of \S+\.unread_result: Unable to generate"),
    ],
    ids=lambda each: getattr(each, "__name__", ""),
)
def test_annotations_that_cannot_be_read_are_refused_by_name(function, said):
    with pytest.raises(o.ConfigurationError, match=f"validate=True: validate takes annotations .*{said}"):
        opero(validate=True)(function)


def test_the_error_of_a_wrong_result_says_that_it_is_one_and_whose():
    def total(x: int) -> int:
        return "no"

    async def later(x: int) -> int:
        return "no"

    for call in (opero(validate=True)(total), lambda x: asyncio.run(opero(validate=True, retries=0)(later)(x))):
        with pytest.raises(ValidationError) as caught:
            call(1)
        assert re.match(r"this was the result of \S+\.(total|later)$", caught.value.__notes__[0])
    with pytest.raises(ValidationError) as caught:
        opero(validate=True)(total)("x")
    assert not [note for note in getattr(caught.value, "__notes__", ()) if "result" in note]
