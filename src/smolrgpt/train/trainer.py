"""Run a curriculum on ``transformers.Trainer``: each stage trains, validates by S1, resumes, and passes its model to the next."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any, cast

import torch
from accelerate import PartialState
from accelerate.utils import gather_object
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.tensor import DTensor
from torch.utils.data import DataLoader
from transformers import EarlyStoppingCallback, Trainer, set_seed
from transformers.trainer_utils import get_last_checkpoint

from smolrgpt.data.collate import Collator
from smolrgpt.data.loading import DoubtLog, SkipLog
from smolrgpt.data.mixture import EpochBatches, Group, Mixture
from smolrgpt.evaluation.predict import predict
from smolrgpt.inference.predictor import Predictor
from smolrgpt.model import SmolRGPTForConditionalGeneration, SmolRGPTProcessor
from smolrgpt.schema import Sample
from smolrgpt.train import run_folder
from smolrgpt.train.answers import restyle
from smolrgpt.train.batches import GroupCollator, GroupDataset, LoadedBatch
from smolrgpt.train.build import PROCESS_TIMEOUT, attention_implementation, build_model, load_model, training_arguments
from smolrgpt.train.callbacks import CURVE_FILE, Curve, CurveCallback, draw_curve
from smolrgpt.train.config import LossWeights, Run, Stage
from smolrgpt.train.feature_cache import FeatureCache, open_feature_cache
from smolrgpt.train.health import HealthMonitor
from smolrgpt.train.host_memory import cache_budget_gb, keep_freed_memory
from smolrgpt.train.lora import add_adapters, merge
from smolrgpt.train.losses import total_loss
from smolrgpt.train.optim import build_optimizer
from smolrgpt.train.sources import VALIDATION, Sources, load_sources
from smolrgpt.train.validation import score_validation

logger = logging.getLogger(__name__)


# -------------------------------------------------------------------------------------------------------------------------- entry
def run(config: Run, resume: bool = True, transform: Callable[[Sequence[Sample]], Sequence[Sample]] | None = None) -> Path:
    """Train every stage in order and return the folder of the finished model (``config.out/final``).

    With ``resume`` finished stages are skipped and an interrupted one continues from its last checkpoint, with the same order of questions,
    rates and seeds. Under ``torchrun`` or ``accelerate launch`` the processes share every step, and the first one writes.
    ``transform`` changes the samples of every source, for experiments.
    Raises ValueError when ``config.out`` holds a run of another configuration.
    """
    state = _start_processes(config, resume)
    sources = load_sources(config)
    if transform is not None:
        sources = {name: transform(samples) for name, samples in sources.items()}
    set_seed(config.seed)
    folders = run_folder.stage_folders(config)
    num_finished = run_folder.count_finished(folders)
    start = config.model
    if num_finished:
        start = replace(start, path=folders[num_finished - 1] / run_folder.FINAL, backbones=None, keep_pattern=None)
    attention = attention_implementation(config)
    model, processor = build_model(start, attention, chain.from_iterable(sources.values()))
    processor.answer_field = config.answer_style != "official"
    processor.kinds_from_text = config.answer_style == "copied"
    shared = RunContext(config, processor, sources, _build_collator(config, processor, sources), SkipLog(), DoubtLog())
    for stage, folder in list(zip(config.stages, folders, strict=True))[num_finished:]:
        _train_stage(shared, stage, folder, model)
        model = load_model(config.model, folder / run_folder.FINAL, attention)
    if shared.skips.total:
        logger.warning("skipped while training: %s", shared.skips.summary())
    if shared.doubts.total:
        logger.warning("%s", shared.doubts.summary())
    final = config.out / run_folder.FINAL
    if state.is_main_process:
        run_folder.save_model(model, processor, final)
        (final / run_folder.RUN_FILE).write_text(config.to_json())
        draw_curve(config.out)
    state.wait_for_everyone()
    return final


@dataclass(frozen=True)
class RunContext:
    """The objects that all stages of a run use: its settings, processor, samples, collator and logs of skipped and doubtful samples."""

    config: Run
    processor: SmolRGPTProcessor
    sources: Sources
    collator: Collator
    skips: SkipLog
    doubts: DoubtLog


def _train_stage(shared: RunContext, stage: Stage, folder: Path, model: SmolRGPTForConditionalGeneration) -> None:
    """Train one stage from its last checkpoint, if it has one, and write the model to ``folder/final``."""
    state, config = PartialState(), shared.config
    adapted = None if config.model.lora is None else add_adapters(model, config.model.lora, config.seed)
    if config.gradient_checkpointing:
        model.gradient_checkpointing_enable()
    if config.compile_layers:
        compile_layers(model)
    trainer = _build_trainer(shared, stage, folder, model)
    if state.is_main_process:
        run_folder.remove_unfinished_checkpoints(folder)
    state.wait_for_everyone()
    trainer.train(resume_from_checkpoint=get_last_checkpoint(str(folder)) if folder.exists() else None)
    for skips, doubts in gather_object([(trainer.skips, trainer.doubts)]):
        shared.skips.merge(skips)
        shared.doubts.merge(doubts)
    trained = trainer.unsharded_model() if adapted is None else merge(adapted)
    if state.is_main_process:
        run_folder.save_model(trained, shared.processor, folder / run_folder.FINAL)
    state.wait_for_everyone()


def _start_processes(config: Run, resume: bool) -> PartialState:
    """Join the processes of the run; the first one claims the run's folder."""
    has_accelerator = torch.accelerator.is_available()
    state = PartialState(cpu=not has_accelerator, timeout=PROCESS_TIMEOUT)
    if state.is_main_process:
        run_folder.claim_folder(config, resume)
    state.wait_for_everyone()
    if not has_accelerator:
        keep_freed_memory()
    return state


