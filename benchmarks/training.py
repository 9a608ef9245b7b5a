"""Speed and memory of training a model on this machine, compared with the released program.

Steps of the third stage (all but the vision tower is trained), each on new questions about new images, by default with random weights of
the published shapes. Every backend runs in a process of its own, so that its peak memory is its own. A step is everything from the images
in memory to the optimiser's step; the first one, which allocates buffers, is not timed.

    python -m benchmarks.training                        # the published shapes: 17 GB of memory, five minutes

Backends:
    released, float32   as the released program: one question at a time, the vision tower run for it on RGB and depth, the refined map
                        copied for every region, the text padded to 512 tokens, logits at every position (arXiv 2509.15490, its code)
    released            the same under bf16 autocast, as it was published, where the hardware multiplies bf16
    ours                the trainer: an image's questions together, its features computed and pooled once, rows without padding, logits only
                        where a token is a target, no graph for the frozen tower, the faster attention; bf16 as above
    ours, in parts      the same with gradient checkpointing: less memory for more time
    ours, from disk     as ours with a feature_cache, from the second epoch on: the tower's features are read, not computed
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from benchmarks.answering import IMAGE_SIZE, draw_questions, load_model
from benchmarks.machine import about_machine, fresh_process, peak_bytes
from benchmarks.output import make_parser, report
from smolrgpt.data.collate import Collator, encode_question, prepare_image
from smolrgpt.data.frame import Frame
from smolrgpt.data.loading import group_by_image
from smolrgpt.evaluation.report.markdown import markdown_table
from smolrgpt.model import RegionFeatures
from smolrgpt.precision import best_dtype
from smolrgpt.schema import Sample
from smolrgpt.train.config import LossWeights
from smolrgpt.train.feature_cache import FeatureCache
from smolrgpt.train.host_memory import keep_freed_memory
from smolrgpt.train.losses import total_loss
from smolrgpt.train.optim import build_optimizer
from smolrgpt.train.recipes import paper

#: Tokens that the released program pads every text of its training to.
RELEASED_LENGTH = 512


@dataclass(frozen=True)
class Setting:
    """Settings. model: "paper", or a checkpoint; steps: including the first, which is not timed; threads: 0: torch's choice."""

    model: str = "paper"
    images_per_step: int = 1
    questions_per_image: int = 4
    steps: int = 4
    threads: int = 0
    image_size: tuple[int, int] = IMAGE_SIZE


@dataclass(frozen=True)
class Backend:
    """A variant of the training step.

    loss: function of a model, a processor and the samples of a step; with ``from_disk`` also of a ``FeatureCache``. bf16: autocast, where
    the hardware multiplies bf16.
    """

    loss: Callable[..., torch.Tensor]
    bf16: bool
    attention: str
    checkpointing: bool = False
    from_disk: bool = False


def released_loss(model: Any, processor: Any, samples: Sequence[Sample]) -> torch.Tensor:
    """Compute the samples' language loss as the released program does; equal to ``our_loss`` where masks are bilinear."""
    images = [prepare_image(processor, Frame.from_sample(s), list(s.regions)) for s in samples]
    pixels, depths = (torch.from_numpy(np.stack([image[name] for image in images])) for name in ("pixel_values", "depth_values"))
    features = model.encode_images(pixels, depths)
    counts = [len(sample.regions) for sample in samples]
    image_of = torch.arange(len(samples)).repeat_interleave(torch.tensor(counts))
    full = [torch.from_numpy(region.to_mask()).float() for sample in samples for region in sample.regions]
    grid = model.config.grid_size
    weights = torch.cat([functional.interpolate(mask[None, None], grid, mode="bilinear").flatten(1) for mask in full])  # (N, G*G)
    embeds = RegionFeatures()
    for kind, maps in features.region_maps.items():
        copies = maps[image_of]  # (N, G*G, D)
        embeds.tokens[kind] = (copies * weights[..., None]).sum(1) / (weights.sum(1, keepdim=True) + 1e-8)
    texts = processor.collate([], [encode_question(processor, sample, sample.answer) for sample in samples], [], [])
    short = max(0, RELEASED_LENGTH - texts["input_ids"].shape[1])
    ids, mask, labels = (
        functional.pad(texts[name], (short, 0), value=filler)
        for name, filler in (("input_ids", processor.tokenizer.pad_token_id or 0), ("attention_mask", 0), ("labels", -100))
    )
    starts = np.cumsum([0, *counts[:-1]])
    rows = [torch.arange(start, start + count) for start, count in zip(starts, counts, strict=True)]
    index = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=-1)
    inner = model.model
    token_embeds = inner.merge(ids, features.image_embeds, embeds, torch.arange(len(samples)), index)
    logits = model.lm_head(inner.language_model(inputs_embeds=token_embeds, attention_mask=mask, use_cache=False).last_hidden_state)
    return functional.cross_entropy(logits[:, :-1].flatten(0, 1).float(), labels[:, 1:].flatten())


def our_loss(model: Any, processor: Any, samples: Sequence[Sample], features: FeatureCache | None = None) -> torch.Tensor:
    """Compute the loss as the trainer does."""
    batch = _batch(processor, samples)
    outputs = model(**(batch if features is None else features(batch)))
    return total_loss(outputs, batch["labels"], LossWeights())


def _batch(processor: Any, samples: Sequence[Sample]) -> dict[str, Any]:
    return Collator(processor)(list(group_by_image(samples).values()))


