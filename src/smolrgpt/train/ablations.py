"""Ablations: variants of the design, trained alike from several seeds, scored alike, in a table with intervals and a plot.

Every run starts from the vision tower and the language model of the bundled checkpoint, as the published model starts from pretrained ones,
and initialises everything between them anew, so that a few minutes of one core show a difference. Limit: that language model has already
learned to write answers, and learned it with the bundled design (names that carry features).
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import shutil
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from smolrgpt.data.io import write_text
from smolrgpt.data.sources.warehouse import read_warehouse
from smolrgpt.data.worlds import write_dataset
from smolrgpt.evaluation.predict import predict
from smolrgpt.evaluation.report.markdown import markdown_table
from smolrgpt.evaluation.score import CATEGORIES
from smolrgpt.evaluation.summary import summarise
from smolrgpt.inference.checkpoints import bundled_checkpoint
from smolrgpt.inference.predictor import Predictor
from smolrgpt.model import SmolRGPTProcessor
from smolrgpt.model.processing_smolrgpt import REGION_PLACEHOLDER
from smolrgpt.precision import best_dtype
from smolrgpt.schema import Sample
from smolrgpt.train.build import model_class
from smolrgpt.train.config import ModelSpec, Rates, Run, Stage, SyntheticData, apply_overrides
from smolrgpt.train.recipes import ALL, LANGUAGE, VISION, nano
from smolrgpt.train.trainer import run as train_run

logger = logging.getLogger(__name__)

#: Parameters that every run loads from the bundled checkpoint.
BACKBONES = r"vision_tower\.|language_model\.|lm_head\."
#: Two-sided 95 % quantiles of Student's t for 2, 3, ... seeds.
STUDENT_T = {2: 12.71, 3: 4.30, 4: 3.18, 5: 2.78, 6: 2.57, 7: 2.45, 8: 2.36, 9: 2.31, 10: 2.26}
#: Images that every model is scored on, and their seed, which no training set uses.
TEST_SCENES, TEST_SEED = 40, 3_000_000
#: A variant: settings as for ``train --set``, or a function that changes the run.
Variant = Sequence[str] | Callable[[Run], Run]


@dataclass(frozen=True)
class Ablation:
    """Variants that answer one question about the design."""

    question: str
    """The question."""
    variants: Mapping[str, Variant]
    """Name -> how the variant differs from the base run."""
    base: Sequence[str] = ()
    """Settings that all variants share."""
    boxed: frozenset[str] = frozenset()
    """Variants whose questions contain the boxes of their regions (``write_boxes``)."""


#: No features and estimates of pairs of regions, which need names that carry features.
_NO_PAIRS = ("model.config.pair_geometry=false", "model.config.estimates_distance=false", "model.config.estimates_sizes=false")


def _class(name: str) -> str:
    return f"model.model_class=smolrgpt.train.ablation_models:{name}"


def _tokens(*kinds: str) -> str:
    return f"model.config.region_tokens={json.dumps(kinds)}"


def _without(*names: str) -> Callable[[Run], Run]:
    """Return the change that leaves stages out; the last stage takes over their steps, so that every variant shows as many questions."""

    def change(run: Run) -> Run:
        *stages, last = (stage for stage in run.stages if stage.name not in names)
        remaining = sum(stage.max_steps or 0 for stage in run.stages) - sum(stage.max_steps or 0 for stage in stages)
        return dataclasses.replace(run, stages=(*stages, dataclasses.replace(last, max_steps=remaining)))

    return change


def _all_at_once(run: Run) -> Run:
    """Return the run with the questions of all stages in the last stage."""
    last = run.stages[-1]
    mixture = {name: times for stage in run.stages for name, times in stage.mixture.items()}
    return _without("align", "warm-up")(dataclasses.replace(run, stages=(*run.stages[:-1], dataclasses.replace(last, mixture=mixture))))


def _resolution(image_size: int, pixel_shuffle_factor: int) -> Callable[[Run], Run]:
    """Return the change to images of another side in pixels; the tower's position embeddings are resampled."""

    def change(run: Run) -> Run:
        design = nano().model
        config = {name: value for name, value in design.config.items() if name not in ("vision_config", "text_config")}
        config |= {"vision_config": {"image_size": image_size}, "pixel_shuffle_factor": pixel_shuffle_factor}
        return dataclasses.replace(run, model=ModelSpec(config=config, processor=design.processor, backbones=("nano", "nano")))

    return change


