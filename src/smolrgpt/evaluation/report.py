"""Predictions and truth -> one result, as JSON for programs and as a page for people; and the four steps in one call."""

from __future__ import annotations

import json
import random
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from smolrgpt.data.schema import DataError, Sample
from smolrgpt.evaluation.predict import SamplePredictor, predict
from smolrgpt.evaluation.score import CATEGORIES, parse_distance, score

#: AI City Challenge 2025, Track 3, hidden test set: name -> (S1, accuracies in percent by category; None where not published).
PUBLISHED: dict[str, tuple[float, dict[str, float]]] = {
    "UWIPL_ETRI (agent on a hosted large model)": (95.86, {}),
    "HCMUT.VNU (8B)": (91.97, {}),
    "SmolRGPT, published (0.5B)": (90.68, {"left_right": 99.80, "count": 92.76, "mcq": 88.02, "distance": 82.13}),
    "MIZSU": (73.06, {}),
    "HCMUS_HTH (64M)": (66.89, {}),
}
#: Groups by number of regions, both ends included; the data set asks about 2 to 15.
REGION_GROUPS = ((0, 1), (2, 2), (3, 5), (6, 9), (10, 15))
NUM_WORST = 10


def evaluate(
    predictor: SamplePredictor,
    data: Sequence[Sample] | str | Path,
    out_dir: str | Path | None = None,
    *,
    split: str | None = None,
    depth: str = "auto",
    limit: int | None = None,
    batch_size: int = 32,
    progress: bool = True,
    resume: bool = True,
    strict: bool = False,
    name: str = "",
) -> dict[str, Any]:
    """Predict, extract, score and, with ``out_dir``, write ``predictions.json``, ``results.json`` and ``report.md``.

    data: samples, or the root of a data set in the official layout (``split``: by default its ``val``, else its only split; ``limit``:
    that many questions, drawn by a fixed seed; ``depth`` as in ``read_warehouse``). Returns the result of ``score`` with ``by_layout``,
    ``by_num_regions``, ``worst_distances``, ``seconds_per_question``, ``model`` and ``data``. Raises DataError when nothing can be scored.
    """
    samples = list(data) if not isinstance(data, str | Path) else load_samples(Path(data), split, depth)
    label = str(data) if isinstance(data, str | Path) else f"{len(samples)} samples"
    samples = _draw(samples, limit)
    if not any(sample.normalized_answer is not None for sample in samples):
        raise DataError(
            f"{label}: no sample has a normalized_answer, so nothing can be scored; write predictions instead, or choose another split"
        )
    predictions_path = None if out_dir is None else Path(out_dir) / "predictions.json"
    run_id = f"{name}|{label}|{split}|{depth}|{len(samples)}"
    predictions = predict(predictor, samples, predictions_path, batch_size, progress, resume, run_id)
    result = {"model": name, "data": label, **summarise(samples, predictions, strict)}
    if out_dir is not None:
        write_report(result, out_dir)
    return result


def load_samples(root: Path, split: str | None = None, depth: Any = "auto") -> list[Sample]:
    """One split of a data set in the official layout: the named one, else ``val``, else the only one; DataError when that is unclear."""
    from smolrgpt.data.sources.warehouse import available_splits, read_warehouse

    if split is None:
        splits = [name for name in available_splits(root) if not name.endswith("_captions")]  # captions have no short answers
        split = "val" if "val" in splits else splits[0] if len(splits) == 1 else None
        if split is None:
            raise DataError(f"{root}: found the splits {', '.join(splits) or 'none'}; name the one to evaluate with --split")
    return read_warehouse(root, split, depth=depth)


def _draw(samples: list[Sample], limit: int | None) -> list[Sample]:
    if limit is None or limit >= len(samples):
        return samples
    if limit < 1:
        raise ValueError(f"limit is {limit}; expected at least 1 question")
    # drawn, not every n-th: questions come in a fixed order of categories per image, which a stride can fall in step with
    return [samples[index] for index in sorted(random.Random(0).sample(range(len(samples)), limit))]


def summarise(samples: Sequence[Sample], predictions: Sequence[Mapping[str, Any]], strict: bool = False) -> dict[str, Any]:
    """``score`` of the samples that have a truth, with the breakdowns of ``evaluate``."""
    truth = [_truth(sample) for sample in samples if sample.normalized_answer is not None]
    result = score(truth, predictions, strict)
    seconds = [row["seconds"] for row in predictions if "error" not in row]
    return {
        **result,
        "by_layout": _breakdown(samples, predictions, lambda sample: sample.metadata.get("layout")),
        "by_num_regions": _breakdown(samples, predictions, lambda sample: _region_group(len(sample.regions))),
        "worst_distances": _worst_distances(truth, predictions),
        "seconds_per_question": sum(seconds) / len(seconds) if seconds else None,
    }


def _truth(sample: Sample) -> dict[str, Any]:
    return {"id": sample.id, "category": sample.category, "normalized_answer": sample.normalized_answer}


def _region_group(number: int) -> str:
    for first, last in REGION_GROUPS:
        if first <= number <= last:
            return str(last) if first == last else f"{first} to {last}"
    return f"{REGION_GROUPS[-1][1] + 1} or more"


