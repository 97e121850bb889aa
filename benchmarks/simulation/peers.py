"""What others do, written anew: retry budgets and concurrency limits with their defaults, as baselines.

Sources: the documentation of Finagle (RetryBudget), Envoy (retry_budget), gRPC (retry throttling, gRFC A6), the AWS
SDKs (standard retry mode, 2026), Google's SRE book (ch. 21, the retry ratio of a client), Netflix concurrency-limits
(AIMD, Vegas, Gradient2).
"""

from __future__ import annotations

from collections import deque
from math import log10, sqrt
from typing import TYPE_CHECKING, Any

from opero import RetryBudget

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.simulation.clients import Outcome
    from opero.call import Call, Layer, Next


class Recent:
    """A sum over the last so many seconds."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.sum = seconds, 0.0
        self._added: deque[tuple[float, float]] = deque()

    def add(self, now: float, amount: float) -> None:
        """Add."""
        self._added.append((now, amount))
        self.sum += amount

    def at(self, now: float) -> float:
        """Return the sum."""
        while self._added and self._added[0][0] <= now - self.seconds:
            self.sum -= self._added.popleft()[1]
        return self.sum


class Law:
    """What a budget is told, and asked: whether one more attempt may be made for a call."""

    def begin(self, now: float, call: int) -> None:
        """A call began."""

    def end(self, call: int, *, ok: bool) -> None:
        """A call ended."""

    def may(self, now: float, call: int) -> bool:
        """Whether it may retry after an attempt that failed."""
        raise NotImplementedError

    def worked(self) -> None:
        """A retry was answered."""


class Finagle(Law):
    """A fifth of the requests of 10 s, and 10 a second."""

    def __init__(self) -> None:
        self.requests, self.retries = Recent(10.0), Recent(10.0)

    def begin(self, now: float, call: int) -> None:
        self.requests.add(now, 1.0)

    def may(self, now: float, call: int) -> bool:
        good = self.retries.at(now) + 1 <= 0.2 * self.requests.at(now) + 10 * 10.0
        if good:
            self.retries.add(now, 1.0)
        return good


class Envoy(Law):
    """As many retries in flight as a fifth of the requests in flight, or 3."""

    def __init__(self) -> None:
        self.active: set[int] = set()
        self.retrying: set[int] = set()

    def begin(self, now: float, call: int) -> None:
        self.active.add(call)

    def end(self, call: int, *, ok: bool) -> None:
        self.active.discard(call)
        self.retrying.discard(call)

    def may(self, now: float, call: int) -> bool:
        self.retrying.discard(call)
        if len(self.retrying) >= max(3.0, 0.2 * len(self.active)):
            return False
        self.retrying.add(call)
        return True


class Grpc(Law):
    """10 tokens; a failure takes one, a success brings a tenth; retries while more than half are left."""

    def __init__(self) -> None:
        self.tokens = 10.0

    def end(self, call: int, *, ok: bool) -> None:
        self.tokens = min(10.0, self.tokens + 0.1) if ok else max(0.0, self.tokens - 1)

    def may(self, now: float, call: int) -> bool:
        self.tokens = max(0.0, self.tokens - 1)
        return self.tokens > 5.0


class Sre(Law):
    """A tenth of the requests of two minutes."""

    def __init__(self) -> None:
        self.requests, self.retries = Recent(120.0), Recent(120.0)

    def begin(self, now: float, call: int) -> None:
        self.requests.add(now, 1.0)

    def may(self, now: float, call: int) -> bool:
        good = self.retries.at(now) + 1 <= 0.1 * self.requests.at(now)
        if good:
            self.retries.add(now, 1.0)
        return good


class Aws(Law):
    """500 tokens; a retry costs 14, which come back if it works; a call that works brings 1."""

    def __init__(self) -> None:
        self.tokens = 500.0

    def end(self, call: int, *, ok: bool) -> None:
        self.tokens = min(500.0, self.tokens + ok)

    def may(self, now: float, call: int) -> bool:
        good = self.tokens >= 14
        self.tokens -= 14 * good
        return good

    def worked(self) -> None:
        self.tokens = min(500.0, self.tokens + 14)


class PeerBudget(RetryBudget):
    """A law in the place of our retry budget."""

    def __init__(self, law: Law) -> None:
        super().__init__()
        self.__dict__["law"] = law

    law: Law

    def attach(self, function: Callable[..., Any]) -> Layer:
        return self.layer

    async def layer(self, call: Call, next: Next) -> Any:  # noqa: A002
        number = call.record.id
        self.law.begin(call.runtime.now(), number)
        ok = False
        try:
            result = await next(call)
            ok = True
        finally:
            self.law.end(number, ok=ok)
        return result

    async def reserve(self, call: Call, outcome: object) -> float | None:
        return 1.0 if self.law.may(call.runtime.now(), call.record.id) else None

    def refund(self, cost: float) -> None:
        self.law.worked()


BUDGETS: dict[str, Callable[[], Law]] = {
    "Finagle": Finagle,
    "Envoy": Envoy,
    "gRPC": Grpc,
    "SRE book": Sre,
    "AWS SDK": Aws,
}


# ---- limits: told of each call that ended, they return the limit


class Aimd:
    """One more for each answer while the limit binds; a tenth less for each that was lost, or took 5 s."""

    def __init__(self) -> None:
        self.limit = 20.0

    def ended(self, outcome: Outcome, inside: int) -> float:
        """Return the limit after a call that ended."""
        if not outcome.ok or outcome.seconds > 5.0:
            self.limit = max(1.0, self.limit * 0.9)
        elif inside * 2 >= self.limit:
            self.limit = min(1000.0, self.limit + 1)
        return self.limit


class Vegas:
    """The queue the least latency tells of, kept between 3 and 6 log10 of the limit."""

    def __init__(self) -> None:
        self.limit, self.least = 20.0, float("inf")

    def ended(self, outcome: Outcome, inside: int) -> float:
        """Return the limit after a call that ended."""
        scale = max(1.0, log10(self.limit))
        self.least = min(self.least, outcome.seconds) if outcome.ok else self.least
        queue = self.limit * (1 - self.least / outcome.seconds) if outcome.ok else 0.0
        if not outcome.ok or queue > 6 * scale:
            self.limit -= scale
        elif queue < 3 * scale and inside * 2 >= self.limit:
            self.limit += 6 * scale if queue <= scale else scale
        self.limit = min(1000.0, max(1.0, self.limit))
        return self.limit


class Gradient2:
    """The long average of the latency over the latest, a half tolerated, and a queue of the root of the limit."""

    def __init__(self) -> None:
        self.limit, self.long = 20.0, 0.0

    def ended(self, outcome: Outcome, inside: int) -> float:
        """Return the limit after a call that ended."""
        short = outcome.seconds
        self.long = short if self.long == 0 else self.long + (short - self.long) * 2 / 601
        if self.long > 2 * short:
            self.long *= 0.95
        if inside * 2 >= self.limit:
            gradient = max(0.5, min(1.0, 1.5 * self.long / short))
            self.limit = 0.8 * self.limit + 0.2 * (self.limit * gradient + max(4.0, sqrt(self.limit)))
        self.limit = min(1000.0, max(1.0, self.limit))
        return self.limit


LIMITS: dict[str, Callable[[], Any]] = {"AIMD": Aimd, "Vegas": Vegas, "Gradient2": Gradient2}
