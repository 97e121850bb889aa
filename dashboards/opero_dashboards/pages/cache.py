"""Whether the cache answers, how fresh its answers are, and what it costs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opero_dashboards.page import Page, Row
from opero_dashboards.panels import good_above, graph, heat, stat
from opero_dashboards.promql import CALL, POLICY, PromQL, Query, share

if TYPE_CHECKING:
    from collections.abc import Sequence

    from grafanalib.core import Panel

    from opero_dashboards.vocabulary import Vocabulary

REQUESTS, LOAD = "opero.cache.requests", "opero.cache.load.duration"
NONE = "no cache"
RUNBOOK = """
- **Hit ratio falls**: a restart or an `invalidate_tag` empties the cache; a key that holds the time or a request id
  never hits. `FUNCTION.opero.cache.stats()` tells more.
- **Evictions while entries stand at the limit**: raise `max_entries` or `max_bytes`.
- **Stale answers**: the function fails, or takes longer than the time between `soft_ttl` and `ttl`.
- **Loads take longer**: the function behind the cache got slower; what is hit hides it from most callers.
- **Backend failures**: the store is away. Calls go on without it; nothing is lost but time.
"""


def page(vocabulary: Vocabulary) -> Page:
    """Return the page."""
    p = PromQL(vocabulary)
    return Page(
        uid="opero-cache",
        title="Opero / Cache",
        about="Whether the cache answers, how fresh its answers are, and what it costs.",
        rows=[
            Row("At a glance", _numbers(p), 4),
            Row("Requests", _requests(p)),
            Row("Loads", _loads(p)),
            Row("Size", _size(p)),
        ],
        runbook=RUNBOOK,
    )


def _ratio(p: PromQL, *by: str) -> str:
    result, *_ = p.vocabulary.labels(REQUESTS)
    asked = p.rate(REQUESTS, *by, where=f'{result}!="bypass"')
    return share(p.rate(REQUESTS, *by, where=f'{result}=~"hit|stale|coalesced"'), asked)


def _numbers(p: PromQL) -> Sequence[Panel]:
    return [
        stat(
            "Hit ratio",
            "Share of the requests that needed no call: hits, stale answers, followers of a call on its way.",
            _ratio(p),
            unit="percentunit",
            steps=good_above(0.2, 0.5),
            none=NONE,
        ),
        stat("Requests", "Calls that asked the cache, in a second.", p.rate(REQUESTS), unit="reqps"),
        stat("Entries", "Entries held.", p.level("opero.cache.entry.count"), unit="short", none=NONE),
        stat("Memory", "Bytes held.", p.level("opero.cache.usage"), unit="bytes", none=NONE),
        stat(
            "Evictions",
            "Entries that left before their time, in a second.",
            p.rate("opero.cache.evictions"),
            unit="ops",
        ),
        stat(
            "Backend failures",
            "Times the store did not answer, in a second.",
            p.events("opero.cache.backend_failed"),
            unit="ops",
        ),
    ]


def _requests(p: PromQL) -> Sequence[Panel]:
    result, *_ = p.vocabulary.labels(REQUESTS)
    return [
        graph(
            "What the cache said",
            "Coalesced: another caller already asked for it, one call of the function served both.",
            Query(p.rate(REQUESTS, result), f"{{{{{result}}}}}"),
            unit="reqps",
            look="stack",
        ),
        graph(
            "Hit ratio",
            "By operation.",
            Query(_ratio(p, CALL), f"{{{{{CALL}}}}}"),
            unit="percentunit",
            top=1,
            none="no requests",
        ),
        graph(
            "Events",
            "Stale answers and failures of the store.",
            Query(p.events("opero.cache.*", by="opero_event_name"), "{{opero_event_name}}"),
            unit="ops",
            none=NONE,
        ),
    ]


def _loads(p: PromQL) -> Sequence[Panel]:
    return [
        graph(
            "Time to load",
            "What a miss costs: the function with its retries and waits. A hit saves it.",
            *p.quantiles(LOAD),
            unit="s",
            none="no misses",
        ),
        heat(
            "Time to load, all of it", "How many loads took how long.", p.rate(LOAD, "le", suffix="_bucket"), unit="s"
        ),
        graph(
            "Loads",
            "Entries made anew, by operation; a burst of one operation is a stampede that coalescing did not meet.",
            Query(p.count(LOAD, CALL), f"{{{{{CALL}}}}}"),
            unit="ops",
            none="no misses",
        ),
    ]


def _size(p: PromQL) -> Sequence[Panel]:
    reason, *_ = p.vocabulary.labels("opero.cache.evictions")
    by = f"{{{{{POLICY}}}}}"
    return [
        graph("Entries", "Held by each cache.", Query(p.level("opero.cache.entry.count", POLICY), by), unit="short"),
        graph("Memory", "Held by each cache.", Query(p.level("opero.cache.usage", POLICY), by), unit="bytes"),
        graph(
            "Evictions",
            "Why entries left.",
            Query(p.rate("opero.cache.evictions", reason), f"{{{{{reason}}}}}"),
            unit="ops",
            look="bars",
        ),
    ]
