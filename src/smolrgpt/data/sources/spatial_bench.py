"""SpatialRGPT-Bench: 1,406 questions about regions of Omni3D images, as JSON, JSON lines or parquet.

<root>/val.jsonl (.json, .parquet), data/val-*.parquet, or *SpatialRGPT-Bench*.jsonl
    rows: id, image_info {file_path, height, width}, text_q, qa_info {type, category}, conversations, bbox, rle; nested fields may be
    JSON strings, rle may be null (then the boxes are the regions)
<root>/images/<file_path>   the images, which have their own licences
<root>/depths/<file_path>   with .png for its suffix; made by the user, near = bright
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from smolrgpt.data.loading import SkipLog
from smolrgpt.data.sources.conversations import region_questions
from smolrgpt.data.sources.folders import ImageSet
from smolrgpt.data.sources.rows import field, image_shape, iter_samples, rle_regions, split_files
from smolrgpt.schema import DataError, Region, Sample

#: How parquet and JSON lines write that a row has no run lengths.
_NO_RLE: tuple[Any, ...] = (None, "null", "None", [])


def iter_spatial_bench(
    root: Path | str, split: str, *, skips: SkipLog, images: str = "images", depths: str | None = "depths"
) -> Iterator[Sample]:
    """Yield the questions in file order; opens no image.

    ``category`` is qa_info.category (such as "distance_data", "left_predicate"), ``text_question`` is text_q, and ``metadata`` keeps
    qa_info as it is shipped.

    Args:
        root: The folder of the data set.
        split: "val" is the published file.
        skips: Counts rows that cannot be used.
        images: The folder of images, as in ``ImageSet``.
        depths: The folder of depth maps, as in ``ImageSet``.

    Raises:
        DataError: When rows or images do not exist.
    """
    files = split_files(Path(root), split, {"val": "*SpatialRGPT-Bench*.jsonl"})
    images_of_set = ImageSet(Path(root), images, depths)
    return iter_samples(files, lambda row: _samples(row, images_of_set), skips)


def _samples(row: dict[str, Any], images: ImageSet) -> Iterator[Sample]:
    name, info, qa_info = field(row, "id", str), field(row, "image_info", dict), field(row, "qa_info", dict)
    found = images.find(field(info, "file_path", str))
    turns = region_questions(field(row, "conversations", list), _regions(row, info))
    for turn, (question, answer, regions) in enumerate(turns):
        yield Sample(
            id=f"{name}-{turn}" if turn else name,
            image=found.image,
            question=question,
            regions=regions,
            depth=found.depth,
            answer=answer,
            category=field(qa_info, "category", str),
            text_question=None if row.get("text_q") is None else str(row["text_q"]),
            metadata={"qa_info": qa_info},
        )


def _regions(row: dict[str, Any], info: dict[str, Any]) -> list[Region]:
    """Return the masks, or the boxes where there are none."""
    if row.get("rle") not in _NO_RLE:
        return rle_regions(field(row, "rle", list))
    height, width = image_shape(info, "height", "width")
    boxes = field(row, "bbox", list)
    if not boxes:
        raise DataError("it has neither rle nor bbox; expected one of them per <mask>")
    return [Region.from_box(box, height, width) for box in boxes]
