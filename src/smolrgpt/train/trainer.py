"""Run a curriculum on ``transformers.Trainer``: each stage trains, validates by S1, resumes, and hands its model to the next."""

from __future__ import annotations

import importlib.util
import json
import logging
import random
import shutil
import time
import zlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer, EarlyStoppingCallback, Trainer, TrainerCallback, TrainingArguments, set_seed
from transformers.trainer_utils import get_last_checkpoint

from smolrgpt.data.collate import Collator
from smolrgpt.data.loading import SkipLog
from smolrgpt.data.mixture import Group, mix
from smolrgpt.data.schema import Sample
from smolrgpt.data.sources import SOURCES
from smolrgpt.data.sources.warehouse import read_warehouse
from smolrgpt.evaluation.predict import predict
from smolrgpt.evaluation.score import score
from smolrgpt.model import SmolRGPTConfig, SmolRGPTForConditionalGeneration, SmolRGPTImageProcessor, SmolRGPTProcessor
from smolrgpt.model.processing_smolrgpt import IMAGE_TOKEN, REGION_TOKENS
from smolrgpt.precision import best_dtype
from smolrgpt.predictor import Predictor
from smolrgpt.train.allocator import keep_freed_memory, memory_gb
from smolrgpt.train.answers import restyle
from smolrgpt.train.config import FolderData, ModelSpec, Run, Stage, SyntheticData
from smolrgpt.train.lora import add_adapters, merge
from smolrgpt.train.optim import build_optimizer
from smolrgpt.train.signatures import SignatureWatch
from smolrgpt.train.tokenizer import add_region_names, train_tokenizer
from smolrgpt.viz import plot_curve

logger = logging.getLogger(__name__)
CURVE_FILE = "curve.jsonl"


def run(config: Run, resume: bool = True) -> Path:
    """Train every stage in order and return the folder of the finished model (``config.out/final``).

    With ``resume`` a finished stage is skipped and an interrupted one goes on from its last checkpoint, same order, rates and seeds.
    Raises ValueError when ``config.out`` holds a run of another configuration.
    """
    _claim_folder(config, resume)
    if not torch.accelerator.is_available():
        keep_freed_memory()
    sources = load_sources(config)
    set_seed(config.seed)
    model, processor = build_model(config.model, _attention(config), [s for samples in sources.values() for s in samples])
    collator = Collator(processor, skips=SkipLog(), cache_gb=min(config.cache_gb, 0.4 * memory_gb()))
    for name, samples in sources.items():
        if name != "validation":
            collator.register(samples)
    for index, stage in enumerate(config.stages):
        folder = config.out / f"{index + 1}-{stage.name}"
        if (folder / "final" / "config.json").exists():
            logger.info("stage %s is already finished in %s", stage.name, folder)
        else:
            _train_stage(config, stage, folder, model, processor, sources, collator)
        model = SmolRGPTForConditionalGeneration.from_pretrained(
            folder / "final", dtype=torch.float32, attn_implementation=_attention(config)
        )
    if collator.skips.total:
        logger.warning("skipped while training: %s", collator.skips.summary())
    final = config.out / "final"
    _save(model, processor, final)
    (final / "run.json").write_text(config.to_json())
    _draw_curve(config.out)
    return final


def _draw_curve(out: Path) -> None:
    """``curve.png`` from the validations of all stages; left out, with a word, when matplotlib is not installed."""
    rows = read_curve(out / CURVE_FILE)
    try:
        if any("S1" in row for row in rows):
            plot_curve([row for row in rows if row.get("event") != "checkpoint"], out / "curve.png")
    except ImportError as error:
        logger.warning("%s", error)


def _claim_folder(config: Run, resume: bool) -> None:
    config.out.mkdir(parents=True, exist_ok=True)
    record, text = config.out / "run.json", config.to_json()
    if record.exists() and record.read_text() != text:
        raise ValueError(f"{config.out} holds a run with other settings ({record}); choose another --out, or remove that folder")
    if record.exists() and not resume:
        raise ValueError(f"{config.out} holds this run already; leave out --no-resume to go on with it, or choose another --out")
    record.write_text(text)


