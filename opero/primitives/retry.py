"""Retry: call again after a failure that may pass by itself.

1. `retries` counts calls after the first; each waits `wait`, spread by `jitter`.
2. What `on` does not match passes through at once. Refusals by Opero itself are not retried unless named.
3. A wait that would end after the deadline is not begun: the last error is raised instead, with reason `deadline`.
4. When retries are used up the user's own error passes through, with a note; an unwanted result is returned.
"""

from __future__ import annotations

from opero import conditions, waits
from opero.errors import ConfigurationError
from opero.policy import Fragment, Policy, choice, whole
from opero.signals import REJECTIONS, SECONDS, Event, Metric, Signals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from opero.call import Call, Layer, Next
    from opero.conditions import Condition, ConditionLike

JITTERS = ("full", "equal", "none")

SCHEDULED = Event(
    "opero.retry.scheduled", "info", "Another attempt follows after `delay` seconds.", ("attempt", "delay", "error")
)
SUCCEEDED = Event("opero.retry.succeeded", "info", "An attempt after the first one succeeded.", ("attempts",))
EXHAUSTED = Event(
    "opero.retry.exhausted", "error", "No attempt is left, or no time for one.", ("attempts", "reason", "error")
)
DELAY = Metric("opero.retry.delay", "histogram", "s", "How long retries waited.", buckets=SECONDS)
SIGNALS = Signals("retry", (SCHEDULED, SUCCEEDED, EXHAUSTED), (DELAY,), ("deadline",))


class Retry(Policy):
    """Call again after a failure.

    `wait` is a strategy of `opero.waits`; with `jitter="full"` a wait of w becomes an even draw from 0 to w, with
    "equal" from w/2 to w. `on` says which errors are retried, `on_result` which results. Holds no state.

    Example:
        >>> Retry(retries=5, on=(ConnectionError, TimeoutError)).retries
        5

    Source: Marc Brooker, "Exponential Backoff and Jitter", AWS Architecture Blog, 2015.
    """

    place = "retry"
    reads_arguments = False
    SIGNALS = SIGNALS

    retries: int
    wait: waits.Wait
    jitter: str
    on: ConditionLike
    on_result: Callable[[Any], object] | None
    matches: Condition

    def __init__(
        self,
        retries: int = 3,
        *,
        wait: waits.Wait | None = None,
        jitter: str = "full",
        on: ConditionLike = Exception,
        on_result: Callable[[Any], object] | None = None,
    ) -> None:
        if wait is not None and not isinstance(wait, waits.Wait):
            raise ConfigurationError("wait", wait, "a strategy of opero.waits")
        if on_result is not None and not callable(on_result):
            raise ConfigurationError("on_result", on_result, "a predicate on the result, or None")
        conditions.of("on", on)
        self._freeze(
            retries=whole("retries", retries, low=0),
            wait=wait or waits.exponential(),
            jitter=choice("jitter", jitter, JITTERS),
            on=on,
            on_result=on_result,
        )
        self.start()

    def start(self) -> None:
        self.__dict__["matches"] = conditions.of("on", self.on)

    def attach(self, function: Callable[..., Any]) -> Layer:
        return self.layer

    def fragment(self) -> Fragment | None:
        return Fragment() if self.on_result is None else None

    def delay(self, n: int, previous: float, error: BaseException | None) -> float:
        """Seconds before the n-th retry."""
        delay = self.wait.delay(n, previous, error)
        if self.wait.jittered or self.jitter == "none":
            return delay
        return waits.uniform(delay / 2 if self.jitter == "equal" else 0.0, delay)

    async def layer(self, call: Call, next: Next) -> Any:  # noqa: A002
        """Try until it succeeds, cannot succeed, or may not go on."""
        tries, delay = 0, 0.0
        while True:
            tries += 1
            try:
                result = await next(call)
            except Exception as error:
                if not call.retryable(error):
                    raise
                planned = self._plan(call, tries, delay, error)
                if planned is None:
                    raise
            else:
                if self.on_result is None or not self.on_result(result):
                    if tries > 1:
                        call.emit(SUCCEEDED, attempts=tries)
                    return result
                planned = self._plan(call, tries, delay, None)
                if planned is None:
                    return result
            delay = call.record.delay = planned
            await call.runtime.sleep(delay)

    def _plan(self, call: Call, tries: int, previous: float, error: Exception | None) -> float | None:
        name = type(error).__name__ if error else ""
        if tries > self.retries:
            if self.retries:
                call.emit(EXHAUSTED, attempts=tries, reason="attempts", error=name)
            return None
        delay = self.delay(tries, previous, error)
        if not call.time_for(delay):
            call.operation.book.add(REJECTIONS, ("retry", "deadline"))
            call.emit(EXHAUSTED, attempts=tries, reason="deadline", error=name)
            return None
        call.operation.book.observe(DELAY, (), delay)
        call.emit(SCHEDULED, attempt=tries + 1, delay=delay, error=name)
        return delay
