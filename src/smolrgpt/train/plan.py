"""The cost of a run before it starts: parameters, tokens, FLOPs, memory, hours and disk, without weights and without data.

One optimisation step of the real model runs on fake tensors (``fake_step``). Frozen parts count as autograd treats them. Every question has
the mean length; attention counts the full square; early stopping is not foreseen.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from tqdm import tqdm
from transformers import AutoConfig

from smolrgpt.model import SmolRGPTConfig, SmolRGPTForConditionalGeneration
from smolrgpt.model.configuration_smolrgpt import PAIR_SIZES, REGION_SIZES
from smolrgpt.model.processing_smolrgpt import MEASURE_WORDS, NUM_REGION_NAMES
from smolrgpt.model.region_geometry import feature_names
from smolrgpt.train.build import KEPT_CHECKPOINTS
from smolrgpt.train.config import FolderData, ModelSpec, Run, Stage, SyntheticData, WorldsData
from smolrgpt.train.fake_step import TURN_TOKENS, StepShape, fake_model, fake_tensors, measure_step
from smolrgpt.train.feature_cache import feature_bytes
from smolrgpt.train.optim import apply_rates
from smolrgpt.train.recipes import PUBLISHED_BACKBONES

#: Sustained FLOP/s of one GPU where none are given: two fifths of the 9.9e14 that an H100 is sold with (bf16, dense).
FLOPS_PER_SECOND = 4e14
GPU_COUNTS = (1, 2, 4, 8)
#: Bytes a parameter: float32 weights and gradients, and the two moments of AdamW. Autocast's bf16 copies count as activations.
WEIGHT_BYTES, GRADIENT_BYTES, STATE_BYTES = 4, 4, 8
#: Images of the two steps that memory is read from: it is a constant and a share an image.
PROBE_IMAGES = (4, 8)


@dataclass(frozen=True)
class SourceFacts:
    """The size of a data set. question_tokens, answer_tokens, regions: mean of a question; regions and turns are not in the tokens."""

    questions: int
    images: int
    question_tokens: float
    answer_tokens: float
    regions: float


#: Data set, by the name of its reader -> its published size. Counts: the data sets' own pages and the paper (OSD:
#: 1.07 M single questions of the 110 thousand entries its authors re-packed). Tokens: words, digits and punctuation of real rows (170 of
#: the warehouse, weighted by its categories; 8 of OSD; 2 captions), split as SmolLM2's tokenizer does before it looks words up, so at least
#: that many.
PUBLISHED: dict[str, SourceFacts] = {
    "llava_cc3m": SourceFacts(580_491, 580_491, 9.0, 16.0, 0.0),
    "osd": SourceFacts(1_070_000, 110_000, 18.9, 14.8, 1.9),
    "warehouse": SourceFacts(499_083, 78_209, 18.4, 39.4, 6.3),
}
#: Source of the synthetic set -> questions a question of the main file, tokens by nano's tokenizer and regions: means of 60 scenes, seed 1,
#: answers in steps. Captions: one a scene.
SYNTHETIC: dict[str, tuple[float, float, float, float]] = {
    "train": (1.0, 21.3, 28.4, 5.2),
    "warmup": (0.75, 11.3, 11.3, 2.3),
    "captions": (0.0, 4.7, 59.6, 0.0),
    "extra": (0.25, 15.8, 4.6, 1.6),
    "plain": (0.5, 18.2, 13.3, 3.3),
}
SYNTHETIC["train_relative"] = SYNTHETIC["train_mask_jitter"] = SYNTHETIC["train"]
SYNTHETIC["plain_mask_jitter"] = SYNTHETIC["plain"]


def source_facts(run: Run) -> dict[str, SourceFacts]:
    """Return the size of each source of the run's mixtures, by name. Raises ValueError for a data set without a published size."""
    if isinstance(run.data, SyntheticData):
        return _synthetic_facts(run.data)
    if isinstance(run.data, WorldsData):
        return {f"{name}:{source}": facts for name, data in run.data.sets.items() for source, facts in _synthetic_facts(data).items()}
    wanted = {name for stage in run.stages for name in stage.mixture} & set(run.data.sources)
    readers = {name: reader for name, (reader, _, _) in run.data.sources.items() if name in wanted}
    unknown = sorted(set(readers.values()) - set(PUBLISHED))
    if unknown:
        raise ValueError(f"the size of the data set {unknown[0]!r} is not known before it is read; known: {', '.join(PUBLISHED)}")
    return {name: PUBLISHED[reader] for name, reader in readers.items()}


