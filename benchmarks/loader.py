"""The speed at which questions become batches, compared with the released program, on full-size images in one run.

    python -m benchmarks.loader                     # draws its own data once (about a minute), then measures
    python -m benchmarks.loader --json --images 4

The released program prepares every question alone: it decodes image and depth at full size, decodes every mask at full size, and
resizes the masks by point samples. Ours is ``data.collate.Collator``. Both tokenise and collate with the same code. The backends take turns
image by image, so that other load on the machine affects both; the ratio is of CPU seconds of this process. All files are read once before
the clock starts.
"""

from __future__ import annotations

import argparse
import cProfile
import inspect
import os
import platform
import pstats
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from PIL import Image
from pycocotools import mask as coco

from benchmarks.output import make_parser, report
from smolrgpt.data.collate import Collator, encode_question
from smolrgpt.data.loading import group_by_image, load_sample_depth, load_upright
from smolrgpt.data.mixture import Group
from smolrgpt.data.sources.warehouse import read_warehouse
from smolrgpt.data.worlds import write_dataset
from smolrgpt.inference.checkpoints import bundled_checkpoint
from smolrgpt.model import SmolRGPTImageProcessor, SmolRGPTProcessor
from smolrgpt.model.image_processing_smolrgpt import check_depth
from smolrgpt.model.region_geometry import check_mask, measure_region
from smolrgpt.schema import DepthFile, Region, Sample

FRAME = (1920, 1080)  # width, height of the warehouse data set's images
SIZE, GRID = 256, 64  # the published model's input side and region grid
QUESTIONS_PER_IMAGE = 6  # of the warehouse's train split: 499,083 questions, 78,209 images

#: Step of the profile -> the function whose time, with that of the functions it calls, it is.
STEPS: dict[str, Callable[..., Any]] = {
    "image: decode": load_upright,
    "image: resize, normalise": SmolRGPTImageProcessor.encode_image,
    "depth: decode, to float": load_sample_depth,
    "depth: check": check_depth,
    "depth: resize, encode": SmolRGPTImageProcessor.encode_depth,
    "regions: run lengths to pixels": Region.to_patch,
    "regions: check": check_mask,
    "regions: coverage": SmolRGPTImageProcessor.resize_mask,
    "regions: geometry": measure_region,
    "questions: tokens": encode_question,
    "batch": SmolRGPTProcessor.collate,
}


def released(processor: SmolRGPTProcessor, group: Group) -> dict[str, Any]:
    """Prepare a batch as the released program does: nothing is shared between questions."""
    images = [_released_question(sample) for sample in group]
    texts = [encode_question(processor, sample, sample.answer) for sample in group]
    return dict(processor.collate(images, texts, range(len(group)), [range(len(sample.regions)) for sample in group]))


def _released_question(sample: Sample) -> dict[str, np.ndarray]:
    assert isinstance(sample.image, Path) and isinstance(sample.depth, DepthFile) and isinstance(sample.depth.source, Path)
    with Image.open(sample.image) as image:
        pixels = np.asarray(image.convert("RGB").resize((SIZE, SIZE), Image.Resampling.BILINEAR), dtype=np.float32)
    with Image.open(sample.depth.source) as image:
        depth = np.asarray(image.convert("RGB").resize((SIZE, SIZE), Image.Resampling.NEAREST), dtype=np.float32)
    masks = torch.from_numpy(np.stack([coco.decode(region.to_rle()) for region in sample.regions])).float()
    maps = torch.nn.functional.interpolate(masks[:, None], size=(GRID, GRID), mode="bilinear", align_corners=False)[:, 0]
    return {
        "pixel_values": (pixels.transpose(2, 0, 1) / 255 - 0.5) / 0.5,
        "depth_values": depth.transpose(2, 0, 1) / 255,
        "region_masks": maps.numpy(),
        "region_geometry": np.zeros((len(maps), 0), np.float32),
    }


def make_backends(processor: SmolRGPTProcessor) -> dict[str, Callable[[Group], Any]]:
    """Return, by name, the functions that make the batches of one image's questions."""
    collator = Collator(processor)
    return {
        "released": lambda group: released(processor, group),
        "ours, questions apart": lambda group: [collator([[sample]]) for sample in group],
        "ours, questions together": lambda group: collator([group]),
    }


