"""A user's mistakes: each line that ends in E must be flagged, and no other."""

from collections.abc import Callable, Iterator
from typing import ParamSpec, TypeVar

from opero import ArgFallback, Hedge, Retry, RetryBudget, opero, opmap

P = ParamSpec("P")
R = TypeVar("R")


@opero
def f(x: int) -> str:
    return str(x)


@opmap
def g(x: int) -> int:
    return x


@opero
def rows(n: int) -> Iterator[int]:
    yield from range(n)


class Shop:
    @opero
    def price(self, sku: str) -> float:
        return float(len(sku))


def as_method(function: Callable[P, R]) -> Callable[P, R]:
    return function


class Parent:
    def price(self, sku: str) -> float:
        return 1.0


class Child(Parent):
    @as_method
    @opero
    def price(self, sku: int) -> float:  # E
        return 1.0


f("1")  # E
f(1, 2)  # E
f(y=1)  # E
f(1).missing  # E
number: int = f(1)  # E
Shop().price(1)  # E
Shop.price("a")  # E
Shop.price(Shop(), 1)  # E
Shop().price.opero.bypass("a")  # E
Shop().price.opero.cache.invalidate("a")  # E
Shop().price.opero.with_(retries=0)("a")  # E
f.opero.missing  # E
f.opero.bypass("1")  # E
f.opero.cache.invalidate("1")  # E
f.opero.cache.set("1")  # E
f.opero.with_(retries="3")  # E
opero(retries="3")  # E
opero(retrys=3)  # E
opero(backoff="sometimes")  # E
opero(timeout="5")  # E
opero(rate_limit=[1])  # E
opero(3)  # E
Retry(3)(3)  # E
Retry(retries="3")  # E
Retry(wait="long")  # E
Retry(budget=0.1)  # E
Retry(stop=5)  # E
Hedge(None)  # E
RetryBudget("much")  # E
ArgFallback(5)  # E
opero(hedge=[1])  # E
opero(retry_budget="much")  # E
rows("3")  # E
for row in rows(3):
    row.missing  # E
g(["1"])  # E
g.one("1")  # E
opmap(mode="quantum")  # E
opmap(errors=0)  # E
