"""PromQL from metrics. Every selector is bound to the variables of the page, every rate to `$__rate_interval`."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from opero_dashboards.vocabulary import Vocabulary

CALL, POLICY, OUTCOME, ERROR = "opero_call_name", "opero_policy_name", "opero_outcome", "error_type"
PROCESS = 'job=~"$job", instance=~"$instance"'
OPERATION = f'{PROCESS}, {CALL}=~"$operation"'
BAD = f'{OUTCOME}=~"error|timeout|rejected"'
COUNTED = f'{OUTCOME}!="cancelled"'


class Query(NamedTuple):
    """An expression and the legend of its series."""

    expr: str
    legend: str = ""


class PromQL:
    """Writes expressions over the metrics of a vocabulary; `scope` are the matchers every selector carries."""

    def __init__(self, vocabulary: Vocabulary, scope: str = OPERATION) -> None:
        self.vocabulary = vocabulary
        self.scope = scope

    def series(self, name: str, where: str = "", *, suffix: str = "") -> str:
        """Return a selector: `opero_call_active{job=~"$job", ...}`."""
        matchers = ", ".join(part for part in (self.scope, where) if part)
        return f"{self.vocabulary.prometheus(name)}{suffix}{{{matchers}}}"

    def rate(self, name: str, *by: str, where: str = "", suffix: str = "") -> str:
        """Return what happens in a second."""
        return _sum(by, f"rate({self.series(name, where, suffix=suffix)}[$__rate_interval])")

    def count(self, name: str, *by: str, where: str = "") -> str:
        """Return how many observations a histogram gets in a second."""
        return self.rate(name, *by, where=where, suffix="_count")

    def increase(self, name: str, *by: str, where: str = "", suffix: str = "", over: str = "$__rate_interval") -> str:
        """Return how often it happened within `over`."""
        return _sum(by, f"increase({self.series(name, where, suffix=suffix)}[{over}])")

    def quantile(self, q: float, name: str, *by: str, where: str = "") -> str:
        """Return a quantile of a histogram, interpolated within its bucket."""
        return f"histogram_quantile({q:g}, {self.rate(name, 'le', *by, where=where, suffix='_bucket')})"

    def quantiles(self, name: str, where: str = "") -> list[Query]:
        """Return the three quantiles a page shows, worst first."""
        return [Query(self.quantile(q, name, where=where), f"p{100 * q:g}") for q in (0.99, 0.95, 0.5)]

    def mean(self, name: str, *by: str, where: str = "") -> str:
        """Return the mean of a histogram's observations."""
        return share(self.rate(name, *by, where=where, suffix="_sum"), self.count(name, *by, where=where))

    def level(self, name: str, *by: str, where: str = "", how: str = "sum") -> str:
        """Return a gauge, put together by `how`."""
        return f"{how}{_by(by)} ({self.series(name, where)})"

    def events(self, *names: str, by: str = "") -> str:
        """Return how often events are said in a second."""
        where = f'opero_event_name=~"{"|".join(names)}"'.replace(".", "\\\\.").replace("*", ".*") if names else ""
        return self.rate("opero.events", *([by] if by else []), where=where)


def share(part: str, whole: str) -> str:
    """Return a ratio, and nothing where there is nothing to divide by."""
    return f"{part} / ({whole} > 0)"


def _sum(by: tuple[str, ...], inner: str) -> str:
    return f"sum{_by(by)} ({inner})"


def _by(labels: tuple[str, ...]) -> str:
    return f" by ({', '.join(labels)})" if labels else ""
