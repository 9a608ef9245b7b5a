"""Regions from and to everything people have: mask arrays, boxes, polygons, mask pictures, COCO run lengths.

The run-length codec is pycocotools'. A region drawn on a copy of another size is stretched to the image by the processor,
so a region need not have the image's size; it should have its aspect ratio. Legend: H W height and width of the mask in pixels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pycocotools import mask as coco

from smolrgpt.data.images import read_image
from smolrgpt.schema import DataError, Region, brief

#: Of one mask; as much as Pillow takes for a picture.
MAX_PIXELS = 89_478_485


def from_mask(mask: np.ndarray) -> Region:
    """(H, W) array of any numeric type, nonzero (and not NaN) inside. Raises DataError when it is not 2-D or holds no pixel."""
    mask = np.asarray(mask)
    if mask.ndim != 2 or mask.dtype.kind not in "biuf":
        raise DataError(f"mask is {mask.dtype} {mask.shape}; expected a numeric or boolean array (H, W)")
    inside = np.nan_to_num(mask) != 0
    if not inside.any():
        raise DataError(f"mask of {mask.shape[1]}x{mask.shape[0]} holds no pixel; expected at least one")
    return _region(coco.encode(np.asfortranarray(inside, dtype=np.uint8)))


def from_box(box_xyxy: Sequence[float], height: int, width: int) -> Region:
    """Every pixel of the (height, width) frame that the box (x0, y0, x1, y1; pixels, end exclusive) touches.

    Clipped to the frame. Raises DataError for an empty or inverted box, one outside the frame, or anything but four finite numbers.
    """
    box = _numbers(box_xyxy, "box")
    if box.shape != (4,):
        raise DataError(f"box {brief(box_xyxy)} is not four numbers; expected x0,y0,x1,y1 in pixels")
    x0, y0, x1, y1 = box.tolist()
    if x1 <= x0 or y1 <= y0:
        raise DataError(f"box {box.tolist()} is empty or inverted; expected x0 < x1 and y0 < y1")
    if x0 >= width or y0 >= height or x1 <= 0 or y1 <= 0:
        raise DataError(f"box {box.tolist()} lies outside the image of {width}x{height} pixels")
    mask = np.zeros((height, width), dtype=bool)
    mask[int(max(y0, 0)) : int(np.ceil(min(y1, height))), int(max(x0, 0)) : int(np.ceil(min(x1, width)))] = True
    return from_mask(mask)


def from_polygon(points: Sequence[Any] | np.ndarray, height: int, width: int) -> Region:
    """A polygon as points [(x, y), ...], a flat COCO list [x0, y0, x1, y1, ...] or several flat lists (their union); pixels.

    Raises DataError for fewer than three points, non-finite or far-off coordinates, or a polygon that covers no pixel of the frame.
    """
    polygons = [_numbers(part, "polygon").reshape(-1) for part in _parts(points)]
    for polygon in polygons:
        if polygon.size < 6 or polygon.size % 2:
            raise DataError(f"polygon {polygon.tolist()[:8]} has {polygon.size} numbers; expected x,y pairs of at least three points")
        # pycocotools walks the outline pixel by pixel, so a coordinate like 1e9 would take the machine with it.
        if np.abs(polygon).max() > 16 * max(height, width):
            raise DataError(f"polygon reaches to {np.abs(polygon).max():g}, far outside the image of {width}x{height} pixels")
    merged = coco.merge(coco.frPyObjects([polygon.tolist() for polygon in polygons], height, width))
    if int(coco.area(merged)) == 0:
        raise DataError(f"polygon {polygons[0].tolist()[:8]} covers no pixel of the image of {width}x{height} pixels")
    return _region(merged)


def from_file(path: Path | str) -> Region:
    """A mask picture: with transparency, what is mostly opaque is inside; otherwise every pixel that is not black (index 0) is.

    Raises DataError naming the file when it cannot be read or nothing is inside.
    """
    try:
        return from_picture(read_image(path))
    except DataError as error:
        raise error if brief(path, 200) in str(error) else DataError(f"{brief(path, 200)}: {error}") from error


def from_picture(picture: Image.Image) -> Region:
    """``from_file`` on a picture that is open already."""
    return from_mask(_inside(picture))


def from_json(value: Any, height: int, width: int) -> Region:
    """{"box": [x0, y0, x1, y1]}, {"polygon": [x, y, ...]} or {"rle": {...}} of the (height, width) image, as services and saved samples
    write a region. Raises DataError as the form's own function does, and for any other form.
    """
    if isinstance(value, Mapping) and len(value) == 1:
        ((form, content),) = value.items()
        if form == "box":
            return from_box(content, height, width)
        if form == "polygon":
            return from_polygon(content, height, width)
        if form == "rle":
            return from_rle(content)
    raise DataError(f'region {brief(value)} is none of {{"box": [...]}}, {{"polygon": [...]}} and {{"rle": {{...}}}}')


def from_rle(rle: Mapping[str, Any]) -> Region:
    """COCO run lengths {"size": [H, W], "counts": compressed str | bytes, or a list of ints}.

    An empty mask is kept: data sets ship them. Raises DataError when a field is missing or the runs do not cover exactly H x W pixels.
    """
    region = rle_unchecked(rle)
    _check(region)
    return region


def rle_unchecked(rle: Mapping[str, Any]) -> Region:
    """``from_rle`` without reading the runs, for whole data sets: ``to_mask`` reads them when the region is used."""
    try:
        size, counts = rle["size"], rle["counts"]
        height, width = int(size[0]), int(size[1])
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise DataError(f"run lengths {brief(rle)} are not {{'size': [H, W], 'counts': ...}}") from error
    if height <= 0 or width <= 0 or len(size) != 2:
        raise DataError(f"run lengths have size {brief(size)}; expected [H, W], both positive")
    if isinstance(counts, list):
        return _from_runs(counts, height, width)
    if isinstance(counts, bytes):
        counts = counts.decode("latin-1")
    if not isinstance(counts, str):
        raise DataError(f"run lengths have counts of type {type(counts).__name__}; expected a string or a list of ints")
    return Region((height, width), counts)


def to_mask(region: Region) -> np.ndarray:
    """Bool (H, W). Raises DataError when the run lengths are corrupt."""
    _check(region)
    return np.ascontiguousarray(coco.decode(to_rle(region)), dtype=bool)


def area(region: Region) -> int:
    """Pixels inside, read from the run lengths without unpacking them. Raises DataError when they are corrupt."""
    return int(_check(region)[1::2].sum())


def to_patch(region: Region) -> tuple[np.ndarray, int, int, int, int]:
    """``to_mask`` cut to the rows and columns that hold something, at the cost of that part alone: (bool (h, w), top, left, H, W).

    (h, w) is (0, 0) for an empty mask. This is what ``SmolRGPTImageProcessor.preprocess_image`` takes for a mask. Raises DataError when the
    run lengths are corrupt.
    """
    height, width = region.size
    ends = np.cumsum(_check(region))
    starts, ends = ends[0 : 2 * (len(ends) // 2) : 2], ends[1::2]  # of the runs that are set
    starts, ends = starts[ends > starts], ends[ends > starts]
    if not starts.size:
        return np.zeros((0, 0), dtype=bool), 0, 0, height, width
    left, right = int(starts[0] // height), int((ends[-1] - 1) // height) + 1
    crosses = (starts // height != (ends - 1) // height).any()  # from one column's foot to the next one's head
    top, bottom = (0, height) if crosses else (int((starts % height).min()), int(((ends - 1) % height).max()) + 1)
    borders = np.stack([starts, ends], axis=1).reshape(-1)
    lengths = np.diff(borders, prepend=left * height, append=right * height)
    columns = np.repeat(np.arange(len(lengths)) % 2 == 1, lengths).reshape(right - left, height)
    return columns.T[top:bottom], top, left, height, width


def to_rle(region: Region) -> dict[str, Any]:
    """{"size": [H, W], "counts": str}, the official data sets' form (ready for JSON and for pycocotools)."""
    return {"size": list(region.size), "counts": region.counts}


