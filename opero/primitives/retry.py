"""Retry: call again after a failure that may pass by itself.

1. `retries` counts calls after the first; each waits `wait`, spread by `jitter`. `stop` may end it sooner.
2. What `on` does not match passes through at once. Refusals by Opero itself are not retried unless named. The function
   has the last word: `RetryNow` is always retried, `DoNotRetry` never. `strategies` come before `on`.
3. A wait that would end after the deadline is not begun: the last error is raised instead, with reason `deadline`.
4. What an inner decorated function retried to its end, error or result, is not retried again, unless `nested=True`:
   three functions of three attempts each make three calls to a service that is down, not 27.
5. With a budget a token is reserved before the wait; it comes back when the retry succeeds, or never begins.
6. When retries are used up the user's own error passes through, with a note; an unwanted result is returned.
7. A generator is retried until it yielded its first item; with `generator="restart"` also later, from its first item.
"""

from __future__ import annotations

from abc import ABCMeta

from opero import conditions, stops, waits
from opero.errors import AllFailedError, ConfigurationError, OperoError, RetryNow
from opero.kinds import is_awaited
from opero.nested import given_up_inside, mark, mark_result, retried_inside
from opero.policy import NOT_AWAITED, Fragment, Policy, answered, boolean, choice, optional, whole
from opero.record import KEPT
from opero.signals import REJECTIONS, SECONDS, Event, Metric, Signals
from opero.strategies import FALLBACK, RETRY, ROTATE, Strategies, Strategy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any

    from opero.call import Call, Layer, Next
    from opero.conditions import Condition, ConditionLike
    from opero.loops import Attempts
    from opero.primitives.retry_budget import RetryBudget

WHY = {"attempts": "", "stop": "told to stop", "deadline": "no time left for another"}
WHY["hook_failed"] = "what says when to go on raised"
JITTERS = ("full", "equal", "none")
GENERATOR = ("first", "restart")
_AGAIN = (RETRY, ROTATE)

most: int | None = None  # attempts that any call makes: a test said so
DELAY = Metric("opero.retry.delay", "histogram", "s", "How long retries waited.", buckets=SECONDS)
SCHEDULED = Event(
    "opero.retry.scheduled",
    "info",
    "Another attempt follows after `delay` seconds.",
    ("attempt", "delay", "error"),
    follows=DELAY,
)
SUCCEEDED = Event("opero.retry.succeeded", "info", "An attempt after the first one succeeded.", ("attempts",))
EXHAUSTED = Event(
    "opero.retry.exhausted", "error", "No attempt is left, or no time for one.", ("attempts", "reason", "error")
)
NESTED = Event(
    "opero.retry.nested",
    "info",
    "Not retried: a decorated function inside had retried it to the end.",
    ("attempts", "inner", "error"),
)
SIGNALS = Signals("retry", (SCHEDULED, SUCCEEDED, EXHAUSTED, NESTED), (DELAY,), ("deadline",))


