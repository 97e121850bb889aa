"""Lines over time as one self-contained SVG."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 860, 340, 56, 36, 44
COLOURS = ("#c2410c", "#0369a1", "#15803d", "#7c3aed")


def lines(
    title: str,
    points: Mapping[str, Sequence[tuple[float, float]]],
    *,
    bands: Iterable[tuple[float, float, str]] = (),
    unit: str = "s",
) -> str:
    """Return a plot of (x, y) by name; `bands` are spans of x with a word on them."""
    right = max((x for line in points.values() for x, _ in line), default=1.0) or 1.0
    top = 1.05 * max((y for line in points.values() for _, y in line), default=1.0) or 1.0

    def at(x: float, y: float) -> tuple[float, float]:
        across = LEFT + x / right * (WIDTH - LEFT - 12)
        return round(across, 1), round(HEIGHT - BOTTOM - y / top * (HEIGHT - BOTTOM - TOP), 1)

    font = 'font-family="system-ui, sans-serif" font-size="12"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" {font}>',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
        f'<text x="{LEFT}" y="20" font-size="15" font-weight="600">{escape(title)}</text>',
    ]
    for start, end, word in bands:
        (x, y), (x2, y2) = at(start, top), at(end, 0)
        parts.append(f'<rect x="{x}" y="{y}" width="{x2 - x:.1f}" height="{y2 - y:.1f}" fill="#fde68a" opacity=".5"/>')
        parts.append(f'<text x="{x + 4}" y="{y + 14}" fill="#92400e">{escape(word)}</text>')
    for step in range(6):
        x, y = at(right * step / 5, top * step / 5)
        base = at(0, 0)[1]
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - 12}" y1="{y}" y2="{y}" stroke="#e5e7eb"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4}" text-anchor="end" fill="#6b7280">{top * step / 5:.3g}</text>')
        parts.append(
            f'<text x="{x}" y="{base + 18}" text-anchor="middle" fill="#6b7280">{right * step / 5:.3g} {unit}</text>'
        )
    for number, (name, line) in enumerate(points.items()):
        colour = COLOURS[number % len(COLOURS)]
        path = " ".join(f"{x},{y}" for x, y in (at(*point) for point in line))
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts.append(
            f'<text x="{LEFT + 8 + 140 * number}" y="{TOP - 8}" fill="{colour}" font-weight="600">{escape(name)}</text>'
        )
    return "\n".join([*parts, "</svg>\n"])