def _region(rle: Mapping[str, Any]) -> Region:
    height, width = rle["size"]
    return Region((int(height), int(width)), rle["counts"].decode("ascii"))


def _from_runs(runs: list[Any], height: int, width: int) -> Region:
    whole = all(isinstance(run, int) and run >= 0 for run in runs)
    if not whole or sum(runs) != height * width:
        raise DataError(f"uncompressed run lengths do not sum to {height} x {width}, or are no counts: {brief(runs)}")
    return _region(coco.frPyObjects({"size": [height, width], "counts": runs}, height, width))


def _check(region: Region) -> np.ndarray:
    """The int64 runs, the first of them outside. Raises DataError when they are corrupt.

    pycocotools leaves memory uninitialised when runs are too short and reads past an unfinished string, so look before it does.
    """
    height, width = region.size
    if height * width > MAX_PIXELS:
        raise DataError(f"a mask of {width}x{height} pixels is too large; expected at most {MAX_PIXELS} pixels, scale it down first")
    runs = _run_lengths(region.counts)
    if runs is None or (runs < 0).any() or int(runs.sum()) != height * width:
        found = "not decodable" if runs is None else f"{int(runs.sum())} pixels"
        raise DataError(
            f"corrupt run lengths {region.counts[:24]!r}...: {found}; expected runs of {height} x {width} = {height * width} pixels"
        )
    return runs