def load_sources(config: Run) -> dict[str, list[Sample]]:
    """Source name -> samples. Synthetic data is drawn first if it is not there yet. ``validation`` is a fixed random draw."""
    if isinstance(config.data, SyntheticData):
        sources = _synthetic_sources(config.data)
    else:
        sources = _folder_sources(config.data, {name for stage in config.stages for name in stage.mixture})
    sources = {name: samples if name == "validation" else restyle(samples, config.answer_style) for name, samples in sources.items()}
    validation = sources["validation"]
    drawn = random.Random(0).sample(validation, min(config.validation_questions, len(validation)))  # the same for every seed of a run
    return {**sources, "validation": drawn}


def _folder_sources(data: FolderData, wanted: set[str]) -> dict[str, list[Sample]]:
    sources = {}
    for name in wanted | {data.validation}:
        reader, root, split = data.sources[name]
        if reader not in SOURCES:
            raise ValueError(f"source {name!r} wants the reader {reader!r}; available: {', '.join(SOURCES)}")
        sources["validation" if name == data.validation else name] = SOURCES[reader](root, split)
    return sources


def _synthetic_sources(data: SyntheticData) -> dict[str, list[Sample]]:
    from smolrgpt.data.synthetic import write_dataset

    # validation scenes take their own seed so that more training scenes never change them
    for split, scenes, seed in (("train", data.num_scenes, data.seed), ("val", data.num_val_scenes, data.seed + 1_000_000)):
        write_dataset(data.root, split, scenes, seed, data.layouts, questions_per_scene=data.questions_per_scene)
    names = {"train": "train", "warmup": "train_warmup", "captions": "train_captions"}
    sources = {name: _withhold_metric(data, split) for name, split in names.items()}
    return {**sources, "validation": read_warehouse(data.root, "val")}


def _withhold_metric(data: SyntheticData, split: str) -> list[Sample]:
    """Metric depth and camera, except for a fixed share of the images, which show what a data set without them shows."""
    metric = read_warehouse(data.root, split, depth="metric", folder="train")
    if data.relative_depth_fraction == 0:
        return metric
    relative = read_warehouse(data.root, split, depth="relative", folder="train")
    return [
        replace(r, camera=None) if zlib.crc32(m.image_key.encode()) % 1000 < 1000 * data.relative_depth_fraction else m
        for m, r in zip(metric, relative, strict=True)
    ]


def _attention(config: Run) -> str:
    return config.attention or ("sdpa" if torch.accelerator.is_available() else "eager")


def build_model(
    spec: ModelSpec, attention: str | None, samples: Sequence[Sample]
) -> tuple[SmolRGPTForConditionalGeneration, SmolRGPTProcessor]:
    """The model a run starts from, in float32 (bf16 is autocast's business), and its processor."""
    if spec.path is not None:
        model = SmolRGPTForConditionalGeneration.from_pretrained(spec.path, dtype=torch.float32, attn_implementation=attention)
        return model, SmolRGPTProcessor.from_pretrained(spec.path)
    if spec.backbones is not None:
        tokenizer = AutoTokenizer.from_pretrained(spec.backbones[1], padding_side="left")
    else:
        tokenizer = train_tokenizer((text for s in samples for text in (s.question, s.answer or "")), spec.vocab_size)
    arguments = {**spec.config, **_vocabulary(tokenizer, spec.config)}
    if spec.backbones is not None:
        model = SmolRGPTForConditionalGeneration.from_backbones(*spec.backbones, attn_implementation=attention, **arguments)
        return model, build_processor(model.config, tokenizer, {**_normalisation(spec.backbones[0]), **spec.processor})
    config = SmolRGPTConfig(**arguments)
    model = SmolRGPTForConditionalGeneration._from_config(config, dtype=torch.float32, attn_implementation=attention)
    return model, build_processor(config, tokenizer, spec.processor)


