"""Region: a mask as run lengths, with converters from and to masks, boxes, polygons, run lengths and files.

A region drawn on a copy of another size is stretched to the image by the processor, so a region need not have the image's size; it should
have its aspect ratio. Legend: H W height and width of the mask in pixels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from smolrgpt.schema import run_lengths
from smolrgpt.schema.errors import DataError, brief, naming
from smolrgpt.schema.image_file import decode_image, is_file, read_image, turn_upright
from smolrgpt.schema.mask_values import LabelValue, inside_array, inside_image

#: What the coordinates of a box or polygon count: pixels of the image, or shares or thousandths of its width and height.
Units = Literal["pixels", "normalized", "thousandths"]
#: The far edge of the image in each of the units; None: its size.
_LARGEST: dict[str, float | None] = {"pixels": None, "normalized": 1.0, "thousandths": 1000.0}
#: Share of the image from which on a region is said to fill it.
_WHOLE_IMAGE = 0.98
#: Parts of a mask that are said to be several objects: pixels as a share of the largest part's, and gap as a share of the longer side.
#: 11 of 1904 masks of generated scenes and 2 of 261 of real RGB-D frames have such parts; of 400 pairs of masks joined to one, 160.
_PART_SHARE, _PART_GAP = 1 / 3, 0.25
#: The forms of a region in JSON, each with its further fields.
_OPTIONS: dict[str, tuple[str, ...]] = {"box": ("units",), "polygon": ("units",), "rle": (), "mask": ("value",), "segmentation": ()}
#: Fields that detectors write beside a form, and the names of a box's coordinates in those of transformers' pipelines.
_NOT_READ, _BOX_SIDES = ("score", "label"), ("xmin", "ymin", "xmax", "ymax")
_EXPECTED = '{"box": [...]}, {"polygon": [...]}, {"mask": ...} and {"rle": {...}}'


@dataclass(frozen=True)
class Region:
    """A mask as COCO compressed run lengths (column-major), the form data sets ship and the cheapest to keep.

    Make one with a ``from_*`` converter. size: (H, W) of the mask; counts: the run-length string.
    """

    size: tuple[int, int]
    counts: str

    # -------------------------------------------------------------------------------------------------- converters from other forms
    @classmethod
    def from_any(cls, value: Any, height: int, width: int) -> Region:
        """Convert any form of a region of the (height, width) image.

        value: a Region; a mask, an array or tensor as of ``from_mask``, or a mask image; a box, four numbers x0, y0, x1, y1 in pixels;
        a polygon as of ``from_polygon``; a string as of ``from_text``; the Path of a mask image; a mapping as of ``from_json``.
        Raises DataError for everything else, and as the form's own converter.
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
        value = _as_array(value)
        if isinstance(value, np.ndarray) and value.ndim == 2 and value.shape[1] == 4 != width and value.dtype.kind in "iuf":
            if len(value) != 1:
                raise DataError(f"a region is an array {value.shape}, as of {len(value)} boxes; pass each as a region of its own")
            value = value[0]
        if isinstance(value, np.ndarray) and _is_pixel_list(value):
            raise DataError(f"a region is an array {value.shape} of sorted positions, as of a mask's pixels; pass the mask (H, W) itself")
        if isinstance(value, np.ndarray) and value.ndim > 1 and not _is_outline(value, width):
            return cls.from_mask(value)
        if isinstance(value, (list, tuple)) or (isinstance(value, np.ndarray) and value.ndim > 0):
            return cls._from_numbers(value, height, width)
        raise DataError(
            f"a region is a {type(value).__name__}; expected a box (x0, y0, x1, y1), a mask (H, W), a mask image or run lengths"
        )

    @classmethod
    def _from_numbers(cls, value: Sequence[Any] | np.ndarray, height: int, width: int) -> Region:
        """Convert a mask of nested lists, a box or a polygon."""
        is_nested = len(value) > 0 and all(np.ndim(part) > 0 for part in value)
        if is_nested and len(value) == height > 2 and all(len(row) == width for row in value):
            return cls.from_mask(np.asarray(value))
        if len(value) == 4 and not is_nested:
            return cls.from_box(value, height, width)
        # six numbers may be a detector's x0, y0, x1, y1, score, class, which would be read as a triangle
        if sum(map(np.size, value)) < (6 if is_nested else 7):
            expected = 'expected a box x0,y0,x1,y1, or for a triangle {"polygon": [x, y, ...]}'
            raise DataError(f"region {brief(value)} is not four numbers; {expected}")
        return cls.from_polygon(value, height, width)

    @classmethod
    def from_text(cls, text: str, height: int, width: int) -> Region:
        """Read the region of the (height, width) image that a command line names.

        ``x0,y0,x1,y1`` or ``polygon:x,y,x,y,...`` in pixels; ``normalized:`` or ``thousandths:`` before either of them for other ``Units``;
        the path of a mask image, or ``label:3:PATH`` for the pixels of one value (a colour as ``label:#ff0000:PATH``).
        Raises DataError for other text, and the same errors as ``from_box``, ``from_polygon`` and ``from_file``.
        """
        prefix, _, rest = text.partition(":")
        if is_file(text):
            return cls.from_file(text)
        if prefix == "label" and rest:
            label, _, path = rest.partition(":")
            return cls.from_file(path, int(label) if label.lstrip("-").isdecimal() else label)
        units: Any = "pixels"
        if prefix in _LARGEST:
            units, text = prefix, rest
        if text.startswith("polygon:"):
            return cls.from_polygon(_numbers_in(text.removeprefix("polygon:")), height, width, units)
        if "," in text:
            return cls.from_box(_numbers_in(text), height, width, units)
        return cls.from_file(text)

    @classmethod
    def from_json(cls, value: Any, height: int, width: int, folder: Path | None = None) -> Region:
        """Read a region of the (height, width) image from one of these forms.

        | form | |
        |---|---|
        | {"box": [x0, y0, x1, y1]} | in pixels, or with "units": "normalized" or "thousandths"; also {"xmin", "ymin", "xmax", "ymax"} |
        | {"polygon": [x, y, ...]} | also points, or several parts; units as of a box |
        | {"rle": {"size": ..., "counts": ...}} | COCO run lengths, which may stand alone, too |
        | {"mask": name} | a mask image in ``folder``; without a folder no file is opened |
        | {"mask": array, image or Path} | in Python; either with "value": 3 or "#ff0000", the pixels of one value |
        | {"segmentation": ...} | an annotation of SAM or COCO: a mask, run lengths or polygons; its other fields are not read |

        A detector's "score" and "label" (a name) are not read. Raises DataError for any other form or field, and the same errors as the
        form's own converter.
        """
        if not isinstance(value, Mapping):
            raise DataError(f"region {brief(value)} is none of {_EXPECTED}")
        if {"size", "counts"} <= set(value):
            return cls.from_rle(value)
        forms = [form for form in _OPTIONS if form in value]
        if len(forms) != 1:
            advice = '; a bbox of COCO is x, y, width, height: write {"box": [x, y, x + width, y + height]}' if "bbox" in value else ""
            raise DataError(f"region {brief(dict(value))} is {'several' if forms else 'none'} of {_EXPECTED}{advice}")
        form, content = forms[0], value[forms[0]]
        if form == "segmentation":
            return cls._from_segmentation(content, height, width)
        known = (*_OPTIONS[form], *(_NOT_READ if isinstance(value.get("label", ""), str) else _NOT_READ[:1]))
        if unknown := [name for name in value if name != form and name not in known]:
            raise DataError(
                f"region {brief(dict(value))} has a field {unknown[0]!r}; expected beside {form}: {', '.join(known) or 'nothing'}"
            )
        if form == "box" and isinstance(content, Mapping) and set(content) == set(_BOX_SIDES):
            content = [content[side] for side in _BOX_SIDES]
        if form == "box":
            return cls.from_box(content, height, width, value.get("units", "pixels"))
        if form == "polygon":
            return cls.from_polygon(content, height, width, value.get("units", "pixels"))
        return cls.from_rle(content) if form == "rle" else cls._from_named_mask(content, value.get("value"), folder)

    @classmethod
    def _from_segmentation(cls, content: Any, height: int, width: int) -> Region:
        if isinstance(content, (str, Path)):
            raise DataError(f"segmentation is {brief(content)}; expected a mask (H, W), run lengths or polygons")
        return cls.from_polygon(content, height, width) if _is_flat_list(content) else cls.from_any(content, height, width)

    @classmethod
    def _from_named_mask(cls, content: Any, label: Any, folder: Path | None) -> Region:
        if isinstance(label, (bool, float)) or not isinstance(label, (int, np.integer, str, type(None))):
            raise DataError(f"value of a mask is {brief(label)!r}; expected an integer, or a colour as #rrggbb")
        label = int(label) if isinstance(label, np.integer) else label
        if isinstance(content, str) and folder is None:
            raise DataError(f"mask {brief(content)} is a file's name, which is not opened here; expected a pathlib.Path, array or image")
        if isinstance(content, (str, Path)):
            return cls.from_file(content if folder is None else folder / content, label)
        return cls.from_image(content, label) if isinstance(content, Image.Image) else cls.from_mask(content, label)

    @classmethod
    def from_mask(cls, mask: Any, value: LabelValue | None = None) -> Region:
        """Convert an (H, W) array or tensor, also (1, H, W) or (H, W, 1), by the rules of ``schema.mask_values``.

        value: The one that is inside, of a mask of several objects. Raises DataError for other shapes, for values that do not say what is
        inside, and when nothing is.
        """
        mask = _as_array(mask)
        mask = mask.filled(0) if isinstance(mask, np.ma.MaskedArray) else np.asarray(mask)
        inside = inside_array(mask, value)
        if not inside.any():
            raise DataError(f"mask of {inside.shape[1]}x{inside.shape[0]} holds no pixel; expected at least one")
        return cls((inside.shape[0], inside.shape[1]), run_lengths.encode_mask(inside))

    @classmethod
    def from_box(cls, box: Sequence[float] | np.ndarray, height: int, width: int, units: Units = "pixels") -> Region:
        """Take every pixel of the (height, width) image that the box (x0, y0, x1, y1; end exclusive) touches.

        The box is clipped to the image. Raises DataError for an empty or inverted box, one outside the image, anything but four finite
        numbers, and a box whose coordinates do not fit ``units``, such as one in pixels without a coordinate above 1.
        """
        corners = _finite(box, "box")
        if corners.shape != (4,):
            raise DataError(f"box {brief(box)} is not four numbers; expected x0,y0,x1,y1 in pixels")
        if (corners[2:] <= corners[:2]).any():
            advice = "x, y, width, height has to be turned into x, y, x + width, y + height"
            raise DataError(f"box {corners.tolist()} is empty or inverted; expected x0 < x1 and y0 < y1 ({advice})")
        if (corners[2:] > 0).all():
            corners = _in_pixels(corners, height, width, units, "box")
        x0, y0, x1, y1 = corners.tolist()
        if x0 >= width or y0 >= height or x1 <= 0 or y1 <= 0:
            raise DataError(f"box {corners.tolist()} lies outside the image of {width}x{height} pixels")
        mask = np.zeros((height, width), dtype=bool)
        mask[int(max(y0, 0)) : int(np.ceil(min(y1, height))), int(max(x0, 0)) : int(np.ceil(min(x1, width)))] = True
        return cls.from_mask(mask)

    @classmethod
    def from_polygon(cls, points: Sequence[Any] | np.ndarray, height: int, width: int, units: Units = "pixels") -> Region:
        """Fill a polygon: points [(x, y), ...], a flat COCO list [x0, y0, x1, y1, ...], or several of either (their union).

        Raises DataError for fewer than three points, non-finite or far-off coordinates, coordinates that do not fit ``units`` as of
        ``from_box``, or a polygon that covers no pixel of the image.
        """
        polygons = [_finite(part, "polygon").reshape(-1) for part in _parts(points)]
        for polygon in polygons:
            if polygon.size < 6 or polygon.size % 2:
                raise DataError(f"polygon {polygon.tolist()[:8]} has {polygon.size} numbers; expected x,y pairs of at least three points")
        ends = np.cumsum([polygon.size for polygon in polygons])[:-1]
        polygons = np.split(_in_pixels(np.concatenate(polygons), height, width, units, "polygon"), ends)
        # pycocotools walks the outline pixel by pixel, so a coordinate like 1e9 would exhaust the memory.
        if (farthest := max(float(np.abs(polygon).max()) for polygon in polygons)) > 16 * max(height, width):
            raise DataError(f"polygon reaches to {farthest:g}, far outside the image of {width}x{height} pixels")
        region = cls((height, width), run_lengths.encode_polygons(polygons, height, width))
        if region.area == 0:
            raise DataError(f"polygon {polygons[0].tolist()[:8]} covers no pixel of the image of {width}x{height} pixels")
        return region

    @classmethod
    def from_file(cls, path: Path | str, value: LabelValue | None = None) -> Region:
        """Read a mask image by the rules of ``schema.mask_values``, turned upright by its EXIF orientation; value: as of ``from_mask``.

        Raises DataError naming the file when it cannot be read, holds several frames, does not say what is inside, or nothing is.
        """
        with naming(path):
            return cls.from_mask(inside_image(read_image(path, single=True), value))

    @classmethod
    def from_image(cls, image: Image.Image, value: LabelValue | None = None) -> Region:
        """Convert a mask image that is open, as ``from_file`` does. Raises DataError."""
        return cls.from_mask(inside_image(decode_image(image), value))

    @classmethod
    def from_rle(cls, rle: Mapping[str, Any], *, check: bool = True) -> Region:
        """Take COCO run lengths {"size": [H, W], "counts": compressed str | bytes, or a list of ints}.

        An empty mask is kept: data sets ship them. check: False reads the runs only when the region is used, for whole data sets.
        Raises DataError when a field is missing, for a mask of too many pixels, and when the runs do not cover exactly H x W pixels.
        """
        try:
            size, counts = rle["size"], rle["counts"]
        except (KeyError, TypeError, IndexError) as error:
            raise DataError(f"run lengths {brief(rle)} are not {{'size': [H, W], 'counts': ...}}") from error
        height, width = run_lengths.check_size(size)
        if isinstance(counts, (list, tuple, np.ndarray)):
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

    def doubts(self) -> list[str]:
        """Return what is implausible about the region, a sentence each without a full stop. Raises DataError for corrupt run lengths."""
        height, width = self.size
        if (share := self.area / (height * width)) >= _WHOLE_IMAGE:
            return [f"it fills {share:.0%} of the image, so the answer is about the whole view; mark one object"]
        patch = self.to_patch()[0]
        if patch.shape == self.size and share > 0.5:
            return [f"its mask covers {share:.0%} of the image and reaches all borders, as if it were inverted; mark the object"]
        sizes = _separate_parts(patch)
        if len(sizes) < 2:
            return []
        listed = ", ".join(f"{size} pixels" for size in sizes[:4])
        return [
            f"its mask has {len(sizes)} parts far from each other ({listed}), as if it marked several objects; give each its own region"
        ]

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


