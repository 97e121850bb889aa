"""End a blocking function at its deadline by a signal: on the main thread of a Unix process, where it can be stopped.

The alarm raises inside the function, between two of its bytecodes, and not in the middle of what Opero does there. It
cannot end one call into C that does not return, and a `finally` of the function runs, but may be cut short itself when
it takes past the deadline.
"""

from __future__ import annotations

import signal
import threading

from opero import clock
from opero.nested import OURS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType
    from typing import Any

    from opero.call import Call
    from opero.deadlines import Deadline


AGAIN, PATIENCE = 1e-4, 500  # seconds until a bell rings again that rang in code of ours, and how often
UNHEARD = 0.01  # seconds until it does where it rang just before the thread went to sleep, which does not wake it
LIBRARY = threading.__file__.removesuffix("threading.py")
CALLBACKS = ("weakref.py", "_weakrefset.py")
SOONEST, LONGEST = 1e-6, 1e8  # seconds a timer can be set to; the longest is three years


class _Alarm(BaseException):
    """What the signal raises; no `except Exception` of the user's stops it."""


def usable() -> bool:
    """Whether this thread can be signalled."""
    return hasattr(signal, "setitimer") and threading.current_thread() is threading.main_thread()


class _Bell:
    """Raises once, and only inside of what it guards; an alarm at any other moment is kept in mind.

    Code of ours may have taken a slot or a lock and not written it down yet: there the bell rings again soon. It does
    not wait for ever, for ours may be at rest there, too.
    """

    def __init__(self) -> None:
        self.armed = self.rung = False
        self.deferred = 0

    def ring(self, _: int, frame: FrameType | None) -> None:
        if self.armed and self.deferred < PATIENCE and _is_ours(frame):
            self.deferred += 1
            signal.setitimer(signal.ITIMER_REAL, AGAIN, UNHEARD)
            return
        self.rung = True
        if self.armed:
            self.armed = False
            signal.setitimer(signal.ITIMER_REAL, 0.0)
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


def _is_ours(frame: FrameType | None) -> bool:
    """Whether it is code of ours, or Python's own for us, or a weak reference's callback, whose errors are lost."""
    if frame is not None and frame.f_code.co_filename.endswith(CALLBACKS):
        return True
    while frame is not None and frame.f_code.co_filename.startswith(LIBRARY) and not _is_installed(frame):
        frame = frame.f_back
    code = frame and frame.f_code
    return code is not None and code is not _Bell.guard.__code__ and code.co_filename.startswith(OURS)


def _is_installed(frame: FrameType) -> bool:
    return "-packages" in frame.f_code.co_filename  # site-packages, dist-packages


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
        signal.setitimer(signal.ITIMER_REAL, min(left, LONGEST), UNHEARD)
        answer = bell.guard(function)
        if not bell.rung and not bell.deferred:  # else it comes too late: the function caught what we raised
            return answer
    except _Alarm:
        pass
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before or signal.SIG_DFL)
        if pending:  # somebody else's timer goes on where it was
            signal.setitimer(signal.ITIMER_REAL, max(SOONEST, pending - (clock.now() - started)), interval)
    raise deadline.expire(call.operation)
