"""The report of SpatialRGPT-Bench and of the lengths of synthetic scenes, which are scored by its rules."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from smolrgpt.evaluation.report.document import Cell, HtmlFragment, Percent, Report, Section, Table
from smolrgpt.evaluation.report.sections import format_number, result_report
from smolrgpt.evaluation.report.svg import length_plot

#: Published (qualitative, quantitative) averages in percent. The blind model got no image: the score of the wording alone.
PUBLISHED: dict[str, tuple[float, float]] = {
    "N3D-VLM-7B": (95.7, 78.0),
    "SpatialReasoner-R1-8B": (95.6, 77.3),
    "SpatialRGPT-8B": (92.7, 61.4),
    "blind model trained on OSD": (86.9, 27.2),
    "GPT-4V (quantitative: about)": (58.1, 38.0),
}
_PUBLISHED_NOTE = (
    "Published averages on the real benchmark; its qualitative answers were judged by a language model, ours are read by rules."
)


def spatial_report(result: Mapping[str, Any], tolerance: tuple[float, float], is_correct: Callable[[float, float], bool]) -> Report:
    """Return the report of a result of ``spatial_bench.score``.

    Args:
        result: The result; ``model``, ``data`` and ``environment`` are shown where it has them.
        tolerance: The multiples of a true length between which an answer is correct.
        is_correct: Whether (truth, answer), both in metres, is correct.
    """
    plots = {
        group: length_plot([(truth, answer, is_correct(truth, answer), "") for truth, answer in pairs], tolerance)
        for group, pairs in result["lengths"].items()
    }
    low, high = tolerance
    note = f"Answers inside the band, {low:g} to {high:g} times the truth, are correct; the axes are logarithmic."
    sections = [
        _success_section(result),
        *(Section(group.capitalize(), [HtmlFragment(plot), note], is_wide=False) for group, plot in plots.items()),
    ]
    return result_report(result, "SpatialRGPT-Bench", sections)


def _success_section(result: Mapping[str, Any]) -> Section:
    means = [(name, result[name]) for name in ("qualitative", "quantitative") if result[name] is not None]
    rows: list[list[Cell]] = [[f"{name} average", Percent(value), "", "", ""] for name, value in means]
    for group, accuracy in result["accuracy"].items():
        counts = result["by_category"][group]
        abs_rel = format_number(result["abs_rel"].get(group))
        rows.append([group, Percent(accuracy), str(counts["num_questions"]), str(counts["num_read"]), abs_rel])
    angle = result["angle_error_deg"]
    published: list[list[Cell]] = [
        [name, Percent(qualitative), Percent(quantitative)] for name, (qualitative, quantitative) in PUBLISHED.items()
    ]
    return Section(
        "Success rates",
        [
            Table(["", "correct in %", "questions", "read", "abs-rel"], rows),
            "" if angle is None else f"The mean error of directions is {angle:.1f} degrees.",
            _PUBLISHED_NOTE,
            Table(["published", "qualitative", "quantitative"], published, fold="Published averages"),
        ],
    )
