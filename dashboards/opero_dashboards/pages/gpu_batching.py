"""How well batches fill the device: their size, the wait for it, the time on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opero_dashboards.page import Page, Row
from opero_dashboards.panels import bad_above, graph, heat, stat
from opero_dashboards.promql import CALL, PromQL, Query

if TYPE_CHECKING:
    from collections.abc import Sequence

    from grafanalib.core import Panel

    from opero_dashboards.vocabulary import Vocabulary

SIZE, WAIT, EXECUTION = "opero.gpu_batch.size", "opero.gpu_batch.wait.duration", "opero.gpu_batch.execution.duration"
NONE = "no batches"
RUNBOOK = """
- **Small batches, long waits**: too few callers to fill a batch; shorten the wait.
- **Execution grows faster than size**: past the knee of the device. The controller finds it; its set-point is on
  *Controllers*.
- **Out of memory**: the batch was halved and tried again. Often: another process uses the device.
- **Queue grows**: more comes than the device can do. Refuse early with a bulkhead.
"""


def page(vocabulary: Vocabulary) -> Page:
    """Return the page."""
    p = PromQL(vocabulary)
    return Page(
        uid="opero-gpu",
        title="Opero / GPU batching",
        about="How well batches fill the device: their size, the wait for it, the time on it.",
        rows=[Row("At a glance", _numbers(p), 4), Row("Batches", _batches(p)), Row("Time", _time(p))],
        runbook=RUNBOOK,
    )


def _numbers(p: PromQL) -> Sequence[Panel]:
    return [
        stat("Items", "Items the device did, in a second.", p.rate(SIZE, suffix="_sum"), unit="ops"),
        stat("Batches", "Batches the device did, in a second.", p.count(SIZE), unit="ops"),
        stat("Items a batch", "Mean size.", p.mean(SIZE), unit="short", none=NONE),
        stat("Waiting", "Items in the queue.", p.level("opero.gpu_batch.queue.length"), unit="short", none=NONE),
        stat(
            "Out of memory",
            "Batches the device had no memory for, in the time shown.",
            p.increase("opero.events", where='opero_event_name="opero.gpu_batch.out_of_memory"', over="$__range"),
            unit="short",
            steps=bad_above(0.5, 5),
            none=NONE,
            now=True,
        ),
    ]


def _batches(p: PromQL) -> Sequence[Panel]:
    by = f"{{{{{CALL}}}}}"
    return [
        heat("Size", "How many batches had how many items.", p.rate(SIZE, "le", suffix="_bucket"), unit="short"),
        graph("Mean size", "By operation.", Query(p.mean(SIZE, CALL), by), unit="short", none=NONE),
        graph(
            "Queue",
            "Items that wait, by operation.",
            Query(p.level("opero.gpu_batch.queue.length", CALL), by),
            unit="short",
            none=NONE,
        ),
    ]


def _time(p: PromQL) -> Sequence[Panel]:
    return [
        graph("Wait", "From arrival to the device.", *p.quantiles(WAIT), unit="s", none=NONE),
        graph("Execution", "Time a batch took on the device.", *p.quantiles(EXECUTION), unit="s", none=NONE),
    ]
