"""Which law turns which knob of a policy, and what it reads. A policy that is shared has one controller."""

from __future__ import annotations

from opero import plugins
from opero.control import concurrency, retry_budget
from opero.control import throttle as throttling
from opero.control.batch_size import BatchSizeLaw
from opero.control.flow import Flow
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
    found = [controller for policy in operation.policies if policy.control for controller in _of(policy)]
    for controller in found:
        controller.join(operation)
    return Controllers(found)


def _of(policy: Any) -> tuple[Controller, ...]:
    found: tuple[Controller, ...] | None = policy.__dict__.get("controllers")
    if found is None:
        found = policy.__dict__["controllers"] = MAKERS[policy.place](policy)
    return found


def _law(policy: Any, ours: Callable[[], Law]) -> Law:
    """Return our law, or that of the plugin of this name."""
    law: Law = ours() if policy.control == "adaptive" else plugins.load("opero.controllers", policy.control)()
    return law


def _retry_budget(policy: Any) -> tuple[Controller, ...]:
    knob, users = policy.tokens.ratio, Users()

    def read(now: float) -> retry_budget.Snapshot:
        since = users.since(retries)
        return retry_budget.Snapshot(now, knob.value, burn=users.burn(now), open=users.open(), **since)

    law = _law(policy, lambda: retry_budget.RetryBudgetLaw(knob.value))
    return (Controller(law, read, knob, users=users, fall=0.1, shadow=policy.shadow),)


def _bulkhead(policy: Any) -> tuple[Controller, ...]:
    limit, throttle = policy.slots.limit, policy.seen.throttle
    flow, asked = Flow(policy.seen), Flow(policy.seen)

    def read(now: float) -> concurrency.Snapshot:
        since = flow.since()
        target = policy.target or flow.users.latency()
        p10, p95 = since.times.quantiles((0.1, 0.95))
        dropped = since.late + since.refused
        return concurrency.Snapshot(now, limit.value, since.ok, dropped, since.pressed, p10, p95, target)

    def read_asked(now: float) -> throttling.Snapshot:
        since = asked.since()
        accepts = since.ok + since.other
        return throttling.Snapshot(now, accepts + since.refused + since.throttled, accepts)

    law = _law(policy, concurrency.ConcurrencyLaw)
    chance = throttling.ThrottleLaw()
    return (
        Controller(law, read, limit, users=flow.users, rise=1.5, fall=0.7, shadow=policy.shadow),
        Controller(chance, read_asked, throttle, users=asked.users, grain=0.5, rest=0, shadow=policy.shadow),
    )


def _batch_size(policy: Any) -> tuple[Controller, ...]:
    def read(_: float) -> Any:
        return policy.batches.popleft() if policy.batches else None  # each has its own time

    law = _law(policy, BatchSizeLaw)
    return (Controller(law, read, policy.knob, users=Users(), dead=0.005, grain=1.0, rest=0.0),)


MAKERS = {"retry_budget": _retry_budget, "bulkhead": _bulkhead, "gpu_batch": _batch_size}
