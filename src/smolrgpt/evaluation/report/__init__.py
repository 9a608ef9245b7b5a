"""Predict, extract, score and report in one call: results.json for programs, report.md and report.html for people."""

from __future__ import annotations

import json
import os
import platform
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from smolrgpt.data.io import atomic_path
from smolrgpt.evaluation.benchmarks import sizes, spatial_bench
from smolrgpt.evaluation.extractors import Extractor, by_itself
from smolrgpt.evaluation.predict import Row, SamplePredictor, predict
from smolrgpt.evaluation.replay import ReplayPredictor
from smolrgpt.evaluation.report.html import spatial_page, warehouse_page
from smolrgpt.evaluation.report.markdown import render_report, render_spatial
from smolrgpt.evaluation.rules import FACTS, RulesPredictor
from smolrgpt.evaluation.score import CATEGORIES, score
from smolrgpt.evaluation.summary import accuracies, difference, score_samples, summarise, truth_row
from smolrgpt.schema import DataError, Sample

#: Packages whose versions can change an answer.
_PACKAGES = ("smolrgpt", "torch", "transformers", "numpy", "pillow")


@dataclass(frozen=True)
class Benchmark:
    """How a data set is read, what of it can be scored, how, and how the result is written down."""

    load: Callable[[Path, str | None, str], list[Sample]]
    has_truth: Callable[[Sample], bool]
    summarise: Callable[[Sequence[Sample], Sequence[Row], bool], dict[str, Any]]
    render: Callable[[Mapping[str, Any]], str]
    page: Callable[[Mapping[str, Any], Sequence[Sample], Sequence[Row]], str]


def evaluate(
    predictor: SamplePredictor,
    data: Sequence[Sample] | str | Path,
    out_dir: str | Path | None = None,
    *,
    benchmark: str = "warehouse",
    split: str | None = None,
    depth: str = "auto",
    limit: int | None = None,
    batch_size: int = 64,
    progress: bool = True,
    resume: bool = True,
    strict: bool = False,
    name: str = "",
    extractors: Mapping[str, Extractor] | None = None,
    beside: Mapping[str, str | Path] | None = None,
    command: str = "",
) -> dict[str, Any]:
    """Predict, extract, score and, with ``out_dir``, write ``predictions.json``, ``results.json``, ``report.md`` and ``report.html``.

    data: samples, or the folder of a data set (``split``: by default its ``val``, else its only split; ``limit``: that many questions,
    drawn by a fixed seed; ``depth`` as in ``read_warehouse``). benchmark: "warehouse" (S1), "spatial" (SpatialRGPT-Bench) or
    "sizes" (``evaluation/sizes.py``).
    extractors: name -> back end of ``evaluation/extractors.py``; the first decides the score, all stand side by side in ``extractors``.
    beside: name -> what to show next to this: a predictions file about the same questions (which also gives the interval of the
    difference), "rules-truth" or "rules-visible" (on sets of ``smolrgpt synth``), or the results.json of another evaluation.
    command: what to run to repeat this.

    Returns ``summarise``'s or ``spatial_bench.summarise``'s result with ``model``, ``data``, ``environment``. Raises DataError when nothing
    can be scored.
    """
    rules = BENCHMARKS[benchmark]
    samples = list(data) if not isinstance(data, str | Path) else rules.load(Path(data), split, depth)
    label = str(data) if isinstance(data, str | Path) else f"{len(samples)} samples"
    samples = draw(samples, limit)
    if not any(map(rules.has_truth, samples)):
        raise DataError(
            f"{label}: no sample has an answer to compare with, so nothing can be scored; predict instead, or choose another split"
        )
    others = {other: _others_answers(source, samples) for other, source in (beside or {}).items()}  # before the work, not after it
    predictions_path = None if out_dir is None else Path(out_dir) / "predictions.json"
    run_id = f"{name}|{label}|{split}|{depth}|{len(samples)}"
    predictions = predict(predictor, samples, predictions_path, batch_size, progress, resume, run_id)
    readings = _read(extractors or {"self": by_itself}, predictions)
    predictions = next(iter(readings.values()))
    result = {
        "model": name,
        "data": label,
        **rules.summarise(samples, predictions, strict),
        **({"extractors": _compare(samples, readings)} if len(readings) > 1 else {}),
        **({"beside": {other: _beside(found, samples, predictions) for other, found in others.items()}} if others else {}),
        "environment": environment(predictor, command),
    }
    if out_dir is not None:
        write_report(result, out_dir, rules.render(result), rules.page(result, samples, predictions))
    return result


def _read(extractors: Mapping[str, Extractor], predictions: Sequence[Row]) -> dict[str, list[Row]]:
    """Name of the extractor -> the rows as it reads them."""
    return {
        name: [{**row, "normalized_answer": answer} for row, answer in zip(predictions, extract(predictions), strict=True)]
        for name, extract in extractors.items()
    }


