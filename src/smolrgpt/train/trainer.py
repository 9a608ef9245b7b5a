"""Run a curriculum on ``transformers.Trainer``: each stage trains, validates by S1, resumes, and hands its model to the next."""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import pkgutil
import random
import re
import shutil
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from itertools import chain, islice, takewhile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import gather_object
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.tensor import DTensor
from torch.utils.data import DataLoader, Dataset
from transformers import EarlyStoppingCallback, Trainer, TrainerCallback, TrainingArguments, set_seed
from transformers.trainer_utils import get_last_checkpoint

from smolrgpt.data.collate import Collator
from smolrgpt.data.io import atomic_path
from smolrgpt.data.loading import SkipLog
from smolrgpt.data.mixture import EpochBatches, Group, Mixture
from smolrgpt.data.perturb import rough
from smolrgpt.data.prepared import Prepared, prepare
from smolrgpt.data.sources import iter_source, read_source
from smolrgpt.data.sources.warehouse import read_warehouse
from smolrgpt.evaluation.predict import predict
from smolrgpt.evaluation.score import score
from smolrgpt.inference.predictor import Predictor, bundled_checkpoints
from smolrgpt.model import SmolRGPTForConditionalGeneration, SmolRGPTProcessor
from smolrgpt.model.processing_smolrgpt import extend_vocabulary
from smolrgpt.precision import best_dtype
from smolrgpt.schema import DataError, Sample
from smolrgpt.train.allocator import keep_freed_memory, memory_gb
from smolrgpt.train.answers import restyle
from smolrgpt.train.config import FolderData, LossWeights, ModelSpec, Run, Stage, SyntheticData
from smolrgpt.train.feature_cache import FeatureCache
from smolrgpt.train.lora import add_adapters, merge
from smolrgpt.train.losses import total_loss
from smolrgpt.train.optim import apply_rates, build_optimizer
from smolrgpt.train.signatures import SignatureWatch
from smolrgpt.train.tokenizer import train_tokenizer
from smolrgpt.viz.plots import plot_curve

logger = logging.getLogger(__name__)
CURVE_FILE = "curve.jsonl"

#: Source of a synthetic set -> its split, and the share of images without metric depth (None: as the set says).
SYNTHETIC_SOURCES: dict[str, tuple[str, float | None]] = {
    "train": ("train", None),
    "warmup": ("train_warmup", None),
    "captions": ("train_captions", None),
    "extra": ("train_extra", None),
    "plain": ("train_plain", None),
    "train_relative": ("train", 1.0),
}

#: Entry of a batch, taken out before the model sees it: the SkipLog of what was left out of the batch.
SKIPS = "skips"
#: How long processes wait for the first one to draw the data or for one another to validate; torch's own limits are for a single step.
_PATIENCE = timedelta(hours=6)


def run(config: Run, resume: bool = True, transform: Callable[[Sequence[Sample]], Sequence[Sample]] | None = None) -> Path:
    """Train every stage in order and return the folder of the finished model (``config.out/final``).

    With ``resume`` a finished stage is skipped and an interrupted one goes on from its last checkpoint, same order, rates and seeds.
    Under ``torchrun`` or ``accelerate launch`` the processes share every step, and the first one writes.
    ``transform`` changes the samples of every source, for experiments.
    Raises ValueError when ``config.out`` holds a run of another configuration.
    """
    state = PartialState(cpu=not torch.accelerator.is_available(), timeout=_PATIENCE)
    if state.is_main_process:
        _claim_folder(config, resume)
    state.wait_for_everyone()
    if not torch.accelerator.is_available():
        keep_freed_memory()
    sources = load_sources(config)
    if transform is not None:
        sources = {name: transform(samples) for name, samples in sources.items()}
    set_seed(config.seed)
    folders = [config.out / f"{index + 1}-{stage.name}" for index, stage in enumerate(config.stages)]
    finished = sum(1 for _ in takewhile(lambda folder: (folder / "final" / "config.json").exists(), folders))
    start = replace(config.model, path=folders[finished - 1] / "final", keep=None) if finished else config.model
    model, processor = build_model(start, _attention(config), chain.from_iterable(sources.values()))
    processor.answer_field = config.answer_style != "official"
    collator = Collator(processor, cache_gb=_cache_gb(config))
    if config.cache_gb > 0:
        for name, samples in sources.items():
            if name != "validation":
                collator.register(samples)
    skips = SkipLog()
    for stage, folder in list(zip(config.stages, folders, strict=True))[finished:]:
        _train_stage(config, stage, folder, model, processor, sources, collator, skips)
        model = model_class(config.model).from_pretrained(folder / "final", dtype=torch.float32, attn_implementation=_attention(config))
    if skips.total:
        logger.warning("skipped while training: %s", skips.summary())
    final = config.out / "final"
    if state.is_main_process:
        _save(model, processor, final)
        (final / "run.json").write_text(config.to_json())
        _draw_curve(config.out)
    state.wait_for_everyone()
    return final