def _build_collator(config: Run, processor: SmolRGPTProcessor, sources: Sources) -> Collator:
    cache_gb = cache_budget_gb(config.cache_gb, config.dataloader_num_workers)
    collator = Collator(processor, cache_gb=cache_gb, region_offset_fraction=config.region_offset_fraction)
    if config.cache_gb > 0:
        for name, samples in sources.items():
            if name != VALIDATION:
                collator.register(samples)
    return collator


def _build_trainer(shared: RunContext, stage: Stage, folder: Path, model: SmolRGPTForConditionalGeneration) -> StageTrainer:
    """Return the trainer of one stage, with its callbacks."""
    config, sources, processor = shared.config, shared.sources, shared.processor
    num_processes = PartialState().num_processes
    args = training_arguments(config, stage, folder, num_processes)
    batches = _epoch_batches(config, stage, sources, args.gradient_accumulation_steps, num_processes)
    curve = Curve(config.out / CURVE_FILE, stage.name)
    trainer = StageTrainer(
        model=model,
        args=args,
        train_dataset=GroupDataset(batches),
        data_collator=GroupCollator(shared.collator, batches.mixture),
        stage=stage,
        processor=processor,
        validation=sources[VALIDATION],
        curve=curve,
        loss_weights=config.loss_weights,
        features=open_feature_cache(config, stage, model, sources, torch.bfloat16 if args.bf16 else torch.float32),
    )
    trainer.require_unsharded(config)
    if config.monitor_health:
        whole_sources = [sources[name] for name, times in stage.mixture.items() if times >= 1]
        validation = restyle(sources[VALIDATION], config.answer_style)
        trainer.add_callback(HealthMonitor(processor, validation, whole_sources, curve, stage_validates=stage.eval_every is not None))
    if stage.early_stopping_patience is not None:
        trainer.add_callback(EarlyStoppingCallback(early_stopping_patience=stage.early_stopping_patience))
    return trainer


def _epoch_batches(config: Run, stage: Stage, sources: Sources, accumulation: int, num_processes: int) -> EpochBatches:
    mixture = Mixture(
        sources,
        stage.mixture,
        stage.questions_per_image,
        temperature=stage.temperature,
        balance=stage.balance,
        balance_limit=stage.balance_limit,
        seed=config.seed,
    )
    groups_per_step = stage.images_per_step * stage.accumulation_steps
    batches = EpochBatches(mixture, groups_per_step, accumulation=accumulation, processes=num_processes)
    logger.info("stage %s: %d groups in %d steps an epoch, %s", stage.name, batches.num_groups, batches.num_steps, dict(stage.mixture))
    return batches


