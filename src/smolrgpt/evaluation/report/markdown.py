"""The result of an evaluation as a page of Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from smolrgpt.evaluation.benchmarks import spatial_bench
from smolrgpt.evaluation.score import CATEGORIES

#: AI City Challenge 2025, Track 3, hidden test set: name -> (S1, accuracies in percent by category; None where not published).
PUBLISHED: dict[str, tuple[float, dict[str, float]]] = {
    "UWIPL_ETRI (agent on a hosted large model)": (95.86, {}),
    "HCMUT.VNU (8B)": (91.97, {}),
    "SmolRGPT, published (0.5B)": (90.68, {"left_right": 99.80, "count": 92.76, "mcq": 88.02, "distance": 82.13}),
    "MIZSU": (73.06, {}),
    "HCMUS_HTH (64M)": (66.89, {}),
}
PUBLISHED_NOTE = (
    "Published results on the hidden test set of the AI City Challenge 2025, Track 3. **Another data set than this run's** unless "
    "that set was evaluated here: for orientation, no comparison."
)
#: Wordings and problems shown; results.json has all of them.
NUM_SHOWN = 12


def render_report(result: Mapping[str, Any]) -> str:
    """The page. Works on the plain result of ``score`` too: sections without data are left out."""
    parts = [
        f"# {result.get('model') or 'Result'}: S1 {result['S1']:.2f}",
        f"{result['num_questions']} questions, {result['num_correct']} right. Data: {result.get('data') or 'not named'}.",
        _category_section(result),
        _extractor_section(result.get("extractors")),
        _error_section(result),
        _breakdown_section("By layout", "layout", result.get("by_layout")),
        _breakdown_section("By wording (reserved: never trained on)", "wording", result.get("by_wording")),
        _breakdown_section("By number of regions", "regions", result.get("by_num_regions")),
        _breakdown_section("By the smallest region's share of the picture", "share", result.get("by_region_size")),
        _breakdown_section("By true distance", "distance", result.get("by_distance")),
        _template_section(result.get("by_template")),
        _calibration_section(result.get("calibration")),
        _worst_section(result.get("worst")),
        _problem_section(result),
        _environment_section(result.get("environment")),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table of plain text."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in line) + " |" for line in lines)


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def score_cells(s1: float | None, accuracy: Mapping[str, float]) -> list[str]:
    """S1 and the accuracies in the order of ``CATEGORIES``, empty where there is none."""
    return [_percent(s1), *(_percent(accuracy.get(category)) for category in CATEGORIES)]


def _category_section(result: Mapping[str, Any]) -> str:
    counts, interval = result["by_category"], result.get("interval")
    rows = [["**this run**", *score_cells(result["S1"], result["accuracy"])]]
    if interval:
        rows.append(["95 % interval", *(_span(ends) for ends in (interval["S1"], *(interval["accuracy"].get(c) for c in CATEGORIES)))])
    beside = {**result.get("beside", {}), **({"chance": result["chance"]} if "chance" in result else {})}
    for name, other in beside.items():
        rows.append([name, *score_cells(other["S1"], other["accuracy"])])
        if other.get("difference"):
            rows.append([f"{name}: less or more than this run", _span(other["difference"]), *[""] * len(CATEGORIES)])
    rows.append(["questions", str(result["num_questions"]), *(str(counts.get(name, {}).get("num_questions", 0)) for name in CATEGORIES)])
    published = [[name, *score_cells(s1, accuracy)] for name, (s1, accuracy) in PUBLISHED.items()]
    header = ["accuracy in %", "S1", *CATEGORIES]
    return "## Accuracy\n\n" + table(header, rows) + f"\n\n{PUBLISHED_NOTE}\n\n" + table(header, published)


def _span(ends: Sequence[float] | None) -> str:
    return "" if ends is None else f"{ends[0]:.1f} to {ends[1]:.1f}"


def _extractor_section(extractors: Mapping[str, Any] | None) -> str:
    if not extractors:
        return ""
    rows = [[name, *score_cells(one["S1"], one["accuracy"]), str(one["num_unreadable"])] for name, one in extractors.items()]
    return "## The same texts, read by each extractor\n\n" + table(["extractor", "S1", *CATEGORIES, "unreadable"], rows)


def _number(value: float | None, digits: int = 3) -> str:
    return "none" if value is None else f"{value:.{digits}f}"


def _error_section(result: Mapping[str, Any]) -> str:
    rows = []
    for key, label in (("excluding_zero_truth", "truth above 0 m"), ("including_zero_truth", "all, zero truths included")):
        details = result["distance"][key]
        if details["num_rows"]:
            meaningful = details["abs_rel"] is not None and details["abs_rel"] < 1e3
            abs_rel = _number(details["abs_rel"]) if meaningful else "meaningless (truth 0)"
            rows.append([label, str(details["num_rows"]), abs_rel, _number(details["rmse"]), _percent(details["a1"])])
    lines = [table(["distance rows", "number", "abs-rel", "rmse (m)", "a1 (%)"], rows)] if rows else []
    if result["error_rates"]["count"] is not None:
        lines.append(f"Count: mean error {_number(result['error_rates']['count'])} of the true count.")
    if result.get("seconds_per_question") is not None:
        lines.append(f"Time: {_number(result['seconds_per_question'])} s a question.")
    return "## Errors\n\n" + "\n\n".join(lines) if lines else ""


def _breakdown_section(title: str, column: str, groups: Mapping[str, Any] | None) -> str:
    if not groups:
        return ""
    rows = [[name, str(group["num_questions"]), *score_cells(group["S1"], group["accuracy"])] for name, group in groups.items()]
    return f"## {title}\n\n" + table([column, "questions", "S1", *CATEGORIES], rows)


def _template_section(templates: Sequence[Mapping[str, Any]] | None) -> str:
    if not templates:
        return ""
    worst = sorted(templates, key=lambda row: row["accuracy"] * row["num_questions"] - 100 * row["num_questions"])[:NUM_SHOWN]
    rows = [[row["template"], row["category"], str(row["num_questions"]), _percent(row["accuracy"])] for row in worst]
    title = f"## Wordings that cost the most ({len(worst)} of {len(templates)})"
    return f"{title}\n\n" + table(["question", "category", "questions", "accuracy"], rows)


def _calibration_section(calibration: Mapping[str, Any] | None) -> str:
    if not calibration:
        return ""
    by_share = {round(100 * row["coverage"]): row["S1"] for row in calibration["coverage"]}
    kept = ", ".join(f"{by_share[share]:.1f} on the most confident {share} %" for share in (50, 80, 100))
    ranks = (
        ""
        if calibration["auroc"] is None
        else f" A right answer has more confidence than a wrong one in {100 * calibration['auroc']:.1f} %."
    )
    return f"## Confidence\n\nExpected calibration error {calibration['ece']:.3f}.{ranks} S1 {kept}."


def _worst_section(worst: Sequence[Mapping[str, Any]] | None) -> str:
    if not worst:
        return ""
    rows = [[str(row["id"]), row["category"], str(row["truth"]), str(row["answer"]), _number(row["confidence"], 2)] for row in worst]
    return "## Worst answers\n\n" + table(["id", "category", "truth", "answer", "confidence"], rows)


def _environment_section(environment: Mapping[str, Any] | None) -> str:
    return "## Environment\n\n" + table(["", ""], [[k, f"`{v}`"] for k, v in environment.items()]) if environment else ""


def _problem_section(result: Mapping[str, Any]) -> str:
    if not result["problem_counts"]:
        return ""
    counts = ", ".join(f"{number} {kind}" for kind, number in result["problem_counts"].items())
    rows = [[problem["kind"], problem["id"], problem["reason"]] for problem in result["problems"][:NUM_SHOWN]]
    return f"## Problems: {counts}\n\nEach counts as wrong. The first:\n\n" + table(["kind", "id", "reason"], rows)


# ---------------------------------------------------------------------------------------------------------------- SpatialRGPT-Bench
def render_spatial(result: Mapping[str, Any]) -> str:
    """The page of a result of ``spatial_bench.summarise``."""
    means = [("qualitative average", result["qualitative"], ""), ("quantitative average", result["quantitative"], "")]
    groups = [(name, accuracy, _number(result["abs_rel"].get(name), 3)) for name, accuracy in result["accuracy"].items()]
    rows = [[f"**{name}**", _percent(value), "", "", rest] for name, value, rest in means if value is not None]
    for name, accuracy, abs_rel in groups:
        counts = result["by_category"][name]
        rows.append([name, _percent(accuracy), str(counts["num_questions"]), str(counts["num_read"]), abs_rel if abs_rel != "none" else ""])
    published = [
        [name, f"{qualitative:.1f}", f"{quantitative:.1f}"] for name, (qualitative, quantitative) in spatial_bench.PUBLISHED.items()
    ]
    angle = result["angle_error_deg"]
    parts = [
        f"# {result.get('model') or 'Result'}: SpatialRGPT-Bench",
        f"{result['num_questions']} questions, {result['num_correct']} right. Data: {result.get('data') or 'not named'}.",
        "## Success rates\n\n" + table(["group", "right in %", "questions", "read", "abs-rel"], rows),
        "" if angle is None else f"Directions are {angle:.1f} degrees off in the mean.",
        "Answers are read by rules, so that the figures can be repeated; published qualitative averages come from a language-model judge.",
        table(["published", "qualitative", "quantitative"], published),
        _problem_section(result),
        _environment_section(result.get("environment")),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"