def _synthetic_facts(data: SyntheticData) -> dict[str, SourceFacts]:
    scenes, each = data.num_scenes, data.questions_per_scene
    return {name: SourceFacts(scenes * max(1, round(share * each)), scenes, *means) for name, (share, *means) in SYNTHETIC.items()}


@dataclass(frozen=True)
class Epoch:
    """A stage's mixture, once: groups are (image, questions) pairs; the rest are means over its questions."""

    groups: int
    questions: int
    question_tokens: float
    answer_tokens: float
    regions: float

    def shape(self, images: int) -> StepShape:
        """Return the shape of a step of this many groups."""
        each = max(1, round(self.questions / self.groups))
        return StepShape(images, each, *(round(mean) for mean in (self.question_tokens, self.answer_tokens, self.regions)))


def plan_epoch(stage: Stage, facts: dict[str, SourceFacts]) -> Epoch:
    """Return a stage's mixture, once. Raises ValueError naming the sources that exist when the mixture names another."""
    missing = sorted(set(stage.mixture) - set(facts))
    if missing:
        raise ValueError(f"stage {stage.name!r} names source {missing[0]!r}; known: {', '.join(sorted(facts))}")
    counts = {name: times * facts[name].questions for name, times in stage.mixture.items()}
    questions = sum(counts.values())
    means = [
        sum(count * getattr(facts[name], field) for name, count in counts.items()) / questions
        for field in ("question_tokens", "answer_tokens", "regions")
    ]
    groups = sum(times * _groups(facts[name], stage.questions_per_image) for name, times in stage.mixture.items())
    return Epoch(round(groups), round(questions), *means)


def _groups(facts: SourceFacts, questions_per_image: int) -> int:
    """Return the number of groups: each question alone, or each image's questions cut into groups of which the last is short."""
    if questions_per_image == 1:
        return facts.questions
    return facts.images * math.ceil(facts.questions / facts.images / questions_per_image)


# ----------------------------------------------------------------------------------------------------------------------- model
def model_config(spec: ModelSpec) -> SmolRGPTConfig:
    """Return the configuration that ``build.build_model`` would make, without a tokenizer.

    It is exact for the published backbones; where a tokenizer is yet to be trained, its vocabulary is an upper bound. Raises ValueError if
    the configuration of another backbone is not available.
    """
    if spec.path is not None:
        return SmolRGPTConfig.from_pretrained(spec.path)
    arguments = dict(spec.config)
    kinds = list(arguments.get("region_tokens", ("rgb", "depth")))
    named = arguments.get("region_fusion") == "name"
    if spec.backbones is None:  # a learned vocabulary begins with the placeholders and always has the names
        text = dict(arguments["text_config"])
        first, size = 3, spec.vocab_size + NUM_REGION_NAMES
    else:
        vision, text = _backbone_configs(spec.backbones)
        arguments["vision_config"] = {**vision, **arguments.get("vision_config", {})}
        arguments.setdefault("tie_word_embeddings", text["tie_word_embeddings"])
        text = {**text, **arguments.get("text_config", {})}
        first = text["vocab_size"]
        size = first + 1 + len(kinds) + (NUM_REGION_NAMES if named else 0)
    if arguments.get("estimates_sizes"):
        sizes = (*REGION_SIZES, *(PAIR_SIZES if arguments.get("pair_geometry") else ()))
        arguments["size_word_ids"] = {size: i for i, size in enumerate(sizes)}
    if named:
        arguments["region_name_token_ids"] = list(range(size - NUM_REGION_NAMES, size))
    if arguments.get("copies_lengths"):  # its words and the two tokens of lengths follow the names
        arguments["size_word_ids"] = {name: size + i for i, name in enumerate(MEASURE_WORDS)}
        size += len(MEASURE_WORDS) + 2
        arguments |= {"length_token_id": size - 2, "given_token_id": size - 1, "geometry_dim": len(feature_names("range"))}
    arguments["text_config"] = {**text, "vocab_size": size, "pad_token_id": 2, "bos_token_id": 1, "eos_token_id": 2}
    ids = {kind: first + 1 + i for i, kind in enumerate(kinds)}
    return SmolRGPTConfig(**{"image_token_id": first, **arguments}, region_token_ids=ids)


def _backbone_configs(backbones: tuple[str, str]) -> tuple[dict[str, Any], dict[str, Any]]:
    if backbones == PUBLISHED_BACKBONES:
        published = SmolRGPTConfig()
        text = published.text_config.to_dict()
        return published.vision_config.to_dict(), {**text, "vocab_size": published.image_token_id}
    try:
        vision, text_config = (AutoConfig.from_pretrained(name) for name in backbones)
    except OSError as error:
        raise ValueError(f"the configuration of {' or '.join(backbones)} is not here: {error}") from error
    return getattr(vision, "vision_config", vision).to_dict(), text_config.to_dict()


