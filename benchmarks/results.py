"""Results as they are kept: one small file a run, with all the figures depend on."""

from __future__ import annotations

import datetime as dt
import json
import os
import platform
import re
import subprocess
import tomllib
from importlib import metadata
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
CORES = os.cpu_count() or 1
FOLDER = Path(__file__).parent / "results"


def environment() -> dict[str, Any]:
    """Return what the figures depend on."""
    return {
        "at": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "machine": f"{platform.system()} {platform.machine()}, {CORES} × {_processor()}",
        "load": [load()],
        "peers": _peers(),
    }


def load() -> float:
    """Return how many processes wanted a core in the last minute."""
    return round(os.getloadavg()[0], 1)


def save(about: dict[str, Any], tables: dict[str, Any], path: Path | None = None) -> Path:
    """Write one run: a row a line, so that a difference can be read."""
    path = path or FOLDER / f"{about['at'][:16].replace(':', '')}.json"
    text = json.dumps({"environment": about, "tables": tables}, indent=1, ensure_ascii=False)
    row = re.compile(r"\[\s+(\"[^\n]*\"),\s+([\d.e+-]+),\s+([\d.e+-]+)\s+\]")
    path.parent.mkdir(exist_ok=True)
    path.write_text(row.sub(r"[\1, \2, \3]", text) + "\n", encoding="utf-8")
    return path


def kept() -> list[dict[str, Any]]:
    """Return the committed runs, oldest first."""
    return [json.loads(path.read_text(encoding="utf-8")) for path in sorted(FOLDER.glob("*.json"))]


def _commit() -> str:
    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "--short=10", "HEAD") + (" and changes" if git("status", "--porcelain") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"  # an unpacked archive


def _processor() -> str:
    try:
        found = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.MULTILINE)
    except OSError:
        found = None
    return found[1] if found else platform.processor() or "unknown"


def _peers() -> dict[str, str]:
    group = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["dependency-groups"]["peers"]
    names = [re.split(r"[=<>~;\[ ]", line)[0] for line in group]
    installed = {d.metadata["Name"].lower(): d.version for d in metadata.distributions()}
    return {name: installed[name] for name in [*names, "redis"] if name in installed}
