"""How the cost of answers grows with one factor at a time, all others as in ``BASE``, for one model in this process.

All questions have one wording, so that only the varied factor changes: "Which of these is the leftmost: the pallet <mask>, ...?" about
regions of a synthetic scene. Answers have exactly the requested number of tokens, whatever these are. With --out FILE.json, FILE.png shows
the curves.

    python -m benchmarks.scaling nano --out build/scaling.json
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from tqdm import tqdm

from benchmarks.answering import IMAGE_SIZE, SCENE_SEED, load_model
from benchmarks.machine import about_machine, peak_bytes
from benchmarks.output import make_parser, report
from smolrgpt.data.worlds import Scene, generate_scene
from smolrgpt.evaluation.report.markdown import markdown_table
from smolrgpt.inference.predictor import Predictor
from smolrgpt.precision import best_dtype
from smolrgpt.schema import DepthMap, Region, Sample

MOST_REGIONS = 13  # of a question of the official set that is not an outlier


@dataclass(frozen=True)
class Load:
    """The work of one call.

    questions_per_image: about each of the images. regions: in a question. words: before a question. batch_size: questions answered at
    once. answer_tokens: tokens of an answer.
    """

    images: int = 4
    questions_per_image: int = 4
    regions: int = 4
    words: int = 0
    batch_size: int = 32
    answer_tokens: int = 5


BASE = Load()
#: Factor -> its values, and its label in a figure.
FACTORS: dict[str, tuple[tuple[int, ...], str]] = {
    "batch_size": ((1, 2, 4, 8, 16, 32), "questions answered at once"),
    "images": ((1, 2, 4, 8, 16), "images, four questions each"),
    "questions_per_image": ((1, 2, 4, 8, 16, 32), "questions about each of four images"),
    "regions": ((1, 2, 4, 8, MOST_REGIONS), "regions in a question"),
    "words": ((0, 10, 25, 50, 100), "words before a question"),
    "answer_tokens": ((1, 2, 5, 10, 20, 40), "tokens of an answer"),
}


def make_samples(load: Load, scenes: Sequence[Scene]) -> list[Sample]:
    """Make ``load.images`` times ``load.questions_per_image`` different questions."""
    found = []
    for number, scene in enumerate(scenes[: load.images]):
        regions = [item.region for item in scene.regions] * MOST_REGIONS
        for turn in range(load.questions_per_image):
            chosen: list[Region] = regions[turn : turn + load.regions]
            text = "please " * load.words + "Which of these is the leftmost: " + ", ".join(["the pallet <mask>"] * load.regions) + "?"
            found.append(
                Sample(
                    id=f"{number}/{turn}",
                    image=Image.fromarray(scene.rgb),
                    question=text,
                    regions=chosen,
                    depth=DepthMap(scene.depth_m, "metric"),
                    camera=scene.camera,
                    category="mcq",
                    image_key=str(number),
                )
            )
    return found


def scaling(
    model: str, repeats: int = 2, factors: Sequence[str] = tuple(FACTORS), image_size: tuple[int, int] = IMAGE_SIZE, threads: int = 0
) -> dict[str, Any]:
    """Measure seconds of a call at every value of every factor: the best of ``repeats``. Raises ValueError for an unknown factor."""
    unknown = [name for name in factors if name not in FACTORS]
    if unknown:
        raise ValueError(f"there is no factor {unknown[0]!r}; expected some of {', '.join(FACTORS)}")
    if threads:
        torch.set_num_threads(threads)
    most = max(*FACTORS["images"][0], BASE.images)
    scenes = [generate_scene((SCENE_SEED, number), size=image_size) for number in range(most)]
    predictor = _unconstrained(model)
    curves: dict[str, list[dict[str, Any]]] = {name: [] for name in factors}
    points = [(factor, value) for factor in factors for value in FACTORS[factor][0]]
    for name, value in tqdm(points, unit="value", disable=None):
        load = replace(BASE, **{name: value})
        samples, seconds = make_samples(load, scenes), []
        predictor.max_new_tokens = load.answer_tokens
        for _ in range(repeats + 1):  # the first allocates buffers and is not timed
            started = time.perf_counter()
            predictor.predict_samples(samples, load.batch_size)
            seconds.append(time.perf_counter() - started)
        curves[name].append({"value": value, "questions": len(samples), "seconds": min(seconds[1:])})
    return {"model": model, "base": asdict(BASE), "about": about_machine(), "curves": curves, "peak_bytes": peak_bytes()}


def _unconstrained(model: str) -> Predictor:
    """Build a predictor whose answers have exactly ``max_new_tokens`` tokens: no short answer and no end token."""
    if model == "paper":
        loaded, processor = load_model(model, best_dtype("cpu"))
    else:
        predictor = Predictor.from_pretrained(model)
        loaded, processor = predictor.model, predictor.processor
    processor.answer_field = False
    found = Predictor(loaded, processor)
    found.generator.end_id = loaded.config.image_token_id  # a token that no answer can contain
    return found


def render(result: Mapping[str, Any]) -> str:
    """Format the result as Markdown, one table for each factor."""
    parts = [f"# {result['model']}: how the cost grows"]
    for name, curve in result["curves"].items():
        header = [FACTORS[name][1], *(str(point["value"]) for point in curve)]
        seconds = ["seconds of a call", *(f"{point['seconds']:.3f}" for point in curve)]
        rate = ["questions a second", *(f"{point['questions'] / point['seconds']:.3g}" for point in curve)]
        parts.append(markdown_table(header, [seconds, rate]))
    return "\n\n".join(parts)


def draw(result: Mapping[str, Any], path: Path) -> Path:
    """Plot questions per second against every factor, on log axes (symlog where a value is 0). Raises ImportError without matplotlib."""
    from smolrgpt.viz.plots import panel_grid, save_figure

    figure, panels = panel_grid(len(result["curves"]), 3, (3.6, 2.8))
    rates = [point["questions"] / point["seconds"] for curve in result["curves"].values() for point in curve]
    round_rates = [digit * 10**power for power in range(-3, 5) for digit in (1, 2, 5)]
    ticks = [rate for rate in round_rates if min(rates) / 2 < rate < max(rates) * 2]
    for panel, (name, curve) in zip(panels, result["curves"].items(), strict=True):
        values = [point["value"] for point in curve]
        panel.plot(values, [point["questions"] / point["seconds"] for point in curve], color="black", marker="o", markersize=3)
        panel.set_xscale("symlog" if values[0] == 0 else "log", **({"linthresh": values[1]} if values[0] == 0 else {}))
        panel.set_yscale("log")
        panel.set_yticks(ticks, [f"{tick:g}" for tick in ticks], fontsize=7)
        panel.set_xticks(values, [str(value) for value in values], fontsize=7)
        panel.minorticks_off()
        panel.set_xlabel(FACTORS[name][1], fontsize=8)
        panel.set_ylabel("questions per second", fontsize=8)
        panel.grid(alpha=0.25)
    return save_figure(figure, path)


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of the command line."""
    parser = make_parser("scaling", __doc__)
    parser.add_argument("model", nargs="?", default="paper", help="'paper', 'nano', a folder or a hub id (default: paper)")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads; 0: all cores")
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; ``arguments`` defaults to ``sys.argv``."""
    given = build_parser().parse_args(arguments)
    result = scaling(given.model, threads=given.threads)
    if given.out is not None:
        given.out.parent.mkdir(parents=True, exist_ok=True)
        draw(result, given.out.with_suffix(".png"))
    report(result, given, render)


if __name__ == "__main__":
    main()
