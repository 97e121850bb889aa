"""`validate=True`: what goes in and out is what the annotations say."""

import asyncio

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