BACKENDS: dict[str, Backend] = {
    "released, float32": Backend(released_loss, bf16=False, attention="sdpa"),
    "released": Backend(released_loss, bf16=True, attention="sdpa"),
    "ours": Backend(our_loss, bf16=True, attention="eager"),
    "ours, in parts": Backend(our_loss, bf16=True, attention="eager", checkpointing=True),
    "ours, from disk": Backend(our_loss, bf16=True, attention="eager", from_disk=True),
}


def train_steps(model: Any, processor: Any, steps: Sequence[Sequence[Sample]], backend: Backend) -> tuple[list[float], list[float]]:
    """Take one optimisation step on the samples of each step; returns their losses and seconds."""
    stage = paper(stage="fine-tune").stages[0]
    if backend.checkpointing:
        model.gradient_checkpointing_enable()
    model.train()
    optimizer = build_optimizer(model, stage.rates, stage.weight_decay)
    dtype = torch.bfloat16 if backend.bf16 and best_dtype("cpu") == torch.bfloat16 else torch.float32
    autocast = torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16)
    losses, seconds = [], []
    with tempfile.TemporaryDirectory() as folder:
        cached = {"features": FeatureCache(folder, model, dtype)} if backend.from_disk else {}
        for samples in steps if cached else ():  # as an earlier epoch does
            with autocast:
                cached["features"](_batch(processor, samples))
        for samples in steps:
            started = time.perf_counter()
            with autocast:
                loss = backend.loss(model, processor, samples, **cached)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), stage.gradient_clip)
            optimizer.step()
            optimizer.zero_grad()
            losses.append(float(loss.detach()))
            seconds.append(time.perf_counter() - started)
    return losses, seconds


def draw_steps(setting: Setting) -> list[list[Sample]]:
    """Draw the samples of every step; no image occurs in two steps."""
    count = setting.images_per_step * setting.steps
    asked = draw_questions(count, count * setting.questions_per_image, setting.image_size)
    keys = list(dict.fromkeys(sample.image_key for sample in asked))
    by_step = [keys[start : start + setting.images_per_step] for start in range(0, len(keys), setting.images_per_step)]
    return [[sample for sample in asked if sample.image_key in images] for images in by_step]


def bench_training(setting: Setting, backends: Sequence[str] = tuple(BACKENDS)) -> dict[str, Any]:
    """Measure every backend in a process of its own; ratios are to the first one. Raises ValueError for an unknown backend."""
    unknown = [name for name in backends if name not in BACKENDS]
    if unknown:
        raise ValueError(f"there is no backend {unknown[0]!r}; expected some of {', '.join(BACKENDS)}")
    if setting.steps < 2:
        raise ValueError(f"steps is {setting.steps}; expected at least 2, since the first one is not timed")
    steps = draw_steps(setting)
    results: dict[str, dict[str, Any]] = {}
    for name in backends:
        with fresh_process() as pool:
            results[name] = pool.submit(_measure, name, setting, steps).result()
    first = results[backends[0]]
    for result in results.values():
        result["ratio"] = result["questions_per_second"] / first["questions_per_second"]
        result["memory_share"] = result["peak_bytes"] / first["peak_bytes"]
    return {"setting": asdict(setting), "about": about_machine(), "backends": results}


def _measure(name: str, setting: Setting, steps: Sequence[Sequence[Sample]]) -> dict[str, Any]:
    if setting.threads:
        torch.set_num_threads(setting.threads)
    keep_freed_memory()
    model, processor = load_model(setting.model, torch.float32)
    model.set_attn_implementation(BACKENDS[name].attention)
    losses, seconds = train_steps(model, processor, steps, BACKENDS[name])
    timed = sum(len(samples) for samples in steps[1:])
    return {
        "questions": timed,
        "seconds": sum(seconds[1:]),
        "questions_per_second": timed / sum(seconds[1:]),
        "peak_bytes": peak_bytes(),
        "losses": losses,
    }


def render(result: Mapping[str, Any]) -> str:
    """Format the result as a Markdown table."""
    header = ["", "questions/s", "ratio", "peak memory", "of the first", "loss of the first step", "of the last"]
    rows = [
        [
            name,
            f"{found['questions_per_second']:.3g}",
            f"{found['ratio']:.1f}x",
            f"{found['peak_bytes'] / 1e9:.1f} GB",
            f"{found['memory_share']:.0%}",
            f"{found['losses'][0]:.4f}",
            f"{found['losses'][-1]:.4f}",
        ]
        for name, found in result["backends"].items()
    ]
    setting = result["setting"]
    each = setting["images_per_step"] * setting["questions_per_image"]
    return f"# {setting['model']}: steps of {each} questions about {setting['images_per_step']} images\n\n{markdown_table(header, rows)}"


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of the command line."""
    parser = make_parser("training", __doc__)
    parser.add_argument("model", nargs="?", default="paper", help="'paper', 'nano', a folder or a hub id (default: paper)")
    parser.add_argument("--images", type=int, default=1, help="images in a step (default: 1)")
    parser.add_argument("--questions", type=int, help="questions in a step, of 2 to 13 regions (default: four about each image)")
    parser.add_argument("--backend", action="append", metavar="NAME", help=f"only this one: {'; '.join(BACKENDS)}. Repeat it")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads; 0: all cores")
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; ``arguments`` defaults to ``sys.argv``."""
    parser = build_parser()
    given = parser.parse_args(arguments)
    questions_per_image = max(1, (given.questions or 4 * given.images) // given.images)
    setting = Setting(given.model, given.images, questions_per_image, threads=given.threads)
    try:
        result = bench_training(setting, given.backend or list(BACKENDS))
    except ValueError as error:
        parser.error(str(error))
    report(result, given, render)


if __name__ == "__main__":
    main()
