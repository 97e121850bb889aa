"""What one call has done so far: its attempts, and what its copies share."""

from __future__ import annotations

from itertools import count

from opero.errors import notes_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from opero.conditions import Condition
    from opero.errors import DoNotRetry, RetryNow

HISTORY = "_opero_attempts"
FAILED = ("retryable", "fatal", "timeout")  # outcomes of an attempt that raised
KEPT = 100  # attempts of one call that are told, the last ones: a call may go on for days, and errors hold frames
ids = count(1)


class Attempt:
    """One call of the function. Times in seconds; `delay` is the wait before it, `error` None when it returned."""

    __slots__ = ("delay", "duration", "error", "number", "outcome", "started")

    number: int
    delay: float
    started: float
    duration: float
    outcome: str
    error: BaseException | None

    def __init__(self, number: int, delay: float, started: float) -> None:
        self.number = number
        self.delay = delay
        self.started = started
        self.duration = 0.0
        self.outcome = ""
        self.error = None

    def ending(self, error: BaseException | None) -> Attempt:
        """Return a copy that ended with `error`."""
        copy = Attempt(self.number, self.delay, self.started)
        copy.duration, copy.outcome, copy.error = self.duration, self.outcome, error
        return copy

    def __repr__(self) -> str:
        return f"<attempt {self.number}: {self.outcome} after {self.duration:.3g} s>"

    def __getstate__(self) -> tuple[Any, ...]:
        return self.number, self.delay, self.started, self.duration, self.outcome, _picklable(self.error)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.number, self.delay, self.started, self.duration, self.outcome, self.error = state


class History(tuple):  # type: ignore[type-arg]
    """What the failing path keeps of its attempts, to be told by whoever asks: error, wait, start and end of each."""

    __slots__ = ()

    def attempts(self) -> list[Attempt]:
        """Return them."""
        made = []
        for number, place in enumerate(range(0, len(self), 4), 1):
            error, delay, started, ended = self[place : place + 4]
            attempt = Attempt(number, delay, started)
            attempt.duration, attempt.outcome, attempt.error = ended - started, "retryable", error
            made.append(attempt)
        return made

    def __reduce__(self) -> tuple[Any, ...]:
        return tuple, (self.attempts(),)


class Record:
    """What all copies of one call share.

    `held` is what layers have before they begin, by place: a permit, or what a cache was found to have. It and `replay`
    are what the fast path already did; if the call has `begun`, that is counted, and what it passed.
    """

    __slots__ = (
        "attempts",
        "begun",
        "cached",
        "delay",
        "errors",
        "excused",
        "fell_back",
        "forgotten",
        "gone",
        "held",
        "id",
        "judged",
        "replay",
        "started",
        "why",
        "words",
        "yielded",
    )

    def __init__(self, started: float) -> None:
        self.id = next(ids)
        self.started = started
        self.begun = False
        self.attempts: list[Attempt] = []  # their errors apart: frames hold attempts, and errors hold frames
        self.errors: dict[int, BaseException | None] | None = {}  # by number; None once the call has ended
        self.forgotten = 0  # attempts that are no longer among them
        self.delay = 0.0
        self.excused: Condition | None = None  # errors that say nothing about the service
        self.fell_back = False
        self.yielded = False  # an item of a generator
        self.gone = False  # its consumer
        self.why = ""  # there was no other attempt, in words, where it is not their number
        self.cached = False
        self.judged: tuple[BaseException, bool] | None = None
        self.words: dict[int, tuple[Exception, DoNotRetry | RetryNow]] = {}  # of which error the function said what
        self.held: dict[str, Any] = {}
        self.replay: tuple[BaseException, float, float] | None = None

    @property
    def made(self) -> int:
        """How often the function was called."""
        return self.forgotten + len(self.attempts)

    def make_room(self) -> None:
        """Forget the oldest attempts, so that with another there are no more than are told."""
        old = self.attempts[: 1 - KEPT]
        del self.attempts[: len(old)]
        self.forgotten += len(old)
        for attempt in old:
            (self.errors or {}).pop(attempt.number, None)


def attempts(error: BaseException) -> tuple[Attempt, ...]:
    """Return the last 100 attempts of the call that ended with `error`, in order; none without a decorated call."""
    history: Sequence[Attempt] = notes_of(error).get(HISTORY, ())
    if isinstance(history, History):
        history = history.attempts()
    return tuple(each.ending(error) if each.error is None and each.outcome in FAILED else each for each in history)


def _picklable(error: BaseException | None) -> BaseException | None:
    from pickle import dumps, loads

    try:
        loads(dumps(error))  # noqa: S301 - our own bytes, a line old
    except Exception:  # noqa: BLE001 - any error of a foreign __reduce__ means the same
        return RuntimeError(f"{type(error).__name__}, which does not pickle")
    return error
