"""Write what was measured as Markdown: what docs/generate.py puts into the pages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchmarks import budget, results

if TYPE_CHECKING:
    from collections.abc import Iterator

UNITS = {"ns": ("µs", "ms", "s"), "µs": ("ms", "s"), "ms": ("s",), "KiB": ("MiB",), "B": ("KiB", "MiB")}
README = {  # subject of a table, and to what
    "a call with retry, breaker and limit, counted": ("a call of a plain function", "@opero, breaker, limit"),
    "the same, awaited": ("a call of a coroutine function", "@opero, breaker, limit"),
    "an open breaker refuses": ("an open breaker refuses", "@opero"),
    "a cached result from memory": ("a hit in memory, plain", "@opero(cache_ttl=60)"),
    "a fresh copy of what is in Redis": ("a hit in a near-cache, plain", "@opero, near"),
    "an item through processes and back": ("map: trivial items", '@opmap(mode="process")'),
    "`from opero import opero, opmap`": ("importing", "from opero import opero, opmap"),
}


def measured(what: str) -> str:
    """Return the goals, the conditions, the README's figures, or every table of a suite."""
    run = results.kept()[-1]
    makers = {"goals": goals, "conditions": conditions, "readme": readme}
    if what in makers:
        return makers[what](run)
    found = {name: table for name, table in run["tables"].items() if table["suite"] == what}
    return "\n\n".join(f"**{name[0].upper()}{name[1:]}**\n\n{_rows(table)}" for name, table in found.items())


def conditions(run: dict[str, Any]) -> str:
    """Return what the figures depend on."""
    about = run["environment"]
    at = about["at"][:16].replace("T", " ")
    peers = ", ".join(f"{name} {version}" for name, version in about["peers"].items())
    return f"Measured {at} UTC at commit `{about['commit']}`: {machine(about)}. Peers: {peers}."


def machine(about: dict[str, Any]) -> str:
    """Return where it was measured, and what else went on there."""
    return f"{about['python']}, {about['machine']}, load {' before and '.join(map(str, about['load']))} after"


def goals(run: dict[str, Any]) -> str:
    """Return every gate with its figure, the missed ones in bold."""
    rows, reasons = [], []
    for gate in budget.gates():
        value = gate.value(run["tables"])
        if gate.why and value is not None and value > gate.at_most:
            reasons.append(f"- {gate.table}, {code(gate.subject)}: {gate.why}")
        state = "not measured" if value is None else "met" if value <= gate.at_most else "**missed**"
        unit = "×" if gate.against else run["tables"].get(gate.table, {}).get("unit", "")
        figure = "–" if value is None else f"{number(value)} {unit}"
        beside, goal = "; ".join(gate.against) or "–", f"{number(gate.at_most)} {unit}"
        rows.append(f"| {' | '.join([gate.table, code(gate.subject), beside, goal, figure, state])} |")
    head = ["| work | subject | beside | goal, at most | measured | |", "|---|---|---|---|---|---|"]
    return "\n".join([*head, *rows] + (["", "Why some are missed:", "", *reasons] if reasons else []))


def _rows(table: dict[str, Any]) -> str:
    yardstick = table["rows"][0][2]
    rows = [
        f"| {code(name)} | {quantity(median, table['unit'])} | {ratio(median, yardstick)} |"
        for name, _, median in table["rows"]
    ]
    return "\n".join(["| | median | ratio |", "|---|---|---|", *rows])


def readme(run: dict[str, Any]) -> str:
    """Return the few that say most, beside whatever the goals compare them with."""
    rows = []
    for label, (name, subject) in README.items():
        found = list(_beside(run, name, subject))
        if found:
            rows.append(f"| {label} | {'; '.join(found)} |")
    return "\n".join(["| | |", "|---|---|", *rows])


def _beside(run: dict[str, Any], name: str, subject: str) -> Iterator[str]:
    for gate in budget.gates():
        value = gate.value(run["tables"])
        if (gate.table, gate.subject) == (name, subject) and value is not None and gate.against:
            times = f"{number(value)} ×" if value >= 0.2 else f"1/{1 / value:.0f} of"
            yield f"{times} {gate.of(run['tables'])}"


def quantity(value: float, unit: str) -> str:
    """Return a number with the unit that suits its size.

    >>> quantity(25_300.0, "ns")
    '25.3 µs'
    """
    unit, slash, per = unit.partition("/")
    step = 1024 if unit in {"KiB", "B"} else 1000
    for larger in UNITS.get(unit, ()):
        if value >= step:
            value, unit = value / step, larger
    return f"{number(value)} {unit}{slash}{per}".strip()


def ratio(value: float, yardstick: float) -> str:
    """Return how many times the yardstick it is."""
    return f"{number(value / yardstick)} ×" if yardstick else "–"


def number(value: float) -> str:
    """Return three digits.

    >>> number(0.026912), number(30.25), number(308_200), number(4.0)
    ('0.0269', '30.2', '308 000', '4')
    """
    if abs(value) < 1000:
        return f"{value:.3g}"
    return f"{float(f'{value:.3g}'):,.0f}".replace(",", " ")


def code(subject: str) -> str:
    """Return a subject that is code as code."""
    return f"`{subject}`" if any(sign in subject for sign in "@(=") or "import " in subject else subject
