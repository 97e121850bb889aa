"""The driver for plain functions: every wait blocks the calling thread.

A layer is a coroutine; one `send(None)` runs it to its end, because nothing on this driver suspends.
"""

from __future__ import annotations

import sys
from _thread import allocate_lock
from functools import partial

from opero import clock
from opero.deadlines import propagating
from opero.errors import Rejected, Stopped
from opero.kinds import is_coroutine_function
from opero.primitives import timeout
from opero.runtime import Branch, Runtime, adopt, run

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Any

    from opero.call import Call
    from opero.deadlines import Deadline
    from opero.pipeline import Operation
    from opero.record import Record

MAX_THREADS = 256  # that run a function behind its caller's back, before no other is begun with a timeout


class Blocking(Runtime):
    """Waits by blocking the thread."""

    async def sleep(self, seconds: float, flag: Any = None) -> None:
        if seconds <= 0:
            return
        if flag is None or is_coroutine_function(flag.wait):
            clock.sleep(seconds)
        else:
            clock.wait(flag, seconds)

    async def invoke(self, call: Call) -> Any:
        call.begin()
        try:
            return self.within(call, call.operation.function, *call.args, **call.kwargs)
        except StopIteration as error:  # which a coroutine cannot raise
            raise Stopped(error) from None

    def within(self, call: Call, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Run a function until the call's deadline."""
        deadline = call.deadline
        if deadline is None or deadline.inherited:
            return function(*args, **kwargs)
        with propagating(deadline):
            return self._until(call, deadline, partial(function, *args, **kwargs))

    def _until(self, call: Call, deadline: Deadline, function: Callable[[], Any]) -> Any:
        how = "cooperative" if sys.is_finalizing() else deadline.how  # then no thread can be begun, nothing imported
        if how == "thread":
            return self._bounded(call, deadline, function)
        if how == "signal":
            from opero.workers import alarm

            if alarm.usable():
                return alarm.run(call, deadline, function)
            return self._bounded(call, deadline, function)
        result = function()
        call.go_on()  # what comes too late is of no use
        return result

    def waiter(self) -> _Waiter:
        return _Waiter()

    async def park(self, waiter: _Waiter, until: float | None) -> bool:  # type: ignore[override]
        return clock.wait(waiter, None if until is None else max(0.0, until - clock.now()))

    def may_fork(self) -> bool:
        if sys.is_finalizing():
            return False
        from opero.workers import spare

        return len(spare.at_work()) < MAX_THREADS

    def fork(self, layers: Coroutine[Any, Any, Any], done: Callable[[], None]) -> _Branch:
        return _Branch(layers, done)

    def _bounded(self, call: Call, deadline: Deadline, function: Callable[[], Any]) -> Any:
        """Run a function in another thread, and leave it behind at the deadline."""
        from opero.workers import spare

        try:
            job = spare.start_within(MAX_THREADS, function)
        except RuntimeError:  # the system has no more threads
            job = None
        if job is None:
            running = len(spare.at_work())
            raise call.reject(
                Rejected(
                    f"no thread is free: {running} run functions with a timeout, {spare.abandoned()} outlive it; "
                    'give them timeouts of their own, and Timeout(how="cooperative")',
                    primitive="timeout",
                    reason="queue_full",
                )
            )
        ended = False
        try:
            ended = job.wait(deadline.at - clock.now())
        finally:
            if not ended and call.left is not None:
                call.left.append(job)
        if not ended:
            raise deadline.expire(call.operation)
        adopt(job.context)
        return job.result()


class _Waiter:
    """One parked thread: an event that is waited for once, and made where `threading` cannot be imported any more."""

    def __init__(self) -> None:
        self._asleep = allocate_lock()
        self._asleep.acquire()

    def wake(self) -> bool:
        try:  # noqa: SIM105 - contextlib is not imported for this
            self._asleep.release()
        except RuntimeError:  # it was woken before
            pass
        return True

    def is_set(self) -> bool:
        return not self._asleep.locked()

    def wait(self, timeout: float | None = None) -> bool:
        woken = self._asleep.acquire(timeout=-1 if timeout is None else timeout)
        if woken:
            self._asleep.release()
        return woken


class _Branch(Branch):
    """Layers that run in another thread."""

    def __init__(self, layers: Coroutine[Any, Any, Any], done: Callable[[], None]) -> None:
        from opero.workers import spare

        self._job = spare.start(self._run, (layers, done), {})
        self.context = self._job.context

    def cancel(self) -> None:
        super().cancel()
        self._job.leave()

    def _run(self, layers: Coroutine[Any, Any, Any], done: Callable[[], None]) -> None:
        try:
            self.value = run(layers)
        except BaseException as error:  # noqa: BLE001 - whatever it is, the caller gets it
            self.fail(error)
        self.ended = True
        done()


RUNTIME = Blocking()


def pause(seconds: float) -> None:
    """Wait before the next attempt."""
    if seconds > 0 and not clock.hurried:
        clock.sleep(seconds)


def call(operation: Operation, args: tuple[Any, ...], kwargs: dict[str, Any], record: Record | None) -> Any:
    """Make one call of an operation by the general path, in this thread."""
    if record is not None and record.replay is not None and isinstance(record.replay[0], StopIteration):
        record.replay = (Stopped(record.replay[0]), *record.replay[1:])
    try:
        return run(operation.execute(RUNTIME, args, kwargs, record))
    except Stopped as stopped:
        error = stopped.error
    try:
        raise error  # out here, so that what it was raised in stays its context
    finally:
        del error  # its traceback holds this frame


def _abandoned() -> int:
    spare = sys.modules.get("opero.workers.spare")
    return spare.abandoned() if spare is not None else 0


timeout.abandoned = _abandoned
