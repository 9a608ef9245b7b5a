"""The parquet files the published program was trained from: every set above in one shape.

    <root>/<split>.parquet, <split>-*.parquet or data/<split>-*.parquet
        rows: id, rgb_image, depth_image, rle [{size, counts}] or null, texts {user, assistant}, category, normalized_answer, dataset_name
    <root>/...   the pictures, unpacked from the tar files beside the parquet (``unpack(root)``)

Questions spell a region ``<mask_rgb><mask_depth>``. The warehouse's depth is near = dark, that of the others, from Depth-Anything, bright.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from smolrgpt.data.loading import DEPTH_NEAR, SkipLog
from smolrgpt.data.sources.conversations import region_questions
from smolrgpt.data.sources.folders import Pictures
from smolrgpt.data.sources.rows import field, iter_samples, optional, rle_regions, scalar, split_files
from smolrgpt.schema import DataError, Sample

#: Columns become one type in parquet, text; these categories' answers are numbers.
_NUMERIC = ("count", "distance")


def iter_released(
    root: Path | str,
    split: str,
    *,
    skips: SkipLog,
    images: str = ".",
    depths: str | None = ".",
    near: Literal["dark", "bright"] | None = None,
) -> Iterator[Sample]:
    """The questions in file order; opens no image.

    images, depths: folders in which rgb_image and depth_image are paths; ``depths=None`` asks for no depth. near: the depth maps' near end,
    by dataset_name when None. Raises DataError when rows or pictures are not there.
    """
    if near not in ("dark", "bright", None):
        raise DataError(f"near is {near!r}; expected 'dark', 'bright' or None")
    files = split_files(Path(root), split)
    pictures = Pictures(Path(root) / images)
    maps = None if depths is None else Pictures(Path(root) / depths, "depth")
    return iter_samples(files, lambda row: _samples(row, pictures, maps, near), skips)


def _samples(row: dict[str, Any], pictures: Pictures, maps: Pictures | None, near: str | None) -> Iterator[Sample]:
    name, texts = str(row.get("id")), row.get("texts")
    image = pictures.find(field(row, "rgb_image", str))
    depth = maps.find(field(row, "depth_image", str)) if maps and row.get("depth_image") else None
    conversation = []
    for turn in texts if isinstance(texts, list) else [texts]:
        conversation += [{"from": "human", "value": field(turn, "user", str)}, {"from": "gpt", "value": field(turn, "assistant", str)}]
    metadata = {"dataset_name": optional(row, "dataset_name")}
    if depth is not None:
        metadata[DEPTH_NEAR] = near or ("dark" if "warehouse" in str(metadata["dataset_name"]).lower() else "bright")
    for turn, (question, answer, regions) in enumerate(region_questions(conversation, rle_regions(row.get("rle")))):
        yield Sample(
            id=f"{name}-{turn}" if turn else name,
            image=image,
            depth=depth,
            question=question,
            regions=regions,
            answer=answer,
            normalized_answer=_normalized(row),
            category=optional(row, "category"),
            image_key=str(image) if depth else f"{image}#none",
            metadata=dict(metadata),
        )


def _normalized(row: dict[str, Any]) -> str | int | float | None:
    value, category = scalar(row, "normalized_answer"), optional(row, "category")
    if value is None or value == "":
        return None
    if category not in _NUMERIC:
        return value
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not math.isfinite(number) or (category == "count" and not number.is_integer()):
        raise DataError(f"normalized_answer is {value!r}; expected a number for category {category!r}")
    return int(number) if category == "count" else number
