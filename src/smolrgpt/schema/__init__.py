"""The nouns every part of the project shares: Sample, Region, DepthMap, Camera, Packed.

Nothing here imports torch or opens a file. Legend: H W height and width in pixels.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

DepthKind = Literal["metric", "relative"]
Category = Literal["left_right", "count", "mcq", "distance"]

#: What stands for one region in a question, one per region, in order (the data sets' own spelling).
REGION_PLACEHOLDER = "<mask>"


class DataError(ValueError):
    """A file or row that cannot be used; the message says which, what was found and what was expected."""


def brief(value: Any, most: int = 60) -> str:
    """A value in a message: on one line, at most that many characters."""
    text = " ".join(str(value).split())
    return text if len(text) <= most else f"{text[: most - 3]}..."


@dataclass(frozen=True)
class Camera:
    """A pinhole camera: focal lengths and principal point in pixels of a (height, width) image."""

    fx: float
    fy: float
    cx: float
    cy: float
    width: int
    height: int

    def resized(self, width: int, height: int) -> Camera:
        """The same camera for the same picture stretched to (height, width)."""
        sx, sy = width / self.width, height / self.height
        return Camera(self.fx * sx, self.fy * sy, self.cx * sx, self.cy * sy, width, height)


@dataclass(frozen=True)
class DepthMap:
    """Planar depth with near = small.

    values: float32 (H, W). ``metric``: metres along the optical axis, > 0. ``relative``: [0, 1], affine to depth.
    NaN marks a pixel without a measurement; no other value does.
    """

    values: np.ndarray
    kind: DepthKind

    def __post_init__(self) -> None:
        if self.kind not in ("metric", "relative"):
            raise DataError(f"depth kind is {self.kind!r}; expected 'metric' or 'relative'")
        if self.values.ndim != 2 or self.values.dtype != np.float32:
            raise DataError(f"depth is {self.values.dtype} {self.values.shape}; expected float32 (H, W)")


@dataclass(frozen=True)
class Packed:
    """A file inside an uncompressed tar archive: ``size`` bytes from ``offset`` on; ``name`` is what the archive calls it."""

    archive: Path
    name: str
    offset: int
    size: int

    def __str__(self) -> str:
        return f"{self.archive}/{self.name}"


@dataclass(frozen=True)
class Region:
    """A mask as COCO compressed run lengths (column-major), the form data sets ship and the cheapest to keep.

    size: (H, W) of the mask; counts: the run-length string. See ``data/regions.py`` for every conversion.
    """

    size: tuple[int, int]
    counts: str


@dataclass
class Sample:
    """One question about one image.

    image, depth: a file (opened when used) or the data itself. ``question`` holds one ``<mask>`` per entry of ``regions``, in order;
    the same region may occur twice. ``answer`` is the full text, ``normalized_answer`` the data set's short form; both None at test time.
    ``image_key`` is equal for samples of the same image (and depth): they are encoded once.
    """

    id: str
    image: Path | Packed | Image.Image
    question: str
    regions: list[Region] = field(default_factory=list)
    depth: Path | Packed | DepthMap | None = None
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
        self.image_key = self.image_key or (str(self.image) if isinstance(self.image, (Path, Packed)) else self.id)