def _separate_parts(inside: np.ndarray) -> list[int]:
    """Return the pixel counts of a mask's parts that may be objects of their own, the largest first; fewer than two where there are none.

    Occlusion and thin parts that break are normal: a part counts when it has ``_PART_SHARE`` of the largest's pixels and when the gap
    between the boxes of the two is ``_PART_GAP`` of the larger one's longer side.
    """
    from scipy import ndimage

    labels, count = ndimage.label(inside, structure=np.ones((3, 3)))
    if count < 2:
        return []
    sizes = np.bincount(labels.ravel())[1:]
    order = [int(i) for i in np.argsort(-sizes, kind="stable") if sizes[i] >= _PART_SHARE * sizes.max()]
    boxes = ndimage.find_objects(labels)
    ends = np.array([[axis.start, axis.stop] for i in order for axis in boxes[i]]).reshape(len(order), 2, 2)
    kept = [0]
    for i in range(1, len(order)):
        gaps = np.maximum(ends[i, :, 0] - ends[kept][:, :, 1], ends[kept][:, :, 0] - ends[i, :, 1])
        sides = np.maximum(np.ptp(ends[kept], axis=2).max(axis=1), np.ptp(ends[i], axis=1).max())
        if (gaps.max(axis=1) >= _PART_GAP * sides).all():
            kept.append(i)
    return [int(sizes[order[i]]) for i in kept]


