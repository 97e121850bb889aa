"""What is done by hand: a breaker forced, a cache emptied, a knob turned, chaos let in. For the audit log."""

from __future__ import annotations

from contextvars import ContextVar

from opero.signals import Event, Signals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

ACTED = Event(
    "opero.admin.acted", "warning", "Somebody changed by hand how an operation runs.", ("act", "by", "target", "value")
)
SIGNALS = Signals("admin", (ACTED,))

by: ContextVar[str] = ContextVar("opero.acts.by", default="")  # who acts, where it is not the program's own user


def about(act: str, **said: Any) -> dict[str, Any]:
    """Return the fields of an act; `target` and `value` say to what it was done, and to which value."""
    return {"act": act, "by": by.get(), **said}
