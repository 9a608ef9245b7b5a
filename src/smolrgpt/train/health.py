"""Three failures of training that its loss does not show, measured at every validation and at both ends of every stage.

    depth_permuted    validation loss with another image's depth, over the loss with the true one. At 1 the model ignores depth.
    validation_rise   validation loss over its lowest in this stage, when the loss on training questions has fallen since; else 1. Above 1
                      the model overfits.
    perplexity        perplexity on five paragraphs of plain English, over that before the run. Above 1 the model forgets language.

All are ratios of losses on fixed samples (perplexity: of its exponential). Measuring draws no random number, so a run is the same with and
without it. A ratio is left out when it cannot be measured: depth without depth in the samples or the model, perplexity of a model that
cannot read. The first two are judged only in stages that validate: others train other questions than those of the validation.
"""

from __future__ import annotations

import dataclasses
import logging
import math
import random
from collections import Counter, defaultdict
from collections.abc import Hashable, Mapping, Sequence
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from smolrgpt.data.collate import Collator
from smolrgpt.data.loading import group_by_image
from smolrgpt.schema import DataError, Sample

if TYPE_CHECKING:
    from smolrgpt.train.callbacks import Curve

logger = logging.getLogger(__name__)

#: Questions that a loss is measured on, and how many are read together.
NUM_QUESTIONS, QUESTIONS_PER_BATCH = 32, 8
#: Questions of a training source among which those of the right categories are looked for.
MAX_CANDIDATES = 1000
#: A model can read English when its loss is below this share of an even guess over the vocabulary (SmolLM2-135M: 0.3, random weights: 1).
READS_BELOW = 0.5

#: When a ratio causes a warning. Ignored depth is judged at the end of a stage only: depth is learned late.
DEPTH_IGNORED_BELOW, OVERFITTING_ABOVE, FORGOTTEN_ABOVE = 1.01, 1.05, 2.0
_ADVICE = {
    "depth_permuted": "depth is ignored: another image's depth map costs only %+.1f %% of the validation loss; is depth read right?",
    "validation_rise": "overfitting: the validation loss is %+.0f %% above its lowest, the training loss not; train shorter, on more data",
    "perplexity": "language is being forgotten: perplexity on plain English is %+.0f %% of what it was; lower the language model's rate",
}


def health_warnings(ratios: Mapping[str, float], stage_validates: bool = True, stage_ends: bool = False) -> list[str]:
    """Return the warnings that these ratios cause."""
    failures = {
        "depth_permuted": stage_validates and stage_ends and ratios.get("depth_permuted", math.inf) < DEPTH_IGNORED_BELOW,
        "validation_rise": stage_validates and ratios.get("validation_rise", 0.0) > OVERFITTING_ABOVE,
        "perplexity": ratios.get("perplexity", 0.0) > FORGOTTEN_ABOVE,
    }
    return [_ADVICE[name] % (100 * (ratios[name] - 1)) for name, has_failed in failures.items() if has_failed]


# --------------------------------------------------------------------------------------------------------------------- samples
def draw_candidates(sources: Sequence[Sequence[Sample]]) -> list[Sample]:
    """Draw the same samples at every call from each source, which may be far larger than memory."""
    picks = ((source, random.Random(0).sample(range(len(source)), min(MAX_CANDIDATES, len(source)))) for source in sources)
    return [source[i] for source, indices in picks for i in indices]


def match_categories(wanted: Sequence[Sample], samples: Sequence[Sample]) -> list[Sample]:
    """Draw as many of ``samples`` of every category as ``wanted`` has, or all where there are fewer; the draw is always the same."""
    by_category: dict[str | None, list[Sample]] = defaultdict(list)
    for sample in samples:
        if sample.answer is not None:
            by_category[sample.category].append(sample)
    drawn, count = random.Random(0), Counter(sample.category for sample in wanted)
    return [sample for name, pool in sorted(by_category.items(), key=str) for sample in drawn.sample(pool, min(count[name], len(pool)))]


def permute_depth(samples: Sequence[Sample]) -> list[Sample]:
    """Return the samples with the depth of the next image of the same size, but their own camera.

    Those without depth are left out, and those whose image has a size of its own.
    """
    by_size: dict[tuple[int, int] | None, dict[Hashable, Sample]] = defaultdict(dict)
    for sample in samples:
        if sample.depth is not None:
            by_size[sample.regions[0].size if sample.regions else None].setdefault(sample.image_key, sample)
    donors: dict[Hashable, Sample] = {}
    for with_depth in by_size.values():
        keys = list(with_depth)
        donors |= {key: with_depth[keys[(i + 1) % len(keys)]] for i, key in enumerate(keys) if len(keys) > 1}
    return [_with_depth_of(donors[sample.image_key], sample) for sample in samples if sample.image_key in donors]


def _with_depth_of(donor: Sample, sample: Sample) -> Sample:
    return dataclasses.replace(sample, depth=donor.depth, image_key=(sample.image_key, donor.image_key))


def plain_english() -> list[str]:
    """Return five paragraphs of eight sentences, written for this project."""
    return files("smolrgpt.train").joinpath("plain_english.txt").read_text(encoding="utf-8").splitlines()


def text_batch(tokenizer: Any, text: str) -> dict[str, torch.Tensor]:
    """Return input_ids, attention_mask and labels of a text, (1, T) int64 each; special tokens in it are read as plain text."""
    encoded = tokenizer(text, add_special_tokens=False, split_special_tokens=True, return_tensors="pt")
    return {"input_ids": encoded.input_ids, "attention_mask": encoded.attention_mask, "labels": encoded.input_ids}


