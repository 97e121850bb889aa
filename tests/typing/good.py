"""A user's file that must be accepted, with the types the user must see."""

from functools import partial
from typing import assert_type

from opero import CircuitBreaker, Retry, Timeout, attempts, opero, opmap, waits
from opero.parallel import AsyncStream, Stream


@opero
def bare(x: int, *, name: str = "") -> str:
    return name * x


@opero(retries=3, timeout=10.0, attempt_timeout=2.0, circuit_breaker=True, rate_limit="100/s", bulkhead=20, name="f")
def keywords(x: int) -> list[int]:
    return [x]


@opero(Retry(5, wait=waits.constant(1)), CircuitBreaker(failure_ratio=0.5), Timeout(3), fallback=None)
async def policies(url: str) -> bytes:
    return url.encode()


class Shop:
    @opero(retries=1)
    def price(self, sku: str) -> float:
        return float(len(sku))

    @opero
    async def order(self, sku: str) -> int:
        return len(sku)

    @classmethod
    @opero
    def make(cls, text: str) -> "Shop":
        return cls()

    @opero
    @classmethod
    def remake(cls, text: str) -> "Shop":
        return cls()


@opmap(mode="process", workers=2, retries=1, errors="return")
def square(x: int) -> float:
    return x * x


@opmap
async def fetch(url: str) -> bytes:
    return url.encode()


def see(shop: Shop) -> None:
    assert_type(bare(3, name="x"), str)
    assert_type(keywords(3), list[int])
    assert_type(keywords.opero.stats(), dict[str, float])
    assert_type(keywords.opero.bypass(3), list[int])
    assert_type(keywords.opero.with_(retries=0)(3), list[int])
    assert_type(keywords.opero.breaker.state, str)
    assert_type(shop.price("a"), float)
    assert_type(Shop.make("1"), Shop)
    assert_type(Shop.remake("1"), Shop)
    assert_type(opero(partial(bare, 3))(name="y"), str)
    assert_type(square([1, 2]), list[float])
    assert_type(square.one(1), float)
    assert_type(square.stream([1]), Stream[float])
    assert_type(fetch.stream(["a"]), AsyncStream[bytes])
    for attempt in attempts(ValueError()):
        assert_type(attempt.number, int)


async def see_async(shop: Shop) -> None:
    assert_type(await policies("a"), bytes)
    placed: int = await shop.order("a")
    assert placed
    assert_type(await fetch(["a"]), list[bytes])
    assert_type(await fetch.one("a"), bytes)