def _as_array(value: Any) -> Any:
    """Return a tensor (of torch, or anything that converts to NumPy) as an array, other values as they are. Raises DataError."""
    if isinstance(value, (np.ndarray, list, tuple)) or not (hasattr(value, "detach") or hasattr(value, "__array__")):
        return value
    try:
        if hasattr(value, "detach"):
            value = value.detach().cpu()
            value = value.float() if value.is_floating_point() else value  # NumPy has no bfloat16
        return np.asarray(value)
    except (TypeError, ValueError, RuntimeError, AttributeError) as error:
        raise DataError(f"a region is a {type(value).__name__} that cannot be converted to an array ({brief(error)})") from error


def _is_outline(values: np.ndarray, width: int) -> bool:
    """Return whether an array holds points, (N, 2) or OpenCV's (N, 1, 2), and is no mask of an image that is two pixels wide."""
    is_points = values.ndim == 2 or (values.ndim == 3 and values.shape[1] == 1)
    return is_points and values.shape[-1] == 2 and len(values) > 2 and width != 2 and values.dtype.kind in "iuf"


def _is_pixel_list(values: np.ndarray) -> bool:
    """Return whether an array (N, 2) lists pixels row by row or column by column, as ``np.argwhere`` does and no outline."""
    if values.ndim != 2 or values.shape[1] != 2 or len(values) < 8 or values.dtype.kind not in "iu":
        return False
    steps = np.diff(values.astype(np.int64), axis=0)
    return any(((steps[:, i] > 0) | ((steps[:, i] == 0) & (steps[:, 1 - i] > 0))).all() and (steps[:, i] == 0).any() for i in (0, 1))