def _cache_gb(config: Run) -> float:
    """Of prepared images in this process; all processes of this machine and their workers together stay below 40 % of its memory."""
    sharers = int(os.environ.get("LOCAL_WORLD_SIZE", 1)) * max(1, config.dataloader_num_workers)
    return min(config.cache_gb, 0.4 * memory_gb()) / sharers


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


def load_sources(config: Run) -> dict[str, Sequence[Sample]]:
    """Source name -> samples. Synthetic data is drawn first if it is not there yet. ``validation`` is a fixed random draw."""
    wanted = {name for stage in config.stages for name in stage.mixture}
    data = config.data
    sources = _synthetic_sources(data, wanted) if isinstance(data, SyntheticData) else _folder_sources(data, wanted)
    sources = {name: samples if name == "validation" else restyle(samples, config.answer_style) for name, samples in sources.items()}
    validation = sources["validation"]
    drawn = random.Random(0).sample(validation, min(config.validation_questions, len(validation)))  # the same for every seed of a run
    return {**sources, "validation": drawn}


def _folder_sources(data: FolderData, wanted: set[str]) -> dict[str, Sequence[Sample]]:
    sources: dict[str, Sequence[Sample]] = {}
    for name in sorted(wanted | {data.validation}):  # in the same order in every process
        reader, root, split = data.sources[name]
        if data.prepared is None:
            samples: Sequence[Sample] = read_source(reader, root, split)
        else:
            samples = _memory_mapped(Path(data.prepared) / Path(root).name / split, reader, Path(root).resolve(), split)
        sources["validation" if name == data.validation else name] = samples
    return sources


def _memory_mapped(folder: Path, reader: str, root: Path, split: str) -> Prepared:
    """The set in ``folder``, which the first process finishes, or begins, if need be."""
    state = PartialState()
    if state.is_main_process:
        skips = SkipLog()
        prepare(iter_source(reader, root, split, skips=skips), folder, root=root, skips=skips)
        if skips.total:
            logger.warning("%s: %s", folder, skips.summary())
    state.wait_for_everyone()
    return Prepared(folder)


def _synthetic_sources(data: SyntheticData, wanted: set[str]) -> dict[str, Sequence[Sample]]:
    from smolrgpt.data.worlds import write_dataset

    # validation scenes take their own seed so that more training scenes never change them
    with PartialState().main_process_first():
        for split, scenes, seed in (("train", data.num_scenes, data.seed), ("val", data.num_val_scenes, data.seed + 1_000_000)):
            write_dataset(data.root, split, scenes, seed, data.layouts, questions_per_scene=data.questions_per_scene)
    sources = {name: _withhold_depth(data, *SYNTHETIC_SOURCES[name]) for name in SYNTHETIC_SOURCES if name in wanted}
    if "plain" in wanted:
        sources["plain"] = _known_wordings(sources["plain"])
    if "train_rough" in wanted:
        sources["train_rough"] = rough(_withhold_depth(data, *SYNTHETIC_SOURCES["train"]))
    if "plain_rough" in wanted:
        sources["plain_rough"] = rough(_known_wordings(_withhold_depth(data, *SYNTHETIC_SOURCES["plain"])))
    return {**sources, "validation": read_warehouse(data.root, "val", depth=data.depth)}


