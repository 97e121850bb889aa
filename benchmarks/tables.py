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
HITS = {  # table and subject, beside all others of the table
    "in memory": ("a hit in memory, plain", "@opero(cache_ttl=60)"),
    "in memory, awaited": ("a hit in memory, awaited", "@opero(cache_ttl=60)"),
    "near": ("a hit in a near-cache, plain", "@opero, near"),
    "near, awaited": ("a hit in a near-cache, one task", "@opero, near"),
    "in Redis": ("a hit in Redis, plain", "@opero, redis"),
    "in Redis, signed and encrypted": ("a hit in Redis, plain", "@opero, redis, signed and encrypted"),
    "in Redis, awaited": ("a hit in Redis, one task", "@opero, redis"),
    "in Redis, one of 100 awaited at once": ("a hit in Redis, 100 tasks at once", "@opero, redis"),
}


def measured(what: str) -> str:
    """Return the goals, the conditions, the README's figures, what a cache costs, or every table of a suite."""
    run = results.kept()[-1]
    makers = {"goals": goals, "conditions": conditions, "readme": readme, "hits": hits, "misses": misses}
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


def hits(run: dict[str, Any]) -> str:
    """Return what a hit takes, by place, and how many times of everybody else's that is."""
    rows = []
    for label, (name, subject) in HITS.items():
        table = run["tables"].get(name, {"rows": []})
        medians = {row: median for row, _, median in table["rows"]}
        own = medians.get(subject)
        others = [(row, median) for row, median in medians.items() if "@opero" not in row]
        if own is not None:
            beside = "; ".join(f"{ratio(own, median)} {code(row)}" for row, median in others)
            rows.append(f"| {label} | {quantity(own, table['unit'])} | {beside} |")
    return "\n".join(["| a hit | takes | that is |", "|---|---|---|", *rows])


def misses(run: dict[str, Any]) -> str:
    """Return how many of a hundred requests miss, by policy, trace and size."""
    found = {name.partition(", ")[2]: table["rows"] for name, table in run["tables"].items() if name[:7] == "misses,"}
    policies = [name for name, _, _ in next(iter(found.values()), [])]
    rows = [f"| {name} | {' | '.join(number(median) for _, _, median in rows)} |" for name, rows in found.items()]
    return "\n".join([f"| requests | {' | '.join(policies)} |", f"|---{'|---' * len(policies)}|", *rows])


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
