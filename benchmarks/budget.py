"""Hold figures to `budget.toml`: goals that are met or missed, and what was reached and must not be lost."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    Tables = dict[str, dict[str, Any]]

FILE = Path(__file__).parent / "budget.toml"
UNKNOWN = "not measured"


@dataclass(frozen=True, kw_only=True)
class Gate:
    """What one subject of a table may cost: a ratio to the fastest of `against`, or a number in the table's unit."""

    table: str
    subject: str
    at_most: float
    against: tuple[str, ...] = ()
    today: float | None = None
    why: str = ""

    def value(self, tables: Tables) -> float | None:
        """Return the median, as a ratio; None if it, or every yardstick, was not measured."""
        medians = {subject: median for subject, _, median in tables.get(self.table, {"rows": ()})["rows"]}
        yardsticks = [medians[name] for name in self.against if name in medians]
        if self.subject not in medians or (self.against and not yardsticks):
            return None
        return medians[self.subject] / min(yardsticks) if self.against else medians[self.subject]

    @property
    def bound(self) -> float:
        """What is a regression when exceeded: what was reached, or else the goal."""
        return self.at_most if self.today is None else self.today

    def of(self, tables: Tables) -> str:
        """Return what the value is a ratio to, or its unit."""
        if not self.against:
            return str(tables[self.table]["unit"])
        return self.against[0] if len(self.against) == 1 else f"the fastest of {len(self.against)} peers"


def gates() -> list[Gate]:
    """Return every gate, as written."""
    found = tomllib.loads(FILE.read_text(encoding="utf-8"))["gate"]
    return [Gate(**{**gate, "against": _several(gate.get("against", ()))}) for gate in found]


def lines(tables: Tables) -> tuple[list[str], bool]:
    """Return a line for each gate that could be measured, the bad ones last, and whether nothing fell back."""
    said = []
    for gate in gates():
        value = gate.value(tables)
        if value is None:
            continue
        rank = (value > gate.at_most) + 2 * (value > gate.bound)
        word = ("met", "missed", "LOST", "LOST")[rank]
        bound = f", not above {gate.bound:.3g}" if gate.bound != gate.at_most else ""
        goal = f"{value:.3g} {gate.of(tables)} (goal {gate.at_most:.3g}{bound})"
        said.append((rank, f"{word:<7}{gate.table}: {gate.subject}: {goal}"))
        if rank == 0 and gate.bound > gate.at_most:
            said[-1] = (rank, said[-1][1] + " - reached: take `today` out")
    return [text for _, text in sorted(said, key=lambda one: one[0])], all(rank < 2 for rank, _ in said)


def _several(names: str | list[str] | tuple[str, ...]) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else tuple(names)
