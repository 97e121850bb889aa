"""`/slo`: the live report of this process. `?format=json` (or md, text) for other readers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import opero_slo
from opero_slo import reports
from opero_slo.reports import html

if TYPE_CHECKING:
    from collections.abc import Mapping

KINDS = {"json": "application/json", "md": "text/markdown; charset=utf-8", "text": "text/plain; charset=utf-8"}
REFRESH = 15


def page(query: Mapping[str, str]) -> tuple[str, str]:
    """Return content type and body; the monitor starts with the first question if it has not yet."""
    names = [name for name in query.get("slo", "").split(",") if name]
    report = opero_slo.start().report(*names)
    wanted = query.get("format", "html")
    if wanted in KINDS:
        return KINDS[wanted], reports.render(report, wanted)
    return "text/html; charset=utf-8", html.render(report, refresh=REFRESH)
