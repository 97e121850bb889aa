"""Write a first specification from the operations that are there."""

from __future__ import annotations

import re
import urllib.error
import urllib.parse
import urllib.request
from collections import defaultdict
from typing import TYPE_CHECKING

from opero.errors import ConfigurationError
from opero_slo import openslo
from opero_slo.durations import Duration, shown
from opero_slo.model import ANSWERED, SLO, Ratio, Selection, Window

if TYPE_CHECKING:
    from collections.abc import Iterable

    from opero_slo.sources.prometheus import Prometheus

HEADER = """\
# Objectives of what runs here, OpenSLO v1. The targets are a start: set what your users need.
# check: opero slo validate THIS    report: opero slo report THIS --prometheus URL    alerts: opero slo rules THIS
"""
BUCKET = re.compile(r"opero_call_duration_seconds_bucket\{(?P<labels>[^}]*)\} (?P<value>\S+)")
LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
ANSWER = 50_000_000


def write(operations: Iterable[tuple[str, float | None]], *, target: float = 0.999) -> str:
    """Return a specification: one objective for (operation, latency in seconds or None) each."""
    documents = []
    for name, latency in operations:
        plain = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:60] or "operation"
        title = f"{name} answers" + (f" within {shown(latency)}" if latency else "")
        ratio = Ratio(Selection(name, "calls", ANSWERED, latency), Selection(name))
        window = Window(Duration(28, "d"))
        documents.append(openslo.document_of(SLO(plain, ratio, target, window, name.partition(".")[0], title)))
    return HEADER + openslo.write(documents)


def from_metrics(url: str) -> list[tuple[str, float | None]]:
    """Read the operations of a running process from its `/metrics`."""
    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in {"http", "https"}:
        raise ConfigurationError("live", url, "an address like http://127.0.0.1:9464")
    address = url if parts.path.strip("/") else f"{url.rstrip('/')}/metrics"
    try:
        with urllib.request.urlopen(address, timeout=10) as answer:  # noqa: S310 - http or https, checked
            text = answer.read(ANSWER).decode("utf-8", "replace")
    except (OSError, urllib.error.URLError, ValueError) as error:
        raise ConfigurationError("live", url, f"a process that serves /metrics ({error})") from None
    below: defaultdict[str, dict[float, float]] = defaultdict(dict)
    for found in BUCKET.finditer(text):
        labels = dict(LABEL.findall(found["labels"]))
        counts = below[labels.get("opero_call_name", "")]
        bound = float(labels.get("le", "+Inf"))
        if labels.get("opero_outcome") in ANSWERED:
            counts[bound] = counts.get(bound, 0.0) + float(found["value"])
    return [(name, _latency(counts)) for name, counts in sorted(below.items()) if name]


def from_prometheus(server: Prometheus, now: float) -> list[tuple[str, float | None]]:
    """Read the operations a Prometheus server has seen in the last week."""
    query = "sum by (opero_call_name, le) (increase(opero_call_duration_seconds_bucket[7d]))"
    below: defaultdict[str, dict[float, float]] = defaultdict(dict)
    for found in server.query(query, now):
        labels = found["metric"]
        below[labels.get("opero_call_name", "")][float(labels["le"])] = float(found["value"][1])
    return [(name, _latency(counts)) for name, counts in sorted(below.items()) if name]


def _latency(below: dict[float, float]) -> float | None:
    """Return the second bound above what 99.9 % of the answers took, 100 ms at least; None without calls."""
    total = max(below.values(), default=0.0)
    kept = [bound for bound, calls in sorted(below.items()) if total and calls >= 0.999 * total][1:]
    roomy = [bound for bound in kept if 0.1 <= bound < float("inf")]
    return roomy[0] if roomy else None
