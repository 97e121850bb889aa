"""Every expression of a dashboard, asked of a real Prometheus: which it does not take, and which find nothing."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any, NamedTuple

from opero_dashboards.remote import Refused
from opero_dashboards.rules import expressions

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from opero_dashboards.remote import Server

VALUES = {"$__rate_interval": "5m", "$__range": "1h", "$__interval": "1m"}
VARIABLE = re.compile(r"\$(job|instance|operation|slo)\b")


class Finding(NamedTuple):
    """What became of one expression: `series` that hold a number, or the `error` Prometheus gave."""

    place: str
    expr: str
    series: int
    error: str


def probe(server: Server, dashboard: Mapping[str, Any], values: Mapping[str, str] = VALUES) -> Iterator[Finding]:
    """Yield a finding for each expression, every variable at *All*. Raises `Refused` when nobody answers."""
    for place, expr in expressions(dashboard):
        asked = substitute(expr, values)
        try:
            found = server.get("/api/v1/query", query=asked)["data"]["result"]
        except Refused as refusal:
            if refusal.status not in {400, 422}:
                raise
            yield Finding(place, asked, 0, str(refusal))
        else:
            yield Finding(place, asked, sum(_is_number(series["value"][1]) for series in found), "")


def substitute(expr: str, values: Mapping[str, str] = VALUES) -> str:
    """Return the expression as Grafana sends it, with every variable at *All*."""
    for name, value in values.items():
        expr = expr.replace(name, value)
    return VARIABLE.sub(".+", expr)


def _is_number(text: str) -> bool:
    return not math.isnan(float(text))
