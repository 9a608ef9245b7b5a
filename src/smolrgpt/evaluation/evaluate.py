"""Predict, extract, score and report in one call: results.json for programs, report.md and report.html for readers."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from smolrgpt.data.io import write_text
from smolrgpt.data.sources.warehouse import DepthChoice
from smolrgpt.evaluation.benchmarks import BENCHMARKS, Benchmark
from smolrgpt.evaluation.comparison import compare, read_comparison
from smolrgpt.evaluation.extractors import Extractor, stored_answers, with_answer
from smolrgpt.evaluation.predict import Row, SamplePredictor, predict
from smolrgpt.evaluation.report.document import Report
from smolrgpt.evaluation.report.html import to_html
from smolrgpt.evaluation.report.markdown import to_markdown
from smolrgpt.evaluation.samples import draw_samples
from smolrgpt.schema import DataError, Sample

#: Packages whose versions can change an answer.
_PACKAGES = ("smolrgpt", "torch", "transformers", "numpy", "pillow")


@dataclass(frozen=True)
class EvaluationOptions:
    """Options of an evaluation: questions, depth, extractors, comparisons, and the names in its report."""

    benchmark: str | Benchmark = "warehouse"
    """A name of ``BENCHMARKS``, or a benchmark with options of its own."""
    split: str | None = None
    """The split of the data set; None: the benchmark's default."""
    depth: DepthChoice = "auto"
    """Which depth maps to use, as in ``read_warehouse``."""
    limit: int | None = None
    """Ask only this many questions, drawn with a fixed seed."""
    batch_size: int = 64
    """Questions answered together."""
    progress: bool = True
    """Whether to show a progress bar."""
    extractors: Mapping[str, Extractor] = field(default_factory=lambda: {"self": stored_answers})
    """Name -> extractor of ``evaluation.extractors``. The first one decides the score; the scores of all are in ``extractors``."""
    compare_with: Mapping[str, str | Path] = field(default_factory=dict)
    """Name -> a source of ``comparison.read_comparison``, whose score is shown next to this one."""
    name: str = ""
    """The name of the model."""
    command: str = ""
    """The command that repeats this evaluation."""


def evaluate(
    predictor: SamplePredictor,
    data: Sequence[Sample] | str | Path,
    out_dir: str | Path | None = None,
    options: EvaluationOptions | None = None,
) -> dict[str, Any]:
    """Predict, extract, score, and write ``predictions.json``, ``results.json``, ``report.md`` and ``report.html``.

    Args:
        predictor: What answers the questions.
        data: Samples, or the folder of a data set.
        out_dir: Where the files go; None: nothing is written.
        options: By default, the warehouse score on the split ``val``.

    Returns:
        The result of the benchmark with ``model``, ``data``, ``environment``, and, where asked for, ``extractors`` and ``compared``.

    Raises:
        DataError: Nothing can be scored.
    """
    options = options or EvaluationOptions()
    benchmark = BENCHMARKS[options.benchmark] if isinstance(options.benchmark, str) else options.benchmark
    samples, label = _load(data, benchmark, options)
    others = {name: read_comparison(source, samples) for name, source in options.compare_with.items()}  # before the work, not after it
    predictions_path = None if out_dir is None else Path(out_dir) / "predictions.json"
    run_id = f"{options.name}|{label}|{options.split}|{options.depth}|{len(samples)}"
    rows = predict(predictor, samples, predictions_path, options.batch_size, progress=options.progress, run_id=run_id)
    readings = {name: _extract(extractor, rows) for name, extractor in options.extractors.items()}
    predictions = next(iter(readings.values()))
    result = {"model": options.name, "data": label, **benchmark.score(samples, predictions)}
    if len(readings) > 1:
        result["extractors"] = {name: _extractor_result(benchmark, samples, found) for name, found in readings.items()}
    if others:
        result["compared"] = {name: compare(other, samples, predictions) for name, other in others.items()}
    result["environment"] = environment(predictor, options.command)
    if out_dir is not None:
        _write(result, benchmark.report(result, samples, predictions), Path(out_dir))
    return result


def _load(data: Sequence[Sample] | str | Path, benchmark: Benchmark, options: EvaluationOptions) -> tuple[list[Sample], str]:
    """Return the questions, and the name of the data in the report."""
    if isinstance(data, str | Path):
        samples, label = benchmark.load(Path(data), options.split, options.depth), str(data)
    else:
        samples, label = list(data), f"{len(data)} samples"
    samples = draw_samples(samples, options.limit)
    if not any(map(benchmark.can_score, samples)):
        message = f"{label}: no sample has an answer to compare with, so nothing can be scored; predict instead, or choose another split"
        raise DataError(message)
    return samples, label


def _extract(extractor: Extractor, rows: Sequence[Row]) -> list[Row]:
    """Return the rows with the normalised answers that an extractor reads."""
    return [with_answer(row, answer) for row, answer in zip(rows, extractor(rows), strict=True)]


def _extractor_result(benchmark: Benchmark, samples: Sequence[Sample], rows: Sequence[Row]) -> dict[str, Any]:
    result = benchmark.score(samples, rows)
    return {"S1": result.get("S1"), "accuracy": result["accuracy"], "num_unreadable": result["problem_counts"].get("unparsable", 0)}


def environment(predictor: SamplePredictor, command: str = "") -> dict[str, str]:
    """Return what a result depends on apart from model and data; nothing in it identifies a user or a machine."""
    model = getattr(predictor, "model", None)
    found = {
        "command": command,
        "device": f"{model.device}, {model.dtype}" if model is not None else "",
        "processor": f"{platform.machine()}, {os.cpu_count()} cores",
        "system": platform.platform(aliased=True, terse=True),
        "python": platform.python_version(),
        **{package: _version(package) for package in _PACKAGES},
    }
    return {name: value for name, value in found.items() if value}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _write(result: Mapping[str, Any], report: Report, folder: Path) -> None:
    texts = {
        "results.json": json.dumps(result, indent=1, ensure_ascii=False) + "\n",
        "report.md": to_markdown(report),
        "report.html": to_html(report),
    }
    for name, text in texts.items():
        write_text(folder / name, text)