class Retry(Policy):
    """Call again after a failure.

    `retries` None means as often as `stop`, a rule of `opero.stops`, allows. `wait` is a strategy of `opero.waits`,
    seconds, or `function(n, outcome)`; with `jitter="full"` a wait of w becomes an even draw from 0 to w, with "equal"
    from w/2 to w. `on` says which errors are retried, and which results where its condition speaks of them; `on_result`
    is a predicate on the result; both may be coroutine functions around a coroutine function. `strategies` maps error
    classes to a `Strategy`. Holds no state but the budget's.

    Alone it repeats a block: `for attempt in Retry(...)`, `async for`, with `with attempt:` as the body.

    Example:
        >>> Retry(retries=5, on=(ConnectionError, TimeoutError)).retries
        5

    Source: Marc Brooker, "Exponential Backoff and Jitter", AWS Architecture Blog, 2015.
    """

    place = "retry"
    reads_arguments = False
    SIGNALS = SIGNALS

    retries: int | None
    wait: waits.Wait
    jitter: str
    on: ConditionLike
    on_result: Callable[[Any], object] | None
    stop: stops.Reached | None
    nested: bool
    generator: str
    budget: Policy | None
    condition: Condition
    is_async: bool
    table: Strategies
    flag: stops.Flag | None

    def __init__(
        self,
        retries: int | None = 3,
        *,
        wait: waits.WaitLike | None = None,
        jitter: str = "full",
        on: ConditionLike = Exception,
        on_result: Callable[[Any], object] | None = None,
        budget: RetryBudget | None = None,
        stop: stops.Reached | None = None,
        strategies: Mapping[Any, Strategy | str] | None = None,
        nested: bool = False,
        generator: str = "first",
        name: str | None = None,
    ) -> None:
        if budget is not None and getattr(budget, "place", None) != "retry_budget":
            raise ConfigurationError("budget", budget, "a RetryBudget, or None")
        if retries is None and stop is None:
            raise ConfigurationError("retries", retries, "a whole number, 0 or more; None only with stop=")
        self.freeze(
            retries=optional(whole, "retries", retries, low=0),
            wait=waits.exponential() if wait is None else waits.waiting("wait", wait),
            jitter=choice("jitter", jitter, JITTERS),
            on=on,
            on_result=on_result,
            budget=budget,
            stop=optional(stops.rule, "stop", stop),
            strategies=strategies,
            nested=boolean("nested", nested),
            generator=choice("generator", generator, GENERATOR),
            name=name,
        )
        self.start()

    def start(self) -> None:
        condition = conditions.of("on", self.on, awaits=True)
        if self.on_result is not None:
            condition |= conditions.of_result("on_result", self.on_result, awaits=True)
        self._keep(
            condition=condition,
            is_async=condition.is_async,
            table=Strategies(self.settings["strategies"]),
            flag=stops.flag(self.stop),
        )

    def parts(self) -> Iterable[Policy]:
        return () if self.budget is None else (self.budget,)

    def check(self, function: Callable[..., Any], places: Mapping[str, Policy]) -> None:
        for action, place in ((ROTATE, "arg_fallback"), (FALLBACK, "fallback")):
            if self.table.has(action) and place not in places:
                raise ConfigurationError("strategies", action, f"{action!r} only beside {place}=")

    def attach(self, function: Callable[..., Any]) -> Layer:
        if self.is_async and not is_awaited(function):
            field = "on" if conditions.awaited(self.on) else "on_result"
            raise ConfigurationError(field, self.settings[field], f"a predicate; {NOT_AWAITED}")
        return self.layer

    @property
    def minds_refusals(self) -> bool:  # type: ignore[override]
        """Whether it might retry one, or act on it: plain exception types do not, unless they are ours."""
        kinds = self.on if isinstance(self.on, tuple) else (self.on,)
        plain = all(isinstance(kind, type) and not issubclass(kind, OperoError) for kind in kinds)
        return not plain or bool(self.table.entries)

    @property
    def is_plain(self) -> bool:
        """Whether there are a few retries, after errors of some types, and nothing else to think of."""
        if self.minds_refusals or self.stop or self.condition.on_result or self.is_async:
            return False
        return 0 < (self.retries or 0) < KEPT and all(map(_by_type, conditions.kinds(self.on)))

    def fragment(self) -> Fragment | None:
        return Fragment() if self.condition.on_result is None and not self.is_async else None

    def delay(self, n: int, previous: float, outcome: object, wait: waits.Wait | None = None) -> float:
        """Seconds before the n-th retry."""
        wait, n = (wait or self.wait).part(n, outcome)
        delay = wait.delay(n, previous, outcome)
        if wait.jittered or self.jitter == "none":
            return delay
        return waits.uniform(delay / 2 if self.jitter == "equal" else 0.0, delay)

    def strategy(self, error: BaseException) -> Strategy | None:
        """Return what `strategies` say about an error."""
        return self.table.of(error)

    def matches(self, error: BaseException) -> bool:
        """Whether an error is to be retried."""
        strategy = self.strategy(error)
        return self.condition(error) if strategy is None else strategy.action in _AGAIN

    async def judge(self, error: BaseException) -> bool:
        """Say the same where the condition is a coroutine function."""
        strategy = self.strategy(error)
        return await self.condition.judge(error) if strategy is None else strategy.action in _AGAIN

    async def layer(self, call: Call, next: Next) -> Any:  # noqa: A002
        """Try until it succeeds, cannot succeed, or may not go on."""
        tries = _Tries(self, call)
        result: Any = None
        while True:
            tries.made += 1
            try:
                result = await next(call)
            except Exception as error:
                await call.judge(error)
                if await tries.go_on(error):
                    tries.last = error if self.flag is not None else None
                else:
                    raise
            else:
                asks = self.condition.on_result is not None and not call.committed()
                if not (asks and await call.agrees("retry.on_result", self.condition.unwanted, result)):
                    tries.succeed()
                    return result
                if not await tries.repeat(result):
                    return result
            if not await tries.wait():
                if tries.last is None:
                    mark_result(call, result)
                    return result
                break
        try:
            raise tries.last
        finally:
            tries.last = None  # its traceback holds this frame

    if not TYPE_CHECKING:  # type checkers refuse it by themselves

        def __enter__(self) -> None:
            raise ConfigurationError("with", self, "what guards one block; `for attempt in Retry(...)` repeats one")

        __exit__ = __aenter__ = __aexit__ = __enter__

    def __iter__(self) -> Attempts:
        return self._loop(is_async=False)

    def __aiter__(self) -> Attempts:
        return self._loop(is_async=True)

    def _loop(self, *, is_async: bool) -> Attempts:
        from importlib import import_module

        attempts: Attempts = import_module("opero.loops").attempts_of(self, is_async=is_async)  # a door, above us
        return attempts