def _known_wordings(samples: Sequence[Sample]) -> list[Sample]:
    return [sample for sample in samples if sample.metadata["wording"] == "known"]


def _withhold_depth(data: SyntheticData, split: str, fraction: float | None) -> list[Sample]:
    """Metric depth and camera, except for three shares of the images: one shows what a data set without them shows, one has no camera,
    one no depth. fraction: of the first share instead of the run's, of the images that are in neither of the others.
    """
    fraction = data.relative_depth_fraction if fraction is None else fraction
    metric = read_warehouse(data.root, split, depth=data.depth, folder="train")
    if data.depth == "none":
        return metric
    relative = read_warehouse(data.root, split, depth="relative", folder="train") if fraction else metric
    no_depth_from = 1 - data.no_depth_fraction
    no_camera_from = no_depth_from - data.no_camera_fraction

    def shown(m: Sample, r: Sample) -> Sample:
        place = zlib.crc32(m.image_key.encode()) % 1000 / 1000
        if place >= no_depth_from:
            return replace(m, depth=None, camera=None)
        if place >= no_camera_from:
            return replace(m, camera=None)
        return replace(r, camera=None) if place < fraction else m

    return [shown(m, r) for m, r in zip(metric, relative, strict=True)]


def _attention(config: Run) -> str:
    return config.attention or ("sdpa" if torch.accelerator.is_available() else "eager")


def model_class(spec: ModelSpec) -> type[SmolRGPTForConditionalGeneration]:
    """The class that a specification names."""
    found: type[SmolRGPTForConditionalGeneration] = pkgutil.resolve_name(spec.model_class)
    return found


def build_model(
    spec: ModelSpec, attention: str | None, samples: Iterable[Sample]
) -> tuple[SmolRGPTForConditionalGeneration, SmolRGPTProcessor]:
    """The model a run starts from, in float32 (bf16 is autocast's business), and its processor."""
    if spec.path is not None and spec.keep is not None:
        return _partly_new(spec.path, spec.keep, spec, attention)
    if spec.path is not None:
        model = model_class(spec).from_pretrained(spec.path, dtype=torch.float32, attn_implementation=attention)
        return model, SmolRGPTProcessor.from_pretrained(spec.path)
    if spec.backbones is not None:
        bundled = bundled_checkpoints()
        vision, text = (str(bundled.get(name, name)) for name in spec.backbones)
        model = model_class(spec).from_backbones(vision, text, attn_implementation=attention, **spec.config)
        return model, SmolRGPTProcessor.from_backbones(vision, text, model.config, **spec.processor)
    tokenizer = train_tokenizer((text for s in samples for text in (s.question, s.answer or "")), spec.vocab_size)
    config = model_class(spec).config_class(**extend_vocabulary(tokenizer, spec.config))
    model = model_class(spec)._from_config(config, dtype=torch.float32, attn_implementation=attention)
    return model, SmolRGPTProcessor.for_model(config, tokenizer, **spec.processor)


def _partly_new(
    path: Path, keep: str, spec: ModelSpec, attention: str | None
) -> tuple[SmolRGPTForConditionalGeneration, SmolRGPTProcessor]:
    """Raises ValueError naming a kept parameter for which the changed configuration has no place."""
    saved = SmolRGPTForConditionalGeneration.from_pretrained(path, dtype=torch.float32)
    config = model_class(spec).config_class.from_dict({**saved.config.to_dict(), **spec.config})
    model = model_class(spec)._from_config(config, dtype=torch.float32, attn_implementation=attention)
    target = model.state_dict()
    kept = {name: value for name, value in saved.state_dict().items() if re.search(keep, name)}
    misfits = [name for name, value in kept.items() if name not in target or target[name].shape != value.shape]
    if misfits or not kept:
        raise ValueError(f"{path}: keep={keep!r} matches {misfits[0] if misfits else 'no parameter'}, for which the new model has no place")
    model.load_state_dict({**target, **kept})
    old = SmolRGPTProcessor.from_pretrained(path)
    image_options = {name: getattr(old.image_processor, name) for name in ("mask_resize", "depth_encoding", "image_mean", "image_std")}
    return model, SmolRGPTProcessor.for_model(config, old.tokenizer, **{**image_options, **spec.processor})


