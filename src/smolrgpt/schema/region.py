"""Region: a mask as run lengths, with converters from and to masks, boxes, polygons, run lengths and files.

A region drawn on a copy of another size is stretched to the image by the processor, so a region need not have the image's size; it should
have its aspect ratio. Legend: H W height and width of the mask in pixels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from smolrgpt.schema import run_lengths
from smolrgpt.schema.errors import DataError, brief, naming
from smolrgpt.schema.image_file import is_file, read_image, turn_upright


@dataclass(frozen=True)
class Region:
    """A mask as COCO compressed run lengths (column-major), the form data sets ship and the cheapest to keep.

    Make one with a ``from_*`` converter. size: (H, W) of the mask; counts: the run-length string.
    """

    size: tuple[int, int]
    counts: str

    # -------------------------------------------------------------------------------------------------- converters from other forms
    def doubts(self) -> list[str]:
        """Return what is implausible about the region, a sentence each without a full stop."""
        return []

    @classmethod
    def from_any(cls, value: Any, height: int, width: int) -> Region:
        """Convert any form of a region of the (height, width) image.

        value: a Region; a mask array (H, W) or mask image; a box, four numbers x0, y0, x1, y1 in pixels; a string as of ``from_text``; the
        Path of a mask image; a mapping as of ``from_json``. Raises DataError for everything else, and as the form's own converter.
        """
        if isinstance(value, Region):
            return value
        if isinstance(value, str):
            return cls.from_text(value, height, width)
        if isinstance(value, Path):
            return cls.from_file(value)
        if isinstance(value, Mapping):
            return cls.from_json(value, height, width)
        if isinstance(value, Image.Image):
            return cls.from_image(value)
        if isinstance(value, np.ndarray) and value.ndim == 2:
            return cls.from_mask(value)
        if isinstance(value, (np.ndarray, list, tuple)):
            return cls.from_box(list(value), height, width)
        raise DataError(
            f"a region is a {type(value).__name__}; expected a box (x0, y0, x1, y1), a mask (H, W), a mask image or run lengths"
        )

    @classmethod
    def from_text(cls, text: str, height: int, width: int) -> Region:
        """Read ``x0,y0,x1,y1`` or ``polygon:x,y,x,y,...`` in pixels of the (height, width) image, or the mask image of that path.

        Raises DataError for other text, and the same errors as ``from_box``, ``from_polygon`` and ``from_file``.
        """
        if text.startswith("polygon:"):
            return cls.from_polygon(_numbers_in(text.removeprefix("polygon:")), height, width)
        if "," in text and not is_file(text):
            return cls.from_box(_numbers_in(text), height, width)
        return cls.from_file(text)

    @classmethod
    def from_json(cls, value: Any, height: int, width: int, folder: Path | None = None) -> Region:
        """Read {"box": [x0, y0, x1, y1]}, {"polygon": [x, y, ...]}, {"rle": {...}} or run lengths of the (height, width) image.

        {"mask": name}, a mask image in ``folder``, is one more form where a folder is given: without one, no file is opened.
        Raises DataError for any other form, and the same errors as the form's own converter.
        """
        if isinstance(value, Mapping) and len(value) == 1:
            ((form, content),) = value.items()
            if form == "box":
                return cls.from_box(content, height, width)
            if form == "polygon":
                return cls.from_polygon(content, height, width)
            if form == "rle":
                return cls.from_rle(content)
            if form == "mask" and folder is not None:
                return cls.from_file(folder / str(content))
        if isinstance(value, Mapping) and {"size", "counts"} <= set(value):
            return cls.from_rle(value)
        raise DataError(f'region {brief(value)} is none of {{"box": [...]}}, {{"polygon": [...]}} and {{"rle": {{...}}}}')

    @classmethod
    def from_mask(cls, mask: np.ndarray) -> Region:
        """Convert an (H, W) array of any numeric type, nonzero (and not NaN) inside.

        Raises DataError when it is not 2-D or holds no pixel.
        """
        mask = np.asarray(mask)
        if mask.ndim != 2 or mask.dtype.kind not in "biuf":
            raise DataError(f"mask is {mask.dtype} {mask.shape}; expected a numeric or boolean array (H, W)")
        inside = np.nan_to_num(mask) != 0
        if not inside.any():
            raise DataError(f"mask of {mask.shape[1]}x{mask.shape[0]} holds no pixel; expected at least one")
        return cls((mask.shape[0], mask.shape[1]), run_lengths.encode_mask(inside))

    @classmethod
    def from_box(cls, box: Sequence[float], height: int, width: int) -> Region:
        """Take every pixel of the (height, width) image that the box (x0, y0, x1, y1; pixels, end exclusive) touches.

        The box is clipped to the image. Raises DataError for an empty or inverted box, one outside the image, or anything but four finite
        numbers.
        """
        corners = _finite(box, "box")
        if corners.shape != (4,):
            raise DataError(f"box {brief(box)} is not four numbers; expected x0,y0,x1,y1 in pixels")
        x0, y0, x1, y1 = corners.tolist()
        if x1 <= x0 or y1 <= y0:
            raise DataError(f"box {corners.tolist()} is empty or inverted; expected x0 < x1 and y0 < y1")
        if x0 >= width or y0 >= height or x1 <= 0 or y1 <= 0:
            raise DataError(f"box {corners.tolist()} lies outside the image of {width}x{height} pixels")
        mask = np.zeros((height, width), dtype=bool)
        mask[int(max(y0, 0)) : int(np.ceil(min(y1, height))), int(max(x0, 0)) : int(np.ceil(min(x1, width)))] = True
        return cls.from_mask(mask)

    @classmethod
    def from_polygon(cls, points: Sequence[Any] | np.ndarray, height: int, width: int) -> Region:
        """Fill a polygon: points [(x, y), ...], a flat COCO list [x0, y0, x1, y1, ...] or several flat lists (their union); pixels.

        Raises DataError for fewer than three points, non-finite or far-off coordinates, or a polygon that covers no pixel of the image.
        """
        polygons = [_finite(part, "polygon").reshape(-1) for part in _parts(points)]
        for polygon in polygons:
            if polygon.size < 6 or polygon.size % 2:
                raise DataError(f"polygon {polygon.tolist()[:8]} has {polygon.size} numbers; expected x,y pairs of at least three points")
            # pycocotools walks the outline pixel by pixel, so a coordinate like 1e9 would exhaust the memory.
            if np.abs(polygon).max() > 16 * max(height, width):
                raise DataError(f"polygon reaches to {np.abs(polygon).max():g}, far outside the image of {width}x{height} pixels")
        region = cls((height, width), run_lengths.encode_polygons(polygons, height, width))
        if region.area == 0:
            raise DataError(f"polygon {polygons[0].tolist()[:8]} covers no pixel of the image of {width}x{height} pixels")
        return region

    @classmethod
    def from_file(cls, path: Path | str) -> Region:
        """Read a mask image: with transparency, what is mostly opaque is inside; otherwise every pixel that is not black (index 0).

        Raises DataError naming the file when it cannot be read or nothing is inside.
        """
        with naming(path):
            return cls.from_image(read_image(path))

    @classmethod
    def from_image(cls, image: Image.Image) -> Region:
        """Convert a mask image that is open, by the rule of ``from_file``. Raises DataError when nothing is inside."""
        return cls.from_mask(_inside(image))

    @classmethod
    def from_rle(cls, rle: Mapping[str, Any], *, check: bool = True) -> Region:
        """Take COCO run lengths {"size": [H, W], "counts": compressed str | bytes, or a list of ints}.

        An empty mask is kept: data sets ship them. check: False reads the runs only when the region is used, for whole data sets.
        Raises DataError when a field is missing or the runs do not cover exactly H x W pixels.
        """
        try:
            size, counts = rle["size"], rle["counts"]
            height, width = int(size[0]), int(size[1])
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise DataError(f"run lengths {brief(rle)} are not {{'size': [H, W], 'counts': ...}}") from error
        if height <= 0 or width <= 0 or len(size) != 2:
            raise DataError(f"run lengths have size {brief(size)}; expected [H, W], both positive")
        if isinstance(counts, list):
            counts = run_lengths.encode_runs(counts, height, width)
        if isinstance(counts, bytes):
            counts = counts.decode("latin-1")
        if not isinstance(counts, str):
            raise DataError(f"run lengths have counts of type {type(counts).__name__}; expected a string or a list of ints")
        region = cls((height, width), counts)
        if check:
            region.to_runs()
        return region

    # ---------------------------------------------------------------------------------------------------- converters to other forms
    def to_mask(self) -> np.ndarray:
        """Decode to a bool (H, W) mask. Raises DataError when the run lengths are corrupt."""
        return run_lengths.decode_mask(self.counts, *self.size)

    def to_rle(self) -> dict[str, Any]:
        """Write {"size": [H, W], "counts": str}, the official data sets' form (ready for JSON and for pycocotools)."""
        return {"size": list(self.size), "counts": self.counts}

    def to_runs(self) -> np.ndarray:
        """Decode to int64 run lengths of the column-major mask, the first of them outside. Raises DataError when they are corrupt."""
        return run_lengths.decode_runs(self.counts, *self.size)

    def turned(self, orientation: int) -> Region:
        """Return the region of the upright image, from one of stored pixels with this EXIF orientation (1 to 8).

        Raises DataError when the run lengths are corrupt.
        """
        mask = turn_upright(self.to_mask(), orientation)
        return Region((mask.shape[0], mask.shape[1]), run_lengths.encode_mask(mask))

    @property
    def area(self) -> int:
        """Number of pixels inside, without unpacking the run lengths. Raises DataError when they are corrupt."""
        return int(self.to_runs()[1::2].sum())

    def to_patch(self) -> tuple[np.ndarray, int, int, int, int]:
        """Decode the rows and columns that hold a pixel, at the cost of that part alone: (bool (h, w), top, left, H, W).

        (h, w) is (0, 0) for an empty mask. ``SmolRGPTImageProcessor.preprocess_image`` takes masks of this form. Raises DataError when
        the run lengths are corrupt.
        """
        height, width = self.size
        ends = np.cumsum(self.to_runs())
        starts, ends = ends[0 : 2 * (len(ends) // 2) : 2], ends[1::2]  # of the runs inside
        starts, ends = starts[ends > starts], ends[ends > starts]
        if not starts.size:
            return np.zeros((0, 0), dtype=bool), 0, 0, height, width
        left, right = int(starts[0] // height), int((ends[-1] - 1) // height) + 1
        crosses = (starts // height != (ends - 1) // height).any()  # a run goes from the bottom of a column to the top of the next
        top, bottom = (0, height) if crosses else (int((starts % height).min()), int(((ends - 1) % height).max()) + 1)
        borders = np.stack([starts, ends], axis=1).reshape(-1)
        lengths = np.diff(borders, prepend=left * height, append=right * height)
        columns = np.repeat(np.arange(len(lengths)) % 2 == 1, lengths).reshape(right - left, height)
        return columns.T[top:bottom], top, left, height, width


def _parts(points: Sequence[Any] | np.ndarray) -> list[Any]:
    """List the polygons: a list of flat lists as it is, points or one flat list wrapped."""
    try:
        several = len(points) > 0 and all(np.ndim(part) == 1 and len(part) > 2 for part in points)
    except (TypeError, ValueError) as error:
        raise DataError(f"polygon {brief(points)} is no list of points, nor one of flat lists of numbers") from error
    return list(points) if several else [points]


def _finite(values: Any, what: str) -> np.ndarray:
    try:
        numbers = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"{what} {brief(values)} holds something that is no number") from error
    if not np.isfinite(numbers).all():
        raise DataError(f"{what} {brief(values)} holds a number that is not finite")
    return numbers


def _numbers_in(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise DataError(f"region {brief(text)}: no such file, and no numbers separated by commas") from None


def _inside(image: Image.Image) -> np.ndarray:
    """Decide which pixels of a mask image are inside: bool (H, W)."""
    if image.mode == "P" and "transparency" not in image.info:
        return np.asarray(np.asarray(image) != 0)  # label images: the index is the object, whatever its colour
    if image.mode in ("LA", "RGBA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        alpha = np.asarray(image)[..., 3]
        if alpha.min() < 255:
            return np.asarray(alpha > 127)
        image = image.convert("RGB")
    pixels = np.asarray(image)
    return np.asarray(pixels.any(axis=-1) if pixels.ndim == 3 else pixels != 0)
