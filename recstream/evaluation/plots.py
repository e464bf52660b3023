"""Plots as SVG, without a library: lines with axes, a grid and a legend, in the page's own colours."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from html import escape
from typing import Final, NamedTuple

__all__ = ["Series", "line_plot", "nice_ticks"]

_WIDTH: Final = 760
_HEIGHT: Final = 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 150, 14, 34
_COLOURS: Final = 9
"""Classes ``c0`` to ``c8`` of the page; more lines begin anew."""


class Series(NamedTuple):
    """One line of a plot."""

    name: str
    x: list[float]
    y: list[float]


def nice_ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Round numbers from at or below ``low`` to at or above ``high``, at most ``most`` + 1 of them.

    >>> nice_ticks(0.0, 0.23)
    [0.0, 0.05, 0.1, 0.15, 0.2, 0.25]
    """
    if not high > low:
        high = low + (abs(low) or 1.0)
    raw = (high - low) / max(most - 1, 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1.0, 2.0, 2.5, 5.0, 10.0) if factor * power >= raw * (1 - 1e-9))
    first = math.floor(low / step + 1e-9)
    last = math.ceil(high / step - 1e-9)
    return [round(n * step, 12) for n in range(first, last + 1)]


def line_plot(
    series: Sequence[Series],
    *,
    title: str,
    x_ticks: Sequence[tuple[float, str]],
    y_label: str,
    format_y: Callable[[float], str] = "{:g}".format,
) -> str:
    """An ``<svg>`` of these lines; its text and lines take their colours from the page's style sheet.

    Raises:
        ValueError: there is nothing to plot.
    """
    xs = [x for line in series for x in line.x] + [x for x, _ in x_ticks]
    ys = [y for line in series for y in line.y]
    if not ys:
        raise ValueError(f"plot {title!r}: no series has a point")
    ticks = nice_ticks(min(0.0, *ys), max(ys))
    x_low, x_high, y_low, y_high = min(xs), max(xs), ticks[0], ticks[-1]
    wide, high = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM

    def across(x: float) -> float:
        return _LEFT + (wide * (x - x_low) / (x_high - x_low) if x_high > x_low else wide / 2)

    def down(y: float) -> float:
        return _TOP + high * (1.0 - (y - y_low) / (y_high - y_low))

    parts = [
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(title)}" '
        'xmlns="http://www.w3.org/2000/svg">'
    ]
    for tick in ticks:
        y = down(tick)
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{_LEFT + wide}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="end" x="{_LEFT - 8}" y="{y + 4:.1f}">{escape(format_y(tick))}</text>')
    for x, label in x_ticks:
        parts.append(f'<text class="mid" x="{across(x):.1f}" y="{_HEIGHT - 12}">{escape(label)}</text>')
    middle = -(_TOP + high / 2)
    parts.append(
        f'<text class="mid" transform="rotate(-90)" x="{middle:.1f}" y="14">{escape(y_label)}</text>'
    )
    for n, line in enumerate(series):
        colour = f"c{n % _COLOURS}"
        points = [(across(x), down(y)) for x, y in zip(line.x, line.y, strict=True)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        parts.append(f'<polyline class="line {colour}" points="{path}"/>')
        parts += [
            f'<circle class="dot {colour}" cx="{x:.1f}" cy="{y:.1f}" r="2.5">'
            f"<title>{escape(line.name)}: {escape(format_y(value))}</title></circle>"
            for (x, y), value in zip(points, line.y, strict=True)
        ]
        y = _TOP + 12 + 18 * n
        left = _WIDTH - _RIGHT + 14
        parts.append(f'<line class="line {colour}" x1="{left}" x2="{left + 18}" y1="{y - 4}" y2="{y - 4}"/>')
        parts.append(f'<text x="{left + 24}" y="{y}">{escape(line.name)}</text>')
    return "".join([*parts, "</svg>"])
