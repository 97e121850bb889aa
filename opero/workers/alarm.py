"""End a blocking function at its deadline by a signal: on the main thread of a Unix process, where it can be stopped.

The alarm raises inside the function, between two of its bytecodes. It cannot end one call into C that does not return,
and a `finally` of the function runs, but may be cut short itself when it takes past the deadline.
"""

from __future__ import annotations

import signal
import threading

from opero import clock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType
    from typing import Any

    from opero.call import Call
    from opero.deadlines import Deadline


SOONEST, LONGEST = 1e-6, 1e8  # seconds a timer can be set to; the longest is three years


class _Alarm(BaseException):
    """What the signal raises; no `except Exception` of the user's stops it."""


def usable() -> bool:
    """Whether this thread can be signalled."""
    return hasattr(signal, "setitimer") and threading.current_thread() is threading.main_thread()


class _Bell:
    """Raises once, and only inside of what it guards; an alarm at any other moment is kept in mind."""

    def __init__(self) -> None:
        self.armed = self.rung = False

    def ring(self, _: int, __: FrameType | None) -> None:
        self.rung = True
        if self.armed:
            self.armed = False
            raise _Alarm

    def guard(self, function: Callable[[], Any]) -> Any:
        """Run the function until the bell rings."""
        try:
            self.armed = True
            if self.rung:
                raise _Alarm
            return function()
        finally:
            self.armed = False


def run(call: Call, deadline: Deadline, function: Callable[[], Any]) -> Any:
    """Run the function, and raise `CallTimeout` inside of it at the deadline."""
    started = clock.now()
    left = deadline.at - started
    if left < SOONEST:
        raise deadline.expire(call.operation)
    bell = _Bell()
    pending, interval = signal.setitimer(signal.ITIMER_REAL, 0.0)  # else somebody else's timer might ring our bell
    before = signal.signal(signal.SIGALRM, bell.ring)
    try:
        signal.setitimer(signal.ITIMER_REAL, min(left, LONGEST))
        return bell.guard(function)
    except _Alarm:
        pass
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before or signal.SIG_DFL)
        if pending:  # somebody else's timer goes on where it was
            signal.setitimer(signal.ITIMER_REAL, max(SOONEST, pending - (clock.now() - started)), interval)
    raise deadline.expire(call.operation)