#: The model reads the names of regions, but no features of them.
_NO_FEATURES = (
    _tokens(),
    'model.config.region_fusion="tokens"',
    "model.config.estimates_sizes=false",
    "model.config.predicts_geometry=false",
    "model.processor.region_labels=true",
)
#: The features of a region are tokens of their own after its name.
_AS_TOKENS = ('model.config.region_fusion="tokens"', "model.config.estimates_sizes=false", "model.processor.region_labels=true")


ABLATIONS: dict[str, Ablation] = {
    "depth": Ablation(
        "What does depth add, where, and does it need connectors and refiners of its own (the paper's mechanism 1)?",
        {
            "no depth anywhere": ['data.depth="none"', _tokens("rgb", "geo")],
            "in the geometry only": [_tokens("rgb", "geo")],
            "as a token too, connector and refiner shared": [_class("SharedDepth")],
            "own connector, refiner shared": [_class("SharedRefiner")],
            "connector shared, own refiner": [_class("SharedConnector")],
            "own connector and refiner (published)": [],
        },
    ),
    "refiner": Ablation(
        "What do refiners add to pooling from the connector's grid, and how should masks be reduced to it?",
        {
            "tower's grid, area masks": [_class("PatchPooling"), "model.config.refiner_stages=0", 'model.processor.mask_resize="area"'],
            "no refiner, area masks": ["model.config.refiner_stages=0", 'model.processor.mask_resize="area"'],
            "refiners, bilinear masks (published)": ['model.processor.mask_resize="bilinear"'],
            "refiners, area masks": ['model.processor.mask_resize="area"'],
        },
    ),
    "regions": Ablation(
        "Which features of a region does the model need: pooled ones, its geometry, or both; and those of pairs?",
        {
            "rgb and depth (published)": [_tokens("rgb", "depth"), *_NO_PAIRS],
            "geometry alone": [_tokens("geo"), "model.config.predicts_geometry=false", *_NO_PAIRS],
            "rgb and geometry": [_tokens("rgb", "geo"), *_NO_PAIRS],
            "rgb, depth and geometry": _NO_PAIRS,
            "the same, and pairs": ["model.config.estimates_distance=false"],
            "the same, and the distance head (bundled)": [],
        },
    ),
    "text": Ablation(
        "Must regions reach the model as features (the paper's mechanism 3), or is it enough to write their boxes in the question?",
        {
            "names alone": _NO_FEATURES,
            "boxes in the question": _NO_FEATURES,
            "region tokens (published)": _AS_TOKENS,
            "region tokens and boxes": _AS_TOKENS,
            "names that carry features": [],
            "names that carry features, and boxes": [],
        },
        _NO_PAIRS,
        frozenset({"boxes in the question", "region tokens and boxes", "names that carry features, and boxes"}),
    ),
    "resolution": Ablation(
        "What do the image's side and the patches per image token cost and gain? The tower is frozen and has learned at 256 pixels.",
        {
            f"{side} pixels, {side // 16 // factor}x{side // 16 // factor} tokens": _resolution(side, factor)
            for side, factor in ((128, 4), (128, 2), (256, 8), (256, 4), (256, 2), (384, 4))
        },
    ),
    "curriculum": Ablation(
        "Are the stages needed (the paper's mechanism 2)? Every variant shows as many questions.",
        {
            "all three stages": [],
            "no alignment": _without("align"),
            "no warm-up": _without("warm-up"),
            "fine-tuning alone": _without("align", "warm-up"),
            "all at once": _all_at_once,
        },
    ),
}


def base_run(out: Path, steps: int, seed: int) -> Run:
    """Return the run that the variants change.

    Three stages share ``steps``: 5 % align the modules between the frozen backbones on captions, 15 % warm up, 80 % fine-tune; in the last
    two the language model learns, too.
    """
    shared = nano(quick=True, seed=seed)

    def stage(name: str, rates: Rates, mixture: dict[str, float], share: float) -> Stage:
        return dataclasses.replace(
            shared.stages[0], name=name, rates=rates, mixture=mixture, max_steps=max(1, round(share * steps)), save_every=10**6
        )

    frozen, learning = ((VISION, None), (LANGUAGE, None), (ALL, 8e-4)), ((VISION, None), (LANGUAGE, 2e-4), (ALL, 8e-4))
    return dataclasses.replace(
        shared,
        name="ablation",
        out=out,
        model=ModelSpec(path=bundled_checkpoint("nano"), keep_pattern=BACKBONES),
        stages=(
            stage("align", frozen, {"captions": 1.0}, 0.05),
            stage("warm-up", learning, {"warmup": 1.0}, 0.15),
            stage("fine-tune", learning, {"train": 1.0}, 0.8),
        ),
        monitor_health=False,
        cache_gb=4.0,
    )


