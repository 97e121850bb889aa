"""Timeout: end a call whose answer would come too late.

1. A timeout is a deadline the call carries; the nearer of two holds. Whoever waits for the call, waits until then.
2. `seconds` bounds the whole call with its attempts and waits, `attempt` each attempt.
3. A coroutine is cancelled at the deadline. A thread cannot be: the caller goes on, the thread is counted to its end.
4. Decorated functions called inside inherit the deadline: they begin nothing after it and wait for nothing past it.
"""

from __future__ import annotations

from opero.blocks import Block
from opero.deadlines import Deadline
from opero.deadlines import deadline as around
from opero.errors import CallTimeout, ConfigurationError
from opero.kinds import is_awaited
from opero.policy import Fragment, Policy, choice, duration, unread
from opero.signals import Event, Metric, Signals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any, Literal

    from opero.call import Call, Layer, Next
    from opero.policy import Duration, Observation

EXPIRED = Event("opero.timeout.expired", "warning", "The deadline passed before the answer came.", ("scope", "seconds"))
ABANDONED = Metric(
    "opero.timeout.abandoned",
    "updown",
    "{thread}",
    "Threads of this process that still run after their caller's timeout.",
)
SIGNALS = Signals("timeout", (EXPIRED,), (ABANDONED,), ("queue_full",))

LEFT = "if within:\n    within.pop()\ndeadline.reset({this})"
ENDED = (
    LEFT.format(this="limit.token")
    + """
if limit.hit:
    limit.task.uncancel()
else:
    del limit.timer.pending[limit]"""
)

abandoned: Callable[[], int] = int  # the blocking driver puts its count here


class Timeout(Block, Policy):
    """Raise `CallTimeout` when the answer takes longer than `seconds`, or an attempt longer than `attempt` (seconds).

    One policy is one of the two; give two policies for both. Holds no state. `how` says what ends a blocking function:

    - `thread`: it runs in a spare thread, which is left behind. Stops waiting for anything, stops nothing from running.
    - `signal`: an alarm raises inside of it, on the main thread of a Unix process; elsewhere as `thread`. Cannot end a
      call into C that does not return.
    - `cooperative`: it runs in place, and only what it asks through Opero, or with `remaining()`, ends in time.

    A coroutine function is cancelled, and takes no other `how`. A `with` block is cooperative, an `async with` block is
    cancelled.

    Example:
        >>> Timeout(10.0).place, Timeout(attempt=2.0).place
        ('timeout', 'attempt_timeout')
    """

    minds_refusals = False
    reads_arguments = False
    SIGNALS = SIGNALS

    seconds: float | None
    attempt: float | None
    how: str

    def __init__(
        self,
        seconds: Duration | None = None,
        *,
        attempt: Duration | None = None,
        how: Literal["thread", "signal", "cooperative"] = "thread",
        name: str | None = None,
    ) -> None:
        if (seconds is None) == (attempt is None):
            raise ConfigurationError(
                "Timeout", (seconds, attempt), "either seconds or attempt=; pass two policies for both"
            )
        self.freeze(
            seconds=None if seconds is None else duration("timeout", seconds, above=0),
            attempt=None if attempt is None else duration("attempt_timeout", attempt, above=0),
            how=choice("how", how, ("thread", "signal", "cooperative")),
            name=name,
        )

    @property
    def place(self) -> str:  # type: ignore[override]
        """Around everything but fallback and cache, or around one attempt."""
        return "timeout" if self.attempt is None else "attempt_timeout"

    def check(self, function: Callable[..., Any], places: Mapping[str, Policy]) -> None:
        if is_awaited(function):
            unread("how", self.how, "thread", "around a coroutine function: it is cancelled, in its own task")

    def attach(self, function: Callable[..., Any]) -> Layer:
        return self.layer

    def fragment(self) -> Fragment | None:
        if self.how != "cooperative" or self.seconds is None:
            return None
        leave = LEFT.format(this="token")
        return Fragment(
            """\
if within and deadline.get() is not None:
    HAND_OVER
limit = Deadline(now + seconds, seconds, "timeout", "cooperative")
token = deadline.set(limit)
within.append(None)""",
            leave,
            check="if end >= limit.at:\n    raise limit.expire(operation)",
            fail=leave,
            undo=leave,
            names={"seconds": self.seconds, "Deadline": Deadline, "deadline": around},
        )

    def fragment_async(self) -> Fragment | None:
        if self.seconds is None:
            return None
        return Fragment(
            """\
if within and deadline.get() is not None:
    HAND_OVER
limit = begin(now + seconds, seconds, timers)
if limit is None:
    HAND_OVER""",
            ENDED,
            fail="error = judge(limit, error, operation)",
            undo=ENDED,
            names={"seconds": self.seconds, "deadline": around, "timers": {}},
        )

    def observe(self, now: float) -> Iterable[Observation]:
        yield ABANDONED, (), abandoned()

    async def layer(self, call: Call, next: Next) -> Any:  # noqa: A002
        """Pass the call on with a nearer deadline, if ours is nearer."""
        seconds = self.seconds or self.attempt or 0.0
        at = (call.runtime.now() if self.seconds is None else call.record.started) + seconds
        if call.deadline is not None and call.deadline.at <= at:
            return await next(call)
        deadline = Deadline(at, seconds, self.place, self.how)
        try:
            return await next(call.until(deadline))
        except CallTimeout:
            if deadline.hit:
                call.emit(EXPIRED, scope=deadline.scope, seconds=seconds)
            raise
