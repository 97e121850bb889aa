"""RateLimit: keep calls within a quota. The algorithm is in `opero.quota`.

1. A call too early waits until it is due, at most `wait` seconds and never past its deadline, or is refused. Who came
   first goes first.
2. A cancelled wait gives its place back: everyone behind it moves up.
3. With a store the quota is that of all processes. While the store is away each process has a quota of its own. With
   a lease a process takes several calls at once from the store, which go within a 4th of the time the burst takes.
4. With several rates a call goes when the slowest lets it. With `key` each key has a quota of its own.
"""

from __future__ import annotations

from math import ceil, inf

from opero import clock, keyed, stores
from opero.blocks import Block
from opero.errors import ConfigurationError, RateLimitedError
from opero.keyed import Keyed
from opero.policy import Fragment, Policy, asked, duration, instead, number, unread, whole
from opero.quota import LATE, Quota, Rate
from opero.runtime import run
from opero.signals import POLICY, SECONDS, Event, Metric, Signals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Sequence
    from typing import Any

    from opero.call import Call, Layer, Next
    from opero.limiters import AsyncLimiter, RateLimiter
    from opero.policy import Duration, Observation
    from opero.quota import Ticket
    from opero.stores import StateStore

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

UNITS = {"sec": 1.0, "second": 1.0, "min": 60.0, "minute": 60.0, "hr": 3600.0, "hour": 3600.0, "day": 86400.0}
UNITS |= {"week": 604800.0, "millisecond": 0.001}
UNITS |= {f"{unit}s": seconds for unit, seconds in UNITS.items()} | {"ms": 0.001, "s": 1.0, "h": 3600.0, "d": 86400.0}
PERIODS = {1.0: "a second", 60.0: "a minute", 3600.0: "an hour", 86400.0: "a day", 604800.0: "a week"}
WEIGHTS = "a number, 0 or more, or a function of the call's arguments"
RATES = 'calls per second as a number above 0, a text like "100/s", "10/min" or "10/s; 100/min", or a RateLimit'
IN_TEXTS = f"{RATES}; in texts the units are ms, s, min, h, day and week, also written out"
COUNTABLE = "a rate from 1e-308 to 1e308 calls a second, and a burst that comes back within 1e308 s"


