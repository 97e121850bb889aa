"""An operation: a function, its policies, and the layers they make, in order."""

from __future__ import annotations

from functools import lru_cache

from opero import events, objectives
from opero.acts import SIGNALS as ADMIN
from opero.aggregates import Book
from opero.call import (
    ATTEMPT_DURATION,
    ATTEMPT_FINISHED,
    ATTEMPT_STARTED,
    CALL_ATTEMPTS,
    DURATION,
    FINISHED,
    SIGNALS,
    STARTED,
    Call,
    heard,
    spell,
)
from opero.deadlines import inherited
from opero.errors import CallTimeout, ConfigurationError, DoNotRetry, Rejected, bare, belongs, note, notes_of
from opero.nested import mark
from opero.record import HISTORY, Attempt

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import Any

    from opero.again import Again
    from opero.call import Layer, Next
    from opero.control.loop import Controllers
    from opero.objectives import SLO
    from opero.policy import Policy
    from opero.primitives.retry import Retry
    from opero.record import Record
    from opero.recording import Recorder
    from opero.runtime import Runtime
    from opero.signals import Attributes, Event, Metric

ORDER = (
    "validate",
    "fallback",
    "cache",
    "timeout",
    "retry_budget",
    "retry",
    "arg_fallback",
    "hedge",
    "circuit_breaker",
    "rate_limit",
    "bulkhead",
    "attempt_timeout",
    "chaos",
    "gpu_batch",
)
PER_ATTEMPT = ("attempt_timeout", "chaos", "gpu_batch")  # inside the record of one attempt
REPEATING = ("retry", "arg_fallback")  # call again what is inside of them
OUTCOME_OF = {"timeout": "timeout", "attempt_timeout": "timeout", "fallback": "fallback", "cache": "cached"}
REJECTING = {"circuit_breaker", "rate_limit", "bulkhead"}


class Operation:
    """What a decorated function is to Opero. Its book is its own; the state of its policies may be shared."""

    __slots__ = (
        "__weakref__",
        "again",
        "book",
        "controllers",
        "function",
        "is_async",
        "name",
        "places",
        "policies",
        "recorded",
        "retry",
        "run",
        "slos",
    )

    def __init__(
        self,
        function: Callable[..., Any],
        policies: Iterable[Policy],
        *,
        name: str,
        is_async: bool,
        order: Sequence[str] | None = None,
        book: Book | None = None,
        slos: tuple[SLO, ...] = (),
    ) -> None:
        self.function = function
        self.name = name
        self.is_async = is_async
        self.places = in_order(policies, order)
        self.policies = tuple(self.places.values())
        self.retry: Retry | None = self.places.get("retry")  # type: ignore[assignment]
        for policy in self.policies:
            policy.check(function, self.places)
        self.slos = slos
        self.recorded: Recorder | None = None
        self.again: Again | None = None  # the failing path, once there was a failure
        self.controllers: Controllers | None = None
        self.book = book or Book(objectives.bounds(name, slos))
        if book is None:
            self._declare()
        self.run = self._compose()

    def emit(self, event: Event, fields: Mapping[str, Any], call: int = 0) -> None:
        """Count the event, and tell whoever wants it."""
        if event.follows is None:
            self.book.count(event.key)
        events.say(event, self.name, fields, call)

    async def execute(
        self, runtime: Runtime, args: tuple[Any, ...], kwargs: dict[str, Any], record: Record | None = None
    ) -> Any:
        """Make one call: the general path, for every driver."""
        call = Call(self, runtime, args, kwargs, record=record, deadline=inherited())
        if not call.record.begun:
            self.book.count(STARTED.key)
        try:
            if heard:
                call.say(STARTED, **(self.recorded(args, kwargs) if self.recorded else {}))
            result = await self.run(call)
        except BaseException as error:
            _finish(call, error)
            raise
        _finish(call, None)
        return result

    def _compose(self) -> Next:
        step: Next = _invoke
        placed = [(place, self._layer(place, policy)) for place, policy in self.places.items()]
        inner = [layer for place, layer in placed if _per_attempt(place, self.places)]
        outer = [layer for place, layer in placed if not _per_attempt(place, self.places)]
        for layer in (*reversed(inner), _attempt, *reversed(outer)):
            step = _bind(layer, step)
        return step

    def _layer(self, place: str, policy: Policy) -> Layer:
        """Return a policy's layer; of a setting that does not fit the function it is said whose that is."""
        try:
            return policy.attach(self.function)
        except ConfigurationError as error:
            if error.field.startswith(place):
                raise
            raise ConfigurationError(error.field, error.value, f"{error.allowed} ({place} of {self.name})") from error

    def _declare(self) -> None:
        self.book.declare(SIGNALS, ADMIN, *(policy.SIGNALS for policy in self.policies))
        outcomes = {"ok", "error", "cancelled"} | {OUTCOME_OF[place] for place in self.places if place in OUTCOME_OF}
        if REJECTING & self.places.keys():
            outcomes.add("rejected")
        attempts = {"retryable"} if self.retry is not None else set()
        self.book.expect(_series(frozenset(outcomes), frozenset(attempts | outcomes & {"timeout"})))


