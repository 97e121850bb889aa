"""The run as it goes: a live table on a terminal, a line now and then in a pipe."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.table import Table

    Show = Callable[[dict[str, Any], str, float], None]

EVERY = 2.0  # seconds between plain lines
COLUMNS = ("operation", "calls", "ok", "fallback", "errors", "rejected", "attempts", "circuit", "p50", "p95", "p99")
STYLES = {"closed": "green", "half_open": "yellow", "open": "red", "forced_open": "red"}


@contextmanager
def live(url: str) -> Iterator[Show]:
    """Show a table that changes in place."""
    from rich.console import Group
    from rich.live import Live
    from rich.text import Text

    with Live(refresh_per_second=4) as screen:

        def show(state: dict[str, Any], phase: str, left: float) -> None:
            head = Text.assemble(("opero demo  ", "bold"), f"service: {phase}   {left:.0f} s left   {url}/metrics")
            screen.update(Group(head, table(state), Text(parsed(state), style="dim")))

        yield show


@contextmanager
def plain(url: str) -> Iterator[Show]:
    """Print a line every other second."""
    print(f"metrics: {url}/metrics", flush=True)
    said = [0.0]

    def show(state: dict[str, Any], phase: str, left: float) -> None:
        if time.monotonic() - said[0] < EVERY:
            return
        said[0] = time.monotonic()
        told = [f"{name} {s['ok']}/{s['calls']} ok" for name, s in state["operations"].items()]
        circuit = state["operations"]["price"].get("circuit", "")
        print(f"{left:5.0f} s left  {phase:<17} {'  '.join(told)}  circuit {circuit}", flush=True)

    yield show


def table(state: dict[str, Any]) -> Table:
    """Return the table of the operations."""
    from rich.table import Table

    out = Table(*COLUMNS)
    for name, stats in state["operations"].items():
        counts = [str(stats[key]) for key in ("calls", "ok", "fallbacks", "errors", "rejected", "attempts")]
        circuit = stats.get("circuit", "–")
        style = STYLES.get(circuit, "dim")
        times = [f"{1000 * stats[key]:.0f} ms" for key in ("p50", "p95", "p99")]
        out.add_row(name, *counts, f"[{style}]{circuit}[/]", *times)
    return out


def parsed(state: dict[str, Any]) -> str:
    """Say how far the map is."""
    found = state["parsed"]
    if not found:
        return f"@opmap parses the standard library: {state['operations']['parse']['calls']} files so far"
    return f"@opmap parsed {found['files']} files in {found['seconds']:.1f} s: {found['functions']} functions"
