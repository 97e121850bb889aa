"""RetryBudget: bound what retries may add to the load, by what succeeds.

Tokens pay for retries and hedges. In t seconds with s successes that needed neither, `ratio * s + min_per_second * t`
come in; they are kept up to a cap of 10 s of what comes in from successes, between 10 and `cap`.

1. A token is reserved before the wait. It comes back if the retry succeeds, or never begins.
2. A retry after the service said it is too busy costs 0.35: it will be let in, or turned away cheaply.
3. While everything fails nothing comes in but the trickle: so retries end when they would keep a service down.

At 1000 calls a second an outage gets 200 retries at first, and then one each 10 s; with 10 % of single failures each
one is retried, because successful retries cost nothing.

Source: success-funded budgets as in gRPC (proposal A6, 2017) and the AWS SDKs' retry mode; that those fed by requests
keep an overload going is in Bronson et al., "Metastable Failures in Distributed Systems", HotOS 2021.
"""

from __future__ import annotations

from _thread import allocate_lock
from math import exp

from opero import clock, forks, responses
from opero.errors import RetryBudgetExhausted
from opero.exclusive import exclusive
from opero.knobs import Knob
from opero.policy import Fragment, Policy, choice, controlled, number
from opero.signals import POLICY, REJECTIONS, Event, Metric, Signals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from opero.call import Call, Layer, Next
    from opero.policy import Observation

EXHAUSTED = Event(
    "opero.retry.budget_exhausted", "warning", "The budget had no token for another attempt.", ("utilization",)
)
UTILIZATION = Metric(
    "opero.retry.budget.utilization",
    "gauge",
    "1",
    "The share of the retry budget that is spent.",
    attributes=(POLICY,),
)
SIGNALS = Signals("retry", (EXHAUSTED,), (UTILIZATION,), ("retry_budget",))

COST, THROTTLED_COST = 1.0, 0.35
HORIZON = 10.0  # seconds over which successes are counted
FLOOR = 10.0  # tokens a budget may keep however little succeeds


class RetryBudget(Policy):
    """Let retries add about `ratio` of what succeeds, and `min_per_second` besides; keep at most `cap` tokens.

    Give it to `Retry(budget=...)`, `retry_budget=` or by position; hedges draw on it too. One instance on several
    functions is one budget. Where it is spent the caller gets the function's own error; `spend()` is for code that
    retries by itself. With `control="adaptive"` the ratio follows how much retries help, between 0.02 and 0.2; in
    `shadow` that is only told.

    Example:
        >>> RetryBudget().ratio
        0.07
    """

    place = "retry_budget"
    reads_arguments = False
    streams = True
    SIGNALS = SIGNALS

    ratio: float
    min_per_second: float
    cap: float
    control: str | None
    shadow: bool
    tokens: Tokens

    def __init__(
        self,
        ratio: float = 0.07,
        *,
        min_per_second: float = 0.1,
        cap: float = 200.0,
        control: str | None = None,
        shadow: bool = False,
        name: str | None = None,
    ) -> None:
        self._freeze(
            ratio=number("ratio", ratio, low=0, high=1),
            min_per_second=number("min_per_second", min_per_second, low=0),
            cap=number("cap", cap, low=1),
            control=controlled(control),
            shadow=choice("shadow", shadow, (True, False)),
            name=name,
        )
        self.start()

    def start(self) -> None:
        self.__dict__["tokens"] = Tokens(self.ratio, self.min_per_second, self.cap)

    def attach(self, function: Callable[..., Any]) -> Layer:
        return self.layer

    def fragment(self) -> Fragment:
        return Fragment(settle="funding[0] += 1", names={"funding": self.tokens.funding})

    def observe(self, now: float) -> Iterable[Observation]:
        yield UTILIZATION, (), self.tokens.utilization(now)

    async def layer(self, call: Call, next: Next) -> Any:  # noqa: A002
        """Take what a success brings in."""
        result = await next(call)
        if len(call.record.attempts) == 1:
            self.tokens.fund()
        return result

    def reserve(self, call: Call, outcome: object) -> float | None:
        """Take what an attempt after this outcome costs, and return it; None, and say so, if there is too little."""
        now = call.runtime.now()
        busy = responses.status(outcome) == 429 or responses.retry_after(outcome, 0.0) is not None
        cost = THROTTLED_COST if busy else COST
        if self.tokens.reserve(now, cost):
            return cost
        call.operation.book.add(REJECTIONS, ("retry", "retry_budget"))
        call.emit(EXHAUSTED, utilization=self.tokens.utilization(now))
        return None

    def refund(self, cost: float) -> None:
        """Give tokens back."""
        self.tokens.refund(cost)

    def spend(self) -> None:
        """Take the token of one retry that is made by hand; raise `RetryBudgetExhausted` if there is none."""
        if not self.tokens.reserve(clock.now(), COST):
            raise RetryBudgetExhausted(
                "the retry budget is spent",
                primitive="retry",
                operation=self.name or "",
                reason="retry_budget",
                retry_after=self.tokens.wait_for(COST),
            )


class Tokens:
    """The state: tokens, and how much succeeded of late. Time is an argument; the lock is held for arithmetic only.

    Successes are only counted (`funding[0] += 1`), and turned into tokens when somebody asks for some.
    """

    def __init__(self, ratio: float, min_per_second: float, cap: float) -> None:
        self.ratio = Knob("retry_budget.ratio", ratio, low=min(ratio, 0.02), high=max(ratio, 0.2))
        self.min_per_second = min_per_second
        self.most = cap
        self.left = self.cap = min(FLOOR, cap)
        self.successes = 0.0  # of the last `HORIZON` seconds, fading
        self.since: float | None = None
        self.funding = [0]
        self.after_fork()
        forks.remember(self)

    def after_fork(self) -> None:
        """Make the lock anew."""
        self._lock = allocate_lock()

    @exclusive
    def fund(self) -> None:
        """Count a success that needed one attempt."""
        self.funding[0] += 1

    def reserve(self, now: float, cost: float) -> bool:
        """Take so many tokens, if there are."""
        with self._lock:
            self._gather_locked(now)
            if self.left + 1e-9 < cost:
                return False
            self.left -= cost
            return True

    def refund(self, cost: float) -> None:
        """Put tokens back."""
        with self._lock:
            self.left = min(self.cap, self.left + cost)

    def utilization(self, now: float) -> float:
        """Return the share that is spent, from 0 to 1."""
        with self._lock:
            self._gather_locked(now)
            return min(1.0, max(0.0, 1.0 - self.left / self.cap))

    def wait_for(self, cost: float) -> float | None:
        """Seconds until the trickle alone brings so many; None without one."""
        with self._lock:
            return max(0.0, cost - self.left) / self.min_per_second if self.min_per_second else None

    def _gather_locked(self, now: float) -> None:
        passed = 0.0 if self.since is None else max(0.0, now - self.since)
        self.since = now
        count = self.funding[0]
        self.funding[0] -= count
        faded = exp(-passed / HORIZON)
        spread = HORIZON * (1.0 - faded) / passed if passed else 1.0  # as if they had come evenly
        self.successes = self.successes * faded + count * spread
        ratio = self.ratio.value
        self.cap = min(self.most, max(FLOOR, ratio * self.successes))
        self.left = min(self.cap, self.left + ratio * count + self.min_per_second * passed)