def _vocabulary(tokenizer: Any, config: dict[str, Any]) -> dict[str, Any]:
    """Make the words a model needs tokens of ``tokenizer``; returns the configuration's fields that say which those are."""
    kinds = tuple(config.get("region_tokens", ("rgb", "depth")))
    tokenizer.add_special_tokens({"additional_special_tokens": [IMAGE_TOKEN, *(REGION_TOKENS[kind] for kind in kinds)]})
    names = {"region_name_token_ids": add_region_names(tokenizer)} if config.get("region_fusion") == "name" else {}
    ids = {name: getattr(tokenizer, name) for name in ("pad_token_id", "bos_token_id", "eos_token_id")}
    return {
        "image_token_id": int(tokenizer.convert_tokens_to_ids(IMAGE_TOKEN)),
        "region_token_ids": {kind: int(tokenizer.convert_tokens_to_ids(REGION_TOKENS[kind])) for kind in kinds},
        "text_config": {**config.get("text_config", {}), "vocab_size": len(tokenizer), **ids},
        **names,
        **ids,
    }


def _normalisation(vision: str) -> dict[str, Any]:
    """The mean and deviation of RGB in [0, 1] that a pretrained tower was trained with."""
    try:
        found, _ = SmolRGPTImageProcessor.get_image_processor_dict(vision)
    except OSError as error:
        raise ValueError(
            f"{vision} has no preprocessor_config.json, so how its pictures are normalised is unknown; "
            "save one there, for example with AutoImageProcessor.save_pretrained"
        ) from error
    return {name: found[name] for name in ("image_mean", "image_std")}


def build_processor(config: SmolRGPTConfig, tokenizer: Any, options: dict[str, Any]) -> SmolRGPTProcessor:
    """The processor that fits a model: grid and token counts follow from the configuration, ``options`` set the rest."""
    image_options = {k: options[k] for k in ("mask_resize", "depth_encoding", "image_mean", "image_std") if k in options}
    text_options = {k: v for k, v in options.items() if k not in image_options}
    image_processor = SmolRGPTImageProcessor(size=config.vision_config.image_size, grid_size=config.grid_size, **image_options)
    defaults = {
        "region_tokens": tuple(config.region_tokens),
        "num_image_tokens": config.num_image_tokens,
        "region_fusion": config.region_fusion,
    }
    return SmolRGPTProcessor(image_processor, tokenizer, **{**defaults, **text_options})


def _train_stage(
    config: Run,
    stage: Stage,
    folder: Path,
    model: SmolRGPTForConditionalGeneration,
    processor: SmolRGPTProcessor,
    sources: dict[str, list[Sample]],
    collator: Collator,
) -> None:
    groups = mix(sources, stage.mixture, stage.questions_per_image, config.seed)
    logger.info("stage %s: %d groups of questions, %s", stage.name, len(groups), dict(stage.mixture))
    adapted = None if config.model.lora is None else add_adapters(model, config.model.lora, config.seed)
    if config.gradient_checkpointing:
        model.gradient_checkpointing_enable()
    curve = Curve(config.out / CURVE_FILE, stage.name)
    trainer = StageTrainer(
        model=model,
        args=_training_arguments(config, stage, folder),
        train_dataset=_Groups(groups),
        data_collator=collator,
        optimizers=(build_optimizer(model, stage.rates, stage.weight_decay), None),
        processor=processor,
        validation=sources["validation"],
        curve=curve,
    )
    if config.signatures:
        shown = [sources[name] for name, times in stage.mixture.items() if times >= 1]
        trainer.add_callback(SignatureWatch(processor, restyle(sources["validation"], config.answer_style), shown, curve))
    if stage.early_stopping_patience is not None:
        trainer.add_callback(EarlyStoppingCallback(early_stopping_patience=stage.early_stopping_patience))
    trainer.train(resume_from_checkpoint=get_last_checkpoint(str(folder)) if folder.exists() else None)
    _save(trainer.model if adapted is None else merge(adapted), processor, folder / "final")


class _Groups(torch.utils.data.Dataset):
    def __init__(self, groups: list[Group]):
        self.groups = groups

    def __len__(self) -> int:
        return len(self.groups)

    def __getitem__(self, index: int) -> Group:
        return self.groups[index]


