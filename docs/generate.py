"""Fill the generated blocks of the pages, from the code and from the newest benchmark, and draw all benchmarks.

`--check` only says which are stale (exit status 1).
"""

from __future__ import annotations

import re
import sys
from importlib import import_module
from inspect import Parameter, signature
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import page, results, tables
from opero import acts, call, catalogue, parallel, stores
from opero.control import signals as control_signals
from opero.signals import Signals
from opero.workers import gpu_batch
from opero_slo import signals as slo_signals
from opero_telemetry import relay
from opero_telemetry.naming import prometheus_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType

DOCS = Path(__file__).parent
REPORT = DOCS / "assets" / "benchmarks.html"
PRIMITIVES = {
    "retry": "Retry",
    "retry_budget": "RetryBudget",
    "timeout": "Timeout",
    "circuit_breaker": "CircuitBreaker",
    "rate_limit": "RateLimit",
    "bulkhead": "Bulkhead",
    "chaos": "Chaos",
    "hedge": "Hedge",
    "cache": "Cache",
    "fallback": "Fallback",
    "arg_fallback": "ArgFallback",
}
OTHERS = {
    "map": parallel.SIGNALS,
    "gpu_batch": gpu_batch.SIGNALS,
    "store": stores.SIGNALS,
    "controller": control_signals.SIGNALS,
    "slo": slo_signals.SIGNALS,
    "admin": acts.SIGNALS,
    "telemetry": Signals("telemetry", catalogue.SIGNALS.events, relay.SIGNALS.metrics),
}
BLOCK = re.compile(r"(<!-- generated: ([a-z]+) ([a-z_]+) -->\n).*?(<!-- end generated -->)", re.DOTALL)


def main(arguments: list[str]) -> int:
    """Rewrite, or check, every page."""
    write = "--check" not in arguments
    pages = [DOCS.parent / "README.md", *sorted(DOCS.rglob("*.md"))]
    stale = [path for path in pages if _renew(path, _filled(path), write=write)]
    stale += [REPORT] if _renew(REPORT, page.page(results.kept()), write=write) else []
    if stale and not write:
        print(f"stale, run python docs/generate.py: {', '.join(str(path.relative_to(DOCS.parent)) for path in stale)}")
        return 1
    return 0


def defaults(name: str) -> str:
    """Return the table of a policy's settings."""
    target: Callable[..., object] = parallel.Plan if name == "map" else getattr(_module(name), PRIMITIVES[name])
    shown = [p for p in signature(target).parameters.values() if p.name not in {"function", "name"}]
    rows = [f"| `{parameter.name}` | {_default(name, parameter)} |" for parameter in shown]
    return "\n".join(["| setting | default |", "|---|---|", *rows])


def telemetry(name: str) -> str:
    """Return the tables of what a primitive can say; of everything, for `all`."""
    if name == "all":
        every = {"call": call.SIGNALS, **{n: _module(n).SIGNALS for n in PRIMITIVES}, **OTHERS}
        return "\n\n".join(f"## {kind}\n\n{_tables(signals)}" for kind, signals in every.items())
    return _tables(OTHERS[name] if name in OTHERS else _module(name).SIGNALS)


MAKERS = {"defaults": defaults, "telemetry": telemetry, "measured": tables.measured}


def _filled(path: Path) -> str:
    text = path.read_text(encoding="utf-8")
    return BLOCK.sub(lambda found: f"{found[1]}\n{MAKERS[found[2]](found[3])}\n\n{found[4]}", text)


def _renew(path: Path, fresh: str, *, write: bool) -> bool:
    stale = not path.exists() or path.read_text(encoding="utf-8") != fresh
    if stale and write:
        path.write_text(fresh, encoding="utf-8")
    return stale


def _module(name: str) -> ModuleType:
    return import_module(f"opero.primitives.{name}")


def _default(name: str, parameter: Parameter) -> str:
    if parameter.default is Parameter.empty:
        return "required"
    if name == "retry" and parameter.name == "wait":
        return "`waits.exponential(0.1, 30, 1.5)`"
    default = parameter.default
    return f"`{default.__name__ if isinstance(default, type) else repr(default)}`"


def _tables(signals: Signals) -> str:
    parts = []
    if signals.events:
        parts.append("\n".join(["| event | severity | fields | |", "|---|---|---|---|", *_events(signals)]))
    if signals.metrics:
        parts.append("\n".join(["| metric | type, unit | labels | |", "|---|---|---|---|", *_metrics(signals)]))
    if signals.reasons:
        parts.append(f"Reasons to reject: {', '.join(f'`{reason}`' for reason in signals.reasons)}.")
    return "\n\n".join(parts)


def _events(signals: Signals) -> Iterator[str]:
    for event in signals.events:
        fields = ", ".join(f"`{field}`" for field in event.fields)
        yield f"| `{event.name}` | {event.severity} | {fields} | {event.help} |"


def _metrics(signals: Signals) -> Iterator[str]:
    for metric in signals.metrics:
        labels = ", ".join(f"`{attribute}`" for attribute in metric.attributes)
        unit = f"{metric.type}, {metric.unit}" if metric.unit else metric.type
        yield f"| `{metric.name}`<br>`{prometheus_name(metric)}` | {unit} | {labels} | {metric.help} |"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