def _train_stage(
    config: Run,
    stage: Stage,
    folder: Path,
    model: SmolRGPTForConditionalGeneration,
    processor: SmolRGPTProcessor,
    sources: dict[str, Sequence[Sample]],
    collator: Collator,
    skips: SkipLog,
) -> None:
    state = PartialState()
    args = _training_arguments(config, stage, folder, state.num_processes)
    mixture = Mixture(
        sources,
        stage.mixture,
        stage.questions_per_image,
        temperature=stage.temperature,
        balance=stage.balance,
        balance_limit=stage.balance_limit,
        seed=config.seed,
    )
    batches = EpochBatches(
        mixture,
        stage.images_per_step * stage.accumulation_steps,
        accumulation=args.gradient_accumulation_steps,
        processes=state.num_processes,
    )
    logger.info("stage %s: %d groups in %d steps an epoch, %s", stage.name, batches.num_groups, batches.num_steps, dict(stage.mixture))
    adapted = None if config.model.lora is None else add_adapters(model, config.model.lora, config.seed)
    if config.gradient_checkpointing:
        model.gradient_checkpointing_enable()
    curve = Curve(config.out / CURVE_FILE, stage.name)
    features = _feature_cache(config, stage, model, sources, args)
    trainer = StageTrainer(
        model=model,
        args=args,
        train_dataset=_Questions(batches),
        data_collator=_Loading(collator, mixture),
        stage=stage,
        processor=processor,
        validation=sources["validation"],
        curve=curve,
        loss_weights=config.loss_weights,
        features=features,
    )
    if features is not None and trainer.is_fsdp_enabled:
        raise ValueError(
            "a feature_cache needs the whole vision tower in every process, FSDP shards it; use DDP, or leave feature_cache out"
        )
    if adapted is not None and trainer.is_fsdp_enabled:
        raise ValueError("low-rank adapters cannot be merged from the shards of FSDP; train this run with DDP, or leave lora out")
    if config.signatures:
        shown = [sources[name] for name, times in stage.mixture.items() if times >= 1]
        asked = restyle(sources["validation"], config.answer_style)
        trainer.add_callback(SignatureWatch(processor, asked, shown, curve, stage_validates=stage.eval_every is not None))
    if stage.early_stopping_patience is not None:
        trainer.add_callback(EarlyStoppingCallback(early_stopping_patience=stage.early_stopping_patience))
    if state.is_main_process:
        _remove_unfinished(folder)
    state.wait_for_everyone()
    trainer.train(resume_from_checkpoint=get_last_checkpoint(str(folder)) if folder.exists() else None)
    for log in gather_object([trainer.skips]):
        skips.merge(log)
    trained = trainer.whole_model() if adapted is None else merge(adapted)
    if state.is_main_process:
        _save(trained, processor, folder / "final")
    state.wait_for_everyone()


def _feature_cache(
    config: Run, stage: Stage, model: SmolRGPTForConditionalGeneration, sources: dict[str, Sequence[Sample]], args: TrainingArguments
) -> FeatureCache | None:
    """The run's, for a stage that leaves the vision tower as it is."""
    if config.feature_cache is None:
        return None
    if any("vision_tower." in name for name in apply_rates(model, stage.rates)):
        logger.info("stage %s: the vision tower learns, so its features are not kept", stage.name)
        return None
    features = FeatureCache(config.feature_cache, model, torch.bfloat16 if args.bf16 else torch.float32)
    features.require_room(sources[name] for name in stage.mixture)
    return features


def _remove_unfinished(folder: Path) -> None:
    """Checkpoints of a run that was killed while it wrote them: the state is written last."""
    for checkpoint in folder.glob("checkpoint-*"):
        try:
            json.loads((checkpoint / "trainer_state.json").read_text())
        except (OSError, ValueError):
            logger.warning("%s was not written to its end; going on from the one before", checkpoint)
            shutil.rmtree(checkpoint)