def variant_run(ablation: Ablation, name: str, out: Path, steps: int, seed: int) -> Run:
    """Return the run of one variant."""
    run = apply_overrides(base_run(out, steps, seed), list(ablation.base))
    change = ablation.variants[name]
    return change(run) if callable(change) else apply_overrides(run, list(change))


def write_boxes(samples: Sequence[Sample]) -> Sequence[Sample]:
    """Return the samples with each region's box after its ``<mask>`` in the question, in whole percent: " (x0,y0,x1,y1)"."""
    return [dataclasses.replace(sample, question=_with_boxes(sample)) for sample in samples]


def _with_boxes(sample: Sample) -> str:
    first, *pieces = sample.question.split(REGION_PLACEHOLDER)
    boxes = (_box_text(region.to_patch()) for region in sample.regions)
    return first + "".join(f"{REGION_PLACEHOLDER}{box}{piece}" for box, piece in zip(boxes, pieces, strict=True))


def _box_text(mask: tuple[np.ndarray, int, int, int, int]) -> str:
    pixels, top, left, height, width = mask
    rows, columns = pixels.shape
    edges = (left / width, top / height, (left + columns) / width, (top + rows) / height)
    return f" ({','.join(str(round(100 * edge)) for edge in edges)})"


# ------------------------------------------------------------------------------------------------------------------------- running
def ablate(name: str, out: Path, *, steps: int, seeds: int, only: Sequence[str] = (), num_questions: int = 480) -> dict[str, Any]:
    """Train and score every variant from every seed, then write results.json, report.md and report.png to ``out``.

    Each score is a file in ``out/runs``, so that an interrupted ablation continues where it stopped.

    Args:
        name: Of the ablation, in ``ABLATIONS``.
        out: Folder of the results.
        steps: Optimisation steps of every run.
        seeds: Runs of every variant, with seeds from 0.
        only: Names of the variants to train; all when empty.
        num_questions: Questions that every model is scored on.

    Returns:
        The content of results.json. Raises ValueError for an unknown name.
    """
    ablation = _lookup(name, ABLATIONS)
    for variant in only:
        _lookup(variant, ablation.variants)
    variants = [variant for variant in ablation.variants if not only or variant in only]
    todo = [(variant, seed) for seed in range(seeds) for variant in variants]  # seed by seed: an early table has all variants
    started, done = time.monotonic(), 0
    for index, (variant, seed) in enumerate(todo):
        record = out / "runs" / f"{_slug(variant)}-{seed}.json"
        if record.exists() and json.loads(record.read_text())["settings"] == _settings(steps, num_questions):
            continue
        left = f", about {(time.monotonic() - started) / 60 / done * (len(todo) - index):.0f} min left" if done else ""
        logger.info("%s, seed %d (%d of %d)%s", variant, seed, index + 1, len(todo), left)
        write_text(record, json.dumps(_train_and_score(ablation, variant, out, steps, seed, num_questions), indent=1) + "\n")
        done += 1
        write_tables(name, out, steps, num_questions)
    return write_tables(name, out, steps, num_questions)


def _lookup(name: str, options: Mapping[str, Any]) -> Any:
    if name not in options:
        raise ValueError(f"{name!r} is unknown; expected one of: {', '.join(options)}")
    return options[name]


def _settings(steps: int, num_questions: int) -> dict[str, Any]:
    """Return the settings that the runs of one table share, with their initial checkpoint: runs from different ones are not averaged."""
    weights = (bundled_checkpoint("nano") / "model.safetensors").read_bytes()
    return {"steps": steps, "num_questions": num_questions, "base": hashlib.sha256(weights).hexdigest()[:12]}


