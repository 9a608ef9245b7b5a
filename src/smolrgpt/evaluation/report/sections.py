"""Parts that several reports share: their frame, sections and table rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from smolrgpt.evaluation.report.document import Cell, Code, Percent, Report, Section, Table
from smolrgpt.evaluation.score import CATEGORIES

#: Rows of a long table that Markdown shows; results.json and the HTML page have all of them.
NUM_SHOWN = 12
#: The header of a table whose rows are named and have ``score_cells``.
SCORE_HEADER = ("accuracy in %", "S1", *CATEGORIES)


def result_report(result: Mapping[str, Any], title: str, sections: Sequence[Section]) -> Report:
    """Return a report with the model's name before the title, the number of correct answers, and problems and environment at the end."""
    counts = f"{result['num_questions']} questions, {result['num_correct']} correct. Data: {result.get('data') or 'not named'}."
    closing = [_problem_section(result), _environment_section(result.get("environment", {}))]
    return Report(f"{result.get('model') or 'Result'}: {title}", [counts], [*sections, *closing])


def score_cells(s1: float | None, accuracy: Mapping[str, float], interval: Mapping[str, Any] | None = None) -> list[Percent]:
    """Return S1 and the accuracies in the order of ``CATEGORIES``, empty where there is none; interval: that of ``summary.intervals``."""
    ends = interval or {"S1": None, "accuracy": {}}
    cells = [Percent(accuracy.get(name), ends["accuracy"].get(name)) for name in CATEGORIES]
    return [Percent(s1, ends["S1"]), *cells]


def wording_table(wordings: Sequence[Mapping[str, Any]]) -> Table:
    """Return a row for each {template, category, num_questions, accuracy}, in the given order."""
    rows: list[list[Cell]] = [[row["template"], row["category"], str(row["num_questions"]), Percent(row["accuracy"])] for row in wordings]
    return Table(["question", "category", "questions", "accuracy in %"], rows, has_prose=True)


def _problem_section(result: Mapping[str, Any]) -> Section:
    """Return how many rows of each kind could not be scored, and the first of them."""
    counts = ", ".join(f"{number} {kind}" for kind, number in result["problem_counts"].items())
    rows = [[problem["id"], problem["kind"], problem["reason"]] for problem in result["problems"]]
    listed = Table(["id", "kind", "reason"], rows, has_prose=True, fold=f"The first {len(rows)}", max_rows=NUM_SHOWN)
    return Section("Problems", [f"{counts}. Missing and unreadable answers count as wrong.", listed] if rows else [])


def _environment_section(environment: Mapping[str, str]) -> Section:
    """Return the command, the machine and the versions of packages."""
    rows: list[list[Cell]] = [[name, Code(value)] for name, value in environment.items()]
    return Section("Environment", [Table(["", ""], rows, has_prose=True)] if rows else [])


def format_number(value: float | None, digits: int = 3) -> str:
    """Return a rounded number, "" for None."""
    return "" if value is None else f"{value:.{digits}f}"


def format_interval(ends: Sequence[float]) -> str:
    """Return an interval as text."""
    return f"{ends[0]:.1f} to {ends[1]:.1f}"
