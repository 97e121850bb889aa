"""Deadlines: points in time that decorated calls inherit from the call around them, and readable as `remaining()`."""

from __future__ import annotations

import sys
from contextvars import ContextVar
from math import inf

from opero import clock, forks
from opero.errors import CallTimeout, claim

TYPE_CHECKING = False
if TYPE_CHECKING:
    from contextvars import Token

    from opero.pipeline import Operation


class Deadline:
    """A point in time, and whose it is; `hit` once it cut something short.

    `how` a blocking function is ended: by `thread`, `signal`, or `cooperative`ly. An `inherited` one is enforced by the
    call around this one: here nothing waits past it, and nothing begins after it.
    """

    __slots__ = ("at", "hit", "how", "inherited", "scope", "seconds")

    def __init__(self, at: float, seconds: float, scope: str, how: str = "thread", *, inherited: bool = False) -> None:
        self.at = at
        self.seconds = seconds
        self.scope = scope
        self.how = how
        self.inherited = inherited
        self.hit = False

    def expire(self, operation: Operation, *, uncalled: int = 0) -> CallTimeout:
        """Mark it, and return the error to raise; of a call that was `uncalled`, the error knows which."""
        self.hit = True
        text = f"{operation.name} did not finish within {self.seconds:g} s ({self.scope})"
        error = CallTimeout(text, operation=operation.name, seconds=self.seconds, scope=self.scope)
        error.uncalled = uncalled
        claim(error, operation)
        return error


deadline: ContextVar[Deadline | None] = ContextVar("opero.deadline", default=None)


within: list[None] = []  # one entry a deadline in force in this process; while it is empty, nobody has to look further


def late() -> bool:
    """Whether the deadline of the decorated call around this place has passed."""
    outer = deadline.get()
    return outer is not None and clock.now() >= outer.at


def inherited() -> Deadline | None:
    """Return the deadline of the decorated call around this one."""
    outer = deadline.get()
    return outer and Deadline(outer.at, outer.seconds, outer.scope, inherited=True)


class propagating:  # noqa: N801 - used as `with propagating(deadline):`
    """Let decorated calls made inside inherit a deadline."""

    __slots__ = ("_deadline", "_token")

    def __init__(self, within: Deadline) -> None:
        self._deadline = within

    def __enter__(self) -> None:
        self._token = deadline.set(self._deadline)
        within.append(None)

    def __exit__(self, *_: object) -> None:
        leave(self._token)


def leave(token: Token[Deadline | None]) -> None:
    """Put back the deadline that was in force before."""
    if within:
        within.pop()
    try:
        deadline.reset(token)
    except ValueError:  # a coroutine closed from another context: that one never saw this deadline
        return


class _Within:
    """What a forked child keeps of `within`: all, where it was forked inside of a deadline, or of several."""

    def after_fork(self) -> None:
        if deadline.get() is None:
            within.clear()


_within = _Within()
forks.remember(_within)


def remaining() -> float | None:
    """Seconds until the deadline of the decorated call around here, 0 after it, None without one.

    What an HTTP client takes as its timeout, inside of a function with `timeout=` or a `with Timeout(...)` block. On
    trio its own scopes count, too; asyncio does not tell when an `asyncio.timeout` ends.
    """
    outer, left = deadline.get(), _left_on_trio()
    if outer is not None:
        left = min(left, outer.at - clock.now())
    return None if left == inf else max(0.0, left)


def _left_on_trio() -> float:
    trio = sys.modules.get("trio")
    if trio is None or not trio.lowlevel.in_trio_task():
        return inf
    left: float = trio.current_effective_deadline() - trio.current_time()
    return left
