"""Whether what the other pages show can be believed: scrapes, dropped events, failed handlers, the number of series."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opero_dashboards.page import Page, Row
from opero_dashboards.panels import bad_above, graph, stat
from opero_dashboards.promql import CALL, PROCESS, PromQL, Query

if TYPE_CHECKING:
    from collections.abc import Sequence

    from grafanalib.core import Panel

    from opero_dashboards.vocabulary import Vocabulary

OURS = f'{{__name__=~"opero_.+", {PROCESS}}}'
DROPPED = "opero.telemetry.events.dropped"
FAILED = 'opero_event_name="opero.telemetry.handler_failed"'
RUNBOOK = """
- **Targets down**: Prometheus does not reach `/metrics`. `curl` it from there; `opero doctor` looks from here.
- **Events dropped**: a subscriber is slower than what it listens to. Let it listen to less, or queue less in it.
- **Handlers failed**: a subscriber raises. The call is not touched, the subscriber gets no more than the failed event.
- **Series grow without end**: somebody decorates in a loop with ever new names, or names operations after arguments.
- **Scrapes take long**: too many series for the interval; drop buckets you do not need.
"""


def page(vocabulary: Vocabulary) -> Page:
    """Return the page."""
    p = PromQL(vocabulary, PROCESS)
    return Page(
        uid="opero-telemetry",
        title="Opero / Telemetry health",
        about="Whether what the other pages show can be believed.",
        rows=[
            Row("At a glance", _numbers(p), 4),
            Row("Scrapes", _scrapes()),
            Row("Losses", _losses(p)),
            Row("Processes", _processes()),
        ],
        runbook=RUNBOOK,
        scoped=False,
    )


def _numbers(p: PromQL) -> Sequence[Panel]:
    up = f"up{{{PROCESS}}}"
    return [
        stat("Targets up", "Processes that answer.", f"sum({up})", unit="short", now=True),
        stat(
            "Targets down",
            "Processes that do not.",
            f"count({up}) - sum({up})",
            unit="short",
            steps=[(0, "green"), (0.5, "red")],
            now=True,
        ),
        stat(
            "Operations", "That are measured.", f"count({p.level('opero.call.active', CALL)})", unit="short", now=True
        ),
        stat("Series", "Of Opero.", f"count({OURS})", unit="short", now=True),
        stat(
            "Dropped events",
            "In the time shown.",
            p.increase(DROPPED, over="$__range"),
            unit="short",
            steps=bad_above(0.5, 100),
            none="0",
            now=True,
        ),
        stat(
            "Failed handlers",
            "In the time shown.",
            f"{p.increase('opero.events', where=FAILED, over='$__range')} or vector(0)",
            unit="short",
            steps=bad_above(0.5, 10),
            now=True,
        ),
    ]


def _scrapes() -> Sequence[Panel]:
    return [
        graph(
            "Scrape duration",
            "How long Prometheus waited for the page.",
            Query(f"max by (instance) (scrape_duration_seconds{{{PROCESS}}})", "{{instance}}"),
            unit="s",
        ),
        graph(
            "Samples a scrape",
            "What a scrape brings, of Opero and of everything else in the process.",
            Query(f"max by (instance) (scrape_samples_scraped{{{PROCESS}}})", "{{instance}}"),
            unit="short",
        ),
        graph(
            "Series by operation",
            "A line that keeps growing is a label that should not be one.",
            Query(f"count by ({CALL}) ({OURS})", f"{{{{{CALL}}}}}"),
            unit="short",
        ),
    ]


def _losses(p: PromQL) -> Sequence[Panel]:
    reason, *_ = p.vocabulary.labels(DROPPED)
    return [
        graph(
            "Dropped events",
            "Events that subscribers did not get, and why.",
            Query(p.rate(DROPPED, reason), f"{{{{{reason}}}}}"),
            unit="ops",
            look="bars",
            none="none",
        ),
        graph(
            "Failed handlers",
            "Subscribers that raised.",
            Query(f"{p.rate('opero.events', CALL, where=FAILED)} or vector(0)", f"{{{{{CALL}}}}}"),
            unit="ops",
            look="bars",
            none="none",
        ),
        graph("Events", "Everything that was said.", Query(p.rate("opero.events")), unit="ops"),
    ]


def _processes() -> Sequence[Panel]:
    def by_instance(inner: str) -> Query:
        return Query(f"sum by (instance) ({inner})", "{{instance}}")

    return [
        graph(
            "CPU",
            "Cores in use.",
            by_instance(f"rate(process_cpu_seconds_total{{{PROCESS}}}[$__rate_interval])"),
            unit="short",
        ),
        graph("Memory", "Resident.", by_instance(f"process_resident_memory_bytes{{{PROCESS}}}"), unit="bytes"),
        graph("File descriptors", "Open ones.", by_instance(f"process_open_fds{{{PROCESS}}}"), unit="short"),
    ]
