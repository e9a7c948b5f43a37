"""Plots as SVG and lists of bars, made by hand: text is escaped here, colours are the page's variables.

Each is as wide as what it stands in. A mark says what it is when a pointer rests on it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from html import escape
from itertools import pairwise

from pfgdata.report.figures import Counted, Grid, Histogram

__all__ = [
    "bars",
    "compact",
    "heat",
    "histogram",
    "legend",
    "lines",
    "percent",
    "plural",
    "share_bar",
    "size_text",
]

WIDTH, HEIGHT = 460, 190  # of a plot, in its own units: about a pixel each in a card
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 18, 16, 34
_MOST_TICKS = 8
Words = Callable[[float], str]


def compact(value: float) -> str:
    """A number in few letters: 940, 12k, 1.3M."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{letter}"
    return f"{value:.4g}"


def plural(count: int, what: str) -> str:
    """A number of things for people: 1 image, 2,000 images."""
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def percent(part: float) -> str:
    """A part of a whole for people: 37.9%, and of few 0.009%."""
    return f"{part:.1%}" if part >= 0.001 or not part else f"{100 * part:.1g}%"


def size_text(count: float) -> str:
    """An amount of bytes for people."""
    for size, name in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if count >= size:
            return f"{count / size:.3g} {name}"
    return f"{count:.0f} bytes"


def bars(items: Sequence[Counted], *, total: int | None = None) -> str:
    """A list of names with bars, the longest of the largest count; with `total` also the part of it."""
    most = max((item.count for item in items), default=0)
    rows = []
    for item in items:
        share = f'<span class="part">{percent(item.count / total)}</span>' if total else ""
        rows.append(
            f'<li><span class="name" title="{escape(item.name)}">{escape(item.name)}</span>'
            f"{share_bar(item.count / most if most else 0.0)}"
            f'<span class="value">{item.count:,}</span>{share}</li>'
        )
    return f'<ol class="bars{" parts" if total else ""}">{"".join(rows)}</ol>'


def share_bar(*parts: float) -> str:
    """One bar of `parts` (0..1 in sum) beside each other, each in a colour of its own."""
    at, marks = 0.0, []
    for number, part in enumerate(parts):
        marks.append(f'<rect class="s{number}" x="{at:.2f}" width="{100 * part:.2f}" height="1"/>')
        at += 100 * part
    return (
        '<svg class="bar" viewBox="0 0 100 1" preserveAspectRatio="none" aria-hidden="true">'
        f"{''.join(marks)}</svg>"
    )


def histogram(
    found: Histogram,
    *,
    title: str,
    unit: str,
    words: Words = compact,
    log: bool = False,
    at: tuple[float, str] | None = None,
) -> str:
    """A histogram with axes; bins are equally wide whatever they span. `at` marks a value with a word."""
    most, scale = max(found.counts, default=0), _scale(found.counts, log)
    step = (WIDTH - _LEFT - _RIGHT) / max(1, len(found.counts))
    marks = []
    for index, (count, (low, high)) in enumerate(zip(found.counts, pairwise(found.edges), strict=True)):
        if count:
            top = scale(count)
            marks.append(
                f'<rect class="s0" x="{_LEFT + index * step + 0.5:.1f}" y="{top:.1f}"'
                f' width="{max(0.5, step - 1):.1f}" height="{HEIGHT - _BOTTOM - top:.1f}">'
                f"<title>{escape(f'{words(low)} to {words(high)}: {count:,} {unit}')}</title></rect>"
            )
    ticks = [(_LEFT + index * step, words(found.edges[index])) for index in _few(len(found.edges))]
    if at is not None:
        x = _LEFT + step * _position(found.edges, at[0])
        marks.append(f'<line class="at" x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP - 6}" y2="{HEIGHT - _BOTTOM}"/>')
        side, anchor = (4, "start") if x < WIDTH / 2 else (-4, "end")
        marks.append(
            f'<text class="atword" x="{x + side:.1f}" y="{_TOP - 4}" text-anchor="{anchor}">'
            f"{escape(at[1])}</text>"
        )
    return _plot(title, [*_y_axis(most, scale, log), *_x_axis(ticks), *marks])


def lines(
    series: Mapping[str, Sequence[tuple[float, float]]],
    *,
    title: str,
    x_ticks: Sequence[tuple[float, str]],
    log: bool = False,
) -> str:
    """Lines through points whose x is 0..1; `x_ticks` say what stands where."""
    every = [y for points in series.values() for _, y in points]
    scale, span = _scale(every, log), WIDTH - _LEFT - _RIGHT
    marks = []
    for number, (name, points) in enumerate(series.items()):
        path = " ".join(f"{_LEFT + x * span:.1f},{scale(y):.1f}" for x, y in points)
        marks.append(f'<polyline class="l{number}" points="{path}"><title>{escape(name)}</title></polyline>')
    ticks = [(_LEFT + x * span, word) for x, word in x_ticks]
    return _plot(title, [*_y_axis(max(every, default=0), scale, log), *_x_axis(ticks), *marks])