# ------------------------------------------------------------------------------------------------------------------------ trainer
class StageTrainer(Trainer):
    """``Trainer`` with a stage's rates, batches by image, and a validation that generates answers and scores them with S1 (percent).

    ``skips`` counts the questions that this process could not use, ``doubts`` the doubtful inputs, once per loading process and image.
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
        self.skips, self.doubts, self._features, self._loss_weights = SkipLog(), DoubtLog(), features, loss_weights
        self._stage, self._processor, self._validation, self._curve = stage, processor, validation, curve
        self.add_callback(CurveCallback(curve))
        if self.is_fsdp_enabled and self.model is not None:
            self.model.register_forward_hook(touch_unused_parameters)

    def require_unsharded(self, config: Run) -> None:
        """Raise ValueError when FSDP shards the model and the run has options that need it whole in every process."""
        if self._features is not None and self.is_fsdp_enabled:
            raise ValueError(
                f"feature_cache={config.feature_cache} needs the whole vision tower in every process, which FSDP shards; use DDP, or leave "
                "feature_cache out"
            )
        if config.model.lora is not None and self.is_fsdp_enabled:
            raise ValueError(f"model.lora={config.model.lora} cannot be merged from the shards of FSDP; use DDP, or leave lora out")

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """Return AdamW over the parameters that the stage trains, at their rates."""
        if self.optimizer is None:
            assert self.model is not None
            self.optimizer = build_optimizer(self.model, self._stage.rates, self._stage.weight_decay)
        return self.optimizer

    def get_train_dataloader(self) -> DataLoader[Group]:
        """Return a loader of the data set's own batches, dealt to the processes by accelerate; workers keep their caches across epochs."""
        args, dataset = self.args, cast("GroupDataset", self.train_dataset)
        loader = DataLoader(
            dataset,
            batch_sampler=cast("Any", dataset.batches),
            collate_fn=self.data_collator,
            num_workers=args.dataloader_num_workers,
            persistent_workers=args.dataloader_num_workers > 0,
            pin_memory=args.dataloader_pin_memory,
        )
        return cast("DataLoader[Group]", self.accelerator.prepare(loader))

    def get_batch_samples(self, epoch_iterator: Iterator[LoadedBatch], num_batches: int, device: torch.device) -> tuple[list[Any], Any]:
        """Return the next batches, with the features of a frozen tower instead of the images, and how many tokens have labels."""
        batches, num_items = super().get_batch_samples(map(self._unpack, epoch_iterator), num_batches, device)
        if self._features is not None:
            with self._autocast():
                batches = [self._features(batch) for batch in batches]
        return batches, num_items

    def _unpack(self, batch: LoadedBatch) -> dict[str, Any]:
        self.skips.merge(batch.skips)
        self.doubts.merge(batch.doubts)
        return batch.inputs

    def compute_loss(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """Return the library's loss of a model whose loss is that of its answers plus the weighted auxiliary losses."""

        def forward(**inputs: Any) -> Any:
            outputs = model(**inputs)
            outputs["loss"] = total_loss(outputs, inputs["labels"], self._loss_weights, inputs.get("num_items_in_batch"))
            return outputs

        return super().compute_loss(cast("nn.Module", forward), inputs, *args, **kwargs)

    def training_step(self, *args: Any, **kwargs: Any) -> Tensor:
        """Take a step with compiled layers, where there are any; they are not compiled again for validation, with its other shapes."""
        with torch.compiler.set_stance("default"):
            return super().training_step(*args, **kwargs)

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.args.device.type, torch.bfloat16, enabled=self.args.bf16)

    def evaluate(self, eval_dataset: Any = None, ignore_keys: Any = None, metric_key_prefix: str = "eval") -> dict[str, float]:
        """Answer this process's share of the images, and score the answers of all, so that every process makes the same decisions."""
        model = self.unsharded_model()
        predictor = Predictor(model.eval(), self._processor)
        with self._autocast():
            predictions = gather_object(predict(predictor, self._share_of_validation(), progress=False))
        model.train()
        result = score_validation(self._validation, predictions)
        metrics = {f"{metric_key_prefix}_{name}": value for name, value in {"S1": result.s1, **result.accuracy}.items()}
        if self.is_world_process_zero():
            self._curve.add(step=self.state.global_step, num_questions=result.num_questions, S1=result.s1, accuracy=result.accuracy)
            logger.info("step %d, accuracy in percent by set and kind:\n%s", self.state.global_step, result.table())
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def _share_of_validation(self) -> list[Sample]:
        keys = dict.fromkeys(sample.image_key for sample in self._validation)
        mine = {key for index, key in enumerate(keys) if index % self.args.world_size == self.args.process_index}
        return [sample for sample in self._validation if sample.image_key in mine]

    def unsharded_model(self) -> SmolRGPTForConditionalGeneration:
        """Return the model; when it is sharded, a whole copy in every process, as each generates for another number of steps."""
        model = cast("SmolRGPTForConditionalGeneration", self.model)
        if not self.is_fsdp_enabled:
            return model
        weights = get_model_state_dict(model, options=StateDictOptions(full_state_dict=True))
        whole = type(model)._from_config(model.config, dtype=torch.float32)
        whole.load_state_dict(weights)
        whole.generation_config = model.generation_config
        return cast("SmolRGPTForConditionalGeneration", whole.to(self.args.device))


def compile_layers(model: SmolRGPTForConditionalGeneration) -> None:
    """Compile each layer of the language model in place, for ``StageTrainer.training_step`` alone: the names of parameters stay.

    Without a C++ compiler, logs a warning and does nothing.
    """
    if not torch.accelerator.is_available() and not any(map(shutil.which, ("g++", "clang++", "c++"))):
        logger.warning("compile_layers is on, but there is no C++ compiler (g++ or clang++); layers are not compiled, which is slower")
        return
    torch.compiler.set_stance("force_eager")
    for layer in cast("Any", model.model.language_model).layers:
        layer.compile(dynamic=True)


def touch_unused_parameters(model: nn.Module, args: Any, outputs: Any) -> None:
    """Give parameters that a batch does not use a gradient of zero: under FSDP every process must reduce the same ones.

    DDP finds unused parameters itself. Layers that are sharded on their own are no longer gathered here, but every batch uses them.
    """
    gathered: list[Tensor] = [p for p in model.parameters() if p.requires_grad and not isinstance(p, DTensor)]
    outputs.loss = outputs.loss + 0.0 * torch.stack([p.sum() for p in gathered]).sum()
