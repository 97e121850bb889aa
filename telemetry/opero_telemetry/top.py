"""`opero top`: the operations of a running program, in a terminal, from its `/metrics` page."""

from __future__ import annotations

import argparse
import math
import sys
import time
import urllib.error
import urllib.request
from collections import deque
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from opero_telemetry import tables
from opero_telemetry.scrape import Scrape, lines

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from rich.console import RenderableType

    from opero_telemetry.scrape import Line
    from opero_telemetry.tables import Tables

    Read = Callable[[], Tables]

DEFAULT = "http://127.0.0.1:9464/metrics"
MOST = 64 * 2**20  # bytes of a page that are read
WIDTH = 24  # of the sparkline, in readings
BARS = "▁▂▃▄▅▆▇█"
STYLES = {"closed": "green", "half_open": "yellow", "open": "bold red", "forced_open": "bold red"}
NARROW = ("calls/s", "ok", "p95", "p99", "attempts", "circuit")  # of 80 characters
COLUMNS = ("calls/s", "", "ok", "p50", "p95", "p99", "attempts", "rejected/s", "in flight", "circuit")
WIDE = 110  # characters, from which on all columns are shown


class Unreachable(Exception):
    """Nobody answers there, or not with metrics."""


def command(arguments: Sequence[str]) -> int:
    """Show until interrupted, or `--count` times; exit status 2 when there is nothing to see."""
    given = _parse(arguments)
    address = given.url if urlsplit(given.url).path not in {"", "/"} else given.url.rstrip("/") + "/metrics"
    try:
        show(lambda: tables.of_text(fetch(address)), title=address, every=given.every, count=given.count)
    except Unreachable as error:
        print(f"opero top: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 0
    return 0


def show(
    read: Read | None = None, *, title: str = "this process", every: float = 1.0, count: int | None = None
) -> None:
    """Show what happens, `every` so many seconds, `count` times or until interrupted.

    `read` returns what is measured; without one, this process is looked at.
    """
    from rich.console import Console
    from rich.live import Live

    console = Console()
    if not console.is_terminal:
        console.width = 2 * WIDE
    views = _views(read or own, title, every, COLUMNS if console.width >= WIDE else NARROW)
    looks = range(count or sys.maxsize)
    if not console.is_terminal:
        for _, view in zip(looks, views, strict=False):
            console.print(view)
        return
    with Live(console=console, screen=count is None, auto_refresh=False) as screen:
        for _, view in zip(looks, views, strict=False):
            screen.update(view, refresh=True)


def fetch(address: str) -> str:
    """Return the text of a page; raise `Unreachable`."""
    if "://" not in address:
        address = f"http://{address}"
    if urlsplit(address).scheme not in {"http", "https"}:
        raise Unreachable(f"{address!r} is no address; it takes http://HOST:PORT")
    try:
        with urllib.request.urlopen(address, timeout=10) as answer:  # noqa: S310 - checked above
            return str(answer.read(MOST).decode())
    except (OSError, ValueError) as error:
        why = getattr(error, "reason", error)
        raise Unreachable(f"{address} does not answer: {why}; is opero_telemetry.start() called?") from error


def own() -> Tables:
    """Return the numbers of this process."""
    from opero_telemetry.reading import Reader

    return tables.of_families(Reader().read())


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="opero top", description=__doc__)
    parser.add_argument("url", nargs="?", default=DEFAULT, help=f"of the program's metrics (default {DEFAULT})")
    parser.add_argument("--every", type=float, default=1.0, metavar="SECONDS", help="between two looks (default 1)")
    parser.add_argument("--count", type=int, metavar="N", help="look N times and end (default: until Ctrl-C)")
    given = parser.parse_args(arguments)
    if not 0.1 <= given.every <= 3600:
        parser.error(f"--every {given.every:g}: takes 0.1 to 3600 seconds")
    if given.count is not None and given.count < 1:
        parser.error(f"--count {given.count}: takes 1 or more")
    return given


def _views(read: Read, title: str, every: float, columns: Sequence[str]) -> Iterator[RenderableType]:
    history: dict[str, deque[float]] = {}
    before = _scrape(read)
    while True:
        time.sleep(every)
        after = _scrape(read)
        found = lines(before, after)
        for line in found:
            history.setdefault(line.operation, deque(maxlen=WIDTH)).append(line.rate)
        yield _table(found, history, title, columns)
        before = after


def _scrape(read: Read) -> Scrape:
    try:
        return Scrape(read(), time.monotonic())
    except (ValueError, KeyError, IndexError) as error:
        raise Unreachable("the answer is no page of metrics") from error


def _table(
    found: Sequence[Line], history: dict[str, deque[float]], title: str, columns: Sequence[str]
) -> RenderableType:
    from rich.table import Table
    from rich.text import Text

    out = Table(title=f"opero top  {title}", title_justify="left", box=None, header_style="bold")
    out.add_column("operation", no_wrap=True, max_width=40)
    for column in columns:
        out.add_column(column, no_wrap=True, justify="left" if column in {"", "circuit"} else "right")
    for line in found:
        cells = _cells(line, history[line.operation])
        out.add_row(Text(plain(line.operation)), *(Text(*cells[column]) for column in columns))
    if not found:
        out.add_row(Text("nothing is decorated yet", style="dim"))
    return out


def _cells(line: Line, rates: deque[float]) -> dict[str, tuple[str, str]]:
    """Return text and style of each column."""
    return {
        "calls/s": (f"{line.rate:.1f}", ""),
        "": (sparkline(rates), "cyan"),
        "ok": (_share(line.success), _health(line.success)),
        "p50": (_seconds(line.p50), ""),
        "p95": (_seconds(line.p95), ""),
        "p99": (_seconds(line.p99), ""),
        "attempts": (_number(line.attempts), ""),
        "rejected/s": (f"{line.rejected:.1f}", ""),
        "in flight": (f"{line.active:.0f}", ""),
        "circuit": (line.circuit.replace("_", " ") or "–", STYLES.get(line.circuit, "dim")),
    }


def sparkline(values: Sequence[float] | deque[float]) -> str:
    """Return bars as high as the values, the highest one full."""
    top = max(values, default=0.0)
    return "".join(BARS[round(value / top * (len(BARS) - 1))] if top else BARS[0] for value in values)


def plain(text: str) -> str:
    """Return the text without what could steer a terminal."""
    return "".join(char if char.isprintable() else "�" for char in text)


def _health(share: float) -> str:
    if math.isnan(share):
        return "dim"
    return "green" if share >= 0.999 else "yellow" if share >= 0.99 else "red"


def _share(value: float) -> str:
    return "–" if math.isnan(value) else f"{100 * value:.1f} %"


def _number(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.2f}"


def _seconds(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:.2f} s" if value >= 1 else f"{1000 * value:.1f} ms"
