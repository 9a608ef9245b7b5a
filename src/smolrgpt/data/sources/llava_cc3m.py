"""LLaVA-CC3M-Pretrain-595K: captions, without regions and depth.

<root>/chat.json   [{"id", "image": "GCC_train_000000000.jpg", "conversations": [human, gpt]}, ...]; <image> first or last
<root>/images/     what images.zip holds: unzip images.zip -d images
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from smolrgpt.data.loading import SkipLog
from smolrgpt.data.sources.conversations import region_questions
from smolrgpt.data.sources.folders import FileFolder
from smolrgpt.data.sources.rows import field, iter_samples, split_files
from smolrgpt.schema import Sample


def iter_llava_cc3m(root: Path | str, split: str, *, skips: SkipLog, images: str = "images") -> Iterator[Sample]:
    """Yield the captions in file order, category "caption".

    Args:
        root: The folder of the data set.
        split: "train" is chat.json.
        skips: Counts rows that cannot be used.
        images: The folder of images, relative to root.

    Raises:
        DataError: When rows or images do not exist.
    """
    files = split_files(Path(root), split, {"train": "chat.json"})
    folder = FileFolder(Path(root) / images)
    return iter_samples(files, lambda row: _samples(row, folder), skips)


def _samples(row: dict[str, Any], images: FileFolder) -> Iterator[Sample]:
    name, image = field(row, "id", str), images.find(field(row, "image", str))
    for turn, (question, answer, regions) in enumerate(region_questions(field(row, "conversations", list), [])):
        yield Sample(f"{name}-{turn}" if turn else name, image, question, regions, answer=answer, category="caption")
