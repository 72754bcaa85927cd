"""Pictures of results as SVG: bars, side by side or one after another. No script, nothing from elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from bench.rows import Row

WIDTH, LEFT, BAR, GAP, TOP, FOOT = 960, 300, 20, 14, 44, 34
"""Pixels: of the picture, of its names, of a bar, between groups, above and below the bars."""
COLOURS = ("#4269d0", "#efb118", "#ff725c", "#6cc5b0", "#3ca951", "#ff8ab7", "#a463f2", "#97bbf5", "#9c6b4e")

Bars = Sequence[Sequence[tuple[str, float]]]
"""Bars of a group, each of its pieces: what they are, which gives the colour, and how long."""


def write(path: Path, name: str, rows: Sequence[Row]) -> None:
    """Each row's ratio beside its goal, or values where nothing is compared: units differ from row to row."""
    compared = [row for row in rows if row.ratio is not None]
    groups: dict[str, Bars] = {}
    for row in compared or rows:
        bars = [[("measured", row.value if row.ratio is None else row.ratio)]]
        if row.ratio is not None and row.target is not None:
            bars.append([("goal", row.target.number)])
        groups[row.measure.strip() + ("" if compared else f" [{row.unit}]")] = bars
    path.write_text(draw(f"{name}: {'times the floor' if compared else 'what was measured'}", groups))


def steps(path: Path, title: str, ways: Mapping[str, Mapping[str, float]]) -> None:
    """One bar for each way, its steps one after another; a way lacks the steps that it does not have."""
    path.write_text(draw(title, {way: [list(its.items())] for way, its in ways.items()}))


def draw(title: str, groups: Mapping[str, Bars]) -> str:
    """The picture. Pieces of the same name have the same colour, and the legend tells which."""
    bars = [bar for group in groups.values() for bar in group]
    names = list(dict.fromkeys(name for bar in bars for name, _ in bar))
    colours = {name: COLOURS[number % len(COLOURS)] for number, name in enumerate(names)}
    longest = max((_length(bar) for bar in bars), default=0.0) or 1.0
    scale = (WIDTH - LEFT - 70) / longest
    parts, y = [_text(10, 24, title, size=16)], float(TOP)
    for group, its in groups.items():
        parts.append(_text(LEFT - 10, y + BAR * len(its) / 2 + 4, group, anchor="end"))
        for bar in its:
            x = float(LEFT)
            for name, value in bar:
                width = max(value, 0.0) * scale
                tip = f"<title>{escape(name)}: {value:.3g}</title>"
                parts.append(
                    f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{BAR - 2}" '
                    f'fill="{colours[name]}">{tip}</rect>'
                )
                x += width
            parts.append(_text(x + 6, y + BAR - 6, f"{_length(bar):.2f}"))
            y += BAR
        y += GAP
    for number, name in enumerate(names):
        at_x, at_y = LEFT + number % 2 * 320, y + 14 + number // 2 * 20
        parts.append(f'<rect x="{at_x}" y="{at_y - 10}" width="12" height="12" fill="{colours[name]}"/>')
        parts.append(_text(at_x + 18, at_y, name))
    height = y + FOOT + (len(names) + 1) // 2 * 20
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" width="{WIDTH}" '
        f'height="{height:.0f}" font-family="sans-serif">\n<rect width="100%" height="100%" fill="white"/>\n'
        + "\n".join(parts)
        + "\n</svg>\n"
    )


def _length(bar: Sequence[tuple[str, float]]) -> float:
    return sum(max(value, 0.0) for _, value in bar)


def _text(x: float, y: float, text: str, *, size: int = 12, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}">{escape(text)}</text>'
