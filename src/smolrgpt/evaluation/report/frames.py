"""The report of the frames benchmark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from smolrgpt.evaluation.report.document import Block, Cell, Percent, Report, Section, Table
from smolrgpt.evaluation.report.sections import (
    confidence_section,
    format_number,
    length_plots,
    result_report,
    score_cells,
    worst_section,
)
from smolrgpt.evaluation.score import CATEGORIES
from smolrgpt.evaluation.summary import ScoredSample

_HEADER = ("", "questions", "correct in %", "rules", "lengths within 25 %", "rules", "answer / truth", "refused", "misread")
_NOTE = (
    "Lengths are correct within 10 % of the truth. The rules measure boxes of the visible points and one floor on the same pixels, and are "
    "told what is asked. A refusal counts as wrong; misread: answered as another kind of question."
)


def frames_report(result: Mapping[str, Any], scored: Sequence[ScoredSample], tolerance: tuple[float, float]) -> Report:
    """Return the report of a result of ``FramesBenchmark.score``.

    Args:
        result: The result; ``model``, ``data``, ``environment`` and ``compared`` are shown where it has them.
        scored: The scored questions of the headline, for plots and images of the worst answers.
        tolerance: The multiples of a true length between which an answer is correct.
    """
    sections = [
        _category_section(result),
        _variant_section(result),
        *(Section(title, [_group_table(groups)] if groups else [], is_wide=False) for title, groups in result["groups"].items()),
        _consistency_section(result["consistency"]),
        Section("Lengths", length_plots(scored, tolerance), is_wide=False),
        confidence_section(result["calibration"]),
        worst_section(scored),
    ]
    setting, wording = result["variant"].split("/")
    title = "real frames" if result["S1"] is None else f"real frames, S1 {result['S1']:.1f}"
    return result_report(result, f"{title} ({setting}, {wording})", sections)


def _category_section(result: Mapping[str, Any]) -> Section:
    rows = []
    for name, accuracy in result["accuracy"].items():
        counts = result["by_category"][name]
        rule = result["rule"]
        ratio = format_number(result["ratio"].get(name), 2)
        wide = [Percent(found["within_25"].get(name)) for found in (result, rule)]
        cells = [Percent(accuracy), Percent(rule["accuracy"][name]), *wide, ratio]
        rows.append([name, str(counts["num_questions"]), *cells, str(counts["num_refused"]), str(counts["num_misread"])])
    compared: list[list[Cell]] = [
        [name, *score_cells(other["S1"], other["accuracy"])] for name, other in result.get("compared", {}).items()
    ]
    blocks: list[Block] = [Table(_HEADER, rows), _NOTE]
    if compared:
        blocks.append(Table(["compared", "S1", *CATEGORIES], compared))
    return Section("Accuracy", blocks)


def _variant_section(result: Mapping[str, Any]) -> Section:
    names = list(dict.fromkeys(name for found in result["variants"].values() for name in found["accuracy"]))
    rows: list[list[Cell]] = []
    for variant, found in result["variants"].items():
        for label, part in ((variant, found), ("rules", found["rule"])):
            wide = part["within_25"]
            rows.append([label, Percent(part["S1"]), *(_both(part["accuracy"].get(name), wide.get(name)) for name in names)])
            extra = [format_number(found["ece"]), format_number(found["auroc"]), str(found["num_refused"]), _withheld(found)]
            rows[-1] += extra if part is found else [""] * len(extra)
    header = ["setting/wording", "S1", *names, "calibration error", "AUROC", "refused", "lengths withheld"]
    note = "Of lengths: within 10 % and 25 %. A length is withheld when it is refused or its confidence is below 0.5."
    return Section("Depth settings and wordings", [Table(header, rows), note])


def _both(near: float | None, wide: float | None) -> str:
    """Return the share within 10 %, or exactly right, and for lengths the share within 25 %."""
    if near is None:
        return ""
    return f"{near:.1f}" if wide is None else f"{near:.1f} / {wide:.1f}"


def _withheld(found: Mapping[str, Any]) -> str:
    counts = [found["by_category"][name] for name in found["within_25"]]
    asked = sum(row["num_questions"] for row in counts)
    return f"{100 * sum(row['num_withheld'] for row in counts) / asked:.0f} %" if asked else ""


def _group_table(groups: Mapping[str, Mapping[str, Any]]) -> Table:
    rows: list[list[Cell]] = []
    for name, found in groups.items():
        pairs = [(_mean(part, found, "accuracy"), _mean(part, found, "within_25")) for part in (found, found["rule"])]
        (near, wide), (rule_near, rule_wide) = pairs
        cells = [Percent(near), Percent(rule_near), Percent(wide), Percent(rule_wide)]
        rows.append([name, str(found["num_questions"]), *cells, str(found["num_refused"]), str(found["num_misread"])])
    return Table([name for name in _HEADER if name != "answer / truth"], rows)


def _mean(part: Mapping[str, Any], found: Mapping[str, Any], key: str) -> float | None:
    """Return the mean over questions of the percentages by category of ``part[key]``."""
    numbers = {name: found["by_category"][name]["num_questions"] for name in part[key]}
    return sum(part[key][name] * number for name, number in numbers.items()) / sum(numbers.values()) if numbers else None


def _consistency_section(consistency: Mapping[str, Any] | None) -> Section:
    if consistency is None:
        return Section("Consecutive frames", [])
    rows: list[list[Cell]] = [
        ["lengths agree within 3 %", Percent(consistency["lengths"])],
        ["other answers are equal", Percent(consistency["choices"])],
    ]
    return Section("Consecutive frames", [Table([f"{consistency['num_sequences']} sequences", "in %"], rows)], is_wide=False)
