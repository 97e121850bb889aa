"""What turns knobs by itself: pure laws that decide, and one loop that reads, bounds, moves and says so."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from opero.control.loop import Controllers
    from opero.pipeline import Operation


def attach(operation: Operation) -> None:
    """Give an operation the controllers that its policies ask for; nothing is imported when none does."""
    if any(policy.control for policy in operation.policies):
        from opero.control import wiring

        operation.controllers = wiring.controllers(operation)


def of(operation: Operation) -> Controllers:
    """Return an operation's controllers."""
    from opero.control.loop import Controllers

    return operation.controllers or Controllers(())
