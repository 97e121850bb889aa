"""A report as one HTML file: nothing is loaded from elsewhere, and it prints."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from opero_slo.durations import shown
from opero_slo.reports import charts, words

if TYPE_CHECKING:
    from collections.abc import Callable

    from jinja2 import Template

    from opero_slo.reports.data import Objective, Report

ORDER = ("missed", "at risk", "met", "too few events", "no data")


def render(report: Report, *, refresh: int = 0) -> str:
    """Write it; with `refresh` a browser asks again after so many seconds."""
    ordered = sorted(report.objectives, key=lambda each: ORDER.index(each.status.state))
    states = [each.status.state for each in ordered]
    tiles = [(state, states.count(state)) for state in ORDER if state in states]
    return _template().render(report=report, objectives=ordered, tiles=tiles, refresh=refresh)


@lru_cache(maxsize=1)
def _template() -> Template:
    environment = Environment(
        loader=PackageLoader("opero_slo", "reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(words=words, shown=shown, shares=charts.shares, gauge=charts.gauge)
    pictures: dict[str, Callable[[Objective], str]] = {
        "burn_down": charts.burn_down,
        "latencies": charts.latencies,
        "calendar": charts.calendar,
        "months": charts.months,
    }
    environment.globals.update({name: _markup(draw) for name, draw in pictures.items()})
    return environment.get_template("report.html.jinja")


def _markup(draw: Callable[[Objective], str]) -> Callable[[Objective], Markup]:
    """The charts escape what they are given; the page takes them as they are."""
    return lambda objective: Markup(draw(objective))  # noqa: S704
