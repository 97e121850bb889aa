"""RateLimit: keep calls within a quota, by the generic cell rate algorithm (GCRA).

One number says everything: `due`, the time at which the bucket would be full again. A call at `now` moves it one
interval on from `max(due, now)`. It may go at once while that lies no more than `burst` intervals ahead; else it is
that much too early.

1. A call too early waits until it is due, at most `wait` seconds and never past its deadline, or is refused.
2. A cancelled wait gives its place back, if nobody booked behind it.
"""

from __future__ import annotations

from _thread import allocate_lock
from math import ceil, inf

from opero import forks
from opero.errors import ConfigurationError, RateLimitedError
from opero.exclusive import exclusive
from opero.policy import Fragment, Policy, number, whole
from opero.signals import POLICY, SECONDS, Event, Metric, Signals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from opero.call import Call, Layer, Next
    from opero.policy import Observation

DELAYED = Event("opero.rate_limiter.delayed", "debug", "A call waits for its turn.", ("delay",))
WAITED = Metric(
    "opero.rate_limiter.wait.duration",
    "histogram",
    "s",
    "How long calls waited for their turn.",
    attributes=(POLICY,),
    buckets=SECONDS,
    zeros=[("",)],
)
LIMIT = Metric("opero.rate_limiter.limit", "gauge", "{call}/s", "Calls a second it admits.", attributes=(POLICY,))
AVAILABLE = Metric(
    "opero.rate_limiter.available", "gauge", "{permit}", "Calls it would admit at once.", attributes=(POLICY,)
)
SIGNALS = Signals("rate_limiter", (DELAYED,), (WAITED, LIMIT, AVAILABLE), ("rate_limited", "deadline"))


class RateLimit(Policy):
    """Admit `rate` calls per `per` seconds, `burst` of them at once (all of them unless given).

    `wait` is True, False (refuse with `RateLimitedError`), or the longest wait in seconds. `RateLimit(10, per=60)`
    admits 10 at once and then one each 6 s; with `burst=1` one each 6 s from the start. One instance on several
    functions is one quota for all threads and loops of the process.

    Source: ITU-T I.371 (2004), annex A.1.
    """

    place = "rate_limit"
    reads_arguments = False
    SIGNALS = SIGNALS

    rate: float
    per: float
    burst: int | None
    wait: bool | float
    bucket: Bucket

    def __init__(
        self,
        rate: float,
        per: float = 1.0,
        *,
        burst: int | None = None,
        wait: bool | float = True,
        name: str | None = None,
    ) -> None:
        if not isinstance(wait, bool):
            try:
                wait = number("wait", wait, low=0)
            except ConfigurationError as error:
                raise ConfigurationError("wait", wait, "True, False, or the longest wait in seconds") from error
        self._freeze(
            rate=number("rate", rate, above=0),
            per=number("per", per, above=0),
            burst=None if burst is None else whole("burst", burst, low=1),
            wait=wait,
            name=name,
        )
        self.start()

    def start(self) -> None:
        self.__dict__["bucket"] = Bucket(self.per / self.rate, self.burst or ceil(self.rate))

    def attach(self, function: Callable[..., Any]) -> Layer:
        return self.layer

    def fragment(self) -> Fragment:
        return Fragment(
            """\
due = bucket.due
if due < now:
    due = now
elif due > now + slack:
    HAND_OVER
bucket.due = due + interval""",
            names={"bucket": self.bucket, "slack": self.bucket.slack, "interval": self.bucket.interval},
            permit="True",
            passed=[(WAITED, (self.name or "",))],
        )

    def observe(self, now: float) -> Iterable[Observation]:
        yield LIMIT, (), self.rate / self.per
        yield AVAILABLE, (), self.bucket.available(now)

    async def layer(self, call: Call, next: Next) -> Any:  # noqa: A002
        """Wait for the turn, or refuse."""
        if call.record.permits.pop(self.place, None):
            call.operation.book.observe(WAITED, (self.name or "",), 0.0)
        else:
            await self._enter(call)
        return await next(call)

    async def _enter(self, call: Call) -> None:
        patience = inf if self.wait is True else float(self.wait)
        now = call.runtime.now()
        left = inf if call.deadline is None else call.deadline.at - now
        late = left < patience
        delay, due = self.bucket.book(now, min(left, patience))
        if due is None:
            raise call.reject(
                RateLimitedError(
                    f"{call.operation.name} is over {self.rate:g} calls per {self.per:g} s for another {delay:.3g} s",
                    primitive="rate_limiter",
                    reason="deadline" if late else "rate_limited",
                    retry_after=delay,
                )
            )
        if delay > 0:
            call.emit(DELAYED, delay=delay)
            try:
                await call.runtime.sleep(delay)
            except BaseException:
                self.bucket.give_back(due)
                raise
        call.operation.book.observe(WAITED, (self.name or "",), delay)


class Bucket:
    """The state: one number. Time is an argument. Nothing is called between a read of `due` and its write."""

    def __init__(self, interval: float, burst: int) -> None:
        self.interval = interval
        self.burst = burst
        self.slack = interval * (burst - 1)
        self.due = -inf
        self.after_fork()
        forks.remember(self)

    def after_fork(self) -> None:
        """Make the lock anew."""
        self._lock = allocate_lock()

    @exclusive
    def book(self, now: float, patience: float) -> tuple[float, float | None]:
        """Return how long to wait, and the booking; None if that is longer than `patience`."""
        due = self.due
        due = max(due, now)
        delay = due - now - self.slack
        if delay > patience:
            return delay, None
        self.due = due = due + self.interval
        return (delay if delay > 0 else 0.0), due

    @exclusive
    def give_back(self, due: float) -> None:
        """Undo the last booking."""
        if self.due == due:
            self.due -= self.interval

    def available(self, now: float) -> int:
        """How many calls would go at once."""
        return max(0, int(self.burst - max(0.0, self.due - now) / self.interval + 1e-9))
