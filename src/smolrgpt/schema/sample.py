"""Sample: one question about one image."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from smolrgpt.schema.camera import Camera
from smolrgpt.schema.depth_map import DepthMap
from smolrgpt.schema.errors import DataError
from smolrgpt.schema.region import Region
from smolrgpt.schema.tar_member import TarMember

#: What stands for one region in a question, one per region, in order (the data sets' own spelling).
REGION_PLACEHOLDER = "<mask>"


@dataclass
class Sample:
    """One question about one image.

    image, depth: a file (opened when used) or the data itself. ``question`` holds one ``<mask>`` per entry of ``regions``, in order;
    the same region may occur twice. ``answer`` is the full text, ``normalized_answer`` the data set's short form; both None at test time.
    ``image_key`` is equal for samples of the same image (and depth): they are encoded once.
    """

    id: str
    image: Path | TarMember | Image.Image
    question: str
    regions: list[Region] = field(default_factory=list)
    depth: Path | TarMember | DepthMap | None = None
    camera: Camera | None = None
    answer: str | None = None
    normalized_answer: str | int | float | None = None
    category: str | None = None
    image_key: str = ""
    metadata: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        found = self.question.count(REGION_PLACEHOLDER)
        if found != len(self.regions):
            raise DataError(
                f"sample {self.id!r}: the question has {found} {REGION_PLACEHOLDER} but {len(self.regions)} regions were given; "
                "expected one region per placeholder, in order"
            )
        self.image_key = self.image_key or (str(self.image) if isinstance(self.image, (Path, TarMember)) else self.id)