class RateLimit(Block, Policy):
    """Admit `rate` calls per `per` seconds, `burst` of them at once (all of them unless given).

    `rate` may be a text, "100/s", "10 per minute", "5/10s", with several rates "10/s; 100/min"; then `burst` is that of
    the first. Or it is an `aiolimiter.AsyncLimiter`, or another `RateLimiter`. `wait` is True, False (refuse with
    `RateLimitedError`), or the longest wait in seconds. `weight` is how many calls one call counts for: a number, or a
    function of its arguments. `key`, a function of the arguments or the name of one, gives each key a quota of its own;
    `max_keys` bounds how many are kept.

    `RateLimit(10, per=60)` admits 10 at once and then one each 6 s; with `burst=1` one each 6 s from the start. In any
    T seconds at most rate·T + burst go. One instance on several functions is one quota for all threads and loops of
    the process; with `store`, a Redis URL, and a `name` it is one for all processes. With `lease` a process takes up to
    so many calls in one round trip, at most half the burst; three quarters of the burst can then go at once.
    """

    fills = ()
    place = "rate_limit"
    streams = True
    SIGNALS = SIGNALS

    rate: float | str | RateLimiter | AsyncLimiter
    per: float
    burst: int | None
    wait: bool | float
    key: str | Callable[..., Hashable] | None
    weight: float | Callable[..., float]
    store: str | StateStore | None
    lease: int | None
    max_keys: int
    limiter: RateLimiter
    local: Local | None

    def __init__(
        self,
        rate: float | str | RateLimiter | AsyncLimiter,
        per: Duration = 1.0,
        *,
        burst: int | None = None,
        wait: bool | Duration = True,
        key: str | Callable[..., Hashable] | None = None,
        weight: float | Callable[..., float] = 1,
        store: str | StateStore | None = None,
        lease: int | None = None,
        max_keys: int = 10_000,
        name: str | None = None,
    ) -> None:
        if isinstance(rate, str):
            unread("per", per, 1.0, 'beside a rate that is a text and has it: "10/60s" is 10 a minute')
            if len(rates := parsed("rate", rate)) == 1:
                rate, per = rates[0]
        elif isinstance(rate, bool | int | float) or not hasattr(rate, "acquire"):
            rate = _counted("rate", rate, RATES, above=0)
        else:
            from opero import limiters

            rate = limiters.checked(rate, per=per, burst=burst, key=key, store=store)
        if key is None:
            unread("max_keys", max_keys, 10_000, "without key=: it bounds how many are kept")
        self.freeze(
            rate=rate,
            per=duration("per", per, above=0),
            burst=None if burst is None else whole("burst", burst, low=1),
            wait=_wait(wait),
            key=keyed.checked("key", key),
            weight=asked("weight", weight, WEIGHTS) if callable(weight) else _counted("weight", weight, WEIGHTS, low=0),
            store=stores.checked("store", store, name),
            lease=None if lease is None else whole("lease", lease, low=1),
            max_keys=whole("max_keys", max_keys, low=1),
            name=name,
        )
        self.start()
        if self.local is not None and not self.local.is_countable():
            raise ConfigurationError("rate", str(self.local), COUNTABLE)
        if self.local is not None and not callable(self.weight):
            self.local.check(self.weight)
        if self.lease is not None and (self.local is None or self.store is None or 2 * self.lease > self.local.burst):
            most = "" if self.local is None else f" ({self.local.burst // 2})"
            raise ConfigurationError("lease", lease, f"with store= and a rate; at most half the burst{most}")

    def start(self) -> None:
        if isinstance(self.rate, str | int | float):
            rates = parsed("rate", self.rate) if isinstance(self.rate, str) else [(self.rate, self.per)]
            limiter: Any = Local(rates, self.burst, self.max_keys)
            self._keep(local=limiter)
            if self.store is not None:
                from opero.stores.limit import SharedLimit

                limiter = SharedLimit(
                    self.store, self.name or "", limiter, DELAYED, lease=self.lease, max_keys=self.max_keys
                )
            self._keep(limiter=limiter)
        else:
            from opero import limiters

            limiter = limiters.of(self.rate)
            self._keep(local=None, limiter=limiter, only_async=limiter.only_async)

    def peek(self, key: Hashable = None, weight: float = 1) -> tuple[int, float]:
        """Return how many calls would go at once, and in how many seconds one of this weight; make none.

        With a store that is a round trip, which blocks: coroutine functions await `apeek`.
        """
        return run(self._own().peek(key, number("weight", weight, low=0), awaits=False))  # type: ignore[no-any-return]

    async def apeek(self, key: Hashable = None, weight: float = 1) -> tuple[int, float]:
        """Do the same for a coroutine function."""
        return await self._own().peek(key, number("weight", weight, low=0), awaits=True)  # type: ignore[no-any-return]

    def reset(self, *keys: Hashable) -> None:
        """Let the whole burst go at once again, for some keys or for all; who waits keeps its time.

        With a store for all processes, in a round trip for each key, which blocks: coroutine functions await `areset`.
        A `StateError` says that the store did not hear of it; the quota of this process is reset all the same.
        """
        run(self._own(keys).reset(keys, awaits=False))

    async def areset(self, *keys: Hashable) -> None:
        """Do the same for a coroutine function."""
        await self._own(keys).reset(keys, awaits=True)

    def _own(self, keys: Sequence[Hashable] = (None,)) -> Any:
        if self.local is None:
            raise ConfigurationError("rate", self.rate, "a rate: another limiter cannot be peeked at, nor reset")
        if self.store is not None and self.key is not None and not keys:
            raise ConfigurationError("key", None, "keys, where processes share their quotas: limit.reset(key)")
        return self.limiter

    def can_share(self) -> bool:
        return self.store is None and self.local is not None

    def share(self, store: StateStore, name: str) -> None:
        from opero.stores.limit import SharedLimit

        limiter = SharedLimit(store, name, self.local, DELAYED, lease=None, max_keys=self.max_keys)
        self._keep(store=store, limiter=limiter)

    @property
    def reads_arguments(self) -> bool:  # type: ignore[override]
        """Whether it looks at a call's arguments."""
        return self.key is not None or callable(self.weight)

    def attach(self, function: Callable[..., Any]) -> Layer:
        key = None if self.key is None else keyed.reader("key", self.key, function)

        async def layer(call: Call, next: Next) -> Any:  # noqa: A002
            """Wait for the turn, or refuse."""
            if not call.passed(self.place, WAITED, self.name or ""):
                await self._enter(call, key and key(call.args, call.kwargs))
            return await next(call)

        return layer

    def fragment(self) -> Fragment | None:
        if self.lease is not None and not self.reads_arguments and self.weight == 1:
            shared: Any = self.limiter
            return Fragment(
                """\
if now > lease.until or lease.left < 1:
    HAND_OVER
lease.left -= 1""",
                names={"lease": shared.lease},
                held="True",
                passed=[(WAITED, (self.name or "",))],
            )
        bucket = None if self.local is None else self.local.quota.only
        if bucket is None or self.store is not None or self.reads_arguments or self.weight != 1:
            return None
        return Fragment(
            """\
due = bucket.due
if due < now:
    due = now
elif due > now + slack:
    HAND_OVER
bucket.due = due + interval""",
            names={"bucket": bucket, "slack": bucket.slack, "interval": bucket.interval},
            held="True",
            passed=[(WAITED, (self.name or "",))],
        )

    def observe(self, now: float) -> Iterable[Observation]:
        if self.local is not None:
            yield LIMIT, (), self.local.limit
            limiter: Any = self.limiter  # one in a store may know what is left for all
            shared = None if limiter is self.local else limiter.available(now)
            yield AVAILABLE, (), self.local.quota.available(now) if shared is None else shared

    async def _enter(self, call: Call, key: Hashable) -> None:
        call.begin()
        weight = self.weight
        if callable(weight):
            weight = number("weight", weight(*call.args, **call.kwargs), low=0)
            if self.local is not None:
                self.local.check(weight)
        patience = inf if self.wait is True else float(self.wait)
        left = inf if call.deadline is None else call.deadline.at - call.runtime.now()
        try:
            waited = await self.limiter.acquire(call, key, weight, min(left, patience))
        except RateLimitedError as error:
            error.primitive = "rate_limiter"
            error.reason = "deadline" if left < patience else "rate_limited"
            call.reject(error)
            raise
        call.operation.book.observe(WAITED, (self.name or "",), waited)


