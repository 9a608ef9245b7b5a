"""Open Spatial Dataset (SpatialRGPT): conversations about regions of OpenImages pictures.

    <root>/result_10_depth_convs.json   31.9 GB; entries: filename, conversations (about ten pairs), rle
    <root>/images/<filename>.jpg        from OpenImages
    <root>/depths/<filename>.png        made with Depth-Anything-V2: 8-bit, min-max per image, near = bright

``<mask> <depth>`` is one region. ``rle`` holds those of the whole conversation in order, an answer counts those of its own turn.

One turn becomes one sample, which is also how the published curriculum counts this set (about 1.07 million single questions). A whole
conversation in one sequence is left out: every turn says ``[Region 0]`` of another region, so a name would carry two regions' features at
once, and the questions of a picture already share its encoding in a batch; only the image tokens' prefix would be saved.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from smolrgpt.data.loading import SkipLog
from smolrgpt.data.sources.conversations import region_questions
from smolrgpt.data.sources.folders import ImageSet
from smolrgpt.data.sources.rows import field, iter_samples, rle_regions, split_files
from smolrgpt.schema import Sample


def iter_osd(
    root: Path | str, split: str, *, skips: SkipLog, images: str = "images", depths: str | None = "depths", suffix: str = ".jpg"
) -> Iterator[Sample]:
    """One sample per turn, in file order, ids ``<filename>-<turn>``; opens no image.

    split: "train" is the published file. images, depths: folders as in ``ImageSet``. suffix: of the picture files. An entry whose turns and
    regions do not fit is left out whole, because the place of every later region is then unknown. Raises DataError when rows or pictures
    are not there.
    """
    files = split_files(Path(root), split, {"train": "result_10_depth_convs.json"})
    pictures = ImageSet(Path(root), images, depths, near="bright")
    return iter_samples(files, lambda row: _samples(row, pictures, suffix), skips)


def _samples(row: dict[str, Any], pictures: ImageSet, suffix: str) -> Iterator[Sample]:
    name = field(row, "filename", str)
    files = pictures.files(name + suffix)
    turns = region_questions(field(row, "conversations", list), rle_regions(row.get("rle")))
    for turn, (question, answer, regions) in enumerate(turns):
        yield Sample(id=f"{name}-{turn}", question=question, regions=regions, answer=answer, metadata=pictures.metadata, **files)
