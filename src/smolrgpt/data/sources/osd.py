"""Open Spatial Dataset (SpatialRGPT): conversations about regions of OpenImages images.

    <root>/result_10_depth_convs.json   31.9 GB; entries: filename, conversations (about ten pairs), rle
    <root>/images/<filename>.jpg        from OpenImages
    <root>/depths/<filename>.png        made with Depth-Anything-V2: 8-bit, min-max per image, near = bright

``<mask> <depth>`` is one region. ``rle`` holds those of the whole conversation in order, an answer counts those of its own turn.

One turn becomes one sample, which is also how the published curriculum counts this set (about 1.07 million single questions). A whole
conversation is not one sequence: every turn calls another region ``[Region 0]``, so a tag would stand for two regions at once, and the
questions of an image already share its encoding in a batch; only the prefix of image tokens would be saved.
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
    """Yield one sample per turn, in file order, with ids ``<filename>-<turn>``; opens no image.

    An entry whose numbers of placeholders and regions differ is left out whole, because which region a placeholder means is then unknown.

    Args:
        root: The folder of the data set.
        split: "train" is the published file.
        skips: Counts rows that cannot be used.
        images: The folder of images, as in ``ImageSet``.
        depths: The folder of depth maps, as in ``ImageSet``.
        suffix: That of the image files.

    Raises:
        DataError: When rows or images do not exist.
    """
    files = split_files(Path(root), split, {"train": "result_10_depth_convs.json"})
    images_of_set = ImageSet(Path(root), images, depths)
    return iter_samples(files, lambda row: _samples(row, images_of_set, suffix), skips)


def _samples(row: dict[str, Any], images: ImageSet, suffix: str) -> Iterator[Sample]:
    name = field(row, "filename", str)
    found = images.find(name + suffix)
    turns = region_questions(field(row, "conversations", list), rle_regions(row.get("rle")))
    for turn, (question, answer, regions) in enumerate(turns):
        yield Sample(f"{name}-{turn}", found.image, question, regions, found.depth, answer=answer)
