"""One optimisation step of each of the paper's stages at full size (475.7 M parameters), on this machine, with random weights.

    python -m benchmarks.paper_step                 # 8 to 10 GB of memory; refuses to start below 12 GB
    python -m benchmarks.paper_step --small         # the same program on a model of under 1 M parameters

Every stage runs in a fresh process, so that its peak memory is its own; the memory of the process before the model was made is shown next
to it. The batch has the shape of the stage's mean question as ``smolrgpt train paper --dry-run`` predicts it, and the predicted memory is
shown next to the measured one. Seconds are of the second step; AdamW's states exist from the first on.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch

from benchmarks.machine import fresh_process, peak_bytes
from benchmarks.output import make_parser, report
from smolrgpt.model import SmolRGPTConfig, SmolRGPTForConditionalGeneration
from smolrgpt.precision import best_dtype
from smolrgpt.train import plan as planning
from smolrgpt.train.fake_step import fake_model, fake_tensors, measure_step, step_batch
from smolrgpt.train.optim import apply_rates, build_optimizer
from smolrgpt.train.recipes import paper

NEEDED_GB = 12
STAGES = {stage.name: stage for stage in paper().stages}
_NARROW = {"hidden_size": 96, "intermediate_size": 192, "num_hidden_layers": 2, "num_attention_heads": 3}
SMALL: dict[str, Any] = {
    "vision_config": {"model_type": "siglip_vision_model", "image_size": 256, "patch_size": 16, **_NARROW},
    "text_config": {
        "model_type": "llama",
        "vocab_size": 1000,
        "num_key_value_heads": 1,
        "pad_token_id": 2,
        "tie_word_embeddings": True,
        **_NARROW,
    },
    "image_token_id": 900,
    "region_token_ids": {"rgb": 901, "depth": 902},
}


def config_of(small: bool) -> SmolRGPTConfig:
    """Return the published configuration, or that of the small model."""
    return SmolRGPTConfig(**SMALL) if small else planning.model_config(paper().model)


def step(stage_name: str, small: bool, images: int, seed: int) -> dict[str, Any]:
    """Run two optimisation steps in this process."""
    torch.manual_seed(seed)
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    stage, config, bf16 = STAGES[stage_name], config_of(small), best_dtype("cpu") == torch.bfloat16
    shape = planning.plan_epoch(stage, planning.source_facts(paper())).shape(images)
    with fake_tensors():
        fake = fake_model(config)
        apply_rates(fake, stage.rates)
        flops, activations = measure_step(fake, shape, blind=False, bf16=bf16)
    before = peak_bytes()
    model = SmolRGPTForConditionalGeneration._from_config(config, dtype=torch.float32, attn_implementation="sdpa").train()
    optimizer = build_optimizer(model, stage.rates, stage.weight_decay)
    seconds, losses = [], []
    for _ in range(2):
        batch, started = step_batch(config, shape), time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss = model(**batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), stage.gradient_clip)
        optimizer.step()
        optimizer.zero_grad()
        seconds.append(time.perf_counter() - started)
        losses.append(float(loss.detach()))
    total = sum(p.numel() for p in model.parameters())
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return {
        "stage": stage_name,
        "parameters": total,
        "trainable": trainable,
        "images": images,
        "tokens": int(batch["input_ids"].numel()),
        "regions": len(batch["region_masks"]),
        "bf16": bf16,
        "seconds": seconds,
        "losses": losses,
        "flops": flops,
        "before_bytes": before,
        "peak_bytes": peak_bytes(),
        "planned_bytes": planning.gpu_memory(total, trainable, activations, 1)["ddp"],
    }


def available_gb() -> float:
    """Return the available memory, in GB, from /proc/meminfo; infinite on systems without it."""
    path = Path("/proc/meminfo")
    lines = path.read_text().splitlines() if path.exists() else []
    return next((int(line.split()[1]) / 1e6 for line in lines if line.startswith("MemAvailable")), float("inf"))


def render(rows: list[dict[str, Any]]) -> str:
    """Format the rows of all stages as a table of plain text."""
    heads = (
        ("trained M", 10),
        ("images", 8),
        ("tokens", 8),
        ("seconds", 9),
        ("GFLOP/s", 9),
        ("GB peak", 9),
        ("above start", 13),
        ("planned", 9),
    )
    lines = [f"{'stage':<12}" + "".join(f"{head:>{width}}" for head, width in heads)]
    lines += [
        f"{row['stage']:<12}{row['trainable'] / 1e6:>10.2f}{row['images']:>8}{row['tokens']:>8}{row['seconds'][-1]:>9.1f}"
        f"{row['flops'] / row['seconds'][-1] / 1e9:>9.1f}{row['peak_bytes'] / 1e9:>9.2f}"
        f"{(row['peak_bytes'] - row['before_bytes']) / 1e9:>13.2f}{row['planned_bytes']['total'] / 1e9:>9.2f}"
        for row in rows
    ]
    return "\n".join(lines)


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of the command line."""
    parser = make_parser("paper_step", __doc__)
    parser.add_argument("--small", action="store_true", help="a model of under 1 M parameters")
    parser.add_argument("--images", type=int, default=2, help="images in a step (default: 2)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the weights and the batch")
    return parser


def main() -> None:
    """Run the command line."""
    given = build_parser().parse_args()
    if not given.small and available_gb() < NEEDED_GB:
        sys.exit(f"{available_gb():.1f} GB of memory are free; the full size needs {NEEDED_GB}. --small runs anywhere")
    rows = []
    for name in STAGES:
        with fresh_process() as pool:
            rows.append(pool.submit(step, name, given.small, given.images, given.seed).result())
    report(rows, given, render)


if __name__ == "__main__":
    main()