class _Tries:
    """How far one call has come."""

    __slots__ = ("call", "counts", "delay", "last", "made", "policy", "reserved", "since")

    def __init__(self, policy: Retry, call: Call) -> None:
        self.policy = policy
        self.call = call
        record = call.record
        again = record.replay is None and record.attempts  # a layer further out asks anew
        self.since = call.runtime.now() if again else record.started
        self.made = 0 if again else record.made  # those of the failing path
        self.delay = record.delay
        record.why = ""
        self.last: Exception | None = None  # what the caller gets if there is no other attempt
        self.reserved = 0.0  # tokens of the budget for the attempt that comes, or runs
        self.counts: dict[Strategy | None, int] = {None: self.made}

    async def go_on(self, error: Exception) -> bool:
        """Whether another attempt follows this error."""
        call = self.call
        call.race_on()
        if call.uncalled(error):
            self._refund()
        if not call.retryable(error):
            if call.deadline is not None and call.deadline.hit and self.made > 1:
                mark(call, error)
            return False
        inner = None if self.policy.nested else retried_inside(call, error, self.since)
        if inner is not None:
            self._leave(inner, type(error).__name__)
            return False
        if await self.schedule(error, error):
            return True
        mark(call, error)
        return False

    async def repeat(self, result: object) -> bool:
        """Whether another attempt follows this unwanted result."""
        self.call.race_on()
        inner = None if self.policy.nested else given_up_inside(self.call, result, self.since)
        if inner is not None:
            self._leave(inner, "")
            return False
        if await self.schedule(result, None):
            return True
        mark_result(self.call, result)
        return False

    async def schedule(self, outcome: object, error: Exception | None) -> bool:
        """Plan the next attempt, or say why there is none."""
        call, name = self.call, type(error).__name__ if error is not None else ""
        last = error.errors[-1] if isinstance(error, AllFailedError) else error
        strategy = None if last is None else call.strategy(last)
        reason = self._refusal(strategy, outcome)
        if reason is None and not await self._pay(outcome):
            call.record.why = "the retry budget is spent"
            return False
        if reason is not None:
            call.record.why = WHY[reason]
            if reason == "deadline":
                call.operation.book.add(REJECTIONS, ("retry", reason))
            if self.policy.retries != 0:
                call.emit(EXHAUSTED, attempts=self.made, reason=reason, error=name)
            return False
        call.operation.book.observe(DELAY, (), self.delay)
        call.emit(SCHEDULED, attempt=self.made + 1, delay=self.delay, error=name)
        return True

    def succeed(self) -> None:
        """Say that it took more than one attempt, and that it was worth it."""
        self._refund()
        if self.made > 1:
            self.call.emit(SUCCEEDED, attempts=self.made)

    async def wait(self) -> bool:
        """Wait for the next attempt; whether there is one, or an event of `stop` was set."""
        call, flag = self.call, self.policy.flag
        call.record.delay = self.delay
        try:
            await call.runtime.pause(self.delay, flag)
            call.race_on()
        except BaseException:
            self._refund()
            raise
        if flag is None or not flag.is_set():
            self.last = None
            call.record.make_room()
            return True
        self._refund()
        name = type(self.last).__name__ if self.last is not None else ""
        call.record.why = WHY["stop"]
        call.emit(EXHAUSTED, attempts=self.made, reason="stop", error=name)
        if self.last is not None:
            mark(call, self.last)
        return False

    async def _pay(self, outcome: object) -> bool:
        """Take what the next attempt costs; the budget says so if it cannot."""
        budget: Any = self.call.operation.places.get("retry_budget")
        if budget is not None:
            cost = await budget.reserve(self.call, outcome)
            if cost is None:
                return False
            self.reserved = cost
        return True

    def _leave(self, inner: str, error: str) -> None:
        """Leave it at what a call inside gave up."""
        self.call.record.why = f"{inner} had retried it"
        self.call.emit(NESTED, attempts=self.made, inner=inner, error=error)

    def _refund(self) -> None:
        if self.reserved:
            budget: Any = self.call.operation.places["retry_budget"]
            budget.refund(self.reserved)

    def _refusal(self, strategy: Strategy | None, outcome: object) -> str | None:
        policy, call = self.policy, self.call
        own = strategy if strategy is not None and strategy.limit is not None else None
        limit = policy.retries if own is None else own.limit
        self.counts[own] = self.counts.get(own, 0) + 1
        if (limit is not None and self.counts[own] > limit) or (most is not None and self.made >= most):
            return "attempts"
        wait = None if strategy is None else strategy.wait
        hook, word = "retry.wait", call.word(outcome)
        try:
            delay = word.after if isinstance(word, RetryNow) else policy.delay(self.made, self.delay, outcome, wait)
            hook = "retry.stop"
            elapsed = call.runtime.now() - call.record.started
            if policy.stop is not None and answered(policy.stop(self.made, elapsed, delay)):
                return "stop"
        except Exception as failure:  # noqa: BLE001 - told, and noted on the error, which it must not hide
            call.hook_failed(hook, outcome, failure)
            return "hook_failed"
        if not call.time_for(delay):
            return "deadline"
        self.delay = delay
        return None


def _by_type(kind: type) -> bool:
    """Whether its type alone says if an error is one of these; some classes look at the error itself."""
    return type(kind).__instancecheck__ in (type.__instancecheck__, ABCMeta.__instancecheck__)
