"""Plots as SVG elements that take their colours from the HTML page around them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

#: Width and height of a plot in its own units, which the page scales, and the margin that holds the numbers of the axes.
WIDTH, HEIGHT, MARGIN = 460, 320, 46
#: Empty margin at the ends of the axes.
_END = 10
#: Axes of lengths extend beyond the shortest and the longest length by this factor, within these metres; points outside are on the edge.
_LENGTH_AXIS_FACTOR, _LENGTH_AXIS_M = 1.3, (0.05, 1000.0)
_LENGTH_TICKS_M = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500)
#: At most this many points are drawn, so that the page of a large data set stays small: every n-th beyond.
MAX_POINTS = 3000


class Plot:
    """An SVG plot: axes, and marks that are added in data coordinates.

    Args:
        x_range: The ends of the x axis.
        y_range: The ends of the y axis.
        label: The description of the plot for screen readers.
        log: Whether both axes are logarithmic.
    """

    def __init__(self, x_range: tuple[float, float], y_range: tuple[float, float], label: str, log: bool = False):
        self.x_range, self.y_range, self.label = x_range, y_range, label
        self._marks: list[str] = []
        self._scale = math.log if log else float

    def position(self, x: float, y: float) -> tuple[float, float]:
        """Return a point in units of the plot, from the upper left; a point outside of the axes is moved to their edge."""
        right, up = self._share(x, self.x_range), self._share(y, self.y_range)
        return MARGIN + right * (WIDTH - MARGIN - _END), (HEIGHT - MARGIN) - up * (HEIGHT - MARGIN - _END)

    def _share(self, value: float, ends: tuple[float, float]) -> float:
        """Return where a value lies on an axis, from 0 to 1."""
        low, high = ends
        return (self._scale(min(max(value, low), high)) - self._scale(low)) / (self._scale(high) - self._scale(low))

    def line(self, points: Iterable[tuple[float, float]], css_class: str) -> None:
        """Draw lines from point to point."""
        self._marks.append(f'<polyline class="{css_class}" points="{self._path(points)}"/>')

    def area(self, points: Iterable[tuple[float, float]], css_class: str) -> None:
        """Fill the polygon with these corners."""
        self._marks.append(f'<polygon class="{css_class}" points="{self._path(points)}"/>')

    def point(self, x: float, y: float, css_class: str, title: str, radius: float = 2.6) -> None:
        """Draw a disc that shows ``title`` under the pointer."""
        left, top = self.position(x, y)
        disc = f'<circle class="{css_class}" cx="{left:.1f}" cy="{top:.1f}" r="{radius}">'
        self._marks.append(f"{disc}<title>{escape(title)}</title></circle>")

    def _path(self, points: Iterable[tuple[float, float]]) -> str:
        return " ".join(f"{x:.1f},{y:.1f}" for x, y in (self.position(*point) for point in points))

    def svg(self, x_ticks: Sequence[float], y_ticks: Sequence[float], x_name: str, y_name: str) -> str:
        """Return the ``<svg>`` element with axes, grid lines at the ticks, and all marks."""
        bottom, right = HEIGHT - MARGIN, WIDTH - _END
        axes = [f'<path class="axis" d="M{MARGIN},{_END}V{bottom}H{right}"/>']
        for tick in x_ticks:
            left = self.position(tick, self.y_range[0])[0]
            axes.append(f'<path class="grid" d="M{left:.1f},{_END}V{bottom}"/>')
            axes.append(f'<text x="{left:.1f}" y="{bottom + 16}" class="middle">{tick:g}</text>')
        for tick in y_ticks:
            top = self.position(self.x_range[0], tick)[1]
            axes.append(f'<path class="grid" d="M{MARGIN},{top:.1f}H{right}"/>')
            axes.append(f'<text x="{MARGIN - 6}" y="{top + 4:.1f}" class="end">{tick:g}</text>')
        names = (
            f'<text x="{(MARGIN + right) / 2}" y="{HEIGHT - 8}" class="middle name">{escape(x_name)}</text>'
            f'<text transform="translate(12 {bottom / 2}) rotate(-90)" class="middle name">{escape(y_name)}</text>'
        )
        frame = f'viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(self.label)}"'
        return f"<svg {frame}>{''.join(axes)}{''.join(self._marks)}{names}</svg>"


def length_plot(points: Sequence[tuple[float, float, bool, str]], tolerance: tuple[float, float]) -> str:
    """Return answers against true lengths in metres on log axes, with the band of correct answers; "" without points.

    Args:
        points: (truth, answer, whether the answer is correct, name of the question or ""). A length of 0 is drawn on the edge.
        tolerance: The multiples of the truth between which an answer is correct.
    """
    if not points:
        return ""
    drawn = [value for truth, answer, *_ in points for value in (truth, answer) if value > 0] or [1.0]
    first = max(_LENGTH_AXIS_M[0], min(drawn) / _LENGTH_AXIS_FACTOR)
    last = min(_LENGTH_AXIS_M[1], max(drawn) * _LENGTH_AXIS_FACTOR)
    plot = Plot((first, last), (first, last), "answers against true lengths", log=True)
    low, high = tolerance
    corners = [(first, first), (first, first * high), (last / high, last), (last, last), (last, last * low), (first / low, first)]
    plot.area(corners, "band")  # every corner is inside of the axes: one outside would be moved to the edge and bend the band
    plot.line([(first, first), (last, last)], "ideal")
    for truth, answer, is_correct, name in points[:: -(-len(points) // MAX_POINTS)]:
        title = f"{name}{': ' * bool(name)}{answer:g} m, truth {truth:g} m"
        plot.point(truth, answer, "right" if is_correct else "wrong", title)
    ticks = [tick for tick in _LENGTH_TICKS_M if first <= tick <= last]
    return plot.svg(ticks, ticks, "truth (m)", "answer (m)")


def reliability_plot(bins: Sequence[Mapping[str, Any]]) -> str:
    """Return accuracy against confidence; bins: those of ``summary.calibration``."""
    plot = Plot((0, 1), (0, 1), "accuracy against confidence")
    plot.line([(0, 0), (1, 1)], "ideal")
    plot.line([(row["confidence"], row["accuracy"]) for row in bins], "curve")
    most = max(row["num_questions"] for row in bins)
    for row in bins:
        title = f"{row['num_questions']} questions, confidence {row['confidence']:.2f}, correct {100 * row['accuracy']:.1f} %"
        plot.point(row["confidence"], row["accuracy"], "bin", title, 3 + 7 * math.sqrt(row["num_questions"] / most))
    ticks = (0, 0.2, 0.4, 0.6, 0.8, 1)
    return plot.svg(ticks, ticks, "confidence", "share correct")


def coverage_plot(curve: Sequence[Mapping[str, Any]]) -> str:
    """Return S1 against the share of the most confident questions that are answered; curve: that of ``summary.calibration``."""
    points = [(row["coverage"], row["S1"]) for row in curve]
    floor = max(0, 10 * math.floor(min(s1 for _, s1 in points) / 10 - 0.5)) if points else 0
    plot = Plot((0, 1), (floor, 100), "S1 against coverage")
    plot.line(points, "curve")
    for share, s1 in points:
        plot.point(share, s1, "bin", f"{share:.0%} of the questions: S1 {s1:.1f}")
    y_ticks = range(floor, 101, 5 if floor >= 70 else 10)
    return plot.svg((0, 0.2, 0.4, 0.6, 0.8, 1), list(y_ticks), "share of questions answered, the most confident", "S1")
