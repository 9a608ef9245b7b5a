"""SpatialRGPT-Bench: 1,406 questions about regions of Omni3D pictures, as JSON, JSON lines or parquet.

<root>/val.jsonl (.json, .parquet), data/val-*.parquet, or *SpatialRGPT-Bench*.jsonl
    rows: id, image_info {file_path, height, width}, text_q, qa_info {type, category}, conversations, bbox, rle; nested fields may be
    JSON strings, rle may be null (then the boxes are the regions)
<root>/images/<file_path>   the pictures, which have their own licences
<root>/depths/<file_path>   with .png for its suffix; made by the user, near = bright
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from smolrgpt.data.loading import SkipLog
from smolrgpt.data.sources.conversations import region_questions
from smolrgpt.data.sources.folders import ImageSet
from smolrgpt.data.sources.rows import field, frame, iter_samples, rle_regions, split_files
from smolrgpt.schema import DataError, Region, Sample


def iter_spatial_bench(
    root: Path | str, split: str, *, skips: SkipLog, images: str = "images", depths: str | None = "depths"
) -> Iterator[Sample]:
    """The questions in file order; opens no image.

    ``category`` is qa_info.category (such as "distance_data", "left_predicate"), ``metadata`` keeps text_q and qa_info as they are shipped.
    images, depths: folders as in ``ImageSet``. Raises DataError when rows or pictures are not there.
    """
    files = split_files(Path(root), split, {"val": "*SpatialRGPT-Bench*.jsonl"})
    pictures = ImageSet(Path(root), images, depths, near="bright")
    return iter_samples(files, lambda row: _samples(row, pictures), skips)


def _samples(row: dict[str, Any], pictures: ImageSet) -> Iterator[Sample]:
    name, info, asked = field(row, "id", str), field(row, "image_info", dict), field(row, "qa_info", dict)
    files = pictures.files(field(info, "file_path", str))
    turns = region_questions(field(row, "conversations", list), _regions(row, info))
    for turn, (question, answer, regions) in enumerate(turns):
        yield Sample(
            id=f"{name}-{turn}" if turn else name,
            question=question,
            regions=regions,
            answer=answer,
            category=field(asked, "category", str),
            metadata={**pictures.metadata, "text_q": row.get("text_q"), "qa_info": asked},
            **files,
        )


def _regions(row: dict[str, Any], info: dict[str, Any]) -> list[Region]:
    """The masks, else the boxes."""
    if row.get("rle") not in (None, "null", "None", []):
        return rle_regions(field(row, "rle", list))
    height, width = frame(info, "height", "width")
    boxes = field(row, "bbox", list)
    if not boxes:
        raise DataError("it has neither rle nor bbox; expected one of them per <mask>")
    return [Region.from_box(box, height, width) for box in boxes]