@lru_cache
def _series(outcomes: frozenset[str], attempts: frozenset[str]) -> tuple[tuple[Metric, Attributes], ...]:
    return (
        *((DURATION, (outcome, "")) for outcome in sorted(outcomes)),
        *((CALL_ATTEMPTS, (outcome,)) for outcome in sorted(outcomes)),
        *((ATTEMPT_DURATION, (outcome, "")) for outcome in sorted(attempts)),
    )


def in_order(policies: Iterable[Policy], order: Sequence[str] | None) -> dict[str, Policy]:
    """Return the policies by their place, outermost first; refuse two for the same place."""
    given: dict[str, Policy] = {}
    for policy in policies:
        if policy.place in given:
            before = type(given[policy.place]).__name__
            raise ConfigurationError(policy.place, policy, f"one policy; here is another {before}")
        given[policy.place] = policy
    for policy in tuple(given.values()):
        for part in policy.parts():
            given.setdefault(part.place, part)
    usual = _with_plugins(given)
    if order is not None and (not isinstance(order, list | tuple) or sorted(order) != sorted(given)):
        raise ConfigurationError(
            "order", order, f"each of these places once, outermost first: {[p for p in usual if p in given]}"
        )
    if order is not None:
        _without_effect(order, given)
    return {place: given[place] for place in order or usual if place in given}


def _without_effect(order: Sequence[str], given: Mapping[str, Policy]) -> None:
    """Refuse an order that would not be kept."""
    inner = [place for place in order if _per_attempt(place, given)]
    if inner and [*order[-len(inner) :]] != inner:
        raise ConfigurationError("order", order, f"{' and '.join(inner)} last, inside of each attempt")
    for place in order[: order.index("timeout")] if "timeout" in order else ():
        if place in REPEATING:
            allowed = (
                f"timeout before {place}, since it bounds the whole call; Timeout(attempt=...) bounds each attempt"
            )
            raise ConfigurationError("order", order, allowed)


def _per_attempt(place: str, given: Mapping[str, Policy]) -> bool:
    while place in given and place not in ORDER:
        place = given[place].inside
    return place in PER_ATTEMPT


def _with_plugins(given: Mapping[str, Policy]) -> list[str]:
    """Return the order of all places, with those of plugins where they say."""
    places: list[str] = list(ORDER)
    left = [place for place in given if place not in ORDER]
    while left:
        place = next((each for each in left if given[each].inside in places), None)
        if place is None:
            allowed = f"one of {', '.join(ORDER)}; or a place of its own, with inside= one of them"
            raise ConfigurationError("place", left[0], allowed)
        places.insert(places.index(given[place].inside) + 1, place)
        left.remove(place)
    return places


def _bind(layer: Layer, next: Next) -> Next:  # noqa: A002
    def step(call: Call) -> Any:
        return layer(call, next)

    return step


async def _invoke(call: Call) -> Any:
    return await call.runtime.invoke(call)


async def _attempt(call: Call, next: Next) -> Any:  # noqa: A002
    """Call the function once, and keep the record of it."""
    record, runtime = call.record, call.runtime
    if record.replay is not None:
        return _replay(call)
    call.race_on()
    attempt = Attempt(0, record.delay, runtime.now())
    record.attempts.append(attempt)
    attempt.number = record.forgotten + record.attempts.index(attempt) + 1  # hedges begin in threads of their own
    record.delay = 0.0
    call.operation.book.count(ATTEMPT_STARTED.key)
    try:
        if heard:
            call.say(ATTEMPT_STARTED, number=attempt.number, delay=attempt.delay)
        result = await next(call)
    except Exception as error:
        full = isinstance(error, Rejected) and error.primitive == "timeout" and belongs(error, call.operation)
        if full or call.uncalled(error):  # no thread was free, or no time left
            _unmake(call, attempt)
            raise
        own = call.heed(error)
        try:
            await _judge(call, attempt, own)
        except BaseException:
            del own
            raise
        if own is error:
            del own  # its traceback holds this frame
            raise
    except BaseException:
        _settle(call, attempt, "cancelled", None)
        raise
    else:
        _settle(call, attempt, "ok", None)
        return result
    try:
        raise own
    finally:
        del own


