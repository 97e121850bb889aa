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

    from opero.call import Call, Deadline


class _Alarm(BaseException):
    """What the signal raises; no `except Exception` of the user's stops it."""


def usable() -> bool:
    """Whether this thread can be signalled."""
    return hasattr(signal, "setitimer") and threading.current_thread() is threading.main_thread()


def run(call: Call, deadline: Deadline, function: Callable[[], Any]) -> Any:
    """Run the function, and raise `CallTimeout` inside of it at the deadline."""
    armed = True

    def ring(_: int, __: FrameType | None) -> None:
        if armed:
            raise _Alarm

    before = signal.signal(signal.SIGALRM, ring)
    started = clock.now()
    pending, interval = signal.setitimer(signal.ITIMER_REAL, max(1e-6, deadline.at - started))
    try:
        try:
            return function()
        finally:
            armed = False
    except _Alarm:
        raise deadline.expire(call.operation.name) from None
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)
        if pending:  # somebody else's timer goes on where it was
            signal.setitimer(signal.ITIMER_REAL, max(1e-6, pending - (clock.now() - started)), interval)
