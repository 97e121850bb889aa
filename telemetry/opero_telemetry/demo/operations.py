"""What the client calls: four decorated functions over a real HTTP library and a real corpus."""

from __future__ import annotations

import ast
import tokenize
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import httpx

from opero import ArgFallback, Bulkhead, CircuitBreaker, CircuitOpenError, Fallback, Retry, Timeout, opero, opmap, waits

if TYPE_CHECKING:
    from pathlib import Path

CALLER = "X-Caller"
PATIENCE = waits.retry_after(waits.exponential(0.05, 1.0, 2.0), high=2.0)
FAILED = (httpx.TransportError, httpx.HTTPStatusError, TimeoutError)


def breaker(seconds: float, **more: Any) -> CircuitBreaker:
    """Open at half of ten calls in a fifteenth of the run; probe after a ninetieth, then after twice as long."""
    window = max(1.0, seconds / 15)
    pause = seconds / 90
    return CircuitBreaker(
        min_calls=10, window=window, reset_after=pause, max_reset_after=2 * pause, half_open_probes=3, **more
    )


@dataclass
class Shop:
    """The service, seen through one HTTP client. `caller` says whether Opero stands between."""

    bases: list[str]
    caller: str
    timeout: float = 2.0
    http: httpx.Client = field(init=False)
    known: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.http = httpx.Client(headers={CALLER: self.caller}, timeout=self.timeout)

    def get(self, operation: str, sku: str, base: str | None = None) -> float:
        """Ask for a number; raise what httpx raises."""
        answer = self.http.get(f"{base or self.bases[0]}/{operation}/{sku}")
        answer.raise_for_status()
        return float(answer.json()["value"])


@dataclass
class AsyncShop:
    """The same, on asyncio."""

    bases: list[str]
    caller: str
    timeout: float = 2.0

    def __post_init__(self) -> None:
        self.http = httpx.AsyncClient(headers={CALLER: self.caller}, timeout=self.timeout)

    async def order(self, sku: str) -> float:
        """Place an order; the service takes it as often as it is sent."""
        answer = await self.http.post(f"{self.bases[0]}/order", json={"sku": sku})
        answer.raise_for_status()
        return float(answer.json()["value"])


def resilient(shop: Shop, orders: AsyncShop, seconds: float) -> dict[str, Any]:
    """Decorate: prices come from two replicas or from memory, stock is hedged, orders wait an outage out."""

    @opero(
        Fallback(lambda sku, _: shop.known.get(sku, 0.0)),
        Timeout(4.0),
        Retry(4, wait=PATIENCE, on=FAILED),
        ArgFallback("base", on=(*FAILED, CircuitOpenError)),
        breaker(seconds, key=lambda _, base: base),  # a circuit a replica: nobody waits for the one that is down
        Bulkhead(32, max_queue=32, max_wait=0.5),
        Timeout(attempt=0.4),
        rate_limit="300/s",
        name="demo.price",
    )
    def price(sku: str, base: str | list[str]) -> float:
        shop.known[sku] = value = shop.get("price", sku, str(base))
        return value

    @opero(
        ArgFallback("base", spread=True),
        retries=4,
        backoff=PATIENCE,
        retry_on=FAILED,
        retry_budget=0.2,
        hedge="adaptive",
        timeout=4.0,
        name="demo.stock",
    )
    def stock(sku: str, base: str | list[str]) -> float:
        return shop.get("stock", sku, str(base))

    @opero(
        Timeout(30.0),
        Retry(200, wait=PATIENCE, on=(*FAILED, CircuitOpenError)),  # an order can wait: the circuit says how long
        breaker(seconds),
        Bulkhead(32, max_queue=1000),
        Timeout(attempt=0.5),
        name="demo.order",
    )
    async def order(sku: str) -> float:
        return await orders.order(sku)

    return {"price": price, "stock": stock, "order": order}


@opmap(mode="process", workers="auto", errors="return", name="demo.parse")
def parse(path: Path) -> tuple[int, int]:
    """Count the functions and classes of a source file."""
    with tokenize.open(path) as file:
        tree = ast.parse(file.read())
    nodes = list(ast.walk(tree))
    functions = sum(isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) for node in nodes)
    return functions, sum(isinstance(node, ast.ClassDef) for node in nodes)
