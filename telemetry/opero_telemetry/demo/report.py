"""The comparison at the end: what the service did, and what callers saw. Every number was counted by one of the two."""

from __future__ import annotations

from typing import Any

CALLED = ("price", "stock", "order")


def rows(state: dict[str, Any], served: dict[str, int]) -> list[dict[str, float | str]]:
    """Return one row an operation, and their total."""
    found = [_row(name, state, served) for name in CALLED]
    return [*found, _total(found)]


def _row(name: str, state: dict[str, Any], served: dict[str, int]) -> dict[str, float | str]:
    stats = state["operations"][name]
    return {
        "operation": name,
        "plain": state["plain"].get(f"{name} calls", 0),
        "plain_ok": state["plain"].get(f"{name} ok", 0),
        "calls": stats["calls"],
        "ok": stats["ok"],
        "fallbacks": stats["fallbacks"],
        "requests": served.get(f"opero {name} requests", 0),
        "p99": stats["p99"],
    }


def _total(found: list[dict[str, Any]]) -> dict[str, float | str]:
    summed = {
        key: sum(row[key] for row in found) for key in ("plain", "plain_ok", "calls", "ok", "fallbacks", "requests")
    }
    return {"operation": "total", **summed, "p99": max(row["p99"] for row in found)}


def text(state: dict[str, Any], served: dict[str, int], url: str) -> str:
    """Return the comparison as lines for any terminal."""
    head = f"{'':<8}{'plain':>16}{'through Opero':>20}{'+ fallback':>13}{'requests per call':>20}{'p99':>9}"
    lines = ["", "The same calls at the same moments, without and with Opero:", head]
    lines += [_line(row) for row in rows(state, served)]
    lines += [
        "",
        f"the service answered plain callers: {_answers(served, 'plain')}",
        f"the service answered through Opero: {_answers(served, 'opero')}",
        _parsed(state["parsed"]),
        f"metrics were at {url}/metrics, health at {url}/healthz",
    ]
    return "\n".join(lines)


def _line(row: dict[str, Any]) -> str:
    calls = max(row["calls"], 1)
    return (
        f"{row['operation']:<8}{_share(row['plain_ok'], row['plain']):>8} of {row['plain']:>4}"
        f"{_share(row['ok'], calls):>12} of {row['calls']:>4}{_share(row['ok'] + row['fallbacks'], calls):>13}"
        f"{row['requests'] / calls:>18.2f}x{row['p99']:>7.2f} s"
    )


def _share(part: float, whole: float) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "–"


def _answers(served: dict[str, int], caller: str) -> str:
    counts: dict[str, int] = {}
    for key, count in served.items():
        who, _, answer = key.split()
        if who == caller and answer != "requests":
            counts[answer] = counts.get(answer, 0) + count
    return ", ".join(f"{count} {answer}" for answer, count in sorted(counts.items(), key=lambda pair: -pair[1]))


def _parsed(found: dict[str, Any]) -> str:
    done = f"@opmap parsed {found['files']} files of the standard library in processes, in {found['seconds']:.1f} s"
    return f"{done}: {found['functions']} functions, {found['classes']} classes, {found['failed']} failed"
