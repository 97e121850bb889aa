"""Measure Opero beside its peers, as ratios to a yardstick of the same run.

python -m benchmarks                    every suite
python -m benchmarks calls --check      one suite, held to benchmarks/budget.toml
python -m benchmarks --json FILE        keep the figures
"""

from __future__ import annotations

import argparse
import datetime as dt
import importlib
import json
import os
import platform
import statistics
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from benchmarks.harness import Table

HERE = Path(__file__).parent
SUITES = ("calls", "cache", "costs", "map", "observing", "scrape")


def environment() -> dict[str, Any]:
    """Return what the figures depend on."""
    return {
        "at": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "load": os.getloadavg()[0],
    }


def verdicts(tables: list[Table]) -> list[tuple[bool, str]]:
    """Hold the tables to the budget; a gate whose rows were not measured is left out."""
    found = {table.name: table for table in tables}
    answers = []
    for gate in tomllib.loads((HERE / "budget.toml").read_text())["gate"]:
        table, yardstick = found.get(gate["table"]), gate.get("yardstick")
        if table is None or {gate["subject"], yardstick or gate["subject"]} - table.taken.keys():
            continue
        value = (
            table.ratio(gate["subject"], yardstick) if yardstick else statistics.median(table.taken[gate["subject"]])
        )
        what = f"of {yardstick}" if yardstick else table.unit
        answers.append(
            (value <= gate["at_most"], f"{gate['subject']}: {value:.3g} {what}, at most {gate['at_most']:g}")
        )
    return answers


def main() -> int:
    """Print every table, and the verdicts."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("suites", nargs="*", help=f"some of {', '.join(SUITES)} (default: all)", metavar="SUITE")
    parser.add_argument("--share", type=float, default=1.0, help="share of the rounds to take (default 1.0)")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--check", action="store_true", help="exit with 1 if a gate of the budget is exceeded")
    options = parser.parse_args()
    if unknown := set(options.suites) - set(SUITES):
        parser.error(f"there is no suite {', '.join(unknown)}; there are {', '.join(SUITES)}")
    about = environment()
    print(f"{about['python']}, {about['machine']}, load {about['load']:.1f}\n")
    tables = []
    for suite in options.suites or SUITES:
        for table in importlib.import_module(f"benchmarks.{suite}").tables():
            print(table.run(options.share).text(), flush=True)
            tables.append(table)
    answers = verdicts(tables)
    for good, text in answers:
        print("held    " if good else "EXCEEDED", text)
    if options.json:
        rows = {table.name: {"unit": table.unit, "rows": list(table.rows())} for table in tables}
        options.json.write_text(json.dumps({"environment": about, "tables": rows}, indent=1))
    return int(options.check and not all(good for good, _ in answers))


if __name__ == "__main__":
    sys.exit(main())
