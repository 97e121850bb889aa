"""What was counted, kept in SQLite so that long windows survive a restart. Several processes may share one file.

Rows are increments at moments of a common grid, so processes add up. Those older than two days are folded into
minutes, older than two months into quarters of an hour, older than 400 days they go.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from hashlib import sha256
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING
from weakref import finalize

from opero.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from opero_slo.alerts import Firing
    from opero_slo.model import SLO
    from opero_slo.series import Series

DAY = 86400.0
FOLDS = ((2 * DAY, 60), (60 * DAY, 900))
FORGET = 400 * DAY
_parents: list[History] = []
TABLES = """
create table if not exists counts (
    indicator text not null, at real not null, part real not null, total real not null, primary key (indicator, at)
) without rowid;
create table if not exists alerts (
    slo text not null, alert text not null, start real not null, end real, burn real not null,
    primary key (slo, alert, start)
) without rowid;
"""


class History:
    """A file, or `:memory:`. Thread-safe. Raises `sqlite3.Error` when the disk is full or the file is no database."""

    def __init__(self, path: str | Path = ":memory:") -> None:
        self.path = str(path)
        self._lock = Lock()
        if self.path != ":memory:":
            file = Path(self.path)
            file.parent.mkdir(parents=True, exist_ok=True)
            os.close(os.open(file, os.O_RDWR | os.O_CREAT, 0o600))
        self._base = sqlite3.connect(self.path, timeout=5.0, check_same_thread=False, isolation_level=None)
        finalize(self, _close, self._base, os.getpid())
        self._base.execute("pragma journal_mode = wal")
        self._base.execute("pragma synchronous = normal")
        self._base.executescript(TABLES)

    def reopened(self) -> History:
        """Return another connection: one that was open when the process forked is its parent's."""
        _parents.append(self)  # closing it here would let go of locks the parent holds
        return History(self.path)

    def add(self, at: float, increments: Iterable[tuple[str, float, float]]) -> None:
        """Add (indicator, part, total) that were counted up to a moment."""
        rows = [(indicator, at, part, total) for indicator, part, total in increments]
        with self._lock, self._base:
            self._base.execute("begin immediate")
            self._base.executemany(
                "insert into counts values (?, ?, ?, ?) on conflict do update"
                " set part = part + excluded.part, total = total + excluded.total",
                rows,
            )

    def extend(self, series: Series, indicator: str, since: float) -> None:
        """Read anew what a series holds after a moment: other processes may have added to it."""
        with self._lock, closing(self._base.cursor()) as cursor:
            cursor.execute(
                "select at, part, total from counts where indicator = ? and at > ? order by at", (indicator, since)
            )
            rows = cursor.fetchall()
        series.cut(since)
        part, total = (series.good[-1], series.total[-1]) if len(series) else (0.0, 0.0)
        for at, more_part, more_total in rows:
            part, total = part + more_part, total + more_total
            series.add(at, part, total)

    def keep(self, slo: str, firing: Firing) -> None:
        """Remember an alert that fired, or that ended."""
        row = (slo, firing.law.name, firing.start, firing.end, firing.burn)
        with self._lock, self._base:
            self._base.execute("insert or replace into alerts values (?, ?, ?, ?, ?)", row)

    def fold(self, now: float) -> None:
        """Make old rows fewer; the sums stay."""
        with self._lock, self._base:
            self._base.execute("begin immediate")
            for age, width in FOLDS:
                self._fold_locked(now - age, width)
            self._base.execute("delete from counts where at < ?", (now - FORGET,))
            self._base.execute("delete from alerts where end < ?", (now - FORGET,))

    def close(self) -> None:
        """End; the file stays."""
        with self._lock:
            self._base.close()

    def _fold_locked(self, until: float, width: int) -> None:
        """Rows move to the end of their slice, never before their time."""
        floor = f"cast(at / {width} as integer)"
        slot = f"({floor} + (at > {floor} * {width})) * {width}.0"
        fine = f"at < {until - until % width} and at <> {slot}"
        self._base.execute(
            f"create temp table coarse as select indicator, {slot} as at, sum(part) part, sum(total) total"  # noqa: S608 - our numbers
            f" from counts where {fine} group by 1, 2"
        )
        self._base.execute(f"delete from counts where {fine}")  # noqa: S608
        self._base.execute(
            "insert into counts select indicator, at, part, total from coarse where true on conflict do update"
            " set part = part + excluded.part, total = total + excluded.total"
        )
        self._base.execute("drop table coarse")


def open_at(path: str | Path) -> History:
    """Open a history; raise `ConfigurationError` where that cannot be."""
    try:
        return History(path)
    except (OSError, sqlite3.Error) as error:
        raise ConfigurationError("history", str(path), f"an SQLite file that can be written ({error})") from None


def key(slo: SLO) -> str:
    """Name what an objective counts: another target goes on with the same counts, another indicator begins anew."""
    return f"{slo.name}:{sha256(repr(slo.indicator).encode()).hexdigest()[:16]}"


def _close(base: sqlite3.Connection, opened_by: int) -> None:
    if os.getpid() == opened_by:
        base.close()
