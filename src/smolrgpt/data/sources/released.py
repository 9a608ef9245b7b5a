"""The parquet files that the published model was trained on: all of its data sets in one format.

    <root>/<split>.parquet, <split>-*.parquet or data/<split>-*.parquet
        rows: id, rgb_image, depth_image, rle [{size, counts}] or null, texts {user, assistant}, category, normalized_answer, dataset_name
    <root>/...   the images, unpacked from the tar files next to the parquet (``unpack(root)``)

Questions spell a region ``<mask_rgb><mask_depth>``. The warehouse's depth is near = dark, that of the others, from Depth-Anything, bright.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from smolrgpt.data.loading import SkipLog
from smolrgpt.data.sources.conversations import region_questions
from smolrgpt.data.sources.folders import FileFolder
from smolrgpt.data.sources.rows import field, iter_samples, optional, rle_regions, scalar, split_files
from smolrgpt.schema import DataError, DepthFile, Polarity, Sample
from smolrgpt.tasks import NormalizedAnswer, task_named
from smolrgpt.tasks.count import COUNT
from smolrgpt.tasks.distance import parse_number


def iter_released(
    root: Path | str,
    split: str,
    *,
    skips: SkipLog,
    images: str = ".",
    depths: str | None = ".",
) -> Iterator[Sample]:
    """Yield the questions in file order; opens no image.

    Args:
        root: The folder of the data set.
        split: The name of a parquet file, or the start of the names of its shards.
        skips: Counts rows that cannot be used.
        images: The folder to which rgb_image is relative.
        depths: The folder to which depth_image is relative; None reads the set without depth.

    Raises:
        DataError: When rows or images do not exist.
    """
    files = split_files(Path(root), split)
    image_folder = FileFolder(Path(root) / images)
    depth_folder = None if depths is None else FileFolder(Path(root) / depths, "depth")
    return iter_samples(files, lambda row: _samples(row, image_folder, depth_folder), skips)


def _samples(row: dict[str, Any], images: FileFolder, depths: FileFolder | None) -> Iterator[Sample]:
    name, dataset = str(row.get("id")), optional(row, "dataset_name")
    image = images.find(field(row, "rgb_image", str))
    depth = None
    if depths and row.get("depth_image"):
        near: Polarity = "dark" if "warehouse" in str(dataset).lower() else "bright"
        depth = DepthFile(depths.find(field(row, "depth_image", str)), relative_near=near)
    for turn, (question, answer, regions) in enumerate(region_questions(_conversation(row), rle_regions(row.get("rle")))):
        yield Sample(
            id=f"{name}-{turn}" if turn else name,
            image=image,
            question=question,
            regions=regions,
            depth=depth,
            answer=answer,
            normalized_answer=_normalized(row),
            category=optional(row, "category"),
            metadata={"dataset_name": dataset},
        )


def _conversation(row: dict[str, Any]) -> list[dict[str, str]]:
    texts, conversation = row.get("texts"), []
    for turn in texts if isinstance(texts, list) else [texts]:
        conversation += [{"from": "human", "value": field(turn, "user", str)}, {"from": "gpt", "value": field(turn, "assistant", str)}]
    return conversation


def _normalized(row: dict[str, Any]) -> NormalizedAnswer:
    """Return the normalised answer; a number where the kind of question requires one, because parquet columns hold text only."""
    value, task = scalar(row, "normalized_answer"), task_named(optional(row, "category"))
    if value is None or value == "":
        return None
    if task is not COUNT and not task.is_length:
        return value
    try:
        number = parse_number(value)
    except ValueError:
        number = math.nan
    if math.isnan(number) or (task is COUNT and not number.is_integer()):
        raise DataError(f"normalized_answer is {value!r}; expected a number for category {task.name!r}")
    return int(number) if task is COUNT else number