# ------------------------------------------------------------------------------------------------------------------------ plan
def plan(run: Run, flops_per_second: float = FLOPS_PER_SECOND, gpus: Sequence[int] = GPU_COUNTS, progress: bool = True) -> dict[str, Any]:
    """Return the run's cost, per stage, as plain numbers: FLOPs, bytes, hours. ``flops_per_second``: sustained, of one GPU.

    A step's images are divided among the GPUs. Raises ValueError where the size of model or data is not known, or an argument is not > 0.
    """
    if flops_per_second <= 0 or not gpus or min(gpus) < 1:
        raise ValueError(f"flops {flops_per_second:g} and GPU counts {list(gpus)}; expected > 0 and at least 1 each")
    facts, config = source_facts(run), model_config(run.model)
    blind = run.model.processor.get("num_image_tokens") == 0
    stages = []
    with fake_tensors():
        model = fake_model(config)
        if run.gradient_checkpointing:
            model.gradient_checkpointing_enable()
        for stage in tqdm(run.stages, desc="stages", disable=not progress):
            stages.append(_plan_stage(stage, model, plan_epoch(stage, facts), blind, flops_per_second, gpus))
    weights = WEIGHT_BYTES * stages[0]["parameters"]
    return {
        "run": run.name,
        "flops_per_second_per_gpu": flops_per_second,
        "stages": stages,
        "flops": sum(stage["flops"] for stage in stages),
        "hours": {count: sum(stage["hours"][count] for stage in stages) for count in gpus},
        "disk_bytes": weights + sum(stage["disk_bytes"] for stage in stages),  # the finished model is written once more
        "feature_bytes": _frozen_images(run, facts) * feature_bytes(config, torch.bfloat16),
    }


def _frozen_images(run: Run, facts: dict[str, SourceFacts]) -> int:
    """Return how many images the stages with a frozen vision tower show; the sources of a synthetic set share theirs."""
    shown = {name for stage in run.stages if _rate_of_vision(stage) is None for name in stage.mixture}
    if isinstance(run.data, FolderData):
        return sum(facts[name].images for name in shown)
    return sum({name.rpartition(":")[0]: facts[name].images for name in shown}.values())


def _rate_of_vision(stage: Stage) -> float | None:
    return next((rate for pattern, rate in stage.rates if re.search(pattern, "model.vision_tower.")), None)