def legend(names: Sequence[str]) -> str:
    """Which colour is whose."""
    marks = "".join(
        '<span><svg class="key" viewBox="0 0 1 1" aria-hidden="true">'
        f'<rect class="s{number}" width="1" height="1"/></svg>{escape(name)}</span>'
        for number, name in enumerate(names)
    )
    return f'<p class="legend small">{marks}</p>'


def heat(grid: Grid, *, title: str) -> str:
    """A field of cells, the fuller the stronger by the logarithm; a line where both sides are equal."""
    columns, rows = len(grid.widths) - 1, len(grid.heights) - 1
    side = min(16.0, (WIDTH - _LEFT - _RIGHT) / max(columns, 1), 210 / max(rows, 1))
    high = rows * side + _TOP + _BOTTOM
    most = max((count for line in grid.counts for count in line), default=0)
    marks = []
    for row, line in enumerate(grid.counts):
        for column, count in enumerate(line):
            if count:
                strong = 0.15 + 0.85 * math.log1p(count) / math.log1p(most)
                x, y = _LEFT + column * side, high - _BOTTOM - (row + 1) * side
                around = f"{_pixels(grid.widths, column)} x {_pixels(grid.heights, row)} px: {count:,} images"
                marks.append(
                    f'<rect class="s0" x="{x:.1f}" y="{y:.1f}" width="{side:.1f}" height="{side:.1f}"'
                    f' fill-opacity="{strong:.2f}"><title>{around}</title></rect>'
                )
    across = [(_LEFT + index * side, f"{grid.widths[index]:.0f}") for index in _powers(grid.widths)]
    up = [(high - _BOTTOM - index * side, f"{grid.heights[index]:.0f}") for index in _powers(grid.heights)]
    axis = [f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{word}</text>' for y, word in up]
    axis += [
        f'<line class="grid" x1="{_LEFT}" x2="{_LEFT + columns * side:.1f}" y1="{y:.1f}" y2="{y:.1f}"/>'
        for y, _ in up
    ]
    return _plot(
        title, [*axis, *_x_axis(across, bottom=high), *marks, *_diagonal(grid, side, high)], height=high
    )


def _diagonal(grid: Grid, side: float, high: float) -> list[str]:
    """Where width is height, as far as both axes go."""
    low, top = max(grid.widths[0], grid.heights[0]), min(grid.widths[-1], grid.heights[-1])
    if low >= top:
        return []
    ends = [
        (_LEFT + side * _position(grid.widths, value), high - _BOTTOM - side * _position(grid.heights, value))
        for value in (low, top)
    ]
    (x1, y1), (x2, y2) = ends
    return [f'<line class="at" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>']


def _plot(title: str, parts: Sequence[str], *, height: float = HEIGHT) -> str:
    return (
        f'<svg class="plot" viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-label="{escape(title)}">'
        f"{''.join(parts)}</svg>"
    )


def _scale(values: Sequence[float], log: bool) -> Callable[[float], float]:
    """A count to its y: linear from 0, or by the logarithm from a half, so that 1 is seen."""
    most, room = max(values, default=0) or 1, HEIGHT - _TOP - _BOTTOM
    if not log:
        return lambda value: HEIGHT - _BOTTOM - room * value / most
    low, span = math.log(0.5), math.log(max(most, 2)) - math.log(0.5)
    return lambda value: HEIGHT - _BOTTOM - room * (math.log(max(value, 0.5)) - low) / span


def _y_axis(most: float, scale: Callable[[float], float], log: bool) -> list[str]:
    if log:
        every = 1 if most < 1e5 else 2
        values = [10.0**power for power in range(0, int(math.log10(max(most, 1))) + 1, every)]
    else:
        values = _round_steps(most)
    return [
        f'<line class="grid" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{compact(value)}</text>'
        for value, y in ((value, scale(value)) for value in values)
    ]


def _x_axis(ticks: Sequence[tuple[float, str]], *, bottom: float = HEIGHT) -> list[str]:
    return [
        f'<text x="{x:.1f}" y="{bottom - _BOTTOM + 16:.1f}" text-anchor="middle">{escape(word)}</text>'
        for x, word in ticks
    ]


def _round_steps(most: float) -> list[float]:
    """0 and two to five round values up to `most`."""
    if most <= 0:
        return [0.0]
    size = 10.0 ** math.floor(math.log10(most))
    step = next(part * size for part in (0.25, 0.5, 1, 2) if most / (part * size) <= 5)
    return [index * step for index in range(int(most / step + 1e-9) + 1)]


def _few(count: int) -> range:
    """The places of at most eight of `count` ticks, evenly."""
    return range(0, count, max(1, math.ceil((count - 1) / (_MOST_TICKS - 1))))


def _position(edges: Sequence[float], value: float) -> float:
    """Where `value` stands among the bins of `edges`: 1.5 is the middle of the second."""
    for index, (low, high) in enumerate(pairwise(edges)):
        if value <= high:
            return index + max(0.0, (value - low) / (high - low))
    return float(len(edges) - 1)


def _powers(edges: Sequence[float]) -> list[int]:
    """The places of the edges that are powers of two; of few edges the ends."""
    found = [index for index, edge in enumerate(edges) if edge and math.log2(edge).is_integer()]
    return found or [0]


def _pixels(edges: Sequence[float], index: int) -> str:
    return f"{edges[index]:.0f} to {edges[index + 1]:.0f}"