def _run_lengths(counts: str) -> np.ndarray | None:
    """int64 runs of a compressed string, None when it is no such string. The format is ``rleFrString`` of COCO's maskApi.c:

    five bits a character, least significant first, bit 5 = more follows, bit 4 of the last = sign; from the fourth run on, the
    difference to the run two before.
    """
    codes = np.frombuffer(counts.encode("utf-8"), dtype=np.uint8).astype(np.int64) - 48
    if not codes.size or codes.min() < 0 or codes.max() > 63 or codes[-1] & 32:
        return None
    starts = np.concatenate(([0], np.flatnonzero((codes & 32) == 0)[:-1] + 1))
    lengths = np.diff(np.append(starts, codes.size))
    if lengths.max() > 8:  # 40 bits: no image is that large, and more would overflow
        return None
    shift = 5 * (np.arange(codes.size) - np.repeat(starts, lengths))
    runs = np.add.reduceat((codes & 31) << shift, starts)
    runs -= np.where(codes[starts + lengths - 1] & 16, np.int64(1) << (5 * lengths), 0)
    runs[1::2] = np.cumsum(runs[1::2])
    runs[2::2] = np.cumsum(runs[2::2])
    return runs


def _parts(points: Sequence[Any] | np.ndarray) -> list[Any]:
    """One entry per polygon: a list of flat lists as it is, points or one flat list wrapped."""
    try:
        several = len(points) > 0 and all(np.ndim(part) == 1 and len(part) > 2 for part in points)
    except (TypeError, ValueError) as error:
        raise DataError(f"polygon {brief(points)} is no list of points, nor one of flat lists of numbers") from error
    return list(points) if several else [points]


def _numbers(values: Any, what: str) -> np.ndarray:
    try:
        numbers = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"{what} {brief(values)} holds something that is no number") from error
    if not np.isfinite(numbers).all():
        raise DataError(f"{what} {brief(values)} holds a number that is not finite")
    return numbers


def _inside(picture: Image.Image) -> np.ndarray:
    """Bool (H, W)."""
    if picture.mode == "P" and "transparency" not in picture.info:
        return np.asarray(picture) != 0  # label pictures: the index is the object, whatever its colour
    if picture.mode in ("LA", "RGBA", "PA") or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        alpha = np.asarray(picture)[..., 3]
        if alpha.min() < 255:
            return alpha > 127
        picture = picture.convert("RGB")
    pixels = np.asarray(picture)
    return np.asarray(pixels.any(axis=-1) if pixels.ndim == 3 else pixels != 0)