def _breakdown(
    samples: Sequence[Sample], predictions: Sequence[Mapping[str, Any]], group: Callable[[Sample], str | None]
) -> dict[str, dict[str, Any]]:
    """Group name -> {S1, accuracy, num_questions}, for the samples that have a group and a scored category."""
    members: dict[str, list[Sample]] = defaultdict(list)
    for sample in samples:
        name = group(sample)
        if name is not None and sample.normalized_answer is not None and sample.category in CATEGORIES:
            members[str(name)].append(sample)
    by_id = {row["id"]: row for row in predictions}
    results = {}
    for name in sorted(members, key=lambda name: (int(name.split()[0]) if name[0].isdigit() else 0, name)):
        result = score(map(_truth, members[name]), [by_id[sample.id] for sample in members[name] if sample.id in by_id])
        results[name] = {key: result[key] for key in ("S1", "accuracy", "num_questions")}
    return results


def _worst_distances(truth: Sequence[Mapping[str, Any]], predictions: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The distance answers farthest from the truth, in metres."""
    by_id = {row["id"]: row for row in predictions}
    found = []
    for row in truth:
        prediction = by_id.get(row["id"], {})
        if row["category"] != "distance" or prediction.get("normalized_answer") is None:
            continue
        try:
            expected, given = parse_distance(row["normalized_answer"]), parse_distance(prediction["normalized_answer"])
        except ValueError:
            continue
        found.append({"id": row["id"], "truth_m": expected, "prediction_m": given, "error_m": abs(given - expected)})
    return sorted(found, key=lambda row: -row["error_m"])[:NUM_WORST]


def write_report(result: Mapping[str, Any], out_dir: str | Path) -> Path:
    """Write ``results.json`` and ``report.md`` into ``out_dir``; returns the path of the page."""
    folder = Path(out_dir)
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in (("results.json", json.dumps(result, indent=1, ensure_ascii=False) + "\n"), ("report.md", render_report(result))):
        temporary = folder / (name + ".writing")
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(folder / name)
    return folder / "report.md"


def render_report(result: Mapping[str, Any]) -> str:
    """The page, in Markdown. Works on the plain result of ``score`` too: sections without data are left out."""
    parts = [
        f"# {result.get('model') or 'Result'}: S1 {result['S1']:.2f}",
        f"{result['num_questions']} questions, {result['num_correct']} right. Data: {result.get('data') or 'not named'}.",
        _category_section(result),
        _error_section(result),
        _breakdown_section("By layout", "layout", result.get("by_layout")),
        _breakdown_section("By number of regions", "regions", result.get("by_num_regions")),
        _worst_section(result.get("worst_distances")),
        _problem_section(result),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in line) + " |" for line in lines)


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _score_cells(s1: float | None, accuracy: Mapping[str, float]) -> list[str]:
    return [_percent(s1), *(_percent(accuracy.get(category)) for category in CATEGORIES)]


def _category_section(result: Mapping[str, Any]) -> str:
    counts = result["by_category"]
    asked = ["questions", str(result["num_questions"]), *(str(counts.get(name, {}).get("num_questions", 0)) for name in CATEGORIES)]
    rows = [["**this run**", *_score_cells(result["S1"], result["accuracy"])], asked]
    published = [[name, *_score_cells(s1, accuracy)] for name, (s1, accuracy) in PUBLISHED.items()]
    note = (
        "Published results on the hidden test set of the AI City Challenge 2025, Track 3. **Another data set than this run's** unless "
        "that set was evaluated here: for orientation, no comparison."
    )
    header = ["accuracy in %", "S1", *CATEGORIES]
    return "## Accuracy\n\n" + _table(header, rows) + f"\n\n{note}\n\n" + _table(header, published)


def _number(value: float | None, digits: int = 3) -> str:
    return "none" if value is None else f"{value:.{digits}f}"


def _error_section(result: Mapping[str, Any]) -> str:
    rows = []
    for key, label in (("excluding_zero_truth", "truth above 0 m"), ("including_zero_truth", "all, zero truths included")):
        details = result["distance"][key]
        if details["num_rows"]:
            abs_rel = _number(details["abs_rel"]) if details["abs_rel"] < 1e3 else "meaningless (truth 0)"
            rows.append([label, str(details["num_rows"]), abs_rel, _number(details["rmse"]), _percent(details["a1"])])
    lines = [_table(["distance rows", "number", "abs-rel", "rmse (m)", "a1 (%)"], rows)] if rows else []
    if result["error_rates"]["count"] is not None:
        lines.append(f"Count: mean error {_number(result['error_rates']['count'])} of the true count.")
    if result.get("seconds_per_question") is not None:
        lines.append(f"Time: {_number(result['seconds_per_question'])} s a question.")
    return "## Errors\n\n" + "\n\n".join(lines) if lines else ""


def _breakdown_section(title: str, column: str, groups: Mapping[str, Any] | None) -> str:
    if not groups:
        return ""
    rows = [[name, str(group["num_questions"]), *_score_cells(group["S1"], group["accuracy"])] for name, group in groups.items()]
    return f"## {title}\n\n" + _table([column, "questions", "S1", *CATEGORIES], rows)


def _worst_section(worst: Sequence[Mapping[str, Any]] | None) -> str:
    if not worst:
        return ""
    rows = [[str(row["id"]), f"{row['truth_m']:g}", f"{row['prediction_m']:g}", f"{row['error_m']:.2f}"] for row in worst]
    return "## Worst distances\n\n" + _table(["id", "truth (m)", "answer (m)", "error (m)"], rows)


def _problem_section(result: Mapping[str, Any]) -> str:
    if not result["problem_counts"]:
        return ""
    counts = ", ".join(f"{number} {kind}" for kind, number in result["problem_counts"].items())
    rows = [[problem["kind"], problem["id"], problem["reason"]] for problem in result["problems"][:NUM_WORST]]
    return f"## Problems: {counts}\n\nEach counts as wrong. The first:\n\n" + _table(["kind", "id", "reason"], rows)