def measure(processor: SmolRGPTProcessor, groups: Sequence[Group], repeats: int) -> dict[str, Any]:
    """Measure CPU and wall milliseconds a question with every backend, and the speed relative to the released program."""
    makers = make_backends(processor)
    cpu, wall = dict.fromkeys(makers, 0.0), dict.fromkeys(makers, 0.0)
    for group in groups[:1]:  # files, caches of weights, imports
        for make in makers.values():
            make(group)
    for _ in range(repeats):
        for group in groups:
            for name, make in makers.items():
                cpu_start, wall_start = time.process_time(), time.perf_counter()
                make(group)
                cpu[name] += time.process_time() - cpu_start
                wall[name] += time.perf_counter() - wall_start
    count = repeats * sum(map(len, groups))
    return {
        name: {
            "cpu_ms_per_question": 1000 * cpu[name] / count,
            "wall_ms_per_question": 1000 * wall[name] / count,
            "times_released": cpu["released"] / cpu[name],
        }
        for name in makers
    }


def profile(processor: SmolRGPTProcessor, groups: Sequence[Group]) -> dict[str, float]:
    """Measure each of our steps, questions together, in milliseconds an image; "other" is what no step covers."""
    collator, profiler = Collator(processor), cProfile.Profile(time.process_time)
    for group in groups:
        profiler.runcall(collator, [group])
    stats: Any = pstats.Stats(profiler)  # the type stubs lack its attributes
    spent = {(file, function): values[3] for (file, _, function), values in stats.stats.items()}
    codes = {label: inspect.unwrap(function).__code__ for label, function in STEPS.items()}
    steps = {label: 1000 * spent.get((code.co_filename, code.co_name), 0.0) / len(groups) for label, code in codes.items()}
    return {**steps, "other": 1000 * stats.total_tt / len(groups) - sum(steps.values())}


def run(data: Path, num_images: int, seed: int, repeats: int, frame: tuple[int, int] = FRAME) -> dict[str, Any]:
    """Draw a data set in ``data`` unless it exists, and measure both kinds of depth maps. frame: width and height of its images."""
    write_dataset(data, "train", num_images, seed, "known", frame, QUESTIONS_PER_IMAGE)
    image_processor = SmolRGPTImageProcessor(size=SIZE, grid_size=GRID, depth_encoding="minmax_log")
    nano = SmolRGPTProcessor.from_pretrained(bundled_checkpoint("nano"))
    processor = SmolRGPTProcessor(image_processor, nano.tokenizer, nano.region_tokens, region_fusion=nano.region_fusion)
    result: dict[str, Any] = {
        "machine": f"{platform.machine()}, 1 thread",
        "frame": list(frame),
        "seed": seed,
        "repeats": repeats,
        "depth": {},
    }
    for kind in ("relative", "metric"):  # 8-bit and 16-bit PNG
        samples = read_warehouse(data, "train", depth=kind)
        groups = list(group_by_image(samples).values())
        counts = [len(sample.regions) for sample in samples]
        result |= {
            "images": len(groups),
            "questions": len(samples),
            "regions_per_question": [min(counts), float(np.mean(counts)), max(counts)],
        }
        result["depth"][kind] = {"backends": measure(processor, groups, repeats), "profile_ms_per_image": profile(processor, groups)}
    return result


def render(result: dict[str, Any]) -> str:
    """Format the result as tables of plain text."""
    low, mean, high = result["regions_per_question"]
    width, height = result["frame"]
    regions = f"{low} to {high} regions (mean {mean:.1f})"
    lines = [f"{result['images']} images of {width}x{height}, {result['questions']} questions of {regions}"]
    for kind, found in result["depth"].items():
        lines += ["", f"{kind + ' depth':<34}{'CPU ms':>10}{'wall ms':>10}{'faster':>10}   a question"]
        lines += [
            f"  {name:<32}{times['cpu_ms_per_question']:>10.1f}{times['wall_ms_per_question']:>10.1f}{times['times_released']:>9.1f}x"
            for name, times in found["backends"].items()
        ]
        lines += [f"  {'time of ours, together, by step':<32}{'CPU ms':>10}   an image"]
        lines += [f"    {step:<30}{ms:>10.2f}" for step, ms in found["profile_ms_per_image"].items()]
    return "\n".join(lines)


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of the command line."""
    parser = make_parser("loader", __doc__)
    parser.add_argument("--data", type=Path, default=Path("runs/benchmarks/loader"), help="where the drawn data set lies")
    parser.add_argument("--images", type=int, default=8, help="number of images (default: 8)")
    parser.add_argument("--repeats", type=int, default=3, help="how often all questions are prepared (default: 3)")
    parser.add_argument("--seed", type=int, default=1, help="seed of the data set")
    return parser


def main() -> None:
    """Run the command line."""
    given = build_parser().parse_args()
    torch.set_num_threads(1)
    report(run(given.data, given.images, given.seed, given.repeats), given, render)


if __name__ == "__main__":
    main()
