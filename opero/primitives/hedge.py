"""Hedge: when an answer is late, ask a second time, and take what comes first.

1. A second attempt starts when the first has not ended after `delay` seconds, a third after as long again, up to
   `max_hedges` more. The first success is the answer; the others are cancelled.
2. A failure before that is a failure: it is for the retry. Once hedged, the call fails when all its attempts have.
3. A percentile ("p95") is learnt from the last 1000 to 2000 answers, and nothing is hedged before 20 of them.
4. Each hedge takes a token of the retry budget, if there is one, and gives it back if it wins.
5. A task is cancelled. A thread cannot be: it is left to its end, counted, and there is a limit to those.

Source: Jeffrey Dean, Luiz André Barroso, "The Tail at Scale", CACM 56(2), 2013.
"""

from __future__ import annotations

from collections import deque

from opero import forks
from opero.call import Race
from opero.errors import ConfigurationError
from opero.policy import Policy, duration, is_duration, whole
from opero.runtime import adopt
from opero.signals import Event, Metric, Signals
from opero.windows import LatencyHistogram

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from opero.call import Call, Layer, Next
    from opero.policy import Duration
    from opero.runtime import Branch, Waiter

LAUNCHED = Event("opero.hedge.launched", "debug", "A late call is made once more.", ("number", "delay"))
WON = Event("opero.hedge.won", "debug", "The hedge answered first.", ("number", "duration"))
REQUESTS = Metric(
    "opero.hedge.requests",
    "counter",
    "{request}",
    "Hedges by what became of them.",
    attributes=("opero.hedge.result",),
    zeros=[("won",), ("lost",), ("cancelled",)],
)
SIGNALS = Signals("hedge", (LAUNCHED, WON), (REQUESTS,))

ALLOWED = 'seconds, or a percentile such as "p95"'
ENOUGH = 20  # answers before a percentile means something
GENERATION = 1000  # answers after which older ones begin to be forgotten
BURST = 100.0  # hedges in a row beyond their share: what waits behind one slow request is late together
SHARE = 1.12  # hedges an answer, of those a percentile names: luck of one sort is not saved up for the other


class Hedge(Policy):
    """Ask again when there is no answer after `delay`: seconds, or a percentile of the answers so far, such as "p95".

    At most `max_hedges` more attempts run beside the first; p95 means 5.6 % more calls at most, also while all are
    slow. Only for functions that may run twice. Plain functions run in other threads then. The learnt latencies are
    shared by who shares the policy.

    Example:
        >>> Hedge("p95", max_hedges=2).max_hedges
        2
    """

    place = "hedge"
    SIGNALS = SIGNALS

    delay: float | str
    max_hedges: int
    latencies: Latencies

    def __init__(self, delay: Duration | str, *, max_hedges: int = 1, name: str | None = None) -> None:
        share = _share(delay)
        self.freeze(
            delay=duration("delay", delay, low=0) if share is None else delay,
            max_hedges=whole("max_hedges", max_hedges, low=1),
            name=name,
        )
        self.start()

    def start(self) -> None:
        self._keep(latencies=Latencies(_share(self.delay)))

    def attach(self, function: Callable[..., Any]) -> Layer:
        return self.layer

    def after(self) -> float | None:
        """Seconds until a hedge; None while that is not known."""
        return self.delay if isinstance(self.delay, float) else self.latencies.quantile()

    async def layer(self, call: Call, next: Next) -> Any:  # noqa: A002
        """Race the call against copies of itself."""
        delay = self.after()
        race = _Race(self, call, next)
        if delay is None or not race.start(0.0):
            started = call.runtime.now()
            result = await next(call)
            self.latencies.add(call.runtime.now() - started)
            return result
        try:
            return await race.run(delay)
        finally:
            await race.end()


