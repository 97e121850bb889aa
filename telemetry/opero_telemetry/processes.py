"""Several processes of one host as one: each writes what it counted, and who is scraped adds up.

1. A process holds a lock on `NAME.lock` while it lives, and writes `NAME.json` beside it. Who can take the lock knows
   that it is dead. It writes once a second, and at its end.
2. The counters and distributions of the dead go into `dead.json`, and their files away; what was in flight there is
   gone. A name that was added is remembered until its file is gone: dying in between counts nothing twice.
3. Counters, distributions and up-down counters are sums over processes; of a gauge the largest value is shown.
4. A process that is killed takes what it counted since its last write, one second at most.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import uuid
from pathlib import Path
from threading import Event, Lock, Thread
from typing import TYPE_CHECKING, Any

from opero import catalogue, forks
from opero.catalogue import Family, align
from opero.errors import ConfigurationError
from opero.signals import Metric

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

EVERY = 1.0  # seconds between two writes
FOLDED = {"counter", "histogram"}
DEAD = "dead.json"


class Processes:
    """One process among those that share `folder`. `tick` is called after every write."""

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        self.tick: Callable[[], object] = int
        _prepare(self.folder)
        self.after_fork()
        self._join()
        forks.remember(self)

    def after_fork(self) -> None:
        """Be a process of one's own, unless it turns out to be a worker whose numbers travel to its parent."""
        self.name = ""
        self._lock: int | None = None
        self._merging = Lock()
        self._closing = Event()
        self._thread = Thread(target=self._run, name="opero-snapshots", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Write for the last time; the numbers stay."""
        self._closing.set()
        self._thread.join()
        if self._lock is not None:
            self.write()
            os.close(self._lock)
            self._lock = None

    def _join(self) -> None:
        self.name = f"{os.getpid()}-{uuid.uuid4().hex[:8]}"
        self._lock = _locked(self.folder / f"{self.name}.lock")
        self.write()

    def write(self) -> None:
        """Write what this process counted."""
        _replace(self.folder / f"{self.name}.json", {"families": [*map(_flat, catalogue.snapshot())]})

    def read(self) -> list[Family]:
        """Return this process's families and those of all others, dead and alive."""
        families = {family.metric.name: family for family in catalogue.snapshot()}
        with self._merging, self._exclusively():
            dead, alive = self._others()
            self._fold(dead)
            found = [_load(path) for path in alive] + [_load(self.folder / DEAD)]
        for flat in (flat for content in found for flat in content.get("families", ())):
            _merge(families, flat)
        return list(families.values())

    def _others(self) -> tuple[list[Path], list[Path]]:
        dead: list[Path] = []
        alive: list[Path] = []
        for path in sorted(self.folder.glob("*-*.json")):
            if path.stem != self.name:
                (dead if _abandoned(path.with_suffix(".lock")) else alive).append(path)
        return dead, alive

    def _fold(self, dead: list[Path]) -> None:
        """Add the counts of the dead to those of all who died before."""
        kept = _load(self.folder / DEAD)
        folded = set(kept.get("folded", ()))
        families: dict[str, Family] = {}
        for path in dead:
            if path.stem not in folded:
                for flat in _load(path).get("families", ()):
                    if flat["type"] in FOLDED:
                        _merge(families, flat)
        if families:
            for flat in kept.get("families", ()):
                _merge(families, flat)
            names = [path.stem for path in dead]
            _replace(self.folder / DEAD, {"folded": names, "families": [*map(_flat, families.values())]})
        for path in dead:
            path.unlink(missing_ok=True)
            path.with_suffix(".lock").unlink(missing_ok=True)

    @contextlib.contextmanager
    def _exclusively(self) -> Iterator[None]:
        handle = os.open(self.folder / "merge.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.lockf(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)

    def _run(self) -> None:
        while not self._closing.wait(EVERY):
            if forks.worker:
                return
            if self._lock is None:
                self._join()
            with contextlib.suppress(OSError):  # a full disk costs freshness; the next write may succeed
                self.write()
            self.tick()


def _prepare(folder: Path) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    about = folder.stat()
    if about.st_uid != os.getuid() or about.st_mode & 0o022:
        raise ConfigurationError("processes", str(folder), "a folder of this user that nobody else may write to")


def _locked(path: Path) -> int:
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    fcntl.lockf(handle, fcntl.LOCK_EX)
    return handle


def _abandoned(path: Path) -> bool:
    """Whether nobody holds it: its process is dead. A lock of this very process is its own, so it is never asked."""
    try:
        handle = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return True
    try:
        fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(handle)
    return True


def _flat(family: Family) -> dict[str, Any]:
    metric = family.metric
    about = {"name": metric.name, "type": metric.type, "unit": metric.unit, "help": metric.help}
    samples = [[*key, value] for key, value in family.samples.items()]
    bounds = {"buckets": metric.buckets, "marks": family.marks}
    return {**about, **bounds, "attributes": metric.attributes, "samples": samples}


def _merge(families: dict[str, Family], flat: dict[str, Any]) -> None:
    family = families.get(flat["name"])
    if family is None:
        metric = Metric(
            flat["name"],
            flat["type"],
            flat["unit"],
            flat["help"],
            attributes=flat["attributes"],
            buckets=flat["buckets"],
        )
        family = families[metric.name] = Family(metric)
    for *values, value in flat["samples"]:
        key = tuple(values)
        if family.metric.type == "gauge":
            family.samples[key] = max(value, family.samples.get(key, value))
            continue
        marks = tuple(flat["marks"].get(key[0], flat["buckets"]))
        family.add(key, value if marks == family.bounds(key[0]) else align(family, key[0], value, marks))


def _replace(path: Path, content: dict[str, Any]) -> None:
    fresh = path.with_suffix(".new")
    handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as out:
        json.dump(content, out, separators=(",", ":"))
    fresh.replace(path)


def _load(path: Path) -> dict[str, Any]:
    """Read what another process wrote; half a file cannot be, a file that went away may be."""
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    return content
