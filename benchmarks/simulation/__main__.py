"""Play scenarios and hold them to their gates: `python -m benchmarks.simulation --help`."""

from __future__ import annotations

import argparse
import sys
from concurrent.futures import ProcessPoolExecutor
from math import inf
from pathlib import Path

import benchmarks.simulation as about
from benchmarks.control.plot import lines
from benchmarks.simulation import baselines
from benchmarks.simulation.scenarios import PLOTS, SCENARIOS, met

ROW = "{:4} {:40} {:>28} {:>9}  {}"


def play(job: tuple[str, int, bool]) -> dict[str, float]:
    """Return the figures of one scenario and seed."""
    name, seed, short = job
    return dict(SCENARIOS[name][0](seed, short=short))


def seeds(text: str) -> range:
    """Read "1-5" or "3"."""
    first, _, last = text.partition("-")
    return range(int(first), int(last or first) + 1)


def table(found: dict[str, list[dict[str, float]]]) -> bool:
    """Print a line a gate: the figure of each seed, the worst of which counts; whether all are met."""
    good = True
    print(ROW.format("", "figure", "seeds", "gate", ""))
    for name, rows in found.items():
        for figure, gate in SCENARIOS[name][1].items():
            values = [row[figure] for row in rows]
            well = all(met(value, gate) for value in values)
            good = good and well
            shown = " ".join(f"{value:.3g}" for value in values)
            print(ROW.format(name, figure, shown, f"{gate[0]} {gate[1]:g}", "met" if well else "MISSED"))
    return good


def row(place: tuple[int, int, int]) -> baselines.Row:
    """Return a row of a table of others' laws."""
    seed, table, number = place
    return list(baselines.tables(seed))[table][1][number]()


def compare(seed: int) -> None:
    """Print what others' laws do."""
    wanted = list(baselines.tables(seed))
    places = [(seed, table, number) for table, (_, rows) in enumerate(wanted) for number in range(len(rows))]
    with ProcessPoolExecutor() as pool:
        found = iter(list(pool.map(row, places)))
    for heads, rows in wanted:
        print(f"\n{'':20}" + "".join(f"{head:>18}" for head in heads))
        for name, figures in (next(found) for _ in rows):
            print(f"{name:20}" + "".join(f"{'never' if figure == inf else f'{figure:.3g}':>18}" for figure in figures))


def main(arguments: list[str]) -> int:
    """Exit status 1 when a gate is missed."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.simulation", description=about.__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--seeds", type=seeds, default=seeds("1-5"), metavar="1-5")
    parser.add_argument("--only", choices=SCENARIOS, nargs="+", default=list(SCENARIOS))
    parser.add_argument(
        "--short", action="store_true", help="seconds instead of minutes; the gates are for the long form"
    )
    parser.add_argument("--peers", action="store_true", help="only show what others' laws do, with the first seed")
    parser.add_argument("--plots", type=Path, metavar="DIR")
    options = parser.parse_args(arguments)
    if options.peers:
        compare(options.seeds[0])
        return 0
    jobs = [(name, seed, options.short) for name in options.only for seed in options.seeds]
    with ProcessPoolExecutor() as pool:
        results = dict(zip(jobs, pool.map(play, jobs), strict=True))
    found = {name: [row for job, row in results.items() if job[0] == name] for name in options.only}
    if options.plots is not None:
        options.plots.mkdir(parents=True, exist_ok=True)
        for name in PLOTS.keys() & set(options.only):
            title, points, bands = PLOTS[name](options.seeds[0])
            unit = "x" if name == "s4" else "s"
            (options.plots / f"{name}.svg").write_text(lines(title, points, bands=bands, unit=unit))
    return 0 if table(found) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
