"""How far a map is: on a terminal or in a notebook by rich, else by a plain line; quiet in pipes."""

from __future__ import annotations

import sys
import warnings

from opero import clock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

PATIENCE = 0.5  # seconds before a bar appears: short maps need none
EVERY = 0.1


class Quiet:
    """Shows nothing."""

    def show(self, done: int, failed: int) -> None:
        """Say how many items are back, and how many of them failed."""

    def close(self, done: int, failed: int) -> None:
        """End it."""


class Told(Quiet):
    """Calls back with (items back, how many there are or None), when that changed."""

    def __init__(self, callback: Callable[[int, int | None], object], total: int | None) -> None:
        self._callback = callback
        self._total = total
        self._told = 0

    def show(self, done: int, failed: int) -> None:
        if done != self._told:
            self._told = done
            try:
                self._callback(done, self._total)
            except Exception as error:  # noqa: BLE001 - who looks on does not break the map
                self._callback = _deaf
                warnings.warn(f"opero: the progress callback failed, and is not called again: {error!r}", stacklevel=2)

    def close(self, done: int, failed: int) -> None:
        self.show(done, failed)


class Bar(Quiet):
    """A bar by rich."""

    def __init__(self, name: str, total: int | None, after: float) -> None:
        self._name = name
        self._total = total
        self._starts = clock.now() + after
        self._shown_at = 0.0
        self._bar: Any = None
        self._task: Any = None

    def show(self, done: int, failed: int) -> None:
        now = clock.now()
        if now < self._starts or now - self._shown_at < EVERY:
            return
        self._shown_at = now
        bar = self._bar or self._open()
        bar.update(self._task, completed=done, failed=f"{failed} failed" if failed else "")

    def close(self, done: int, failed: int) -> None:
        if self._bar is not None:
            self._bar.update(self._task, completed=done, failed=f"{failed} failed" if failed else "")
            self._bar.stop()

    def _open(self) -> Any:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns: list[Any] = [
            "[progress.description]{task.description}",
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
        ]
        self._bar = Progress(*columns, TextColumn("{task.fields[failed]}", style="red"), console=Console(stderr=True))
        self._task = self._bar.add_task(self._name, total=self._total, failed="")
        self._bar.start()
        return self._bar


class Line(Quiet):
    """A line that is written over, where rich is not installed."""

    def __init__(self, name: str, total: int | None, after: float) -> None:
        self._name = name
        self._of = f" of {total}" if total is not None else ""
        self._starts = clock.now() + after
        self._shown_at = 0.0

    def show(self, done: int, failed: int) -> None:
        now = clock.now()
        if now >= self._starts and now - self._shown_at >= EVERY:
            self._shown_at = now
            self._write(done, failed, "")

    def close(self, done: int, failed: int) -> None:
        if self._shown_at:
            self._write(done, failed, "\n")

    def _write(self, done: int, failed: int, end: str) -> None:
        failures = f", {failed} failed" if failed else ""
        sys.stderr.write(f"\r{self._name}: {done}{self._of}{failures}{end}")
        sys.stderr.flush()


def shown(wish: bool | Callable[..., object] | None, name: str, total: int | None) -> Quiet:
    """Return what shows the progress: by a callback, always (True), never (False), or on a terminal (None)."""
    if callable(wish):
        return Told(wish, total)
    if wish is False or (wish is None and not _watched()):
        return Quiet()
    try:
        import rich  # noqa: F401
    except ImportError:
        return Line(name, total, 0.0 if wish else PATIENCE)
    return Bar(name, total, 0.0 if wish else PATIENCE)


def _watched() -> bool:
    """Whether somebody looks: a terminal, or a notebook."""
    try:
        terminal = sys.stderr.isatty()
    except (AttributeError, ValueError):  # no stderr, or a closed one
        return False
    return terminal or "ipykernel" in sys.modules


def _deaf(done: int, total: int | None) -> None:
    """Take the place of a callback that failed."""
