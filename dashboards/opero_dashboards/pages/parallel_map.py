"""How fast maps go, how many items run at once, and what became of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opero_dashboards.page import Page, Row
from opero_dashboards.panels import bad_above, graph, heat, stat
from opero_dashboards.promql import CALL, OUTCOME, PromQL, Query, share

if TYPE_CHECKING:
    from collections.abc import Sequence

    from grafanalib.core import Panel

    from opero_dashboards.vocabulary import Vocabulary

ITEMS, DURATION = "opero.map.items", "opero.map.item.duration"
RUNBOOK = """
- **Fewer items run than may**: the input is slow, or the consumer of a stream is: nothing is pulled before its turn.
- **As many run as may, and the rate does not rise with workers**: they wait for one another. Look at CPU, then at locks
  and connection pools.
- **Items fail**: `errors="return"` keeps the others going; `MapError.failures` names each item.
- **Workers lost**: killed by the system (exit code -9: out of memory) or by a crash in native code. The item is named
  in the `WorkerLost` error; `on_death="retry"` gives it another worker.
"""


def page(vocabulary: Vocabulary) -> Page:
    """Return the page."""
    p = PromQL(vocabulary)
    return Page(
        uid="opero-map",
        title="Opero / Parallel map",
        about="How fast maps go, how many items run at once, and what became of them.",
        rows=[Row("At a glance", _numbers(p), 4), Row("Items", _items(p)), Row("Time and workers", _times(p))],
        runbook=RUNBOOK,
    )


def _failed(p: PromQL, *by: str) -> str:
    return share(p.rate(ITEMS, *by, where=f'{OUTCOME}!="ok"'), p.rate(ITEMS, *by))


def _numbers(p: PromQL) -> Sequence[Panel]:
    return [
        stat("Items", "Items that came back, in a second.", p.rate(ITEMS), unit="ops"),
        stat(
            "Failed",
            "Share of the items that came back with an error.",
            _failed(p),
            unit="percentunit",
            steps=bad_above(0.01, 0.05),
            none="no map",
        ),
        stat("Running", "Items handed over and not back.", p.level("opero.map.active"), unit="short", none="no map"),
        stat(
            "May run",
            "Items that may run at once in running maps.",
            p.level("opero.map.concurrency.limit"),
            unit="short",
            none="no map",
        ),
        stat(
            "Workers lost",
            "Workers that died with an item, in the time shown.",
            p.increase("opero.events", where='opero_event_name="opero.map.worker_lost"', over="$__range"),
            unit="short",
            steps=bad_above(0.5, 5),
            now=True,
        ),
    ]


def _items(p: PromQL) -> Sequence[Panel]:
    by = f"{{{{{CALL}}}}}"
    return [
        graph("Rate", "Items that came back, by operation.", Query(p.rate(ITEMS, CALL), by), unit="ops"),
        graph(
            "Outcomes",
            "What became of the items.",
            Query(p.rate(ITEMS, OUTCOME), f"{{{{{OUTCOME}}}}}"),
            unit="ops",
            look="stack",
        ),
        graph("Failed", "Share of the items.", Query(_failed(p, CALL), by), unit="percentunit", top=1, none="no map"),
    ]


def _times(p: PromQL) -> Sequence[Panel]:
    return [
        graph("Item duration", "In its worker, retries included.", *p.quantiles(DURATION), unit="s", none="no map"),
        heat("Items by duration", "How many took how long.", p.rate(DURATION, "le", suffix="_bucket"), unit="s"),
        graph(
            "At once",
            "Items that run, and how many may.",
            Query(p.level("opero.map.active"), "running"),
            Query(p.level("opero.map.concurrency.limit"), "limit"),
            unit="short",
            look="step",
        ),
    ]
