"""The report of the warehouse score, S1."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from html import escape
from typing import Any

from smolrgpt.evaluation.report.document import Block, Cell, HtmlFragment, Percent, Report, Section, Table
from smolrgpt.evaluation.report.html import table_element
from smolrgpt.evaluation.report.sections import (
    NUM_SHOWN,
    SCORE_HEADER,
    confidence_section,
    format_interval,
    format_number,
    length_plots,
    result_report,
    score_cells,
    wording_table,
    worst_section,
)
from smolrgpt.evaluation.score import CATEGORIES
from smolrgpt.evaluation.summary import ScoredSample
from smolrgpt.tasks import task_named
from smolrgpt.tasks.distance import DISTANCE

#: AI City Challenge 2025, Track 3, hidden test set: name -> (S1, accuracies in percent by category; {} where not published).
PUBLISHED: dict[str, tuple[float, dict[str, float]]] = {
    "UWIPL_ETRI (agent on a hosted large model)": (95.86, {}),
    "HCMUT.VNU (8B)": (91.97, {}),
    "SmolRGPT, published (0.5B)": (90.68, dict(zip(CATEGORIES, (99.80, 92.76, 88.02, 82.13), strict=True))),
    "MIZSU": (73.06, {}),
    "HCMUS_HTH (64M)": (66.89, {}),
}
_PUBLISHED_NOTE = (
    "Published results on the hidden test set of the AI City Challenge 2025, Track 3. Another data set than this run's unless "
    "that set was evaluated here: for orientation, not for comparison."
)
#: Results of ``summary.summarise`` by group -> (title, name of the groups).
_GROUPS = {
    "by_layout": ("By layout", "layout"),
    "by_wording": ("By wording (reserved: never trained on)", "wording"),
    "by_num_regions": ("By number of regions", "regions"),
    "by_region_size": ("By the smallest region's share of the image", "share"),
    "by_distance": ("By true distance", "distance"),
}
_MEANINGLESS_ABS_REL = 1e3


def warehouse_report(result: Mapping[str, Any], scored: Sequence[ScoredSample] = ()) -> Report:
    """Return the report of a result of ``score`` or ``summary.summarise``; sections without data are left out.

    Args:
        result: The result; ``model``, ``data``, ``environment``, ``extractors`` and ``compared`` are shown where it has them.
        scored: The scored questions, for plots and images of the worst answers.
    """
    sections = [
        _accuracy_section(result),
        _extractor_section(result.get("extractors", {})),
        _error_section(result),
        Section("Lengths", length_plots(scored), is_wide=False),
        _confusion_section(result.get("confusion", {})),
        confidence_section(result.get("calibration")),
        *(_group_section(title, name, result.get(key, {})) for key, (title, name) in _GROUPS.items()),
        _wording_section(result.get("by_template", [])),
        worst_section(scored),
    ]
    return result_report(result, f"S1 {result['S1']:.2f}", sections)


def _accuracy_section(result: Mapping[str, Any]) -> Section:
    interval = result.get("interval")
    rows: list[Sequence[Cell]] = [["this run", *score_cells(result["S1"], result["accuracy"], interval)]]
    others = result.get("compared", {}) | ({"chance": result["chance"]} if "chance" in result else {})
    for name, other in others.items():
        rows.append([name, *score_cells(other["S1"], other["accuracy"])])
        if "difference" in other:
            rows.append([f"{name}, minus this run", format_interval(other["difference"]), *[""] * len(CATEGORIES)])
    counts = [str(result["by_category"].get(name, {}).get("num_questions", 0)) for name in CATEGORIES]
    rows.append(["questions", str(result["num_questions"]), *counts])
    published: list[list[Cell]] = [[name, *score_cells(s1, accuracy)] for name, (s1, accuracy) in PUBLISHED.items()]
    intervals = "Intervals are 95 % intervals over the images." if interval else ""
    published_table = Table(SCORE_HEADER, published, fold="Published results")
    return Section("Accuracy", [Table(SCORE_HEADER, rows), intervals, _PUBLISHED_NOTE, published_table])


def _extractor_section(extractors: Mapping[str, Any]) -> Section:
    rows: list[list[Cell]] = [
        [name, *score_cells(found["S1"], found["accuracy"]), str(found["num_unreadable"])] for name, found in extractors.items()
    ]
    table = Table([*SCORE_HEADER, "unreadable"], rows)
    return Section("The same texts, read by each extractor", [table] if rows else [])


def _error_section(result: Mapping[str, Any]) -> Section:
    rows = []
    for key, label in (("excluding_zero_truth", "truth above 0 m"), ("including_zero_truth", "all, zero truths included")):
        details = result[DISTANCE.name][key]
        if details["num_rows"]:
            has_meaning = details["abs_rel"] is not None and details["abs_rel"] < _MEANINGLESS_ABS_REL
            abs_rel = format_number(details["abs_rel"]) if has_meaning else "meaningless (truth 0)"
            rows.append([label, str(details["num_rows"]), abs_rel, format_number(details["rmse"]), format_number(details["a1"], 2)])
    blocks: list[Block] = [Table(["distances", "number", "abs-rel", "rmse (m)", "a1 (%)"], rows)] if rows else []
    for category, error in result["error_rates"].items():
        if error is not None and category != DISTANCE.name:
            blocks.append(f"Mean error of {category}: {format_number(error)} of the true number.")
    if result.get("seconds_per_question") is not None:
        blocks.append(f"Time: {format_number(result['seconds_per_question'])} s per question.")
    return Section("Errors", blocks, is_wide=False)


def _group_section(title: str, name: str, groups: Mapping[str, Mapping[str, Any]]) -> Section:
    present = [category for category in CATEGORIES if any(category in group["accuracy"] for group in groups.values())]
    shows_s1 = len(present) > 1
    rows: list[list[Cell]] = []
    for group_name, group in groups.items():
        s1 = [Percent(group["S1"])] if shows_s1 else []
        accuracies = [Percent(group["accuracy"].get(category)) for category in present]
        rows.append([group_name, str(group["num_questions"]), *s1, *accuracies])
    table = Table([name, "questions", *(["S1"] if shows_s1 else []), *present], rows)
    return Section(title, [table] if rows else [], is_wide=False)


def _wording_section(wordings: Sequence[Mapping[str, Any]]) -> Section:
    costliest_first = sorted(wordings, key=lambda row: row["num_questions"] * (row["accuracy"] - 100))
    table = replace(wording_table(costliest_first), fold=f"{len(wordings)} wordings", max_rows=NUM_SHOWN)
    return Section("Wordings, those that cost the most first", [table] if wordings else [])


# -------------------------------------------------------------------------------------------------------------------------- plots
def _confusion_section(confusion: Mapping[str, Sequence[Mapping[str, Any]]]) -> Section:
    blocks: list[Block] = []
    for category, cells in confusion.items():
        if cells:
            task = task_named(category)
            note = "Regions by their position in the question: a column that stands out is a position that the model prefers."
            blocks += [note] if task.names_region else []
            blocks.append(HtmlFragment(_confusion_element(cells, task.title)))
    return Section("Confusions", blocks, is_wide=False)


def _confusion_element(cells: Sequence[Mapping[str, Any]], title: str) -> str:
    """Return a table of numbers, shaded by their share of the row; correct answers are on the diagonal."""
    truths = sorted({cell["truth"] for cell in cells})
    given = {cell["answer"] for cell in cells if cell["answer"] is not None}
    answers = [*sorted(given | set(truths)), *([None] if any(cell["answer"] is None for cell in cells) else [])]
    numbers = {(cell["truth"], cell["answer"]): cell["number"] for cell in cells}
    rows = []
    for truth in truths:
        total = sum(numbers.get((truth, answer), 0) for answer in answers)
        shaded = [_shaded(numbers.get((truth, answer), 0), total, truth == answer) for answer in answers]
        rows.append([escape(str(truth)), *shaded])
    header = [f"{title}: truth \\ answer", *("unread" if answer is None else str(answer) for answer in answers)]
    return f"<div class=confusion>{table_element(header, rows)}</div>"


def _shaded(count: int, total: int, is_correct: bool) -> str:
    colour = "var(--good)" if is_correct else "var(--bad)"
    strength = round(15 + 60 * math.sqrt(count / total)) if count else 0
    style = f"--shade:color-mix(in srgb, {colour} {strength}%, transparent)"
    return f'<span style="{style}" title="{100 * count / total:.1f} %">{count or ""}</span>'