def _train_and_score(ablation: Ablation, variant: str, out: Path, steps: int, seed: int, num_questions: int) -> dict[str, Any]:
    """Train a variant from a seed and score it on the test scenes; the model itself is deleted."""
    folder = out / "models" / f"{_slug(variant)}-{seed}"
    run = variant_run(ablation, variant, folder, steps, seed)
    started = time.perf_counter()
    transform = write_boxes if variant in ablation.boxed else None
    final = train_run(run, transform=transform)
    minutes = (time.perf_counter() - started) / 60
    assert isinstance(run.data, SyntheticData)
    each = -(-num_questions // TEST_SCENES)
    write_dataset(run.data.root, f"test-{each}", TEST_SCENES, TEST_SEED, questions_per_scene=each)
    samples: Sequence[Sample] = read_warehouse(run.data.root, f"test-{each}", depth=run.data.depth)
    samples = samples if transform is None else transform(samples)
    model = model_class(run.model).from_pretrained(final, dtype=best_dtype("cpu"), attn_implementation="eager")
    predictor = Predictor(model.eval(), SmolRGPTProcessor.from_pretrained(final))
    result = summarise(samples, predict(predictor, samples, progress=False))
    shutil.rmtree(folder)
    measures = ("S1", "accuracy", "by_region_size", "by_num_regions", "num_questions")
    parameters = sum(parameter.numel() for parameter in predictor.model.parameters())
    return {
        "variant": variant,
        "seed": seed,
        "settings": _settings(steps, num_questions),
        "minutes": round(minutes, 2),
        "num_parameters": parameters,
        "seconds_per_question": result["seconds_per_question"],
        **{name: result[name] for name in measures},
    }


def _slug(name: str) -> str:
    return "".join(letter if letter.isalnum() else "-" for letter in name).strip("-")


# ------------------------------------------------------------------------------------------------------------------------- tables
def _records(name: str, out: Path, settings: Mapping[str, Any]) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Yield (variant, the scores of its runs) of every variant that has finished runs with these settings."""
    found = [json.loads(path.read_text()) for path in sorted((out / "runs").glob("*.json"))]
    for variant in ABLATIONS[name].variants:
        records = [record for record in found if record["variant"] == variant and record["settings"] == settings]
        if records:
            yield variant, records


def mean_interval(values: Sequence[float]) -> tuple[float, float | None]:
    """Return the mean over seeds, and half the width of its 95 % interval (Student's t; None for a single seed)."""
    mean = statistics.fmean(values)
    if len(values) < 2:
        return mean, None
    return mean, STUDENT_T.get(len(values), 2.0) * statistics.stdev(values) / len(values) ** 0.5


def write_tables(name: str, out: Path, steps: int, num_questions: int) -> dict[str, Any]:
    """Write results.json, report.md and report.png from the finished runs; returns the content of results.json."""
    from smolrgpt.viz.plots import plot_if_possible, plot_intervals

    settings = _settings(steps, num_questions)
    rows = [_row(variant, records) for variant, records in _records(name, out, settings)]
    result = {"ablation": name, "question": ABLATIONS[name].question, **settings, "rows": rows}
    write_text(out / "results.json", json.dumps(result, indent=1) + "\n")
    write_text(out / "report.md", format_ablation(result) + "\n")
    intervals = {row["variant"]: (row["S1"]["mean"], row["S1"]["half_interval"]) for row in rows}
    plot_if_possible(plot_intervals, intervals, "S1", out / "report.png")
    return result


def _row(variant: str, records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the means of a variant over its runs, one per seed."""
    scores = {"S1": [record["S1"] for record in records]}
    scores |= {category: [record["accuracy"].get(category, 0.0) for record in records] for category in CATEGORIES}
    intervals = {name: mean_interval(values) for name, values in scores.items()}
    sizes = records[0]["by_region_size"]
    return {
        "variant": variant,
        "seeds": len(records),
        "minutes": statistics.fmean(record["minutes"] for record in records),
        "num_parameters": records[0]["num_parameters"],
        "seconds_per_question": statistics.fmean(record["seconds_per_question"] for record in records),
        "by_region_size": {size: statistics.fmean(record["by_region_size"][size]["S1"] for record in records) for size in sizes},
        **{name: {"mean": mean, "half_interval": half} for name, (mean, half) in intervals.items()},
    }


def format_ablation(result: Mapping[str, Any]) -> str:
    """Return the report in Markdown, with one row per variant."""
    header = ["", "S1", *CATEGORIES, "seeds", "minutes", "ms a question", "parameters"]
    rows = [
        [
            row["variant"],
            *(_cell(row[measure]) for measure in ("S1", *CATEGORIES)),
            str(row["seeds"]),
            f"{row['minutes']:.1f}",
            f"{1e3 * row['seconds_per_question']:.0f}",
            f"{row['num_parameters'] / 1e6:.2f} M",
        ]
        for row in result["rows"]
    ]
    note = (
        f"{result['steps']} steps from the bundled backbones, {result['num_questions']} questions of new scenes; "
        "mean over seeds, with half of its 95 % interval (Student's t)."
    )
    return f"# {result['question']}\n\n{markdown_table(header, rows)}\n\n{note}\n"


def _cell(measure: Mapping[str, float | None]) -> str:
    half = measure["half_interval"]
    return f"{measure['mean']:.1f}" + ("" if half is None else f" ± {half:.1f}")
