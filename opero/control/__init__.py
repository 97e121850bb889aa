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


def of(*operations: Operation) -> Controllers:
    """Return the controllers of operations, the first of each name."""
    from opero.control.loop import Controllers

    found = [each.controllers for each in operations if each.controllers is not None]
    if len(found) == 1:
        return found[0]
    return Controllers([controller for each in reversed(found) for controller in each], ())
