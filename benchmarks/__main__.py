"""Measure Opero beside its peers, as ratios to a yardstick of the same run, and hold the ratios to budget.toml.

python -m benchmarks                    every suite
python -m benchmarks calls cache        some of them
python -m benchmarks --check            exit with 1 where something reached before is lost
python -m benchmarks --save             keep the run in benchmarks/results, and renew the pages that show it
python -m benchmarks report             only renew the pages, from the runs that are kept
"""

from __future__ import annotations

import argparse
import importlib
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks import budget, results
from benchmarks.harness import runner

SUITES = (
    "calls",
    "instructions",
    "cache",
    "limits",
    "map",
    "serial",
    "costs",
    "idle",
    "observing",
    "scrape",
    "scaling",
    "load",
)


def main() -> int:
    """Print every table, and how they stand to the budget."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("suites", nargs="*", help=f"some of {', '.join(SUITES)} (default: all)", metavar="SUITE")
    parser.add_argument("--share", type=float, default=1.0, help="share of the rounds to take (default 1.0)")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--save", action="store_true", help="keep the figures of a whole run, and renew the pages")
    parser.add_argument("--check", action="store_true", help="exit with 1 if what was reached before is lost")
    options = parser.parse_args()
    if options.suites == ["report"]:
        return renewed()
    if unknown := set(options.suites) - set(SUITES):
        parser.error(f"there is no suite {', '.join(unknown)}; there are {', '.join(SUITES)}")
    if options.save and (options.suites or options.share < 1):
        parser.error("only a whole run is kept: leave out suites and --share, or take --json FILE")
    if options.save and results.load() > results.CORES:
        parser.error(f"others keep the machine busy (load {results.load()}): waits would be of their making; try later")
    about = results.environment()
    print(f"{about['python']}, {about['machine']}, load {results.load()}, at {about['commit']}\n")
    tables = measured(options.suites or SUITES, options.share)
    about["load"].append(results.load())
    lines, good = budget.lines(tables)
    print("\n".join(lines))
    if options.json:
        results.save(about, tables, options.json)
    if options.save:
        print(f"kept in {results.save(about, tables)}")
        renewed()
    return int(options.check and not good)


def measured(suites: tuple[str, ...], share: float) -> dict[str, Any]:
    """Return every table of the suites, printed as they come."""
    tables = {}
    for suite in suites:
        started = time.monotonic()
        for table in importlib.import_module(f"benchmarks.{suite}").tables():
            print(table.run(share).text(), flush=True)
            tables[table.name] = {"suite": suite, **table.kept()}
        print(f"({suite}: {time.monotonic() - started:.0f} s)\n", flush=True)
    runner.close()
    return tables


def renewed() -> int:
    """Renew the pages that show results."""
    return subprocess.run([sys.executable, results.ROOT / "docs" / "generate.py"], check=True).returncode


if __name__ == "__main__":
    sys.exit(main())
