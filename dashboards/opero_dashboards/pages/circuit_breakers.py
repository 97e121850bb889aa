"""Which circuits are open, since when, and on which evidence."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opero_dashboards.page import Page, Row
from opero_dashboards.panels import bad_above, bars, graph, stat, states
from opero_dashboards.promql import CALL, POLICY, PromQL, Query

if TYPE_CHECKING:
    from collections.abc import Sequence

    from grafanalib.core import Panel

    from opero_dashboards.vocabulary import Vocabulary

STATE = "opero_circuit_state"
NAMES = {0: "closed", 1: "half_open", 2: "open", 3: "forced_open"}
COLOURED = {
    "closed": (),
    "half_open": bad_above(0.5, 10),
    "open": bad_above(0.1, 0.5),
    "forced_open": bad_above(0.5, 9),
}
RUNBOOK = """
- **Open** is the breaker at work: the dependency failed or was slow, and is left alone for a while. Look there.
- **Opens and closes by turns**: probes succeed and real load does not. Raise `half_open_probes`, or limit the load with
  a bulkhead.
- **Opens on few calls**: raise `min_calls`, or leave errors that are the caller's own out with `ignore=`.
- **Slow ratio high, failure ratio low**: it opens on `slow_call`; compare with the attempt duration.
- By hand: `FUNCTION.opero.breaker.force_open()`, `force_close()`, `reset()`.
"""


def page(vocabulary: Vocabulary) -> Page:
    """Return the page."""
    p = PromQL(vocabulary)
    return Page(
        uid="opero-circuit-breakers",
        title="Opero / Circuit breakers",
        about="Which circuits are open, since when, and on which evidence.",
        rows=[
            Row("Now", _numbers(p), 4),
            Row("States", [timeline(p)], 8),
            Row("Evidence", _evidence(p)),
            Row("Effect", _effect(p)),
        ],
        runbook=RUNBOOK,
    )


def timeline(p: PromQL) -> Panel:
    """Return the states over time: the numbers of `NAMES`, from series that are each 0 or 1."""
    parts = [
        f"{n} * " * (n > 1) + p.level("opero.circuit.state", "instance", POLICY, where=f'{STATE}="{name}"', how="max")
        for n, name in NAMES.items()
        if n
    ]
    return states(
        "Circuits", "The state of each circuit.", Query(" + ".join(parts), f"{{{{{POLICY}}}}} {{{{instance}}}}"), NAMES
    )


def _numbers(p: PromQL) -> Sequence[Panel]:
    return [
        stat(
            name.replace("_", " ").capitalize(),
            f"Circuits that are {name.replace('_', ' ')}.",
            p.level("opero.circuit.state", where=f'{STATE}="{name}"'),
            unit="short",
            steps=steps,
            none="no circuit",
            now=True,
        )
        for name, steps in COLOURED.items()
    ]


def _evidence(p: PromQL) -> Sequence[Panel]:
    name = f"{{{{{POLICY}}}}}"
    return [
        graph(
            "Failure ratio",
            "Share of failures in the breaker's window. It opens at `failure_ratio`, 0.5 unless set.",
            Query(p.level("opero.circuit.failure.ratio", POLICY, how="max"), name),
            unit="percentunit",
            top=1,
        ),
        graph(
            "Slow ratio",
            "Share of calls slower than `slow_call` in the window.",
            Query(p.level("opero.circuit.slow.ratio", POLICY, how="max"), name),
            unit="percentunit",
            top=1,
        ),
        bars(
            "Failure ratio now",
            "Share of failures in the window, at this moment.",
            Query(p.level("opero.circuit.failure.ratio", POLICY, how="max"), name),
            unit="percentunit",
            steps=bad_above(0.25, 0.5),
            none="no circuit",
        ),
    ]


def _effect(p: PromQL) -> Sequence[Panel]:
    transitions = p.increase("opero.circuit.transitions", POLICY, STATE)
    return [
        graph(
            "Transitions",
            "Changes of state, by the new one.",
            Query(transitions, f"{{{{{POLICY}}}}} → {{{{{STATE}}}}}"),
            unit="short",
            look="bars",
        ),
        graph(
            "Refused calls",
            "Calls that circuits refused, by operation and reason.",
            Query(
                p.rate("opero.rejections", CALL, "opero_rejection_reason", where='opero_policy_kind="circuit_breaker"'),
                f"{{{{{CALL}}}}} {{{{opero_rejection_reason}}}}",
            ),
            unit="reqps",
            look="stack",
        ),
    ]
