"""How S1 holds up when camera, depth or masks are worse than in the data: one curve per factor, the same questions at every level."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from smolrgpt.data.io import read_rows, write_text
from smolrgpt.data.perturb import FACTORS, Level, perturb
from smolrgpt.evaluation.predict import Row, SamplePredictor, predict
from smolrgpt.evaluation.report.markdown import markdown_table
from smolrgpt.evaluation.report.sections import format_interval, score_cells
from smolrgpt.evaluation.score import CATEGORIES
from smolrgpt.evaluation.summary import accuracies, intervals, score_samples
from smolrgpt.schema import DataError, Sample

logger = logging.getLogger(__name__)


def measure_robustness(
    predictor: SamplePredictor,
    samples: Sequence[Sample],
    out: Path,
    *,
    factors: Sequence[str] = (),
    run_id: str = "",
    batch_size: int = 64,
) -> dict[str, Any]:
    """Measure S1 at every level of some factors.

    Writes results.json, report.md and report.png into ``out``, and the predictions of each level, with which an interrupted run continues.

    Args:
        predictor: What answers the questions.
        samples: The questions.
        out: The folder of the results.
        factors: Names of ``data.perturb.FACTORS``; empty: all.
        run_id: Names the model and the data.
        batch_size: Questions answered together.

    Returns:
        ``curves`` {factor: [{level, S1, accuracy, num_questions, interval}]}, ``run``, ``num_questions``, and ``problems`` with the levels
        whose samples cannot be made, which are left out.

    Raises:
        ValueError: There is no such factor.
    """
    unknown = [name for name in factors if name not in FACTORS]
    if unknown:
        raise ValueError(f"there is no factor {unknown[0]!r}; expected some of {', '.join(FACTORS)}")
    names = [name for name in FACTORS if not factors or name in factors]
    levels = [(name, level) for name in names for level in FACTORS[name].levels]
    curves: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    problems = []
    for name, level in tqdm(levels, unit="level"):
        try:
            rows = _predict_level(predictor, samples, (name, level), out / "predictions", run_id, batch_size)
        except DataError as error:
            problems.append({"factor": name, "level": level, "reason": str(error)})
            logger.warning("%s at %s is left out: %s", name, level, error)
            continue
        scored = score_samples(samples, rows)
        curves[name].append({"level": level, **accuracies(scored), "interval": intervals(scored)["S1"]})
    result = {"run": run_id, "num_questions": len(samples), "curves": curves, "problems": problems}
    _write(result, out)
    return result


def _predict_level(
    predictor: SamplePredictor, samples: Sequence[Sample], point: tuple[str, Level], folder: Path, run_id: str, batch_size: int
) -> list[Row]:
    """Return predictions at a (factor, level): from the file of an earlier run with the same model and data, else new ones."""
    name, level = point
    is_unchanged = level == FACTORS[name].levels[0]
    stem = "unchanged" if is_unchanged else f"{name}-{level}".replace(" ", "-").replace("'", "")
    path, level_id = folder / f"{stem}.jsonl", f"{run_id}|{len(samples)}|{stem}"
    record = path.with_suffix(".run")
    if path.exists() and record.exists() and record.read_text() == level_id:
        return read_rows(path)
    rows = predict(predictor, perturb(samples, name, level), path, batch_size, progress=False, run_id=level_id)
    record.write_text(level_id)
    return rows


def _write(result: Mapping[str, Any], out: Path) -> None:
    from smolrgpt.viz.plots import plot_factors, plot_if_possible

    write_text(out / "results.json", json.dumps(result, indent=1) + "\n")
    write_text(out / "report.md", format_robustness(result) + "\n")
    descriptions = {name: FACTORS[name].about for name in result["curves"]}
    plot_if_possible(plot_factors, result["curves"], descriptions, out / "report.png")


def format_robustness(result: Mapping[str, Any]) -> str:
    """Return a Markdown report with one row per level."""
    rows = [
        [name, f"{point['level']}", *score_cells(point["S1"], point["accuracy"]), format_interval(point["interval"])]
        for name, curve in result["curves"].items()
        for point in curve
    ]
    header = ["factor", "level", "S1", *CATEGORIES, "95 % interval of S1"]
    problems = [f"\n* {row['factor']} at {row['level']} left out: {row['reason']}" for row in result["problems"]]
    title = f"# {result['run'] or 'Robustness'}\n\n{result['num_questions']} questions at every level."
    return f"{title}\n\n{markdown_table(header, rows)}\n{''.join(problems)}"
