"""What calls count as of which a dead worker cannot tell any more: what its journal and their errors say of them.

1. A call counts as begun and as ended. One that raised made the attempts its error tells of; each other made one.
2. The call in hand is an error, and so is its attempt.
3. What only the worker knew is left out: retries that helped, waits at gates.
"""

from __future__ import annotations

from opero.call import ATTEMPT_DURATION, ATTEMPT_STARTED, REJECTED, STARTED
from opero.errors import Rejected, bare, notes_of
from opero.pipeline import outcome_of
from opero.primitives.retry import DELAY
from opero.record import HISTORY, Attempt, attempts
from opero.signals import REJECTIONS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from opero.pipeline import Operation


def count(operation: Operation, error: BaseException | None, seconds: float, *, told: bool = False) -> None:
    """Count a call that took so long; if it was `told` of, its beginning is counted already."""
    book, made = operation.book, _made(error, seconds)
    if not told:
        book.count(STARTED.key)
        book.count(ATTEMPT_STARTED.key, len(made))
        for attempt in made[1:]:
            book.observe(DELAY, (), attempt.delay)
    for attempt in made[-1:] if told else made:
        _end(operation, attempt)
    own = getattr(error, "operation", None) == operation.name  # it came from another process, and has only the name
    outcome = "ok" if error is None else outcome_of(error, own=own)
    if isinstance(error, Rejected) and outcome == "rejected":
        book.add(REJECTIONS, (error.primitive, error.reason))
        book.count(REJECTED.key)
    book.finish(outcome, book.error_type(None if error is None else bare(error)), seconds, len(made))


def begun_again(operation: Operation, error: BaseException, seconds: float, *, told: bool) -> None:
    """Count an attempt of an item that is called once more: as part of that call, or as a call that was cancelled."""
    book = operation.book
    if told:
        _end(operation, _attempt("cancelled", None, seconds))
        book.finish("cancelled", "", seconds, 1)
    else:
        book.count(ATTEMPT_STARTED.key)
        _end(operation, _attempt("fatal", error, seconds))


def never_begun(operation: Operation, error: BaseException) -> None:
    """Count a call that no worker could make."""
    book = operation.book
    book.count(STARTED.key)
    book.finish("error", book.error_type(error), 0.0, 0)


def _end(operation: Operation, attempt: Attempt) -> None:
    book = operation.book
    raised = None if attempt.error is None else bare(attempt.error)
    book.observe(ATTEMPT_DURATION, (attempt.outcome, book.error_type(raised)), attempt.duration)


def _made(error: BaseException | None, seconds: float) -> Sequence[Attempt]:
    if error is None:
        return [_attempt("ok", None, seconds)]
    return attempts(error) if HISTORY in notes_of(error) else [_attempt("fatal", error, seconds)]


def _attempt(outcome: str, error: BaseException | None, seconds: float) -> Attempt:
    attempt = Attempt(1, 0.0, 0.0)
    attempt.outcome, attempt.error, attempt.duration = outcome, error, seconds
    return attempt
