"""Parts that several reports share: their frame, sections and table rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from smolrgpt.data.loading import SkipLog
from smolrgpt.evaluation.report.document import Block, Cell, Code, HtmlFragment, Percent, Report, Section, Table
from smolrgpt.evaluation.report.svg import coverage_plot, length_plot, reliability_plot
from smolrgpt.evaluation.score import CATEGORIES, true_answer
from smolrgpt.evaluation.summary import ScoredSample, worst_answers
from smolrgpt.tasks import TASKS
from smolrgpt.tasks.distance import LengthTask
from smolrgpt.tasks.mentions import write_mentions
from smolrgpt.tasks.region_text import REGION_TAG

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


def length_plots(scored: Sequence[ScoredSample], tolerance: tuple[float, float] | None = None) -> list[Block]:
    """Return a plot for each kind of question about lengths; tolerance: multiples of the truth, by default those of each kind."""
    blocks: list[Block] = []
    for task in TASKS.values():
        if isinstance(task, LengthTask):
            found = [(row.score, row.sample.id) for row in scored if row.task is task and row.score.answer is not None]
            plot = length_plot([(score.truth, score.answer, score.is_correct, name) for score, name in found], tolerance or task.tolerance)
            caption = f"{task.title.capitalize()}: answers inside the band are correct; the axes are logarithmic."
            blocks += [HtmlFragment(plot), *([caption] if plot else [])]
    return blocks


def confidence_section(calibration: Mapping[str, Any] | None) -> Section:
    """Return reliability and coverage of a result of ``summary.calibration``."""
    if calibration is None:
        return Section("Confidence", [])
    s1 = {round(100 * row["coverage"]): row["S1"] for row in calibration["coverage"]}
    covered = ", ".join(f"{s1[share]:.1f} on the most confident {share} %" for share in (50, 80, 100))
    lines = [f"Expected calibration error {calibration['ece']:.3f}. S1 is {covered}."]
    if calibration["auroc"] is not None:
        lines.append(f"A correct answer has more confidence than a wrong one in {100 * calibration['auroc']:.1f} % of the pairs.")
    plots = f"<div class=pair>{reliability_plot(calibration['bins'])}{coverage_plot(calibration['coverage'])}</div>"
    return Section("Confidence", [" ".join(lines), HtmlFragment(plots)])


#: Images of the worst answers are shrunk to this long side, in pixels.
_IMAGE_SIDE = 480


def worst_section(scored: Sequence[ScoredSample]) -> Section:
    """Return the answers of ``summary.worst_answers`` with their images."""
    found = worst_answers(scored)
    rows = [
        [
            row.sample.id,
            str(row.sample.category),
            str(true_answer(row.sample)),
            str(row.score.answer),
            format_number(row.confidence, 2),
        ]
        for row in found
    ]
    table = Table(["id", "category", "truth", "answer", "confidence"], rows)
    cards = HtmlFragment(f"<div class=cards>{''.join(map(_card, found))}</div>", table)
    note = "The answers furthest from the truth; of equally wrong ones, the most confident."
    return Section("Worst answers", [note, cards] if rows else [])


def _card(row: ScoredSample) -> str:
    """Return an article with the image, its regions drawn; an image that cannot be read is left out, the answer is not."""
    from smolrgpt.viz.gallery import draw_cards, html_with_region_chips, image_element

    drawn = draw_cards([row.sample], SkipLog(), _IMAGE_SIDE)
    description = f"image of {row.sample.id}"
    image = image_element(drawn[0].panels[0], description) if drawn else "<p class=note>The image cannot be drawn.</p>"
    question = write_mentions(row.sample.question, row.sample.region_indices or None, REGION_TAG)
    confidence = "" if row.confidence is None else f", confidence {row.confidence:.2f}"
    return (
        f"<article><div class=images>{image}</div><div class=text><p class=about><b>{escape(str(row.sample.category))}</b> "
        f"<code>{escape(row.sample.id)}</code></p><p>{html_with_region_chips(question)}</p>"
        f"<p>answer <span class='short wrong'>{escape(str(row.score.answer))}</span> truth "
        f"<span class='short answer'>{escape(str(true_answer(row.sample)))}</span>{confidence}</p>"
        f"<p class=answer-text>{html_with_region_chips(row.text)}</p></div></article>"
    )