# --------------------------------------------------------------------------------------------------------------------- measure
@torch.no_grad()
def mean_loss(model: Any, batches: Sequence[Mapping[str, torch.Tensor]], bf16: bool) -> float:
    """Return the nats per labelled token over all batches, in eval mode; the model's mode is restored."""
    was_training, total, count = model.training, 0.0, 0
    model.eval()
    for batch in batches:
        inputs = {name: tensor.to(model.device) for name, tensor in batch.items()}
        tokens = int((inputs["labels"][:, 1:] != -100).sum())
        with torch.autocast(model.device.type, torch.bfloat16, enabled=bf16):
            total += float(model(**inputs).loss) * tokens
        count += tokens
    model.train(was_training)
    return total / max(1, count)


class HealthMonitor(TrainerCallback):
    """Measures one stage, writes {"health": {name: number, ...}} to the curve and warns of failures.

    processor: of the model; validation: samples with answers in the style that is trained; training: the sources of which every question is
    shown; curve: the run's, with the earlier measurements that later ones are compared to; stage_validates: whether the stage is judged by
    its validation loss.
    """

    def __init__(
        self,
        processor: Any,
        validation: Sequence[Sample],
        training: Sequence[Sequence[Sample]],
        curve: Curve,
        stage_validates: bool = True,
    ):
        self.curve, self.stage_validates = curve, stage_validates
        self._last_step: int | None = None
        self._last: dict[str, float] = {}
        self._warnings: set[str] = set()
        self._collator = Collator(processor)
        pool = [sample for sample in validation if sample.depth is not None] or list(validation)
        asked = random.Random(0).sample(pool, min(NUM_QUESTIONS, len(pool)))
        self._samples = {"validation": asked, "training": match_categories(asked, draw_candidates(training))}
        if {"depth", "geo"} & set(processor.region_tokens):
            self._samples["permuted"] = permute_depth(asked)
        self._text = [text_batch(processor.tokenizer, text) for text in plain_english()]
        self._batches: dict[str, list[dict[str, Any]]] = {}

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Measure before the first step."""
        self._record(args, state, kwargs["model"])

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Measure after a validation."""
        self._record(args, state, kwargs["model"])

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Measure after the last step, unless its validation has done so, and judge the whole stage."""
        self._record(args, state, kwargs["model"], stage_ends=True)

    def measure(self, model: Any, bf16: bool) -> dict[str, float]:
        """Return losses in nats and ratios by name, those that can be measured."""
        loss = {name: mean_loss(model, batches, bf16) for name in self._samples if (batches := self.batches(name))}
        found = {f"{name}_loss": value for name, value in loss.items()}
        if loss.get("permuted") and loss.get("validation"):
            found["depth_permuted"] = loss["permuted"] / loss["validation"]
        if loss.get("validation") and loss.get("training"):
            found["validation_rise"] = self._rise(found)
        return {**found, **self._language(model, bf16)}

    def _rise(self, found: Mapping[str, float]) -> float:
        lowest = min([found, *self.curve.health("validation_rise", this_stage=True)], key=lambda row: row["validation_loss"])
        return found["validation_loss"] / lowest["validation_loss"] if found["training_loss"] < lowest["training_loss"] else 1.0

    def _language(self, model: Any, bf16: bool) -> dict[str, float]:
        """Return the text's loss, and its perplexity over the run's first one where the model could read before the run."""
        first = next((row["text_loss"] for row in self.curve.health("text_loss")), None)
        text_loss = mean_loss(model, self._text, bf16)
        if (first or text_loss) > READS_BELOW * math.log(model.config.text_config.vocab_size):
            return {"text_loss": text_loss}
        return {"text_loss": text_loss, "perplexity": math.exp(text_loss - (first or text_loss))}

    def batches(self, name: str) -> list[dict[str, Any]]:
        """Return the batches of "validation", "training" or "permuted", collated once; an image's questions share a batch."""
        if name not in self._batches:
            samples = [sample for group in group_by_image(self._samples[name]).values() for sample in group]
            chunks = [samples[i : i + QUESTIONS_PER_BATCH] for i in range(0, len(samples), QUESTIONS_PER_BATCH)]
            self._batches[name] = [batch for chunk in chunks if (batch := self._collate(chunk)) is not None]
        return self._batches[name]

    def _collate(self, samples: list[Sample]) -> dict[str, Any] | None:
        """Return a batch; None, with a warning, when no question can be used."""
        try:
            return self._collator([samples])
        except DataError as error:
            logger.warning("left out of the health measurements: %s", error)
            return None

    def _record(self, args: TrainingArguments, state: TrainerState, model: Any, stage_ends: bool = False) -> None:
        """Measure, once per step, in all processes, as each must take part in every forward pass of a sharded model."""
        if state.global_step != self._last_step:
            self._last = self.measure(model, args.bf16)
            if state.is_world_process_zero:
                self.curve.add(step=state.global_step, health={name: round(value, 4) for name, value in self._last.items()})
            self._last_step = state.global_step
        for warning in health_warnings(self._last, self.stage_validates, stage_ends):
            message = f"stage {self.curve.stage}, step {state.global_step}: {warning}"
            if message not in self._warnings and state.is_world_process_zero:
                logger.warning(message)
            self._warnings.add(message)