def _compare(samples: Sequence[Sample], readings: Mapping[str, Sequence[Row]]) -> dict[str, dict[str, Any]]:
    truth = [truth_row(sample) for sample in samples if sample.normalized_answer is not None]
    results = {name: score(truth, rows) for name, rows in readings.items()}
    return {
        name: {"S1": one["S1"], "accuracy": one["accuracy"], "num_unreadable": one["problem_counts"].get("unparsable", 0)}
        for name, one in results.items()
    }


def _others_answers(source: str | Path, samples: Sequence[Sample]) -> Sequence[Row] | dict[str, Any]:
    """Another's rows about these samples, or {S1, accuracy} of a results.json. Raises DataError when it is neither."""
    if source in FACTS:
        return predict(RulesPredictor(str(source)), samples, progress=False)
    try:
        result = json.loads(Path(source).read_text(encoding="utf-8"))
        if isinstance(result, dict):
            return {key: result[key] for key in ("S1", "accuracy")}
    except (OSError, KeyError) as error:
        raise DataError(
            f"{source}: nothing to show ({error!r}); expected predictions, or the results.json of 'smolrgpt evaluate'"
        ) from None
    except ValueError:
        pass  # JSON lines
    return predict(ReplayPredictor(source), samples, progress=False)


def _beside(found: Sequence[Row] | dict[str, Any], samples: Sequence[Sample], predictions: Sequence[Row]) -> dict[str, Any]:
    """{S1, accuracy}, and where there are rows the interval of ``difference`` to this run's."""
    if isinstance(found, dict):
        return found
    mine, theirs = score_samples(samples, predictions), score_samples(samples, found)
    return {key: value for key, value in accuracies(theirs).items() if key != "num_questions"} | {"difference": difference(mine, theirs)}


def environment(predictor: Any, command: str = "") -> dict[str, str]:
    """What a result depends on besides model and data; nothing that names a person or a machine."""
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


def load_samples(root: Path, split: str | None = None, depth: Any = "auto") -> list[Sample]:
    """One split of a data set in the official layout: the named one, else ``val``, else the only one; DataError when that is unclear."""
    from smolrgpt.data.sources.warehouse import available_splits, read_warehouse

    if split is None:
        splits = [name for name in available_splits(root) if not name.endswith("_captions")]  # captions have no short answers
        split = "val" if "val" in splits else splits[0] if len(splits) == 1 else None
        if split is None:
            raise DataError(f"{root}: found the splits {', '.join(splits) or 'none'}; name the one to evaluate with --split")
    return read_warehouse(root, split, depth=depth)


def draw(samples: list[Sample], limit: int | None) -> list[Sample]:
    if limit is None or limit >= len(samples):
        return samples
    if limit < 1:
        raise ValueError(f"limit is {limit}; expected at least 1 question")
    # drawn, not every n-th: questions come in a fixed order of categories per image, which a stride can fall in step with
    return [samples[index] for index in sorted(random.Random(0).sample(range(len(samples)), limit))]


def _load_spatial(root: Path, split: str | None = None, depth: str = "auto") -> list[Sample]:
    from smolrgpt.data.sources import read_source

    options = {"depths": None} if depth == "none" else {}
    return read_source("spatial_bench", root, split or "val", **options)


def _load_part(part: str) -> Callable[..., list[Sample]]:
    """Questions of a synthetic split beside its own, whose pictures lie with the split itself."""

    def load(root: Path, split: str | None = None, depth: Any = "auto") -> list[Sample]:
        from smolrgpt.data.sources.warehouse import read_warehouse

        split = (split or "val").removesuffix(f"_{part}")
        return read_warehouse(root, f"{split}_{part}", depth=depth, folder=split)

    return load


def _is_official(sample: Sample) -> bool:
    return sample.category in CATEGORIES and sample.normalized_answer is not None


BENCHMARKS: dict[str, Benchmark] = {
    "warehouse": Benchmark(load_samples, lambda sample: sample.normalized_answer is not None, summarise, render_report, warehouse_page),
    "plain": Benchmark(_load_part("plain"), _is_official, summarise, render_report, warehouse_page),
    "sizes": Benchmark(_load_part("extra"), sizes.is_size, sizes.summarise, render_spatial, spatial_page),
    "spatial": Benchmark(_load_spatial, lambda sample: sample.answer is not None, spatial_bench.summarise, render_spatial, spatial_page),
}


def write_report(result: Mapping[str, Any], out_dir: str | Path, markdown: str, page: str) -> None:
    """Write ``results.json``, ``report.md`` and ``report.html`` into ``out_dir``."""
    folder = Path(out_dir)
    texts = {"results.json": json.dumps(result, indent=1, ensure_ascii=False) + "\n", "report.md": markdown, "report.html": page}
    for name, text in texts.items():
        with atomic_path(folder / name) as temporary:
            temporary.write_text(text, encoding="utf-8")
