"""Plots with matplotlib: training curves, statistics of data sets, ablations and robustness.

matplotlib is imported when the first plot is drawn, and no plot needs a display. Every function writes a file whose suffix chooses the
format, returns its path, and raises ImportError, saying what to install, where matplotlib is missing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smolrgpt.data.io import atomic_path

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

logger = logging.getLogger(__name__)

_DPI = 120
#: Characters of a wording next to its bar.
_MAX_LABEL_CHARS = 105
#: Wordings drawn by ``plot_statistics``.
_NUM_WORDINGS = 12
#: Ratios of ``train.health`` that are drawn below a training curve -> their labels.
RATIOS = {
    "depth_permuted": "loss with another image's depth / with the true depth",
    "validation_rise": "validation loss / its lowest, while the training loss falls",
    "perplexity": "perplexity of English / before the run",
}


# ----------------------------------------------------------------------------------------------------------------------- training
def plot_curve(rows: Sequence[Mapping[str, Any]], path: str | Path) -> Path:
    """Plot S1 and the accuracies (percent) against training minutes, with the health ratios below where they were measured.

    Args:
        rows: {minutes, S1, accuracy {category: %}?} in order of time, as training writes them. A row with an ``event`` and no S1, such as
            the end of a stage, becomes a dashed line. Of a row with ``health`` {name: ratio}, those of ``RATIOS`` are drawn.
        path: The file to write.

    Raises:
        ValueError: No row has an S1.
    """
    measured = [row for row in rows if "S1" in row]
    if not measured:
        raise ValueError(f"none of the curve's {len(rows)} rows has an S1; expected at least one {{minutes, S1}}")
    with_ratios = [row for row in rows if RATIOS.keys() & row.get("health", {}).keys()]
    figure = _new_figure((7, 6.2 if with_ratios else 4.2))
    num_panels = 1 + bool(with_ratios)
    panels = figure.subplots(num_panels, sharex=True, squeeze=False, height_ratios=[2.1, 1][:num_panels])[:, 0]
    _plot_accuracies(panels[0], measured)
    _mark_events(panels[0], rows)
    if with_ratios:
        _plot_ratios(panels[1], with_ratios)
    panels[-1].set_xlabel("training minutes")
    return save_figure(figure, path)


def _plot_accuracies(axes: Axes, rows: Sequence[Mapping[str, Any]]) -> None:
    minutes = [row["minutes"] for row in rows]
    for category in sorted({name for row in rows for name in row.get("accuracy", {})}):
        percent = [row.get("accuracy", {}).get(category, float("nan")) for row in rows]
        axes.plot(minutes, percent, linewidth=1, alpha=0.7, label=category)
    axes.plot(minutes, [row["S1"] for row in rows], color="black", linewidth=2.5, marker="o", markersize=3, label="S1")
    axes.set(ylabel="held-out accuracy (%)", xlim=(0, None), ylim=(0, 102))
    axes.grid(alpha=0.3)
    axes.legend(loc="best", fontsize=8)


def _mark_events(axes: Axes, rows: Iterable[Mapping[str, Any]]) -> None:
    for row in rows:
        if "S1" not in row and "event" in row:
            axes.axvline(row["minutes"], color="grey", linestyle="--", linewidth=0.8)
            text = f" {row.get('stage', '')} {row['event']}".rstrip()
            axes.text(row["minutes"], 1, text, rotation=90, va="bottom", ha="right", fontsize=7, color="grey")


def _plot_ratios(axes: Axes, rows: Sequence[Mapping[str, Any]]) -> None:
    for name, label in RATIOS.items():
        points = [(row["minutes"], row["health"][name]) for row in rows if name in row["health"]]
        if points:
            axes.plot(*zip(*points, strict=True), linewidth=1.2, marker="o", markersize=3, label=label)
    axes.axhline(1, color="grey", linewidth=0.8)
    axes.set(ylabel="ratio", yscale="log")
    axes.grid(alpha=0.3)
    axes.legend(loc="best", fontsize=7)


# --------------------------------------------------------------------------------------------------------------------- statistics
def plot_statistics(splits: Mapping[str, Mapping[str, Any]], path: str | Path) -> Path:
    """Plot ``data.stats.statistics`` of one or more splits next to each other, as shares of each split in percent.

    Args:
        splits: Name of the split -> its statistics.
        path: The file to write.

    Raises:
        ValueError: There is no split.
    """
    if not splits:
        raise ValueError("no split to draw; expected at least one {split: statistics}")
    figure = _new_figure((12, 11))
    top, bottom = figure.subfigures(2, 1, squeeze=False, height_ratios=(7, 4.4))[:, 0]
    panels = list(top.subplots(3, 3).flatten())
    distributions = _distributions(splits)
    for panel, (title, counts) in zip(panels, distributions.items(), strict=False):
        _plot_shares(panel, counts, title)
    for panel in panels[len(distributions) :]:
        panel.axis("off")
    handles, names = panels[0].get_legend_handles_labels()
    labels = [f"{name}: {splits[name]['questions']:,} questions" for name in names]
    panels[min(len(distributions), 8)].legend(handles, labels, loc="center left", fontsize=9)
    _plot_wordings(bottom.subplots(), splits)
    return save_figure(figure, path)


def _distributions(splits: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Mapping[str, int]]]:
    """Return title of the panel -> split -> {value: number of questions}."""
    panels: dict[str, dict[str, Mapping[str, int]]] = {}
    for split, statistics in splits.items():
        distributions = {
            "categories": statistics["categories"],
            "regions in a question": statistics["regions_per_question"],
            **{f"{category}: answer": counts for category, counts in statistics["answers"].items()},
            "distance (m, from)": _by_lower_edge(statistics["distance"], "edges_m"),
            "mask area (% of the image, from)": _by_lower_edge(statistics["mask_area"], "edges_percent"),
        }
        for title, counts in distributions.items():
            panels.setdefault(title, {name: {} for name in splits})[split] = counts
    return panels


def _by_lower_edge(histogram: Mapping[str, Any] | None, edges: str) -> dict[str, int]:
    """Return {lower edge of the bin: number} of a histogram whose edges are called ``edges``."""
    return {f"{edge:g}": count for edge, count in zip(histogram[edges], histogram["counts"], strict=False)} if histogram else {}


def _plot_shares(axes: Axes, counts: Mapping[str, Mapping[str, int]], title: str) -> None:
    """Draw a group of bars per value, with one bar per split, in percent of the split."""
    values = dict.fromkeys(value for found in counts.values() for value in found)
    names = sorted(values, key=lambda value: float(value) if value.replace(".", "", 1).isdigit() else float("inf"))
    width = 0.8 / len(counts)
    for index, (split, found) in enumerate(counts.items()):
        total = sum(found.values()) or 1
        positions = [position + (index - (len(counts) - 1) / 2) * width for position in range(len(names))]
        axes.bar(positions, [100 * found.get(name, 0) / total for name in names], width, label=split)
    crowded = sum(map(len, names)) > 28
    axes.set_xticks(range(len(names)), names, fontsize=8, rotation=40 if crowded else 0, ha="right" if crowded else "center")
    axes.set_title(title, fontsize=10)
    axes.set_ylabel("%", fontsize=8)
    axes.grid(axis="y", alpha=0.3)
    axes.set_axisbelow(True)
    if not names:
        axes.text(0.5, 0.5, "none", ha="center", transform=axes.transAxes, color="grey")
        axes.set_yticks([])


def _plot_wordings(axes: Axes, splits: Mapping[str, Mapping[str, Any]]) -> None:
    """Draw the wordings that are most frequent in any split, in percent of each split."""
    shares = {name: {row["template"]: 100 * row["share"] for row in found["templates"]["top"]} for name, found in splits.items()}
    largest = {text: max(found.get(text, 0) for found in shares.values()) for found in shares.values() for text in found}
    texts = sorted(largest, key=lambda text: -largest[text])[:_NUM_WORDINGS]
    height = 0.8 / len(splits)
    for index, found in enumerate(shares.values()):
        positions = [position + (index - (len(splits) - 1) / 2) * height for position in range(len(texts))]
        axes.barh(positions, [found.get(text, 0) for text in texts], height)
    labels = [text if len(text) <= _MAX_LABEL_CHARS else f"{text[: _MAX_LABEL_CHARS - 3]}..." for text in texts]
    axes.set_yticks(range(len(texts)), labels, fontsize=7)
    axes.invert_yaxis()
    axes.set_title("most frequent wordings (% of the split)", fontsize=10)
    axes.grid(axis="x", alpha=0.3)
    axes.set_axisbelow(True)


# -------------------------------------------------------------------------------------------------------------------- experiments
def plot_intervals(values: Mapping[str, tuple[float, float | None]], measure: str, path: str | Path) -> Path:
    """Plot one dot per name, from the top down, with an error bar where an interval is known.

    Args:
        values: Name -> (mean, half of the interval or None).
        measure: The label of the axis.
        path: The file to write.
    """
    figure = _new_figure((8, 1 + 0.45 * len(values)))
    axes = figure.add_subplot()
    for row, (mean, half_interval) in enumerate(values.values()):
        axes.errorbar(mean, -row, xerr=half_interval, fmt="o", color="black", capsize=4)
        axes.annotate(f"{mean:.1f}", (mean, -row), xytext=(0, 7), textcoords="offset points", ha="center", fontsize=8)
    axes.set_yticks([-row for row in range(len(values))], list(values))
    axes.set_ylim(-len(values) + 0.4, 0.6)
    axes.set_xlabel(measure)
    axes.grid(axis="x", alpha=0.3)
    return save_figure(figure, path)


def plot_factors(curves: Mapping[str, Sequence[Mapping[str, Any]]], descriptions: Mapping[str, str], path: str | Path) -> Path:
    """Plot S1 with its interval, and the accuracies, in percent against the levels of each factor; one panel per factor.

    Args:
        curves: Factor -> [{level, S1, accuracy, interval}], as ``evaluation.robustness`` measures them.
        descriptions: Factor -> what its levels are.
        path: The file to write.
    """
    drawn = {name: curve for name, curve in curves.items() if curve}
    figure, panels = panel_grid(len(drawn), 4, (3.2, 2.6))
    for panel, (name, curve) in zip(panels, drawn.items(), strict=True):
        positions = range(len(curve))
        levels = [f"{point['level']:g}" if isinstance(point["level"], float) else point["level"] for point in curve]
        for category in dict.fromkeys(category for point in curve for category in point["accuracy"]):
            panel.plot(positions, [point["accuracy"].get(category) for point in curve], linewidth=1, alpha=0.8, label=category)
        low, high = zip(*(point["interval"] for point in curve), strict=True)
        panel.fill_between(positions, low, high, color="black", alpha=0.12)
        panel.plot(positions, [point["S1"] for point in curve], color="black", linewidth=2, marker="o", markersize=3, label="S1")
        panel.set_title(name, fontsize=10)
        panel.set_xlabel(descriptions[name], fontsize=7)
        panel.set_xticks(list(positions), levels, fontsize=7)
        panel.set_ylim(0, 102)
        panel.grid(alpha=0.25)
    if drawn:
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper right", ncols=5, fontsize=8)
    return save_figure(figure, path)


# ------------------------------------------------------------------------------------------------------------------------ figures
def plot_if_possible(plot: Callable[..., Path], *arguments: Any) -> None:
    """Call a plotting function of this module; without matplotlib, log a warning in its place."""
    try:
        plot(*arguments)
    except ImportError as error:
        logger.warning("%s", error)


def _new_figure(size_inches: tuple[float, float]) -> Figure:
    """Return a matplotlib figure that needs no display. Raises ImportError, saying what to install."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("drawing this needs matplotlib: pip install matplotlib") from error
    figure = Figure(figsize=size_inches, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def panel_grid(number: int, max_columns: int, panel_inches: tuple[float, float]) -> tuple[Figure, list[Axes]]:
    """Return a figure and its ``number`` panels, which share the y axis; the grid's spare panels are hidden."""
    columns = min(max_columns, max(1, number))
    rows = max(1, -(-number // columns))
    figure = _new_figure((panel_inches[0] * columns, panel_inches[1] * rows))
    panels = list(figure.subplots(rows, columns, squeeze=False, sharey=True).flatten())
    for panel in panels[number:]:
        panel.set_visible(False)
    return figure, panels[:number]


def save_figure(figure: Figure, path: str | Path) -> Path:
    """Write a figure in the format that the suffix names, and return ``path``."""
    path = Path(path)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=_DPI, format=path.suffix[1:] or "png")
    return path