def _training_arguments(config: Run, stage: Stage, folder: Path) -> TrainingArguments:
    on_cpu = not torch.accelerator.is_available()
    best: dict[str, Any] = {"load_best_model_at_end": True, "metric_for_best_model": "S1", "greater_is_better": True}
    validation = {} if stage.eval_every is None else {"eval_strategy": "steps", "eval_steps": stage.eval_every, **best}
    return TrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=stage.images_per_step,
        gradient_accumulation_steps=stage.accumulation_steps,
        num_train_epochs=stage.epochs,
        max_steps=stage.max_steps or -1,
        warmup_steps=stage.warmup_ratio,  # below 1: a share of all steps
        lr_scheduler_type="cosine_with_min_lr",
        lr_scheduler_kwargs={"min_lr_rate": stage.final_rate},
        weight_decay=stage.weight_decay,
        max_grad_norm=stage.gradient_clip,
        bf16=best_dtype("cpu" if on_cpu else "cuda") == torch.bfloat16,
        use_cpu=on_cpu,
        save_strategy="steps" if stage.save_every else "no",
        save_steps=stage.save_every or 500,
        save_total_limit=2,
        logging_steps=50,
        report_to="tensorboard" if importlib.util.find_spec("tensorboard") else "none",
        seed=config.seed,
        remove_unused_columns=False,
        dataloader_pin_memory=not on_cpu,
        **validation,
    )


class Curve:
    """S1 against minutes of training, one JSON row per validation, kept across resumed runs."""

    def __init__(self, path: Path, stage: str):
        self.path, self.stage, self.started = path, stage, time.monotonic()
        rows = read_curve(path)
        self.before = rows[-1]["minutes"] if rows else 0.0

    @property
    def minutes(self) -> float:
        return self.before + (time.monotonic() - self.started) / 60

    def first(self, signature: str) -> float | None:
        """The first value of a signature in the whole run."""
        measured = (row["signatures"] for row in read_curve(self.path) if signature in row.get("signatures", {}))
        return next((found[signature] for found in measured), None)

    def add(self, **row: Any) -> None:
        with self.path.open("a") as file:
            file.write(json.dumps({"stage": self.stage, "minutes": round(self.minutes, 2), **row}) + "\n")


def read_curve(path: Path) -> list[dict[str, Any]]:
    """The rows of a ``curve.jsonl``; empty when there is none yet."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


class _Clock(TrainerCallback):
    """Records every checkpoint and the end of every stage, so that time counts across interruptions and stages without validation."""

    def __init__(self, curve: Curve):
        self.curve = curve

    def on_save(self, args, state, control, **kwargs):
        self.curve.add(step=state.global_step, event="checkpoint")

    def on_train_end(self, args, state, control, **kwargs):
        self.curve.add(step=state.global_step, event="stage ends")


class StageTrainer(Trainer):
    """``Trainer`` whose validation generates answers and scores them with S1 (percent)."""

    def __init__(self, *, processor: SmolRGPTProcessor, validation: list[Sample], curve: Curve, **kwargs: Any):
        super().__init__(**kwargs, eval_dataset=_Groups([]))
        self._processor, self._validation, self._curve = processor, validation, curve
        self.add_callback(_Clock(curve))

    def evaluate(self, eval_dataset=None, ignore_keys=None, metric_key_prefix="eval") -> dict[str, float]:
        model = self.model
        assert model is not None
        predictor = Predictor(model.eval(), self._processor)
        with torch.autocast(self.args.device.type, torch.bfloat16, enabled=self.args.bf16):
            predictions = predict(predictor, self._validation, progress=False)
        model.train()
        truth = [{"id": s.id, "category": s.category, "normalized_answer": s.normalized_answer} for s in self._validation]
        result = score(truth, predictions)
        metrics = {f"{metric_key_prefix}_{name}": value for name, value in {"S1": result["S1"], **result["accuracy"]}.items()}
        self._curve.add(step=self.state.global_step, num_questions=result["num_questions"], S1=result["S1"], accuracy=result["accuracy"])
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics


def _save(model: Any, processor: SmolRGPTProcessor, folder: Path) -> None:
    """Write model and processor to a temporary name, then rename: a half-written model is never taken for a finished one."""
    temporary = folder.with_name(folder.name + ".partial")
    model.save_pretrained(temporary)
    processor.save_pretrained(temporary)
    if folder.exists():
        shutil.rmtree(folder)
    temporary.rename(folder)
