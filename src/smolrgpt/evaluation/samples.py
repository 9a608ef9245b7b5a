"""Reads the samples of a folder or a file that a user names."""

from __future__ import annotations

import random
from pathlib import Path

from smolrgpt.data.sources import read_source
from smolrgpt.data.sources.folders import state_depth
from smolrgpt.data.sources.warehouse import DepthChoice, available_splits, read_warehouse
from smolrgpt.schema import DataError, DepthMeaning, Sample


def read_samples(
    data: Path, source: str | None = None, split: str | None = None, depth: DepthChoice = "auto", meaning: DepthMeaning | None = None
) -> list[Sample]:
    """Read the samples of a data set, given as a folder or a file.

    Args:
        data: A folder, or a file of samples.
        source: Name of the reader; by default "samples" for a file and "warehouse" for a folder.
        split: Which split; by default "val", or the only one that a warehouse set has.
        depth: Which depth maps of a warehouse set to use: "auto", "metric", "relative" or "none".
        meaning: What the values of all depth maps mean; None: as their folders or types state.

    Raises:
        DataError: A row or file cannot be used at all, or the split is unclear.
        ValueError: The folder does not exist.
    """
    kind = source or ("samples" if data.is_file() else "warehouse")
    if kind == "warehouse":
        samples = read_warehouse(require_folder(data), split or default_split(data), depth=depth)
    else:
        samples = read_source(kind, data, split or "val")
    return list(state_depth(samples, meaning or DepthMeaning()))


def default_split(root: Path) -> str:
    """Return "val", or the only split of a warehouse set. Raises DataError when the choice is unclear."""
    splits = [name for name in available_splits(root) if not name.endswith("_captions")]  # captions have no short answers
    if "val" in splits or len(splits) == 1:
        return "val" if "val" in splits else splits[0]
    raise DataError(f"{root}: found the splits {', '.join(splits) or 'none'}; name the one to evaluate with --split")


def read_companion(root: Path, companion: str, split: str | None = None, depth: DepthChoice = "auto") -> list[Sample]:
    """Read the questions of ``<split>_<companion>.json``, which are about the images of ``<split>``, by default "val"."""
    split = (split or "val").removesuffix(f"_{companion}")
    return read_warehouse(root, f"{split}_{companion}", depth=depth, folder=split)


def draw_samples(samples: list[Sample], limit: int | None) -> list[Sample]:
    """Draw ``limit`` samples with a fixed seed, in their order; all of them where ``limit`` is None or not smaller."""
    if limit is None or limit >= len(samples):
        return samples
    if limit < 1:
        raise ValueError(f"limit is {limit}; expected at least 1 question")
    # a random draw, not every n-th: questions come in a fixed order of categories per image, with which a stride can coincide
    return [samples[index] for index in sorted(random.Random(0).sample(range(len(samples)), limit))]


def require_folder(folder: Path) -> Path:
    """Return the folder. If it does not exist, raises ValueError with the command that draws a data set."""
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder; 'smolrgpt synth {folder} --scenes 100' draws a data set there")
    return folder
