"""What items in another process must know of where their map was called: correlation id, trace and deadline."""

from __future__ import annotations

import pickle
from contextlib import ExitStack

from opero import clock, events
from opero.deadlines import Deadline, deadline, propagating
from opero.workers import wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from contextvars import Context

Told = tuple[str, bytes, "tuple[float, float, str] | None"]


def told(context: Context) -> Told:
    """Return what is to be told, in types that cross as they are. The deadline is by the clock on the wall."""
    return context.copy().run(_told)


def entered(around: Told) -> ExitStack:
    """Be where the map was called, until this is closed."""
    correlation, trace, until = around
    scopes = ExitStack()
    if trace:
        resume, carried = pickle.loads(trace)  # noqa: S301 - of our parent
        scopes.enter_context(resume(carried))
    if correlation:
        scopes.enter_context(events.correlation_id(correlation))
    if until is not None:
        at, seconds, scope = until
        scopes.enter_context(propagating(Deadline(clock.now() + at - clock.wall(), seconds, scope)))
    return scopes


def _told() -> Told:
    outer, carried = deadline.get(), events.carry()
    until = None if outer is None else (clock.wall() + outer.at - clock.now(), outer.seconds, outer.scope)
    return events.current_correlation_id(), wire.dumps(carried) if carried else b"", until