class _Questions(Dataset):
    """Groups of samples by the positions of their questions in a mixture."""

    def __init__(self, batches: EpochBatches):
        self.batches = batches

    def __len__(self) -> int:
        return len(self.batches.mixture)

    def __getitem__(self, group: np.ndarray) -> Group:  # type: ignore[override]
        return [self.batches.mixture[position] for position in group]

    def set_epoch(self, epoch: int) -> None:
        self.batches.set_epoch(epoch)  # accelerate reaches the data set wherever it has wrapped the batch sampler out of sight


class _Loading:
    """Collates the groups of a batch, perhaps in a worker; what had to be left out travels with the batch."""

    def __init__(self, collator: Collator, samples: Sequence[Sample]):
        self.collator, self.samples = collator, samples
        self._nothing: dict[str, Any] = {}

    def __call__(self, groups: Sequence[Group]) -> dict[str, Any]:
        try:
            batch = self.collator(groups)
        except DataError:
            batch = self._nothing = self._nothing or self._without_answers()
        skips, self.collator.skips = self.collator.skips, SkipLog()
        return {**batch, SKIPS: skips}

    def _without_answers(self) -> dict[str, Any]:
        """A batch that teaches nothing, for one whose images are all unreadable: every process must take part in every step."""
        substitutes = Collator(self.collator.processor)
        for sample in islice(self.samples, 1000):
            try:
                batch = substitutes([[sample]])
            except DataError:
                continue
            return {**batch, "labels": torch.full_like(batch["labels"], -100)}
        raise DataError(f"no image of the first 1000 questions can be read: {substitutes.skips.summary()}")


