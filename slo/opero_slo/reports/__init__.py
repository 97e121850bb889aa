"""Reports: what objectives came to, as data, and that data as text, JSON, Markdown and a page."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opero_slo.reports.data import build

if TYPE_CHECKING:
    from collections.abc import Callable

    from opero_slo.reports.data import Report

__all__ = ["FORMATS", "build", "render"]
FORMATS = ("text", "json", "md", "html")


def render(report: Report, format: str) -> str:  # noqa: A002 - the name of the option
    """Write a report in one of `FORMATS`."""
    from opero_slo.reports import as_json, html, markdown, text

    writers: dict[str, Callable[[Report], str]] = {
        "text": text.render,
        "json": as_json.render,
        "md": markdown.render,
        "html": html.render,
    }
    return writers[format](report)
