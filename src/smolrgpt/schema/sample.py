"""Sample: one question about one image."""

from __future__ import annotations

import zlib
from collections.abc import Hashable, Sized
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from PIL import Image

from smolrgpt.schema.camera import Camera
from smolrgpt.schema.depth_map import DepthFile, DepthMap
from smolrgpt.schema.errors import DataError
from smolrgpt.schema.region import Region
from smolrgpt.schema.tar_member import TarMember
from smolrgpt.schema.text import plain_text
from smolrgpt.schema.truth import Truth

#: What stands for one region in a question, one per region, in order (the data sets' own spelling).
REGION_PLACEHOLDER = "<mask>"

#: Whether a wording is trained on, or kept for evaluation.
Wording = Literal["known", "reserved"]


@dataclass
class Sample:
    """One question about one image; R regions.

    Attributes:
        id: Unique within a split.
        image: A file, which is opened when it is needed, or the image itself.
        question: The text, with one ``<mask>`` per region, in order; it is brought into the form of ``plain_text``.
        regions: R regions; the same one may occur twice.
        depth: A file, which is opened when it is needed, the map itself, or None.
        camera: Pinhole intrinsics, None if unknown.
        answer: The full text; None at test time.
        normalized_answer: The short form that is scored; None at test time and for questions without one.
        category: The data set's name for the kind of question.
        image_key: Equal for samples with the same image, depth and camera, which are then encoded once. By default that of
            ``default_image_key``.
        region_indices: The index of each region in the list that the caller passed, by which predictions name it; empty: 0 to R - 1. The
            sample's own answers name regions by their position in the question.
        truth: Known facts of the objects besides the answer.
        wording: Whether the question's wording is trained on; None where the data set does not distinguish.
        official_template: The official template that the question is an instance of; None where the data set names none.
        text_question: The question with its regions named in words instead of marked, where the data set has that as well.
        metadata: Where the sample comes from, such as layout or annotation ids; JSON values. No code depends on it, reports group by it.
    """

    id: str
    image: Path | TarMember | Image.Image
    question: str
    regions: list[Region] = field(default_factory=list)
    depth: DepthFile | DepthMap | None = None
    camera: Camera | None = None
    answer: str | None = None
    normalized_answer: str | int | float | None = None
    category: str | None = None
    image_key: Hashable = None
    region_indices: tuple[int, ...] = ()
    truth: Truth | None = None
    wording: Wording | None = None
    official_template: str | None = None
    text_question: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.question = plain_text(self.question)
        self._check_lengths()
        if self.image_key is None:
            self.image_key = self.default_image_key()

    def default_image_key(self) -> Hashable:
        """Return the files of image and depth with the camera; the sample's id where image or depth is in memory."""
        in_memory = isinstance(self.image, Image.Image) or isinstance(self.depth, DepthMap)
        return self.id if in_memory else (self.image, self.depth, self.camera)

    def _check_lengths(self) -> None:
        expected = len(self.regions)
        found = self.question.count(REGION_PLACEHOLDER)
        if found != expected:
            raise DataError(
                f"sample {self.id!r}: the question has {found} {REGION_PLACEHOLDER} but {expected} regions were given; "
                "expected one region per placeholder, in order"
            )
        lists: dict[str, Sized] = {"region_indices": self.region_indices}
        if self.truth is not None:
            lists |= {"centers_m": self.truth.centers_m, "sizes_m": self.truth.sizes_m}
        for name, values in lists.items():
            if len(values) not in (0, expected):
                raise DataError(
                    f"sample {self.id!r}: {name} has {len(values)} entries; expected one for each of {expected} regions, or none"
                )

    @property
    def image_name(self) -> str:
        """The name of the image in messages: its file, or the sample where it is in memory."""
        return f"image of sample {self.id!r}" if isinstance(self.image, Image.Image) else str(self.image)

    @property
    def image_checksum(self) -> int:
        """A number from 0 to 2**32 - 1 that is the same for all samples of an image, in every process and wherever the data set lies.

        Random draws per image are made from it, so that they are the same in every run.
        """
        name = str(self.image_key) if isinstance(self.image, Image.Image) else self.image.name
        return zlib.crc32(name.encode(errors="surrogateescape"))