def _training_arguments(config: Run, stage: Stage, folder: Path, processes: int) -> TrainingArguments:
    accumulation = -(-stage.accumulation_steps // processes)
    on_cpu = not torch.accelerator.is_available()
    best: dict[str, Any] = {"load_best_model_at_end": True, "metric_for_best_model": "S1", "greater_is_better": True}
    validation = {} if stage.eval_every is None else {"eval_strategy": "steps", "eval_steps": stage.eval_every, **best}
    return TrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=-(-stage.images_per_step * stage.accumulation_steps // (accumulation * processes)),
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
        save_total_limit=2,
        logging_steps=config.log_every,
        report_to="tensorboard" if importlib.util.find_spec("tensorboard") else "none",
        seed=config.seed,
        remove_unused_columns=False,
        dataloader_pin_memory=not on_cpu,
        dataloader_num_workers=config.dataloader_num_workers,
        ddp_find_unused_parameters=True,  # a batch of captions uses no region module
        ddp_timeout=int(_PATIENCE.total_seconds()),
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

    def signatures(self, name: str, this_stage: bool = False) -> list[dict[str, float]]:
        """What was measured so far (see ``train/signatures.py``) together with the signature ``name``."""
        rows = [row for row in read_curve(self.path) if name in row.get("signatures", {})]
        return [row["signatures"] for row in rows if row["stage"] == self.stage or not this_stage]

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
        if state.is_world_process_zero:
            self.curve.add(step=state.global_step, event="checkpoint")

    def on_train_end(self, args, state, control, **kwargs):
        if state.is_world_process_zero:
            self.curve.add(step=state.global_step, event="stage ends")


def _take_every_parameter_along(model: torch.nn.Module, args: Any, outputs: Any) -> None:
    """Gives parameters that a batch does not use a gradient of zero: sharded, every process must reduce the same ones.

    DDP finds the unused by itself. Layers that are sharded one by one are gathered no more at this point, but they are always used.
    """
    gathered = (p for p in model.parameters() if p.requires_grad and not isinstance(p, DTensor))
    outputs.loss = outputs.loss + 0.0 * torch.stack([p.sum() for p in gathered]).sum()


class StageTrainer(Trainer):
    """``Trainer`` with a stage's rates, batches by image, and a validation that generates answers and scores them with S1 (percent).

    ``skips`` counts what this process could not use.
    """

    def __init__(
        self,
        *,
        stage: Stage,
        processor: SmolRGPTProcessor,
        validation: Sequence[Sample],
        curve: Curve,
        loss_weights: LossWeights,
        features: FeatureCache | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs, eval_dataset=[])
        self._loss_weights = loss_weights
        self.skips, self._features = SkipLog(), features
        self._stage, self._processor, self._validation, self._curve = stage, processor, validation, curve
        self.add_callback(_Clock(curve))
        if self.is_fsdp_enabled and self.model is not None:
            self.model.register_forward_hook(_take_every_parameter_along)

    def create_optimizer(self, model=None) -> torch.optim.Optimizer:
        if self.optimizer is None:
            assert self.model is not None
            self.optimizer = build_optimizer(self.model, self._stage.rates, self._stage.weight_decay)
        return self.optimizer

    def get_train_dataloader(self) -> DataLoader:
        """The data set's own batches; accelerate deals them to the processes. A worker lives, with its cache, as long as the loader."""
        args, questions = self.args, self.train_dataset
        assert isinstance(questions, _Questions)
        loader = DataLoader(
            questions,
            batch_sampler=questions.batches,  # type: ignore[arg-type]
            collate_fn=self.data_collator,
            num_workers=args.dataloader_num_workers,
            persistent_workers=args.dataloader_num_workers > 0,
            pin_memory=args.dataloader_pin_memory,
        )
        return self.accelerator.prepare(loader)

    def get_batch_samples(self, epoch_iterator: Iterator, num_batches: int, device: torch.device) -> tuple[list, Any]:
        batches, num_items = super().get_batch_samples(epoch_iterator, num_batches, device)
        for batch in batches:
            self.skips.merge(batch.pop(SKIPS))
        if self._features is not None:
            with self._autocast():
                batches = [self._features(batch) for batch in batches]
        return batches, num_items

    def compute_loss(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """The library's, of a model whose loss is the sum of its answers' loss and the weighted auxiliary losses."""

        def forward(**inputs: Any) -> Any:
            outputs = model(**inputs)
            outputs["loss"] = total_loss(outputs, inputs["labels"], self._loss_weights, inputs.get("num_items_in_batch"))
            return outputs

        return super().compute_loss(forward, inputs, *args, **kwargs)  # type: ignore[arg-type]

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.args.device.type, torch.bfloat16, enabled=self.args.bf16)

    def evaluate(self, eval_dataset=None, ignore_keys=None, metric_key_prefix="eval") -> dict[str, float]:
        """Every process answers its share of the images; all then score all answers, and so decide alike."""
        model = self.whole_model()
        predictor = Predictor(model.eval(), self._processor)
        with self._autocast():
            predictions = gather_object(predict(predictor, self._share_of_validation(), progress=False))
        model.train()
        truth = [{"id": s.id, "category": s.category, "normalized_answer": s.normalized_answer} for s in self._validation]
        result = score(truth, predictions)
        metrics = {f"{metric_key_prefix}_{name}": value for name, value in {"S1": result["S1"], **result["accuracy"]}.items()}
        if self.is_world_process_zero():
            self._curve.add(
                step=self.state.global_step, num_questions=result["num_questions"], S1=result["S1"], accuracy=result["accuracy"]
            )
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def _share_of_validation(self) -> list[Sample]:
        images = {key: place for place, key in enumerate(dict.fromkeys(sample.image_key for sample in self._validation))}
        return [s for s in self._validation if images[s.image_key] % self.args.world_size == self.args.process_index]

    def whole_model(self) -> SmolRGPTForConditionalGeneration:
        """The model, or, when it is sharded, a copy put together in every process: generation takes another number of passes in each."""
        assert self.model is not None
        if not self.is_fsdp_enabled:
            return self.model  # type: ignore[return-value]
        weights = get_model_state_dict(self.model, options=StateDictOptions(full_state_dict=True))
        whole = SmolRGPTForConditionalGeneration._from_config(self.model.config, dtype=torch.float32)
        whole.load_state_dict(weights)
        whole.generation_config = self.model.generation_config
        return whole.to(self.args.device)


def _save(model: Any, processor: SmolRGPTProcessor, folder: Path) -> None:
    """Write model and processor to a temporary name, then rename: a half-written model is never taken for a finished one."""
    with atomic_path(folder) as temporary:
        model.save_pretrained(temporary)
        processor.save_pretrained(temporary)
