"""The sources of a run's samples: those of synthetic sets, or folders of real data sets."""

from __future__ import annotations

import logging
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import starmap
from pathlib import Path

from accelerate import PartialState

from smolrgpt.data.loading import SkipLog
from smolrgpt.data.perturb import jitter_masks
from smolrgpt.data.prepared import Prepared, prepare
from smolrgpt.data.sources import iter_source, read_source
from smolrgpt.data.sources.warehouse import read_warehouse
from smolrgpt.schema import Sample
from smolrgpt.train.answers import restyle
from smolrgpt.train.config import FolderData, Run, SyntheticData, WorldsData

logger = logging.getLogger(__name__)

Sources = dict[str, Sequence[Sample]]

#: The source on which S1 is measured, in the dictionary that ``load_sources`` returns.
VALIDATION = "validation"
#: Key of a validation question's metadata: the set that it is from, in a run with several.
SET = "set"
#: Added to the seed of the training scenes: validation scenes take their own, so that more training scenes never change them.
VALIDATION_SEED_OFFSET = 1_000_000


@dataclass(frozen=True)
class SyntheticSource:
    """The selection of one source's samples from the synthetic set."""

    split: str
    """The split of the synthetic set."""
    relative_depth_fraction: float | None = None
    """Share of the images whose metric depth and camera are withheld; None: as ``SyntheticData`` sets."""
    known_wordings_only: bool = False
    """Leave out the wordings that are reserved for evaluation."""
    mask_jitter: bool = False
    """Replace the exact masks by slightly wrong ones (``data.perturb``)."""


SYNTHETIC_SOURCES: dict[str, SyntheticSource] = {
    "train": SyntheticSource("train"),
    "warmup": SyntheticSource("train_warmup"),
    "captions": SyntheticSource("train_captions"),
    "extra": SyntheticSource("train_extra"),
    "plain": SyntheticSource("train_plain", known_wordings_only=True),
    "train_relative": SyntheticSource("train", relative_depth_fraction=1.0),
    "train_mask_jitter": SyntheticSource("train", mask_jitter=True),
    "plain_mask_jitter": SyntheticSource("train_plain", known_wordings_only=True, mask_jitter=True),
}


def load_sources(config: Run) -> Sources:
    """Return samples by source name, in the run's answer style, and a fixed random draw of ``VALIDATION``.

    Synthetic data is drawn first if it is not there yet.
    """
    names = {name for stage in config.stages for name in stage.mixture}
    data, count = config.data, config.validation_questions
    if isinstance(data, WorldsData):
        sources = _worlds_sources(data, names, count)
    else:
        sources = _synthetic_sources(data, names) if isinstance(data, SyntheticData) else _folder_sources(data, names)
        sources[VALIDATION] = _draw(sources[VALIDATION], count)
    return {name: samples if name == VALIDATION else restyle(samples, config.answer_style) for name, samples in sources.items()}


def _draw(samples: Sequence[Sample], count: int) -> list[Sample]:
    """Draw at most ``count`` samples, the same for every seed of a run."""
    return random.Random(0).sample(samples, min(count, len(samples)))


# ----------------------------------------------------------------------------------------------------------------------- folders
def _folder_sources(data: FolderData, names: set[str]) -> Sources:
    sources: Sources = {}
    for name in sorted(names | {data.validation}):  # in the same order in every process
        reader, root, split = data.sources[name]
        if data.prepared is None:
            samples: Sequence[Sample] = read_source(reader, root, split)
        else:
            samples = _memory_mapped(Path(data.prepared) / Path(root).name / split, reader, Path(root).resolve(), split)
        sources[VALIDATION if name == data.validation else name] = samples
    return sources


def _memory_mapped(folder: Path, reader: str, root: Path, split: str) -> Prepared:
    """Open the prepared set in ``folder``; the first process prepares it, or completes it, when that is not done yet."""
    state = PartialState()
    if state.is_main_process:
        skips = SkipLog()
        prepare(iter_source(reader, root, split, skips=skips), folder, root=root, skips=skips)
        if skips.total:
            logger.warning("%s: %s", folder, skips.summary())
    state.wait_for_everyone()
    return Prepared(folder)


# --------------------------------------------------------------------------------------------------------------------- synthetic
def _worlds_sources(data: WorldsData, names: set[str], num_validation: int) -> Sources:
    """Return the sources of every set as SET:SOURCE, and validation questions with the set's name in their ids and metadata."""
    sources: Sources = {}
    validation: list[Sample] = []
    for name, part in data.sets.items():
        own = {source.removeprefix(f"{name}:") for source in names if source.startswith(f"{name}:")}
        found = _synthetic_sources(part, own)
        drawn = _draw(found.pop(VALIDATION), -(-num_validation // len(data.sets)))
        validation += [replace(sample, id=f"{name}:{sample.id}", metadata={**sample.metadata, SET: name}) for sample in drawn]
        sources |= {f"{name}:{source}": samples for source, samples in found.items()}
    return {**sources, VALIDATION: validation}


def _synthetic_sources(data: SyntheticData, names: set[str]) -> Sources:
    from smolrgpt.data.worlds import write_dataset

    splits = ("train", data.num_scenes, data.seed), ("val", data.num_val_scenes, data.seed + VALIDATION_SEED_OFFSET)
    with PartialState().main_process_first():
        for split, num_scenes, seed in splits:
            write_dataset(
                data.root,
                split,
                num_scenes,
                seed,
                data.layouts,
                size=data.size,
                questions_per_scene=data.questions_per_scene,
                world=data.world,
                scales=data.scales,
                sensor=data.sensor,
            )
    sources: Sources = {name: read_synthetic(data, source) for name, source in SYNTHETIC_SOURCES.items() if name in names}
    asked = [sample for split in data.validation for sample in read_warehouse(data.root, split, depth=data.depth, folder="val")]
    return {**sources, VALIDATION: [sample for sample in asked if sample.wording != "reserved"]}


def read_synthetic(data: SyntheticData, source: SyntheticSource) -> list[Sample]:
    """Return the samples of one source of the synthetic set."""
    fraction = data.relative_depth_fraction if source.relative_depth_fraction is None else source.relative_depth_fraction
    samples = _withhold_depth(data, source.split, fraction)
    if source.known_wordings_only:
        samples = [sample for sample in samples if sample.wording == "known"]
    fraction = 1.0 if source.mask_jitter else data.mask_jitter_fraction
    return jitter_masks(samples, fraction) if fraction else samples


def _withhold_depth(data: SyntheticData, split: str, relative_fraction: float) -> list[Sample]:
    """Return samples with metric depth and camera, but for shares without depth, without the camera, or with relative depth alone.

    The shares do not overlap; an image belongs to the same one in every source, by a hash of its name, but for ``relative_fraction``.
    """
    metric = read_warehouse(data.root, split, depth=data.depth, folder="train")
    if data.depth == "none":
        return metric
    relative = read_warehouse(data.root, split, depth="relative", folder="train") if relative_fraction else metric
    no_depth_from = 1 - data.no_depth_fraction
    no_camera_from = no_depth_from - data.no_camera_fraction

    def select(metric_sample: Sample, relative_sample: Sample) -> Sample:
        position = metric_sample.image_checksum % 1000 / 1000  # in [0, 1)
        if position >= no_depth_from:
            return replace(metric_sample, depth=None, camera=None, image_key=None)
        if position >= no_camera_from:
            return replace(metric_sample, camera=None, image_key=None)
        return replace(relative_sample, camera=None, image_key=None) if position < relative_fraction else metric_sample

    return list(starmap(select, zip(metric, relative, strict=True)))
