"""Expressions for Prometheus: what a selection counts, and what a query of the user's counts over a window."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from opero.errors import ConfigurationError
from opero_slo.model import Query, Selection

if TYPE_CHECKING:
    from collections.abc import Iterator

    from opero_slo.model import Metric

NAMES = {
    "cache": ("opero_cache_requests_total", "opero_cache_result"),
    "events": ("opero_events_total", "opero_event_name"),
}
OPERATION = "opero_call_name"
WINDOW = re.compile(r"\{\{\s*\.?window\s*\}\}")
_TOKEN = re.compile(
    r"""(?P<text>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|`[^`]*`)|(?P<comment>\#[^\n]*)|(?P<number>0x[0-9a-fA-F]+|[0-9.]+[a-zA-Z0-9]*)
    |(?P<word>[A-Za-z_:][A-Za-z0-9_:]*)|(?P<space>\s+)|(?P<sign>.)""",
    re.VERBOSE,
)
KEYWORDS = {"and", "or", "unless", "bool", "offset", "start", "end", "atan2", "inf", "nan"}
LISTS = {"by", "without", "on", "ignoring", "group_left", "group_right"}


def selector(metric: Selection) -> str:
    """Return the series that count what is selected."""
    labels = [_equals(OPERATION, metric.operation)]
    if metric.counted != "calls":
        name, label = NAMES[metric.counted]
        return f"{name}{{{', '.join([*labels, _in(label, metric.values)])}}}"
    labels.append(_in("opero_outcome", metric.values))
    if metric.within is None:
        return f"opero_call_duration_seconds_count{{{', '.join(labels)}}}"
    labels.append(f'le="{float(metric.within)!r}"')
    return f"opero_call_duration_seconds_bucket{{{', '.join(labels)}}}"


def increase(metric: Metric, window: str, function: str = "increase") -> str:
    """Return how much a metric grew over a window; a query's own `{{.window}}` is kept to."""
    if isinstance(metric, Selection):
        return f"sum({function}({selector(metric)}[{window}]))"
    text = query_of(metric)
    if WINDOW.search(text):
        return WINDOW.sub(window, text)
    return _rewrite(text, lambda found: f"{function}({found}[{window}])")


def at_window(text: str, window: str) -> str:
    """Fill a query's `{{.window}}` in."""
    return WINDOW.sub(window, text)


def query_of(metric: Metric) -> str:
    """Return the text of a query; a source of another kind cannot be asked."""
    if not isinstance(metric, Query):
        kind = getattr(metric, "type", "Opero")
        raise ConfigurationError("metricSource.type", kind, "Opero or Prometheus, to be asked of a Prometheus server")
    return metric.text


def counters(metric: Metric) -> str | None:
    """Return the one selector whose series a metric sums, where it is nothing else: `x{…}` or `sum(x{…})`."""
    if isinstance(metric, Selection):
        return selector(metric)
    text = query_of(metric).strip()
    inner = re.fullmatch(r"sum\s*\((.*)\)", text, re.DOTALL)
    bare = (inner[1] if inner else text).strip()
    found = list(selectors(bare))
    return bare if found == [bare] else None


def selectors(text: str) -> Iterator[str]:
    """Yield the instant vector selectors of an expression."""
    for start, end in _spans(text):
        yield text[start:end]


def quote(text: str) -> str:
    """Write a text as PromQL, and the annotations of rules, take it."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def _equals(label: str, value: str) -> str:
    if "*" not in value:
        return f"{label}={quote(value)}"
    pattern = ".*".join(re.escape(part) for part in value.split("*"))
    return f"{label}=~{quote(pattern)}"


def _in(label: str, values: tuple[str, ...]) -> str:
    if len(values) == 1:
        return f"{label}={quote(values[0])}"
    return f"{label}=~{quote('|'.join(re.escape(value) for value in values))}"


def _rewrite(text: str, change: object) -> str:
    parts, done = [], 0
    for start, end in _spans(text):
        parts += [text[done:start], change(text[start:end])]  # type: ignore[operator]
        done = end
    return "".join([*parts, text[done:]])


def _spans(text: str) -> list[tuple[int, int]]:
    tokens = [(m.lastgroup, m[0], m.start(), m.end()) for m in _TOKEN.finditer(text)]
    tokens = [token for token in tokens if token[0] not in {"space", "comment"}]
    spans, index = [], 0
    while index < len(tokens):
        kind, word, start, end = tokens[index]
        following = tokens[index + 1][1] if index + 1 < len(tokens) else ""
        if kind == "word" and word.lower() in LISTS and following == "(":
            index = _closing(tokens, index + 1, "(", ")")
        elif word == "{" or (kind == "word" and word.lower() not in KEYWORDS and following != "("):
            if (word == "{" or following == "{") and kind is not None:
                index = _closing(tokens, index + (word != "{"), "{", "}")
                end = tokens[index][3]
            if index + 1 < len(tokens) and tokens[index + 1][1] == "[":
                index = _closing(tokens, index + 1, "[", "]")
            elif word.lower() not in {"sum", "avg", "min", "max", "count"}:
                spans.append((start, end))
        index += 1
    return spans


def _closing(tokens: list[tuple[str | None, str, int, int]], index: int, opening: str, closing: str) -> int:
    depth = 0
    while index < len(tokens):
        depth += (tokens[index][1] == opening) - (tokens[index][1] == closing)
        if depth == 0:
            return index
        index += 1
    return len(tokens) - 1
