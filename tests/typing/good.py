"""A user's file that must be accepted, with the types the user must see."""

from collections.abc import AsyncIterator, Iterator, Sequence
from functools import partial
from typing import assert_type

from opero import (
    ArgFallback,
    Bulkhead,
    CircuitBreaker,
    Fallback,
    Hedge,
    OperoConfig,
    RateLimit,
    Retry,
    RetryBudget,
    Strategy,
    Timeout,
    attempts,
    build,
    conditions,
    opero,
    opmap,
    presets,
    remaining,
    stops,
    waits,
)
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


@opero(hedge=0.05, retry_budget=0.1, arg_fallback="url")
async def hedged(url: str | Sequence[str]) -> bytes:
    return str(url).encode()


@opero(
    Retry(
        None,
        wait=lambda n, outcome: 0.1 * n,
        on=OSError | conditions.status(429, range(500, 600)) | conditions.group(OSError | KeyError),
        stop=stops.elapsed(30) | stops.attempts(5),
        strategies={KeyError: Strategy("retry", limit=2, wait=waits.retry_after()), ValueError: "raise"},
        budget=RetryBudget(),
    ),
    Hedge("p95", max_hedges=2),
    Fallback(0.0, by={KeyError: lambda sku: 1.0}),
    ArgFallback("sku", alternatives=["a", "b"], cooldown=30),
)
def everything(sku: str = "") -> float:
    return 1.0


@opero
def rows(n: int) -> Iterator[int]:
    yield from range(n)


@opero(retries=2)
async def lines(path: str) -> AsyncIterator[str]:
    yield path


async def is_busy(error: BaseException) -> bool:
    return "busy" in str(error)


@opero(Retry(on=is_busy))
async def awaited(x: int) -> int:
    return x


class Shop:
    @RateLimit("5/s")
    def stock(self, sku: str) -> int:
        return len(sku)

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

    @Retry(2)
    @classmethod
    def again(cls, text: str) -> "Shop":
        return cls()


class Doubler:
    def __call__(self, x: int) -> int:
        return 2 * x

    def half(self, x: int) -> float:
        return x / 2


@opero
def parse(text: str) -> int:
    return int(text)


class Parser:
    parse = staticmethod(parse)  # a static method that both checkers get right: decorated outside of the class


@opmap(mode="process", workers=2, retries=1, errors="return")
def square(x: int) -> float:
    return x * x


@opmap
async def fetch(url: str) -> bytes:
    return url.encode()


@Retry(5)
def alone(x: int) -> list[int]:
    return [x]


@CircuitBreaker(consecutive=3)
async def broken(x: int) -> list[int]:
    return [x]


@build().retry(2).timeout(3.0)
def built(x: int) -> list[int]:
    return [x]


@opero(OperoConfig.from_dict({"retries": 2}), presets.http(timeout=3.0), name="configured")
def configured(x: int) -> list[int]:
    return [x]


def in_a_block() -> int:
    with Bulkhead(3):
        return 1


def in_a_block_by_key() -> int:
    with RateLimit(3, key=str).block("a"):
        return 1


async def in_an_async_block() -> int:
    async with Timeout(3), CircuitBreaker().block():
        return 1


def see(shop: Shop) -> None:
    assert_type(bare(3, name="x"), str)
    assert_type(bare.__name__, str)
    assert_type(bare.__doc__, str | None)
    assert_type(Parser.parse("1"), int)
    assert_type(Parser().parse("1"), int)
    assert_type(keywords(3), list[int])
    assert_type(keywords.opero.stats(), dict[str, float])
    assert_type(keywords.opero.bypass(3), list[int])
    assert_type(keywords.opero.with_(retries=0)(3), list[int])
    assert_type(keywords.opero.breaker.state, str)
    assert_type(built(3), list[int])
    assert_type(alone(3), list[int])
    assert_type(alone.opero.name, str)
    assert_type(configured(3), list[int])
    with RateLimit("5/s"), Bulkhead(2) as slots:
        assert_type(slots, Bulkhead)
    assert_type(remaining(), float | None)
    assert_type(shop.price("a"), float)
    assert_type(shop.stock("a"), int)
    assert_type(shop.price.__self__, Shop)
    assert_type(Shop.price(shop, "a"), float)
    assert_type(Shop.stock(shop, sku="a"), int)
    assert_type(shop.price.opero.bypass(shop, "a"), float)
    assert_type(Shop.price.opero.bypass(shop, "a"), float)
    shop.price.opero.cache.set(9.5, shop, "a")
    shop.price.opero.cache.invalidate(shop, sku="a")
    assert_type(shop.price.opero.with_(retries=0)(shop, "a"), float)
    assert_type(shop.price.opero.stats(), dict[str, float])
    assert_type(Shop.make("1"), Shop)
    assert_type(Shop.remake("1"), Shop)
    assert_type(Shop.again("1"), Shop)
    assert_type(opero(partial(bare, 3))(name="y"), str)
    assert_type(Retry(2)(partial(bare, 3))(name="y"), str)
    assert_type(Retry(2)(Doubler())(3), int)
    assert_type(opero(Doubler())(3), int)
    assert_type(opero(retries=1)(Doubler().half)(3), float)
    assert_type(everything("a"), float)
    assert_type(everything(), float)
    assert_type(rows(3), Iterator[int])
    for attempt_in_loop in Retry(retries=3):
        with attempt_in_loop:
            assert_type(attempt_in_loop.number, int)
    assert_type(square([1, 2]), list[float])
    assert_type(square.one(1), float)
    assert_type(square.stream([1]), Stream[float])
    assert_type(fetch.stream(["a"]), AsyncStream[bytes])
    for attempt in attempts(ValueError()):
        assert_type(attempt.number, int)


async def see_async(shop: Shop) -> None:
    assert_type(await policies("a"), bytes)
    assert_type(await hedged(["a", "b"]), bytes)
    assert_type(await awaited(1), int)
    assert_type(await broken(1), list[int])
    assert_type(lines("a"), AsyncIterator[str])
    async for attempt in Retry(retries=3):
        with attempt:
            assert_type(attempt.number, int)
        async with attempt:
            assert_type(attempt.number, int)
    placed: int = await shop.order("a")
    assert placed
    assert_type(await fetch(["a"]), list[bytes])
    assert_type(await fetch.one("a"), bytes)
