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
from smolrgpt.data.sources.folders import ImageSet
from smolrgpt.data.sources.rows import field, iter_samples, split_files
from smolrgpt.schema import Sample


def iter_llava_cc3m(root: Path | str, split: str, *, skips: SkipLog, images: str = "images") -> Iterator[Sample]:
    """The captions in file order, category "caption". split: "train" is chat.json. Raises DataError when rows or pictures are not there."""
    files = split_files(Path(root), split, {"train": "chat.json"})
    pictures = ImageSet(Path(root), images, None, "dark")
    return iter_samples(files, lambda row: _samples(row, pictures), skips)


def _samples(row: dict[str, Any], pictures: ImageSet) -> Iterator[Sample]:
    files = pictures.files(field(row, "image", str))
    for turn, (question, answer, regions) in enumerate(region_questions(field(row, "conversations", list), [])):
        name = field(row, "id", str)
        yield Sample(id=f"{name}-{turn}" if turn else name, question=question, regions=regions, answer=answer, category="caption", **files)