async def _judge(call: Call, attempt: Attempt, error: Exception) -> None:
    """Settle an attempt that failed; one whose caller left while a condition was awaited is cancelled."""
    try:
        await call.judge(error)
    except BaseException:
        _settle(call, attempt, "cancelled", None)
        raise
    _settle(call, attempt, _outcome_of_attempt(call, error), error)


def _unmake(call: Call, attempt: Attempt) -> None:
    """Strike out an attempt that never began."""
    call.record.attempts.remove(attempt)
    call.operation.book.count(ATTEMPT_FINISHED.key)
    if heard:
        call.say(ATTEMPT_FINISHED, number=attempt.number, outcome="cancelled", duration=0.0, error="")


def _outcome_of_attempt(call: Call, error: Exception) -> str:
    if isinstance(error, CallTimeout) and belongs(error, call.operation):
        return "timeout"
    return "retryable" if call.retryable(error) else "fatal"


def _replay(call: Call) -> Any:
    """Raise what the last attempt of the fast path ended with, as if it had ended here."""
    record = call.record
    error, started, duration = record.replay  # type: ignore[misc]
    record.replay = None
    attempt = Attempt(record.made + 1, record.delay, started)
    record.attempts.append(attempt)
    record.delay = 0.0
    if isinstance(error, CallTimeout) and call.deadline is not None and belongs(error, call.operation):
        call.deadline.hit = True
    try:
        if heard:
            call.say(ATTEMPT_STARTED, number=attempt.number, delay=attempt.delay)
        if isinstance(error, Exception):
            error = call.heed(error)
            _settle(call, attempt, _outcome_of_attempt(call, error), error, duration)
        else:
            _settle(call, attempt, "cancelled", None, duration)
        raise error
    finally:
        del error  # its traceback holds this frame


def _settle(call: Call, attempt: Attempt, outcome: str, error: Exception | None, duration: float | None = None) -> None:
    book = call.operation.book
    attempt.outcome = outcome
    raised = None if error is None else bare(error)
    if call.record.errors is not None:  # else a hedge that lost, and ends after its call
        call.record.errors[attempt.number] = raised
    attempt.duration = call.runtime.now() - attempt.started if duration is None else duration
    name = book.error_type(raised)
    book.observe(ATTEMPT_DURATION, (outcome, name), attempt.duration)
    if heard:
        call.say(ATTEMPT_FINISHED, number=attempt.number, outcome=outcome, duration=attempt.duration, error=name)


def _finish(call: Call, error: BaseException | None) -> None:
    record, book = call.record, call.operation.book
    attempts, duration = record.made, call.runtime.now() - record.started
    outcome = _outcome(call, error)
    name = book.error_type(bare(error)) if isinstance(error, Exception) else ""
    book.finish(outcome, name, duration, attempts)
    if heard:
        call.say(FINISHED, outcome=outcome, duration=duration, attempts=attempts, error=name)
    if isinstance(error, Exception):
        call.explain(error)
        _annotate(bare(error), record, duration)
        if record.words and isinstance(call.word(error), DoNotRetry):
            mark(call, bare(error))
        record.words.clear()
    record.errors, record.judged = None, None  # frames of the traceback hold the record; keep no error in a circle


def _outcome(call: Call, error: BaseException | None) -> str:
    if error is None:
        return "fallback" if call.record.fell_back else "cached" if call.record.cached else "ok"
    return outcome_of(error, own=belongs(error, call.operation))


def outcome_of(error: BaseException, *, own: bool) -> str:
    """Return as what a call counts that ended with this error, its `own` or one of a call inside."""
    if own and isinstance(error, CallTimeout | Rejected):
        return "timeout" if isinstance(error, CallTimeout) else "rejected"
    return "error" if isinstance(error, Exception) else "cancelled"


def _annotate(error: BaseException, record: Record, duration: float) -> None:
    """Put history and note on the error, past any `__setattr__` of its own; `attempts()` puts the error itself back."""
    if record.cached:
        return  # the attempts are another call's, whose error this one shares
    errors = record.errors or {}
    pairs = [(attempt, errors.get(attempt.number)) for attempt in record.attempts]
    history = tuple(attempt.ending(None if known is error else known) for attempt, known in pairs)
    told = notes_of(error)
    if record.made > 1 or HISTORY not in told:  # else a call inside has more to tell
        told[HISTORY] = history
    if record.made > 1 or record.why:
        made = f"{record.made} attempt{'s' if record.made != 1 else ''}"
        note(error, "opero: ", ", ".join([f"{made} in {spell(duration)}", *filter(None, [record.why])]))
