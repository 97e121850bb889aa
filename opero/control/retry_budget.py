"""How much retries may add to the load: more while they help, little while they cannot.

1. Efficacy is the share of retries that brought a success. From .5 on the ratio rises by .01 a second; below .25 it is
   halved; between, it stays. It is judged on 10 retries and a second, or 10 seconds.
2. While a service is in trouble the ratio is .02 at once: an objective burns its error budget faster than allowed, a
   local limiter turns calls away, or a breaker is not closed.
3. When nothing was retried for 10 seconds and all is well it returns to where it began, by .01 a second.

Source: success-funded budgets as in gRPC (proposal A6, 2017); that overload outlives its cause where retries are not
bounded by what succeeds is in Bronson et al., "Metastable Failures in Distributed Systems", HotOS 2021.
"""

from __future__ import annotations

from typing import NamedTuple

from opero.control.law import Wish

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

PARAMETER = "retry_budget.ratio"
LEAST = 0.02
HELPS, HARMS = 0.5, 0.25  # efficacy
RISE = 0.01  # a second
ENOUGH = 10.0  # retries
PATIENCE = 10.0  # seconds
SOON = 1.0


class Snapshot(NamedTuple):
    """What happened since the last one; `burn` is how many times too fast the error budget is spent, None if unknown.

    `refused` are calls a local limiter turned away; `open` is 1 while a breaker is not closed.
    """

    now: float
    ratio: float
    retries: float
    recovered: float
    burn: float | None = None
    refused: float = 0.0
    open: float = 0.0


class RetryBudgetLaw:
    """Adapts the ratio of a retry budget; it returns to `ratio` when nothing is wrong."""

    name = "retry_budget"

    def __init__(self, ratio: float = 0.07) -> None:
        self._home = ratio
        self._since: float | None = None
        self._retries = self._recovered = 0.0

    def decide(self, snapshot: Snapshot) -> Sequence[Wish]:
        """Return where the ratio should be, or nothing while there is too little to judge."""
        self._retries += snapshot.retries
        self._recovered += snapshot.recovered
        if self._since is None:
            self._since = snapshot.now
        trouble = _trouble(snapshot)
        if trouble is not None:
            self._begin(snapshot.now)
            return [trouble]
        passed = snapshot.now - self._since
        if passed < SOON or (self._retries < ENOUGH and passed < PATIENCE):
            return []
        wish = self._judged(snapshot.ratio, min(passed, 2 * SOON))
        self._begin(snapshot.now)
        return [wish]

    def _judged(self, ratio: float, passed: float) -> Wish:
        inputs = {"retries": self._retries, "recovered": self._recovered}
        if not self._retries:
            step = RISE * passed
            return Wish(PARAMETER, ratio + max(-step, min(step, self._home - ratio)), "calm", inputs)
        inputs["efficacy"] = efficacy = min(1.0, self._recovered / self._retries)
        value = ratio + RISE * passed if efficacy >= HELPS else ratio / 2 if efficacy < HARMS else ratio
        return Wish(PARAMETER, value, "efficacy", inputs)

    def _begin(self, now: float) -> None:
        self._since = now
        self._retries = self._recovered = 0.0


def _trouble(snapshot: Snapshot) -> Wish | None:
    """Return the wish for the least there is, if the service, or what guards it, says that it has enough."""
    if snapshot.burn is not None and snapshot.burn > 1:
        return Wish(PARAMETER, LEAST, "slo_burn", {"burn": snapshot.burn})
    if snapshot.open:
        return Wish(PARAMETER, LEAST, "breaker", {"open": snapshot.open})
    if snapshot.refused:
        return Wish(PARAMETER, LEAST, "binding", {"refused": snapshot.refused})
    return None
