"""Which law turns which knob of a policy, and what it reads. A policy that is shared has one controller."""

from __future__ import annotations

from opero import plugins
from opero.control import retry_budget
from opero.control.loop import Controller, Controllers
from opero.control.users import Users, retries

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from opero.control.law import Law
    from opero.pipeline import Operation


def controllers(operation: Operation) -> Controllers:
    """Return the controllers of an operation's policies."""
    found = [_of(policy) for policy in operation.policies if policy.control]
    for controller in found:
        controller.join(operation)
    return Controllers(found)


def _of(policy: Any) -> Controller:
    controller: Controller | None = policy.__dict__.get("controller")
    if controller is None:
        controller = policy.__dict__["controller"] = MAKERS[policy.place](policy, Users())
    return controller


def _law(policy: Any, ours: Callable[[], Law]) -> Law:
    """Return our law, or that of the plugin of this name."""
    law: Law = ours() if policy.control == "adaptive" else plugins.load("opero.controllers", policy.control)()
    return law


def _retry_budget(policy: Any, users: Users) -> Controller:
    knob = policy.tokens.ratio

    def read(now: float) -> retry_budget.Snapshot:
        since = users.since(retries)
        return retry_budget.Snapshot(now, knob.value, burn=users.burn(now), open=users.open(), **since)

    law = _law(policy, lambda: retry_budget.RetryBudgetLaw(knob.value))
    return Controller(law, read, knob, users=users, fall=0.1, shadow=policy.shadow)


MAKERS = {"retry_budget": _retry_budget}
