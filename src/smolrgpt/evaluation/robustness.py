"""How S1 holds up when camera, depth or masks are worse than in the data: one curve a factor, the same questions at every level."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from smolrgpt.data.io import atomic_path, read_rows
from smolrgpt.data.perturb import FACTORS, Level, perturb
from smolrgpt.evaluation.predict import SamplePredictor, predict
from smolrgpt.evaluation.report.markdown import score_cells, table
from smolrgpt.evaluation.score import CATEGORIES
from smolrgpt.evaluation.summary import accuracies, intervals, score_samples
from smolrgpt.schema import DataError, Sample

logger = logging.getLogger(__name__)


def robustness(
    predictor: SamplePredictor,
    samples: Sequence[Sample],
    out: Path,
    *,
    factors: Sequence[str] = (),
    run_id: str = "",
    batch_size: int = 64,
    progress: bool = True,
) -> dict[str, Any]:
    """S1 at every level of the factors (default: all) of ``data.perturb.FACTORS``: {factor: [{level, S1, accuracy, interval}]}.

    Writes results.json, report.md and report.png into ``out``, predictions level by level beside them: an interrupted run goes on. run_id:
    names model and data. A level whose samples cannot be made is reported, in ``problems``, and left out. Raises ValueError for an unknown
    factor.
    """
    unknown = [name for name in factors if name not in FACTORS]
    if unknown:
        raise ValueError(f"there is no factor {unknown[0]!r}; expected some of {', '.join(FACTORS)}")
    names = [name for name in FACTORS if not factors or name in factors]
    todo = [(name, level) for name in names for level in FACTORS[name].levels]
    curves: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    problems = []
    for name, level in tqdm(todo, unit="level", disable=not progress):
        stem = "unchanged" if level == FACTORS[name].levels[0] else f"{name}-{level}".replace(" ", "-").replace("'", "")
        path, level_id = out / "predictions" / f"{stem}.jsonl", f"{run_id}|{len(samples)}|{stem}"
        try:
            rows = _rows(predictor, samples, name, level, path, level_id, batch_size)
        except DataError as error:
            problems.append({"factor": name, "level": level, "reason": str(error)})
            logger.warning("%s at %s is left out: %s", name, level, error)
            continue
        scored = score_samples(samples, rows)
        curves[name].append({"level": level, **accuracies(scored), "interval": intervals(scored)["S1"]})
    result = {"run": run_id, "num_questions": len(samples), "curves": curves, "problems": problems}
    _write(result, out)
    return result


def _rows(
    predictor: SamplePredictor, samples: Sequence[Sample], name: str, level: Level, path: Path, run_id: str, batch_size: int
) -> list[dict[str, Any]]:
    """Predictions at a level: from the file of an earlier run with the same model and data, else made."""
    record = path.with_suffix(".run")
    if path.exists() and record.exists() and record.read_text() == run_id:
        return read_rows(path)
    rows = predict(predictor, perturb(samples, name, level), path, batch_size, progress=False, run_id=run_id)
    record.write_text(run_id)
    return rows


def _write(result: Mapping[str, Any], out: Path) -> None:
    from smolrgpt.viz.plots import plot_factors

    for name, text in (("results.json", json.dumps(result, indent=1)), ("report.md", render(result))):
        with atomic_path(out / name) as temporary:
            temporary.write_text(text + "\n", encoding="utf-8")
    try:
        plot_factors(result["curves"], {name: FACTORS[name].about for name in result["curves"]}, out / "report.png")
    except ImportError as error:
        logger.warning("%s", error)


def render(result: Mapping[str, Any]) -> str:
    """One table, a row a level."""
    rows = []
    for name, curve in result["curves"].items():
        for point in curve:
            low, high = point["interval"]
            rows.append([name, f"{point['level']}", *score_cells(point["S1"], point["accuracy"]), f"{low:.1f} to {high:.1f}"])
    header = ["factor", "level", "S1", *CATEGORIES, "95 % interval of S1"]
    problems = "".join(f"\n* {one['factor']} at {one['level']} left out: {one['reason']}" for one in result["problems"])
    return f"# {result['run'] or 'Robustness'}\n\n{result['num_questions']} questions at every level.\n\n{table(header, rows)}\n{problems}"
