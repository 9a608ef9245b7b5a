"""The parts of a stage: the model and processor that it starts with, and the arguments of the ``Trainer``."""

from __future__ import annotations

import importlib.util
import pkgutil
import re
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import torch
from transformers import TrainingArguments

from smolrgpt.inference.checkpoints import bundled_checkpoints
from smolrgpt.model import SmolRGPTConfig, SmolRGPTForConditionalGeneration, SmolRGPTProcessor
from smolrgpt.model.processing_smolrgpt import extend_vocabulary
from smolrgpt.precision import best_dtype
from smolrgpt.schema import Sample
from smolrgpt.train.config import ModelSpec, Run, Stage
from smolrgpt.train.tokenizer import train_tokenizer

Built = tuple[SmolRGPTForConditionalGeneration, SmolRGPTProcessor]

#: How long processes wait while the first one draws data, or while others validate; torch's own limits are meant for a single step.
PROCESS_TIMEOUT = timedelta(hours=6)
#: How many checkpoints a stage keeps, the latest ones.
KEPT_CHECKPOINTS = 2
#: Options of a saved image processor that a partly new model takes over.
_IMAGE_OPTIONS = ("mask_resize", "depth_encoding", "image_mean", "image_std")


def attention_implementation(config: Run) -> str:
    """Return the run's attention, by default "eager" on a CPU, where it is 1.4 to 3 times as fast, and "sdpa" on accelerators."""
    return config.attention or ("sdpa" if torch.accelerator.is_available() else "eager")


def build_model(spec: ModelSpec, attention: str | None, samples: Iterable[Sample]) -> Built:
    """Return the model that a run starts from, in float32 (the trainer computes in bf16 by autocast), and its processor.

    samples: texts for the tokenizer of a model without pretrained parts.
    """
    if spec.path is not None and spec.keep_pattern is not None:
        return _partly_new(spec.path, spec.keep_pattern, spec, attention)
    if spec.path is not None:
        return load_model(spec, spec.path, attention), SmolRGPTProcessor.from_pretrained(spec.path)
    if spec.backbones is not None:
        bundled = bundled_checkpoints()
        vision, text = (str(bundled.get(name, name)) for name in spec.backbones)
        model = model_class(spec).from_backbones(vision, text, attn_implementation=attention, **spec.config)
        return model, SmolRGPTProcessor.from_backbones(vision, text, model.config, **spec.processor)
    tokenizer = train_tokenizer((text for s in samples for text in (s.question, s.answer or "")), spec.vocab_size)
    config = model_class(spec).config_class(**extend_vocabulary(tokenizer, spec.config))
    return new_model(spec, config, attention), SmolRGPTProcessor.for_model(config, tokenizer, **spec.processor)


def model_class(spec: ModelSpec) -> type[SmolRGPTForConditionalGeneration]:
    """Return the model class that a specification names."""
    found: type[SmolRGPTForConditionalGeneration] = pkgutil.resolve_name(spec.model_class)
    return found


def load_model(spec: ModelSpec, path: Path, attention: str | None = None) -> SmolRGPTForConditionalGeneration:
    """Load a saved model in float32, as the class that ``spec`` names."""
    return model_class(spec).from_pretrained(path, dtype=torch.float32, attn_implementation=attention)


def new_model(spec: ModelSpec, config: SmolRGPTConfig, attention: str | None) -> SmolRGPTForConditionalGeneration:
    """Return a model with new weights in float32, of the class that ``spec`` names."""
    model = model_class(spec)._from_config(config, dtype=torch.float32, attn_implementation=attention)
    return cast("SmolRGPTForConditionalGeneration", model)


def _partly_new(path: Path, keep_pattern: str, spec: ModelSpec, attention: str | None) -> Built:
    """Return a new model of the changed configuration, with the saved parameters whose name matches the pattern.

    Raises ValueError naming a matching parameter that the new model lacks, or has in another shape.
    """
    saved = SmolRGPTForConditionalGeneration.from_pretrained(path, dtype=torch.float32)
    config = model_class(spec).config_class.from_dict({**saved.config.to_dict(), **spec.config})
    model = new_model(spec, config, attention)
    target = model.state_dict()
    matching = {name: value for name, value in saved.state_dict().items() if re.search(keep_pattern, name)}
    misfits = [name for name, value in matching.items() if name not in target or target[name].shape != value.shape]
    if misfits or not matching:
        first = misfits[0] if misfits else "no parameter"
        raise ValueError(f"{path}: keep_pattern={keep_pattern!r} matches {first}, for which the new model has no place")
    model.load_state_dict({**target, **matching})
    old = SmolRGPTProcessor.from_pretrained(path)
    image_options = {name: getattr(old.image_processor, name) for name in _IMAGE_OPTIONS}
    return model, SmolRGPTProcessor.for_model(config, old.tokenizer, **{**image_options, **spec.processor})


def training_arguments(config: Run, stage: Stage, folder: Path, num_processes: int) -> TrainingArguments:
    """Return the arguments of transformers' ``Trainer`` for a stage; a step stays the same however many processes share it."""
    accumulation = -(-stage.accumulation_steps // num_processes)
    on_cpu = not torch.accelerator.is_available()
    best: dict[str, Any] = {"load_best_model_at_end": True, "metric_for_best_model": "S1", "greater_is_better": True}
    validation = {} if stage.eval_every is None else {"eval_strategy": "steps", "eval_steps": stage.eval_every, **best}
    return TrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=-(-stage.images_per_step * stage.accumulation_steps // (accumulation * num_processes)),
        gradient_accumulation_steps=accumulation,
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
        save_total_limit=KEPT_CHECKPOINTS,
        logging_steps=config.log_every,
        report_to="tensorboard" if importlib.util.find_spec("tensorboard") else "none",
        seed=config.seed,
        remove_unused_columns=False,
        dataloader_pin_memory=not on_cpu,
        dataloader_num_workers=config.dataloader_num_workers,
        ddp_find_unused_parameters=True,  # a batch of captions uses no region module
        ddp_timeout=int(PROCESS_TIMEOUT.total_seconds()),
        **validation,
    )