def _is_flat_list(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and all(np.ndim(part) == 0 for part in value)


def _parts(points: Any) -> list[Any]:
    """List the polygons: a list of several as it is, points or one flat list wrapped."""
    points = _as_array(points)
    try:
        if len(points) and all(np.ndim(part) >= 2 or (np.ndim(part) == 1 and len(part) > 2) for part in points):
            is_outline = isinstance(points, np.ndarray) and points.ndim == 3 and points.shape[1] == 1
            return [points] if is_outline else [_pairs(part) for part in points]
        return [_pairs(points)]
    except DataError:
        raise
    except (TypeError, ValueError) as error:
        raise DataError(f"polygon {brief(points)} is no list of points, nor one of flat lists of numbers") from error


def _pairs(part: Any) -> Any:
    """Return one polygon as it is. Raises DataError for points of other than two coordinates."""
    if np.ndim(part) > 1 and np.shape(part)[-1] != 2:
        raise DataError(f"polygon {brief(part)} has points of {np.shape(part)[-1]} numbers; expected x,y pairs")
    return part


def _in_pixels(numbers: np.ndarray, height: int, width: int, units: Any, what: str) -> np.ndarray:
    """Return coordinates (x and y in turn) in pixels. Raises DataError for unknown units, and for coordinates that do not fit them."""
    if not isinstance(units, str) or units not in _LARGEST:
        raise DataError(f"units are {brief(units)!r}; expected one of {', '.join(_LARGEST)}")
    largest, found = _LARGEST[units], np.round(numbers[:8], 6).tolist()
    farthest = numbers.max(initial=-np.inf)
    reaches_over = farthest < 2 and min(height, width) >= 16 and (numbers != np.rint(numbers)).any()  # detectors' boxes may end at 1.02
    if units != "normalized" and (farthest <= 1 or reaches_over):
        limit = 1 if farthest <= 1 else 2
        raise DataError(
            f"{what} {found} has no coordinate above {limit}, as if it were normalised to 0..1; multiply it by the image's width and "
            f'height ({width}, {height}), or say so: {{"{what}": [...], "units": "normalized"}}, on the command line normalized:x0,y0,...'
        )
    if largest is None:
        return numbers
    if numbers.min() < -0.1 * largest or numbers.max() > 1.1 * largest:
        raise DataError(f"{what} {found} in {units} coordinates reaches beyond 0 to {largest:g}; expected other units, or none for pixels")
    pixels = numbers * np.resize([width, height], numbers.size) / largest
    return np.asarray(pixels.round(6))  # 48.00000001 would touch one more pixel


def _finite(values: Any, what: str) -> np.ndarray:
    values = _as_array(values)
    try:
        if np.asarray(values).dtype.kind == "b":
            raise ValueError("booleans are no coordinates")
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
