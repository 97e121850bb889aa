"""One call on its way through the layers. A local object: nothing here is shared between calls."""

from __future__ import annotations

from opero import conditions, events
from opero.errors import (
    AllFailedError,
    DoNotRetry,
    Rejected,
    RetryNow,
    Stopped,
    Unwanted,
    bare,
    belongs,
    claim,
    note,
)
from opero.record import KEPT, Record
from opero.signals import (
    ATTEMPT_OUTCOME,
    ATTEMPTS,
    ERROR,
    EVENTS,
    OUTCOME,
    REJECTIONS,
    SECONDS,
    Event,
    Metric,
    Signals,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from typing import Any, Protocol

    from opero.deadlines import Deadline
    from opero.pipeline import Operation
    from opero.runtime import Runtime
    from opero.strategies import Strategy

    class Left(Protocol):
        """A function that goes on."""

        def then(self, work: Callable[[], object]) -> None:
            """Do this when it has ended, or now."""

    Next = Callable[["Call"], Awaitable[Any]]
    Layer = Callable[["Call", Next], Awaitable[Any]]

STARTED = Event("opero.call.started", "debug", "A call began.")
FINISHED = Event("opero.call.finished", "debug", "A call ended.", ("outcome", "duration", "attempts", "error"))
REJECTED = Event(
    "opero.call.rejected", "warning", "The function was not called.", ("primitive", "reason", "retry_after")
)
ATTEMPT_STARTED = Event("opero.attempt.started", "debug", "The function is about to be called.", ("number", "delay"))
ATTEMPT_FINISHED = Event(
    "opero.attempt.finished", "debug", "The function returned or raised.", ("number", "outcome", "duration", "error")
)
HOOK_FAILED = Event(
    "opero.call.hook_failed",
    "error",
    "A function of yours that was asked about an outcome raised; that is a no, and the outcome passes through.",
    ("hook", "error"),
)

DURATION = Metric(
    "opero.call.duration",
    "histogram",
    "s",
    "How long calls took, waits included.",
    attributes=(OUTCOME, ERROR),
    buckets=SECONDS,
)
ACTIVE = Metric("opero.call.active", "updown", "{call}", "Calls that began and have not ended.")
CALL_ATTEMPTS = Metric(
    "opero.call.attempts",
    "histogram",
    "{attempt}",
    "How often a call called the function.",
    attributes=(OUTCOME,),
    buckets=ATTEMPTS,
)
ATTEMPT_DURATION = Metric(
    "opero.attempt.duration",
    "histogram",
    "s",
    "How long the function itself took.",
    attributes=(ATTEMPT_OUTCOME, ERROR),
    buckets=SECONDS,
    zeros=[(outcome, "") for outcome in ("ok", "fatal", "cancelled")],
)
SIGNALS = Signals(
    "call",
    (STARTED, FINISHED, REJECTED, ATTEMPT_STARTED, ATTEMPT_FINISHED, HOOK_FAILED),
    (DURATION, ACTIVE, CALL_ATTEMPTS, ATTEMPT_DURATION, EVENTS, REJECTIONS),
)

EVERY_CALL = (STARTED.name, ATTEMPT_STARTED.name, ATTEMPT_FINISHED.name, FINISHED.name)
heard = events.watch(*EVERY_CALL)  # who hears every call
rejections_heard = events.watch(REJECTED.name)

SUCCESS, FAILURE, NONE = "success", "failure", "none"
SHORT = 0.001  # seconds


class Race:
    """One call that is made several times at once; when it is `over`, who has not begun begins nothing."""

    over = False


class Call:
    """One call on its way through the layers. A layer that changes arguments or deadline passes on a copy.

    `left` are functions that go on though the call waits for them no longer; of whom a layer wants to know that. `race`
    is that of a hedge, of whoever runs in it.
    """

    __slots__ = ("args", "deadline", "kwargs", "left", "operation", "race", "record", "runtime")

    def __init__(
        self,
        operation: Operation,
        runtime: Runtime,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        *,
        record: Record | None = None,
        deadline: Deadline | None = None,
    ) -> None:
        self.operation = operation
        self.runtime = runtime
        self.args = args
        self.kwargs = kwargs
        self.record = record or Record(runtime.now())
        self.deadline = deadline
        self.left: list[Left] | None = None
        self.race: Race | None = None

    def branch(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
        """Return the same call with other arguments."""
        copy = Call(self.operation, self.runtime, args, kwargs, record=self.record, deadline=self.deadline)
        copy.left, copy.race = self.left, self.race
        return copy

    def until(self, deadline: Deadline) -> Call:
        """Return the same call with a nearer deadline."""
        copy = self.branch(self.args, self.kwargs)
        copy.deadline = deadline
        return copy

    def watched(self) -> Call:
        """Return the same call with a list of its own of what it leaves behind."""
        copy = self.branch(self.args, self.kwargs)
        copy.left = []
        return copy

    def racing(self, race: Race) -> Call:
        """Return the same call as one of those that race for its answer."""
        copy = self.branch(self.args, self.kwargs)
        copy.race = race
        return copy

    def race_on(self) -> None:
        """Begin nothing more where another has answered in a race."""
        if self.race is not None and self.race.over:
            raise Unwanted

    def afterwards(self, work: Callable[[], object]) -> None:
        """Do this when all that the call left behind has ended."""
        if self.left:
            self.left.pop().then(lambda: self.afterwards(work))
        else:
            work()

    def emit(self, event: Event, **fields: Any) -> None:
        """Count the event, and tell whoever wants it."""
        self.operation.emit(event, fields, self.record.id)

    def say(self, event: Event, **fields: Any) -> None:
        """Tell whoever wants it an event whose count follows from other numbers."""
        events.say(event, self.operation.name, fields, self.record.id)

    def reject(self, error: Rejected) -> Rejected:
        """Count and tell a rejection, and return the error to raise."""
        error.operation = self.operation.name
        claim(error, self.operation)
        self.operation.book.add(REJECTIONS, (error.primitive, error.reason))
        self.emit(REJECTED, primitive=error.primitive, reason=error.reason, retry_after=error.retry_after)
        return error

    def passed(self, place: str, waited: Metric, name: str) -> Any:
        """Return what the fast path holds of the gate here, if it passed it; that is a wait of no time, and counted."""
        held = self.record.held.pop(place, None)
        if held and not self.record.begun:
            self.operation.book.observe(waited, (name,), 0.0)
        return held

    def time_for(self, seconds: float) -> bool:
        """Whether so long a wait ends before the deadline."""
        return self.deadline is None or self.runtime.now() + seconds < self.deadline.at

    def begin(self) -> None:
        """Raise `CallTimeout` if there is no time left to call the function."""
        self.race_on()
        self.go_on(uncalled=self.record.id)

    def go_on(self, *, uncalled: int = 0) -> None:
        """Raise `CallTimeout` if the deadline has passed; in a call that was `uncalled`, the error knows it."""
        if self.deadline is not None and not self.time_for(0.0):
            raise self.deadline.expire(self.operation, uncalled=uncalled)

    def uncalled(self, error: BaseException, made: int | None = None) -> bool:
        """Whether this error of ours came before the function was called, or called again after `made` attempts.

        The service had no part in it.
        """
        ours = belongs(error, self.operation) and getattr(error, "uncalled", 0) == self.record.id
        return ours and made in {None, self.record.made}

    def retryable(self, error: Exception) -> bool:
        """Whether the operation's retry would try again after this error; judged once an error."""
        record, retry = self.record, self.operation.retry
        if retry is None or (self.deadline is not None and self.deadline.hit) or self.committed():
            return False
        judged = record.judged
        if judged is None or judged[0] is not error:
            verdicts = [
                self.says("retry.on", retry.matches, each) if (word := self.word(each)) is None else word.again
                for each in _each(error)
            ]
            judged = record.judged = (error, any(verdicts))
        return judged[1]

    def heed(self, error: Exception) -> Exception:
        """Return the user's error, and keep what the function said of it: all but the retry see the error alone."""
        record, word = self.record, error if isinstance(error, DoNotRetry | RetryNow) else None
        own = None if word is None else _handled(word) if word.error is None else word.error
        if word is None or own is None or (self.operation.is_async and isinstance(own, StopIteration)):
            if record.words.pop(id(error), None) is not None:  # the same object, raised as it is this time
                record.judged = None
            return error
        own = Stopped(own) if isinstance(own, StopIteration) else own  # no coroutine may raise that
        record.words[id(own)] = own, word
        if len(record.words) > KEPT:
            del record.words[next(iter(record.words))]
        record.judged = None
        return own

    def word(self, error: object) -> DoNotRetry | RetryNow | None:
        """Return what the function said about a retry after this error."""
        if isinstance(error, DoNotRetry | RetryNow):
            return error
        known = self.record.words.get(id(error))
        return None if known is None else known[1]

    def committed(self) -> bool:
        """Whether the caller has had items of a generator and cannot be given others, or is gone."""
        retry = self.operation.retry
        return self.record.gone or (self.record.yielded and (retry is None or retry.generator != "restart"))

    def explain(self, error: Exception) -> None:
        """Let a refusal that ends the call show what the function failed of before, as its cause."""
        if not belongs(error, self.operation) or error.__cause__ is not None or error.__suppress_context__:
            return
        if getattr(error, "scope", "") == "attempt_timeout":  # an attempt's own failure, like any
            return
        failures = [*(self.record.errors or {}).values()]
        error.__cause__ = next((each for each in reversed(failures) if each is not None and each is not error), None)

    def excuses(self, error: BaseException) -> bool:
        """Whether an error says nothing about the service."""
        excused = self.record.excused
        return excused is not None and self.says("arg_fallback.on", excused, error)

    async def judge(self, error: Exception) -> None:
        """Let `retryable` know the answer where the retry's condition is a coroutine function."""
        retry = self.operation.retry
        if retry is not None and retry.is_async and (self.record.judged or (None,))[0] is not error:
            verdicts = [
                await self.agrees("retry.on", retry.judge, each) if (word := self.word(each)) is None else word.again
                for each in _each(error)
            ]
            self.record.judged = (error, any(verdicts))

    def action(self, error: BaseException) -> str | None:
        """What the operation's strategies say about this error."""
        strategy = self.strategy(error)
        return None if strategy is None else strategy.action

    def strategy(self, error: BaseException) -> Strategy | None:
        """Return what they say, in full."""
        retry = self.operation.retry
        try:
            return None if retry is None else retry.strategy(error)
        except Exception as failure:  # noqa: BLE001 - see says
            self.hook_failed("retry.strategies", error, failure)
            return None

    def says(self, hook: str, ask: Callable[[Any], object], about: object) -> bool:
        """Ask a predicate of the user's about an outcome. If it raises that is a no: its error must not hide ours."""
        try:
            return bool(ask(about))
        except Exception as failure:  # noqa: BLE001 - told, counted, and noted on the error it was asked about
            self.hook_failed(hook, about, failure)
            return False

    async def agrees(self, hook: str, ask: Callable[[Any], Awaitable[bool]], about: object) -> bool:
        """Do the same where it has to be awaited."""
        try:
            return await ask(about)
        except Exception as failure:  # noqa: BLE001 - see says
            self.hook_failed(hook, about, failure)
            return False

    def hook_failed(self, hook: str, about: object, failure: Exception) -> None:
        """Tell that a function of the user's raised, and note it on the error it was asked about."""
        self.emit(HOOK_FAILED, hook=hook, error=type(failure).__name__)
        if isinstance(about, BaseException):
            note(bare(about), f"opero asked {hook}, ", f"which raised {type(failure).__name__}: {failure}")


def spell(seconds: float) -> str:
    """Return a duration in words for people; what is short is not worth spelling."""
    return f"{seconds:.3g} s" if seconds > SHORT else "under 1 ms"


def _handled(word: DoNotRetry | RetryNow) -> Exception | None:
    """Return the error in whose place a word that names none was raised: its cause, or what was handled there."""
    behind = list(conditions.chain(word))[1:2]
    if word.args or not behind or not isinstance(behind[0], Exception) or isinstance(behind[0], DoNotRetry | RetryNow):
        return None
    return behind[0] if behind[0] is word.__cause__ or conditions.raised_where_caught(word, behind[0]) else None


def _each(error: Exception) -> Sequence[Exception]:
    return error.errors if isinstance(error, AllFailedError) else (error,)