class Local:
    """The limiter of this process: a quota, or one for each key."""

    def __init__(self, rates: Sequence[tuple[float, float]], burst: int | None, max_keys: int) -> None:
        self.rates = [(count, per, ceil(count)) for count, per in rates]
        if burst is not None:
            self.rates[0] = (*rates[0], burst)
        self.limit = min(count / per for count, per in rates)
        self.burst = min(burst for _, _, burst in self.rates)
        self.quota = self._make()
        self._keyed = Keyed(self._make, max_keys, share=True, policy="RateLimit")

    def given(self) -> list[tuple[float, float]]:
        """Return interval and burst of each rate."""
        return [(per / count, burst) for count, per, burst in self.rates]

    def is_countable(self) -> bool:
        """Whether floats can tell when the next call may go, however many went."""
        return all(count / per < inf and per / count * burst < inf for count, per, burst in self.rates)

    def of(self, key: Hashable, now: float) -> Quota:
        """Return the quota of a key."""
        return self.quota if key is None else self._keyed.get(key, now)

    def check(self, weight: float) -> None:
        """Refuse what could never go."""
        if not self.quota.fits(weight):
            raise ConfigurationError(
                "weight", weight, f"at most burst ({self.burst}), else the call could never be made"
            )

    def refusal(self, name: str, wait: float) -> RateLimitedError:
        """Return what is raised where a call would wait too long."""
        left = f"; the next may go in {wait:.3g} s" if 0 < wait < inf else ""
        return RateLimitedError(f"{name} may make {self}{left}", retry_after=wait if wait < inf else None)

    async def peek(self, key: Hashable, weight: float, *, awaits: bool) -> tuple[int, float]:
        """Say how it stands."""
        self.check(weight)
        now = clock.now()
        quota = self.of(key, now)
        return quota.available(now), quota.wait(now, weight)

    async def reset(self, keys: Sequence[Hashable], *, awaits: bool) -> None:
        """Forget what was used."""
        now = clock.now()
        for quota in [self.of(key, now) for key in keys] if keys else [self.quota, *self._keyed.values()]:
            quota.reset()

    async def acquire(self, call: Call, key: Hashable, weight: float, patience: float) -> float:
        """Wait for a ticket's time."""
        started = call.runtime.now()
        quota = self.of(key, started)
        delay, ticket = quota.book(started, patience, weight)
        if ticket is None:
            raise self.refusal(call.operation.name, delay)
        if delay <= 0:
            return 0.0
        try:
            call.emit(DELAYED, delay=delay)
            await self._turn(call, quota, ticket, started + patience)
        except BaseException:
            quota.give_back(ticket)
            raise
        return call.runtime.now() - started

    async def _turn(self, call: Call, quota: Quota, ticket: Ticket, until: float) -> None:
        """Wait for a ticket's time, which moves up when somebody before it leaves, and on when somebody is late.

        Refuse if it moves on beyond `until`.
        """
        runtime = call.runtime
        until = until + LATE if call.deadline is None else min(until + LATE, call.deadline.at)
        while True:
            call.begin()
            waiter, now = runtime.waiter(), runtime.now()
            at, first = (inf, False) if now > until else quota.turn(ticket, waiter, now)
            if at <= now:
                return
            if at > until:
                quota.give_back(ticket)
                raise self.refusal(call.operation.name, quota.wait(now, ticket.weight))
            if clock.hurried:
                await runtime.pause(at - now)
                quota.go(ticket, at)
                return
            if first:
                await runtime.pause(at - now)
            else:
                await runtime.park(waiter, at)

    def _make(self) -> Quota:
        return Quota(Rate(*rate) for rate in self.rates)

    def __str__(self) -> str:
        return " and ".join(_written(count, per) for count, per, _ in self.rates)


