"""How fast questions become batches: the released program's way against ours, on full-size pictures, in one run.

    python benchmarks/loader.py                     # draws its own data once (about a minute), then measures
    python benchmarks/loader.py --json --images 4

The released way prepares every question by itself: decode picture and depth at full size, decode every mask at full size, resize the
masks by point samples. Ours is ``data.collate.Collator``. Both tokenise and collate with the same code. The ways take turns image by image,
so that other load on the machine falls on both; the ratio is of CPU seconds of this process. Files are read once before the clock starts.
"""

from __future__ import annotations

import argparse
import cProfile
import json
import os
import platform
import pstats
import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from PIL import Image
from pycocotools import mask as coco

from smolrgpt.data.collate import Collator, encode_question
from smolrgpt.data.io import atomic_path
from smolrgpt.data.mixture import Group, group_by_image
from smolrgpt.data.sources.warehouse import read_warehouse
from smolrgpt.data.worlds import write_dataset
from smolrgpt.inference.predictor import bundled_checkpoint
from smolrgpt.model import SmolRGPTImageProcessor, SmolRGPTProcessor
from smolrgpt.schema import Sample

FRAME = (1920, 1080)  # width, height of the warehouse data set
SIZE, GRID = 256, 64  # the published model's input side and region grid
QUESTIONS_PER_IMAGE = 6  # of the warehouse's train split: 499,083 questions, 78,209 images

#: Row of the profile -> functions (file name, function) whose own and called time it is.
STEPS: dict[str, tuple[str, str]] = {
    "picture: decode": ("loading.py", "load_image"),
    "picture: resize, normalise": ("image_processing_smolrgpt.py", "encode_image"),
    "depth: decode, to float": ("loading.py", "load_sample_depth"),
    "depth: check": ("image_processing_smolrgpt.py", "check_depth"),
    "depth: resize, encode": ("image_processing_smolrgpt.py", "encode_depth"),
    "regions: run lengths to pixels": ("regions.py", "to_patch"),
    "regions: check": ("region_geometry.py", "check_mask"),
    "regions: coverage": ("image_processing_smolrgpt.py", "resize_mask"),
    "regions: geometry": ("region_geometry.py", "measure_region"),
    "questions: tokens": ("collate.py", "encode_question"),
    "batch": ("processing_smolrgpt.py", "collate"),
}


def released(processor: SmolRGPTProcessor, group: Group) -> dict[str, Any]:
    """A batch as the released program prepares it: nothing is shared between questions."""
    images = [_released_question(sample) for sample in group]
    texts = [encode_question(processor, sample, sample.answer) for sample in group]
    return dict(processor.collate(images, texts, range(len(group)), [range(len(sample.regions)) for sample in group]))


def _released_question(sample: Sample) -> dict[str, np.ndarray]:
    with Image.open(sample.image) as picture:
        pixels = np.asarray(picture.convert("RGB").resize((SIZE, SIZE), Image.Resampling.BILINEAR), dtype=np.float32)
    with Image.open(sample.depth) as picture:
        depth = np.asarray(picture.convert("RGB").resize((SIZE, SIZE), Image.Resampling.NEAREST), dtype=np.float32)
    masks = torch.from_numpy(np.stack([coco.decode(region.to_rle()) for region in sample.regions])).float()
    maps = torch.nn.functional.interpolate(masks[:, None], size=(GRID, GRID), mode="bilinear", align_corners=False)[:, 0]
    return {
        "pixel_values": (pixels.transpose(2, 0, 1) / 255 - 0.5) / 0.5,
        "depth_values": depth.transpose(2, 0, 1) / 255,
        "region_masks": maps.numpy(),
        "region_geometry": np.zeros((len(maps), 0), np.float32),
    }


def ways(processor: SmolRGPTProcessor) -> dict[str, Callable[[Group], Any]]:
    """Name -> function that makes the batches of one image's questions."""
    collator = Collator(processor)
    return {
        "released": lambda group: released(processor, group),
        "ours, questions apart": lambda group: [collator([[sample]]) for sample in group],
        "ours, questions together": lambda group: collator([group]),
    }


