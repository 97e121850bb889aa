"""What a store may answer. One that answers anything else has failed, as if it had raised.

A check is cheap beside a round trip, and what passes it can neither break a call nor keep it for ever.
"""

from __future__ import annotations

from math import inf

from opero.circuit import OPEN, STATES
from opero.stores import Admission, Permit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

SLACK = 1e-3  # seconds that a store may round by
FORMS = {
    "reserve": "(seconds, booking), where seconds is 0 or more, and at most the patience unless booking is None",
    "lease": "(seconds, booking, count), as `reserve`, and count a whole number up to `more`",
    "peek": "(count, seconds), a whole number and a number, both 0 or more",
    "pay": "(granted, share), a bool and a number from 0 to 1",
    "admit": f"an opero.stores.Admission with a Permit or None, a state of {', '.join(STATES)}, and None or seconds",
    "settle": "('', {}), ('open', {failure_ratio, slow_ratio, calls, pause}) or (another state, {})",
    "hold": f"'' or one of {', '.join(STATES)}",
    "take": "('taken' | 'queued' | 'full', used, length), two whole numbers",
}


class AnswerError(ValueError):
    """A store answered what the protocol does not have."""


def check(right: Callable[..., bool], answer: Any, asked: tuple[Any, ...]) -> None:
    """Raise `AnswerError` unless the answer is right for what was asked."""
    try:
        if right(answer, *asked):
            return
    except Exception:  # noqa: BLE001, S110 - what cannot even be looked at is wrong as well
        pass
    from reprlib import repr as shortened

    method = right.__name__
    raise AnswerError(f"{method}() answered {shortened(answer)}; it has to answer {FORMS[method]}")


def reserve(answer: Any, patience: float) -> bool:
    """Whether a booking may be this."""
    wait, booking = answer
    return _number(wait) and (booking is None or wait <= patience + SLACK)


def lease(answer: Any, patience: float, more: int) -> bool:
    """Whether a booking with calls beside it may be this."""
    wait, booking, count = answer
    return reserve((wait, booking), patience) and _whole(count) and count <= more


def peek(answer: Any) -> bool:
    """Whether a quota may stand so."""
    count, wait = answer
    return _whole(count) and _number(wait)


def pay(answer: Any) -> bool:
    """Whether what a budget says may be this."""
    granted, share = answer
    return isinstance(granted, bool) and _number(share) and share <= 1


def admit(answer: Any) -> bool:
    """Whether leave to call may be this."""
    if not isinstance(answer, Admission):
        return False
    permit: Any = answer.permit
    return (
        (permit is None or isinstance(permit, Permit))
        and answer.state in STATES
        and (answer.retry_after is None or _number(answer.retry_after))
    )


def settle(answer: Any) -> bool:
    """Whether what an outcome led to may be this."""
    state, led = answer
    if state != OPEN:
        return hold(state) and led == {}
    return led.keys() == {"failure_ratio", "slow_ratio", "calls", "pause"} and all(map(_number, led.values()))


def hold(answer: Any) -> bool:
    """Whether a new state may be this."""
    return answer == "" or answer in STATES


def take(answer: Any) -> bool:
    """Whether what a bulkhead says may be this."""
    verdict, used, length = answer
    return verdict in {"taken", "queued", "full"} and _whole(used) and _whole(length)


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and 0 <= value < inf


def _whole(value: Any) -> bool:
    return isinstance(value, int) and value >= 0