class _Race:
    """The attempts of one call, side by side. `done` comes from any thread, everything else from the caller's."""

    def __init__(self, policy: Hedge, call: Call, next: Next) -> None:  # noqa: A002
        self.policy = policy
        self.call = call
        self.next = next
        self.runners: list[_Runner] = []
        self.ended: deque[_Runner] = deque()
        self.waiter: Waiter | None = None
        self.winner: _Runner | None = None
        self.closed = False  # to more hedges
        self.race = Race()

    async def run(self, delay: float) -> Any:
        """Return the first success, or raise what the first attempt ended with."""
        now = self.call.runtime.now
        due = now() + delay
        while True:
            ended = await self.first(None if self.closed else due)
            if ended is None:
                await self.hedge(delay)
                due = now() + delay
                continue
            error = ended.branch.error
            if error is None:
                self.win(ended)
                adopt(ended.branch.context)
                return ended.branch.value
            if not isinstance(error, Exception) or all(runner.branch.ended for runner in self.runners):
                first = self.runners[0].branch.error
                try:
                    raise error if first is None or not isinstance(error, Exception) else first
                finally:
                    del error, first  # their tracebacks hold this frame
            self.closed = True

    def start(self, cost: float) -> bool:
        """Begin one more attempt; whether there was room for it."""
        runtime = self.call.runtime
        if not runtime.may_fork():
            return False
        runner = _Runner(len(self.runners), runtime.now(), cost)

        def done() -> None:
            self.ended.append(runner)
            if self.waiter is not None:
                self.waiter.wake()

        layers: Any = self.next(self.call.racing(self.race))
        try:
            runner.branch = runtime.fork(layers, done)
        except RuntimeError:  # the system has no more threads
            layers.close()
            return False
        self.runners.append(runner)
        return True

    async def first(self, until: float | None) -> _Runner | None:
        """Wait for one that ended; None when time is up."""
        self.waiter = self.call.runtime.waiter()
        if not self.ended:
            await self.call.runtime.park(self.waiter, until)
        return self.ended.popleft() if self.ended else None

    async def hedge(self, delay: float) -> None:
        """Begin a hedge, if the budget has a token and there is room."""
        call = self.call
        if not call.time_for(0.0) or not self.policy.latencies.spend():
            self.closed = True
            return
        budget: Any = call.operation.places.get("retry_budget")
        cost = 0.0 if budget is None else await budget.reserve(call, None)
        began = cost is not None and self.start(cost)
        if began:
            call.emit(LAUNCHED, number=len(self.runners) - 1, delay=delay)
        elif budget is not None and cost is not None:
            budget.refund(cost)
        self.closed = not began or len(self.runners) > self.policy.max_hedges

    def win(self, runner: _Runner) -> None:
        """Note the answer."""
        took = self.call.runtime.now() - runner.started
        self.winner = runner
        self.policy.latencies.add(took)
        if runner.number:
            budget: Any = self.call.operation.places.get("retry_budget")
            if budget is not None:
                budget.refund(runner.cost)
            self.call.emit(WON, number=runner.number, duration=took)

    async def end(self) -> None:
        """Cancel who still runs, and count."""
        self.race.over = True
        running = [runner for runner in self.runners if not runner.branch.ended]
        for runner in running:
            if self.winner is not None and not runner.number:
                self.policy.latencies.add(self.call.runtime.now() - runner.started)
            runner.branch.cancel()
        for runner in self.runners[1:]:
            result = "won" if runner is self.winner else "cancelled" if runner in running else "lost"
            self.call.operation.book.add(REQUESTS, (result,))
        if running:
            await self.call.runtime.let_go([runner.branch for runner in running])
        for runner in self.runners:
            runner.branch.error = None  # its frames lead back here


class _Runner:
    """One attempt in the race; number 0 is the call itself."""

    __slots__ = ("branch", "cost", "number", "started")

    branch: Branch

    def __init__(self, number: int, started: float, cost: float) -> None:
        self.number = number
        self.started = started
        self.cost = cost


class Latencies:
    """How long answers took: the last 1000 to 2000 of them."""

    def __init__(self, share: float | None) -> None:
        self.share = share
        self.after_fork()
        forks.remember(self)

    def after_fork(self) -> None:
        """Learn anew."""
        self._now, self._before = LatencyHistogram(), LatencyHistogram()
        self._count = self._old = 0
        self._allowed = BURST

    def add(self, seconds: float) -> None:
        """Count an answer. Two threads at once may lose one of a thousand: this is no ledger."""
        if self.share is None:
            return
        self._now.add(seconds)
        self._count += 1
        self._allowed = min(BURST, self._allowed + SHARE * (1 - self.share))
        if self._count >= GENERATION:
            self._before, self._now = self._now, LatencyHistogram()
            self._old, self._count = self._count, 0

    def spend(self) -> bool:
        """Take one hedge of the share of answers that may have one: a percentile lags when everything gets slower."""
        if self.share is None:
            return True
        if self._allowed < 1:
            return False
        self._allowed -= 1
        return True

    def quantile(self) -> float | None:
        """Seconds that the share of answers took at most; None while there are too few."""
        if self.share is None or self._count + self._old < ENOUGH:
            return None
        both = LatencyHistogram()
        both.merge(self._before.counts)
        both.merge(self._now.counts)
        return both.quantiles((self.share,))[0]


def _share(delay: object) -> float | None:
    """Read "p95" as .95; None for a number."""
    if not isinstance(delay, str):
        if not is_duration(delay):
            raise ConfigurationError("delay", delay, ALLOWED)
        return None
    try:
        percent = float(delay.removeprefix("p")) if delay.startswith("p") else 0.0
    except ValueError:
        percent = 0.0
    if not 0 < percent < 100:
        raise ConfigurationError("delay", delay, ALLOWED)
    return percent / 100