def measure(processor: SmolRGPTProcessor, groups: Sequence[Group], repeats: int) -> dict[str, Any]:
    """CPU and wall seconds a question, each way, and how many times faster than the released way."""
    makers = ways(processor)
    cpu, wall = dict.fromkeys(makers, 0.0), dict.fromkeys(makers, 0.0)
    for group in groups[:1]:  # files, caches of weights, imports
        for make in makers.values():
            make(group)
    for _ in range(repeats):
        for group in groups:
            for name, make in makers.items():
                began, clock = time.process_time(), time.perf_counter()
                make(group)
                cpu[name] += time.process_time() - began
                wall[name] += time.perf_counter() - clock
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
    """Step of ours, questions together -> milliseconds an image. What no step names is "other"."""
    collator, profiler = Collator(processor), cProfile.Profile(time.process_time)
    for group in groups:
        profiler.runcall(collator, [group])
    stats = pstats.Stats(profiler)
    spent = {(Path(file).name, function): values[3] for (file, _, function), values in stats.stats.items()}  # type: ignore[attr-defined]
    steps = {label: 1000 * spent.get(key, 0.0) / len(groups) for label, key in STEPS.items()}
    return {**steps, "other": 1000 * stats.total_tt / len(groups) - sum(steps.values())}  # type: ignore[attr-defined]


def run(data: Path, num_images: int, seed: int, repeats: int) -> dict[str, Any]:
    write_dataset(data, "train", num_images, seed, "known", FRAME, QUESTIONS_PER_IMAGE)
    image_processor = SmolRGPTImageProcessor(size=SIZE, grid_size=GRID, depth_encoding="minmax_log")
    nano = SmolRGPTProcessor.from_pretrained(bundled_checkpoint("nano"))
    processor = SmolRGPTProcessor(image_processor, nano.tokenizer, nano.region_tokens, region_fusion=nano.region_fusion)
    result: dict[str, Any] = {
        "machine": f"{platform.machine()}, 1 thread",
        "frame": list(FRAME),
        "seed": seed,
        "repeats": repeats,
        "depth": {},
    }
    for kind in ("relative", "metric"):  # 8-bit and 16-bit PNG
        samples = read_warehouse(data, "train", depth=kind)
        groups = group_by_image(samples, QUESTIONS_PER_IMAGE, random.Random(seed))
        counts = [len(sample.regions) for sample in samples]
        result |= {
            "images": len(groups),
            "questions": len(samples),
            "regions_per_question": [min(counts), float(np.mean(counts)), max(counts)],
        }
        result["depth"][kind] = {"ways": measure(processor, groups, repeats), "profile_ms_per_image": profile(processor, groups)}
    return result


def table(result: dict[str, Any]) -> str:
    low, mean, high = result["regions_per_question"]
    lines = [
        f"{result['images']} images of {FRAME[0]}x{FRAME[1]}, {result['questions']} questions of {low} to {high} regions (mean {mean:.1f})"
    ]
    for kind, found in result["depth"].items():
        lines += ["", f"{kind + ' depth':<34}{'CPU ms':>10}{'wall ms':>10}{'faster':>10}   a question"]
        lines += [
            f"  {name:<32}{way['cpu_ms_per_question']:>10.1f}{way['wall_ms_per_question']:>10.1f}{way['times_released']:>9.1f}x"
            for name, way in found["ways"].items()
        ]
        lines += [f"  {'where ours, together, spends it':<32}{'CPU ms':>10}   an image"]
        lines += [f"    {step:<30}{ms:>10.2f}" for step, ms in found["profile_ms_per_image"].items()]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("runs/benchmarks/loader"), help="where the drawn data set lies")
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "loader.json")
    parser.add_argument("--json", action="store_true", help="print the result as JSON instead of a table")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    result = run(arguments.data, arguments.images, arguments.seed, arguments.repeats)
    with atomic_path(arguments.out) as temporary:
        temporary.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result) if arguments.json else table(result))


if __name__ == "__main__":
    main()
