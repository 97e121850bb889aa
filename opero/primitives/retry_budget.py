"""RetryBudget: bound what retries may add to the load, by what succeeds.

Tokens pay for retries and hedges. In t seconds with s successes that needed neither, `ratio * s + min_per_second * t`
come in; they are kept up to a cap of 10 s of what comes in from successes, between 10 and `cap`.

1. A token is reserved before the wait. It comes back if the retry succeeds, or never begins.
2. A retry after the service said it is too busy costs 0.35: it will be let in, or turned away cheaply.
3. While everything fails nothing comes in but the trickle: so retries end when they would keep a service down.
4. With a store the tokens are those of all processes. While the store is away each process has tokens of its own.

At 1000 calls a second an outage gets 200 retries at first, and then one each 10 s; with 10 % of single failures each
one is retried, because successful retries cost nothing.

Source: success-funded budgets as in gRPC (proposal A6, 2017) and the AWS SDKs' retry mode; that those fed by requests
keep an overload going is in Bronson et al., "Metastable Failures in Distributed Systems", HotOS 2021.
"""

from __future__ import annotations

from opero import clock, responses, stores
from opero.errors import RetryBudgetExhausted
from opero.policy import Fragment, Policy, boolean, controlled, number, unread
from opero.signals import POLICY, REJECTIONS, Event, Metric, Signals
from opero.tokens import Tokens

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from opero.call import Call, Layer, Next
    from opero.policy import Observation
    from opero.stores import StateStore
    from opero.stores.shared import SharedTokens

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
TELL = 100  # successes after which a process tells the store, if it has not asked it for a token before


class RetryBudget(Policy):
    """Let retries add about `ratio` of what succeeds, and `min_per_second` besides; keep at most `cap` tokens.

    Give it to `Retry(budget=...)`, `retry_budget=` or by position; hedges draw on it too. One instance on several
    functions is one budget; with `store`, a Redis URL, and a `name` it is one for all processes. Where it is spent the
    caller gets the function's own error; `spend()` is for code that retries by itself. With `control="adaptive"` the
    ratio follows how much retries help, between 0.02 and 0.2; in `shadow` that is only told.

    Example:
        >>> RetryBudget().ratio
        0.07
    """

    place = "retry_budget"
    turned = ("ratio",)
    reads_arguments = False
    streams = True
    SIGNALS = SIGNALS

    min_per_second: float
    cap: float
    control: str | None
    shadow: bool
    store: str | StateStore | None
    tokens: Tokens
    shared: SharedTokens | None

    def __init__(
        self,
        ratio: float = 0.07,
        *,
        min_per_second: float = 0.1,
        cap: float = 200.0,
        control: str | None = None,
        shadow: bool = False,
        store: str | StateStore | None = None,
        name: str | None = None,
    ) -> None:
        if control is None:
            unread("shadow", shadow, False, "without control=: nothing turns the ratio")
        self.freeze(
            ratio=number("ratio", ratio, low=0, high=1),
            min_per_second=number("min_per_second", min_per_second, low=0),
            cap=number("cap", cap, low=1),
            control=controlled(control),
            shadow=boolean("shadow", shadow),
            store=stores.checked("store", store, name),
            name=name,
        )
        self.start()

    def start(self) -> None:
        self._keep(tokens=Tokens(self.settings["ratio"], self.min_per_second, self.cap), shared=None)
        if self.store is not None:
            from opero.stores.shared import SharedTokens

            self._keep(shared=SharedTokens(self.store, self.name or "", self.tokens))

    @property
    def ratio(self) -> float:
        """How much retries may add now, as a share of what succeeds."""
        return self.tokens.ratio.value

    def can_share(self) -> bool:
        return self.store is None and self.control is None

    def share(self, store: StateStore, name: str) -> None:
        from opero.stores.shared import SharedTokens

        self._keep(store=store, shared=SharedTokens(store, name, self.tokens))

    def attach(self, function: Callable[..., Any]) -> Layer:
        return self.layer

    def fragment(self) -> Fragment:
        settle, names = "funding[0] += 1", {"funding": self.tokens.funding}
        if self.shared is None:
            return Fragment(settle=settle, names=names)
        return Fragment(
            settle=f"{settle}\nif funding[0] >= {TELL}:\n    tell()", names=names | {"tell": self.shared.tell}
        )

    def observe(self, now: float) -> Iterable[Observation]:
        yield UTILIZATION, (), self._utilization(now)

    async def layer(self, call: Call, next: Next) -> Any:  # noqa: A002
        """Take what a success brings in."""
        result = await next(call)
        if call.record.made == 1:
            self.tokens.fund()
            if self.shared is not None and self.tokens.funding[0] >= TELL:
                self.shared.tell()
        return result

    async def reserve(self, call: Call, outcome: object) -> float | None:
        """Take what an attempt after this outcome costs, and return it; None, and say so, if there is too little."""
        now = call.runtime.now()
        busy = responses.status(outcome) == 429 or responses.retry_after(outcome, 0.0) is not None
        cost = THROTTLED_COST if busy else COST
        paid = None if self.shared is None else await self.shared.reserve(call, cost)
        if paid is None and self.tokens.reserve(now, cost):
            return cost
        if paid:
            return paid
        call.operation.book.add(REJECTIONS, ("retry", "retry_budget"))
        call.emit(EXHAUSTED, utilization=self._utilization(now))
        return None

    def refund(self, cost: float) -> None:
        """Give tokens back to where they came from."""
        (self.tokens if self.shared is None else self.shared).refund(cost)

    def spend(self) -> None:
        """Take the token of one retry that is made by hand; raise `RetryBudgetExhausted` if there is none.

        With a store it blocks for a round trip.
        """
        paid = None if self.shared is None else self.shared.spend(COST)
        if not (self.tokens.reserve(clock.now(), COST) if paid is None else paid):
            raise RetryBudgetExhausted(
                "the retry budget is spent",
                primitive="retry",
                operation=self.name or "",
                reason="retry_budget",
                retry_after=self.tokens.wait_for(COST),
            )

    def _utilization(self, now: float) -> float:
        heard = None if self.shared is None else self.shared.utilization
        return self.tokens.utilization(now) if heard is None else heard