def _counted(field: str, value: Any, allowed: str, **bounds: Any) -> float:
    try:
        return number(field, value, **bounds)
    except ConfigurationError as error:
        raise ConfigurationError(field, value, instead(error, allowed)) from None


def parsed(field: str, text: str) -> list[tuple[float, float]]:
    """Read rates as they are written; return each as a count and seconds."""
    rates = [_rate(part) for part in text.replace(",", ";").split(";")]
    if not all(rates):
        raise ConfigurationError(field, text, IN_TEXTS)
    return rates  # type: ignore[return-value]


def _rate(text: str) -> tuple[float, float] | None:
    """Read "5/10s" or "5 per 10 seconds"; None if it cannot be read."""
    count, _, unit = text.lower().replace(" per ", "/").partition("/")
    unit = unit.strip()
    name = unit.lstrip("0123456789. ")
    try:
        rate, times = float(count), float(unit.removesuffix(name) or 1)
    except ValueError:
        return None
    per = UNITS.get(name, 0.0) * times
    return (rate, per) if 0 < rate < inf and 0 < per < inf else None


def _written(count: float, per: float) -> str:
    """Say a rate in words."""
    return f"{count:g} call{'' if count == 1 else 's'} {PERIODS.get(per) or f'in {per:g} s'}"


def _wait(value: Any) -> bool | float:
    if isinstance(value, bool):
        return value
    try:
        return duration("wait", value, low=0)
    except ConfigurationError as error:
        raise ConfigurationError("wait", value, "True, False, or the longest wait in seconds") from error
