"""One optimisation step of each of the paper's stages at full size (475.7 M parameters), on this machine, with random weights.

    python benchmarks/paper_step.py                 # 8 to 10 GB of memory; refuses to start below 12 GB
    python benchmarks/paper_step.py --small         # the same program on a model of under 1 M parameters

Every stage runs in a fresh process, so that its peak is its own (``ru_maxrss``; what the process held before the model was made stands
beside it). The batch has the shape of the stage's mean question as ``smolrgpt train paper --dry-run`` foresees it, and what it foresees of
the memory stands beside what was measured. Seconds are of the second step; AdamW's states exist from the first on.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from smolrgpt.data.io import atomic_path
from smolrgpt.model import REGION_GEOMETRY_FEATURES, SmolRGPTConfig, SmolRGPTForConditionalGeneration
from smolrgpt.precision import best_dtype
from smolrgpt.train import plan as planning
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
    return SmolRGPTConfig(**SMALL) if small else planning.model_config(paper().model)


def random_batch(config: SmolRGPTConfig, shape: planning.StepShape) -> dict[str, torch.Tensor]:
    """What ``SmolRGPTProcessor.collate`` gives, filled with noise: one question an image, all as long as the mean one."""
    regions = shape.images * shape.regions
    region_ids = [config.region_token_ids[kind] for _ in range(shape.regions) for kind in config.region_tokens]
    words = torch.randint(3, 800, (shape.images, planning.TURN_TOKENS + shape.question_tokens + shape.answer_tokens))
    head = torch.tensor([config.image_token_id] * config.num_image_tokens + region_ids)
    ids = torch.cat([head.expand(shape.images, -1), words], dim=1)
    labels = torch.full_like(ids, -100)
    labels[:, -(shape.answer_tokens + 2) :] = ids[:, -(shape.answer_tokens + 2) :]
    side = config.vision_config.image_size
    return {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "labels": labels,
        "pixel_values": torch.randn(shape.images, 3, side, side),
        "depth_values": torch.randn(shape.images, 3, side, side),
        "region_masks": torch.rand(regions, config.grid_size, config.grid_size),
        "region_geometry": torch.rand(regions, len(REGION_GEOMETRY_FEATURES)),
        "region_image_index": torch.arange(shape.images).repeat_interleave(shape.regions),
        "image_index": torch.arange(shape.images),
        "region_index": torch.arange(regions).view(shape.images, shape.regions),
    }


def step(stage_name: str, small: bool, images: int, seed: int) -> dict[str, Any]:
    """Two optimisation steps in this process."""
    torch.manual_seed(seed)
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    stage, config, bf16 = STAGES[stage_name], config_of(small), best_dtype("cpu") == torch.bfloat16
    shape = planning.epoch_of(stage, planning.source_facts(paper())).shape(images)
    with FakeTensorMode():
        fake = planning.fake_model(config)
        apply_rates(fake, stage.rates)
        flops, activations = planning.measure_step(fake, shape, blind=False, bf16=bf16)
    before = _peak_bytes()
    model = SmolRGPTForConditionalGeneration._from_config(config, dtype=torch.float32, attn_implementation="sdpa").train()
    optimizer = build_optimizer(model, stage.rates, stage.weight_decay)
    seconds, losses = [], []
    for _ in range(2):
        batch, began = random_batch(config, shape), time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss = model(**batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), stage.gradient_clip)
        optimizer.step()
        optimizer.zero_grad()
        seconds.append(time.perf_counter() - began)
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
        "peak_bytes": _peak_bytes(),
        "planned_bytes": planning.memory(total, trainable, activations, 1)["ddp"],
    }


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def available_gb() -> float:
    """What /proc/meminfo says is available; infinite on systems without it."""
    path = Path("/proc/meminfo")
    lines = path.read_text().splitlines() if path.exists() else []
    return next((int(line.split()[1]) / 1e6 for line in lines if line.startswith("MemAvailable")), float("inf"))


def table(rows: list[dict[str, Any]]) -> str:
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="a model of under 1 M parameters; writes no result file unless --out is given")
    parser.add_argument("--images", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--stage", choices=list(STAGES), help="this stage, in this process, as JSON")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    arguments = parser.parse_args()
    if not arguments.small and available_gb() < NEEDED_GB:
        sys.exit(f"{available_gb():.1f} GB of memory are free; the full size wants {NEEDED_GB}. --small runs anywhere")
    if arguments.stage:
        print(json.dumps(step(arguments.stage, arguments.small, arguments.images, arguments.seed)))
        return
    rows = []
    for name in STAGES:
        command = [sys.executable, __file__, "--stage", name, "--images", str(arguments.images), "--seed", str(arguments.seed)]
        done = subprocess.run([*command, *(["--small"] if arguments.small else [])], stdout=subprocess.PIPE, text=True, check=True)
        rows.append(json.loads(done.stdout.splitlines()[-1]))
    out = arguments.out or (None if arguments.small else Path(__file__).parent / "results" / "paper_step.json")
    if out is not None:
        with atomic_path(out) as temporary:
            temporary.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(rows) if arguments.json else table(rows))


if __name__ == "__main__":
    main()