def _plan_stage(
    stage: Stage, model: SmolRGPTForConditionalGeneration, epoch: Epoch, blind: bool, flops_per_second: float, gpus: Sequence[int]
) -> dict[str, Any]:
    released = apply_rates(model, stage.rates)
    sizes = {name: parameter.numel() for name, parameter in model.named_parameters()}
    total, trainable = sum(sizes.values()), sum(sizes[name] for name in released)
    few, many = PROBE_IMAGES
    (_, low), (flops_many, high) = (measure_step(model, epoch.shape(images), blind) for images in PROBE_IMAGES)
    slope = (high - low) / (many - few)
    groups_per_step = stage.images_per_step * stage.accumulation_steps
    steps_per_epoch = math.ceil(epoch.groups / groups_per_step)
    steps = stage.max_steps or math.ceil(stage.epochs * steps_per_epoch)
    flops_per_step = round(flops_many / many * groups_per_step)
    tokens = _tokens(model.config, epoch, blind)
    questions_per_step = groups_per_step * epoch.questions / epoch.groups
    saves = min(KEPT_CHECKPOINTS, steps // stage.save_every) if stage.save_every else 0
    return {
        "name": stage.name,
        "parameters": total,
        "trainable": trainable,
        "frozen": total - trainable,
        "questions": epoch.questions,
        "questions_per_step": questions_per_step,
        "tokens_per_question": tokens,
        "tokens_per_step": tokens * questions_per_step,
        "steps_per_epoch": steps_per_epoch,
        "steps": steps,
        "flops_per_step": flops_per_step,
        "flops_per_epoch": flops_per_step * steps_per_epoch,
        "flops": flops_per_step * steps,
        "hours": {count: flops_per_step * steps / flops_per_second / count / 3600 for count in gpus},
        "memory_bytes": {
            count: gpu_memory(total, trainable, low + slope * (math.ceil(stage.images_per_step / count) - few), count) for count in gpus
        },
        "disk_bytes": WEIGHT_BYTES * total * (1 + saves) + STATE_BYTES * trainable * saves,
    }


def _tokens(config: SmolRGPTConfig, epoch: Epoch, blind: bool) -> float:
    """Return the mean tokens of a question with its answer, as the language model reads them."""
    each = 1 if config.region_fusion == "name" and config.region_tokens else len(config.region_tokens)
    return (0 if blind else config.num_image_tokens) + TURN_TOKENS + epoch.question_tokens + epoch.answer_tokens + each * epoch.regions


def gpu_memory(total: int, trainable: int, activations: float, gpus: int) -> dict[str, dict[str, int]]:
    """Return {"ddp" or "fsdp": {part: bytes on each GPU}}.

    With several GPUs, DDP keeps a second copy of the gradients in its buckets; FSDP keeps a share of everything but activations (and,
    for a moment, one gathered layer). The libraries' own gigabyte or two are not included.
    """
    parts = {"weights": WEIGHT_BYTES * total, "gradients": GRADIENT_BYTES * trainable, "optimizer": STATE_BYTES * trainable}
    ddp = {**parts, "gradients": parts["gradients"] * (2 if gpus > 1 else 1)}
    fsdp = {name: math.ceil(size / gpus) for name, size in parts.items()}
    return {
        name: {**sizes, "activations": round(activations), "total": sum(sizes.values()) + round(activations)}
        for name, sizes in (("ddp", ddp), ("fsdp", fsdp))
    }


# ----------------------------------------------------------------------------------------------------------------------- table
def format_plan(result: dict[str, Any]) -> str:
    """Return the plan as a table in text."""
    stages = result["stages"]
    rows: list[tuple[str, list[str]]] = [
        ("trainable parameters, M", [f"{stage['trainable'] / 1e6:.2f}" for stage in stages]),
        ("frozen parameters, M", [f"{stage['frozen'] / 1e6:.2f}" for stage in stages]),
        ("questions an epoch", [f"{stage['questions']:,}" for stage in stages]),
        ("questions a step", [f"{stage['questions_per_step']:.1f}" for stage in stages]),
        ("tokens a question", [f"{stage['tokens_per_question']:.0f}" for stage in stages]),
        ("tokens a step", [f"{stage['tokens_per_step']:,.0f}" for stage in stages]),
        ("TFLOPs a step", [f"{stage['flops_per_step'] / 1e12:.3g}" for stage in stages]),
        ("TFLOPs an epoch", [f"{stage['flops_per_epoch'] / 1e12:,.0f}" for stage in stages]),
        ("steps an epoch", [f"{stage['steps_per_epoch']:,}" for stage in stages]),
        ("steps", [f"{stage['steps']:,}" for stage in stages]),
        ("disk, GB", [_gigabytes(stage["disk_bytes"]) for stage in stages]),
    ]
    for count in result["hours"]:
        gpus = f"{count} GPU" + "s" * (count > 1)
        rows.append((f"{gpus}: hours", [f"{stage['hours'][count]:.3g}" for stage in stages]))
        for kind in ("ddp", "fsdp")[: 1 if count == 1 else 2]:
            parts = [stage["memory_bytes"][count][kind] for stage in stages]
            label = f"{gpus}: GB each" + (f", {kind.upper()}" if count > 1 else "")
            rows.append((label, [_gigabytes(part["total"]) for part in parts]))
            if count == 1:
                rows += [(f"    {name}", [_gigabytes(part[name]) for part in parts]) for name in parts[0] if name != "total"]
            else:
                rows.append(("    of it activations", [_gigabytes(part["activations"]) for part in parts]))
    lines = [f"{result['run']}: {stages[0]['parameters'] / 1e6:.1f} M parameters"]
    lines += [f"{'':<28}" + "".join(f"{stage['name']:>18}" for stage in stages)]
    lines += [f"{label:<28}" + "".join(f"{cell:>18}" for cell in cells) for label, cells in rows]
    hours = ", ".join(f"{value:.3g} h on {count}" for count, value in result["hours"].items())
    lines += [f"all stages: {result['flops']:.3g} FLOPs, {hours} GPUs at {result['flops_per_second_per_gpu']:.2g} FLOP/s each"]
    lines += [f"disk: {_gigabytes(result['disk_bytes'])} GB for checkpoints, stages and the finished model"]
    if result["feature_bytes"]:
        lines += [f"with --set feature_cache=FOLDER, {_gigabytes(result['feature_bytes'])} GB more for the frozen tower's features in bf16"]
    return "\n".join(lines)


def _gigabytes(num_bytes: float) -> str:
    return f"{num_bytes / 1e9:.2f}"
