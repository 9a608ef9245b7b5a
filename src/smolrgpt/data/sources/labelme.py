"""A user's own images with LabelMe annotations: one JSON file for each image.

    <root>/<split>/*.json, <root>/annotations/*.json or <root>/*.json    with the images beside them or in images/
    <root>/questions_<split>.jsonl   see ``annotated``; an object's annotation id is its position in ``shapes``, from 0

Polygons, rectangles (also oriented), quadrilaterals, circles and masks are read; lines and points are counted. Shapes of one label and
``group_id`` are parts of one object, whose annotation id is that of the first.
"""

from __future__ import annotations

import base64
import functools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from smolrgpt.data.loading import SkipLog
from smolrgpt.data.sources.annotated import (
    UNNAMED,
    UNREAD_SHAPE,
    AnnotatedImage,
    AnnotatedObject,
    annotation_folder,
    group_parts,
    iter_annotated,
)
from smolrgpt.data.sources.folders import ImageSet
from smolrgpt.data.sources.outlines import ellipse, paste
from smolrgpt.data.sources.rows import UNUSABLE_ROW, field, image_shape
from smolrgpt.schema import DataError, Region, Sample, brief
from smolrgpt.schema.depth_meaning import DEPTH_RECORD
from smolrgpt.schema.image_file import image_from_bytes


def iter_labelme(
    root: Path | str,
    split: str,
    *,
    skips: SkipLog,
    annotations: str | None = None,
    images: str | None = None,
    depths: str | None = None,
    max_pairs: int = 16,
) -> Iterator[Sample]:
    """Yield samples as of ``iter_annotated``, in order of the JSON files' names.

    Args:
        root: The folder of the data set.
        split: The name in the paths above.
        skips: Counts files and shapes that cannot be used.
        annotations: The folder of JSON files relative to root, where it is none of those above.
        images: The folder of images relative to root, where it is none of those above.
        depths: The folder of depth maps relative to root, where it is none of <split>/depths and depths.
        max_pairs: Questions per image without a questions file; a random draw by the image's name where there are more pairs.

    Raises:
        DataError: When annotations or images do not exist.
    """
    root = Path(root)
    folder = annotations or annotation_folder(root, split, _json_files)
    defaults = [f"{split}/images", *([folder] if _holds_images(root / folder) else ["images", folder])]
    files = ImageSet.of_split(root, split, images, depths, defaults)
    table = list(_read_files(_json_files(root / folder), skips))
    return iter_annotated(table, files, root / f"questions_{split}.jsonl", skips, max_pairs)


def _holds_images(folder: Path) -> bool:
    """Return whether images may lie beside the JSON files."""
    return any(path.is_file() and path.suffix not in (".json", ".jsonl", ".txt", "") for path in folder.iterdir())


def _json_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*.json") if path.name != DEPTH_RECORD)


def _read_files(paths: list[Path], skips: SkipLog) -> Iterator[AnnotatedImage]:
    for path in paths:
        try:
            file = json.loads(path.read_text(encoding="utf-8-sig"))
            image, shapes = AnnotatedImage(field(file, "imagePath", str), path.name), field(file, "shapes", list)
            has_size = file.get("imageHeight") is not None or file.get("imageWidth") is not None
            size = image_shape(file, "imageHeight", "imageWidth") if has_size else None
        except (ValueError, RecursionError, OSError) as error:  # DataError is a ValueError
            skips.add(UNUSABLE_ROW, f"{path.name}: {error}")
            continue
        image.objects = group_parts(_read_shapes(shapes, size, path.name, skips))
        yield image


def _read_shapes(shapes: list[Any], size: tuple[int, int] | None, source: str, skips: SkipLog) -> Iterator[tuple[object, AnnotatedObject]]:
    """Yield the group, if any, and the object of each shape that is read; others are counted."""
    for number, shape in enumerate(shapes):
        try:
            field(shape, "points", list)
            kind = field(shape, "shape_type", str) if shape.get("shape_type") is not None else "polygon"
            if kind not in _SHAPES:
                message = f"it is a {brief(kind)}, which is not read; {', '.join(_SHAPES)} are"
                skips.add(UNREAD_SHAPE, f"{source} shapes[{number}]: {message}")
                continue
            points = _points(shape)
        except DataError as error:
            skips.add(UNUSABLE_ROW, f"{source} shapes[{number}]: {error}")
        else:
            label = UNNAMED if shape.get("label") is None else str(shape["label"])
            make_region = functools.partial(_region, kind, points, shape.get("mask"), size)
            group = shape.get("group_id")
            yield None if group is None else str(group), AnnotatedObject(number, label, make_region)


def _points(shape: dict[str, Any]) -> np.ndarray:
    """Return the points (N, 2) of a shape. Raises DataError."""
    try:
        points = np.asarray(shape["points"], dtype=np.float64)
    except (TypeError, ValueError):
        raise DataError(f"points {brief(shape['points'])} hold something that is no number") from None
    if points.ndim != 2 or points.shape[1] != 2 or not np.isfinite(points).all():
        raise DataError(f"points {brief(shape['points'])} are no list of [x, y]")
    return points


def _region(kind: str, points: np.ndarray, mask: Any, drawn_on: tuple[int, int] | None, size: tuple[int, int], _: int) -> Region:
    """Return a shape's region, of the size that the annotations state, else of that of the upright image."""
    return _SHAPES[kind](points, mask, *(drawn_on or size))


def _polygon(points: np.ndarray, _: Any, height: int, width: int) -> Region:
    return Region.from_polygon(points, height, width)


def _rectangle(points: np.ndarray, _: Any, height: int, width: int) -> Region:
    """Return the rectangle of two opposite corners in any order, or of four corners."""
    if len(points) not in (2, 4):
        raise DataError(f"a rectangle has {len(points)} points; expected two opposite corners")
    return Region.from_box((*points.min(axis=0), *points.max(axis=0)), height, width)


def _circle(points: np.ndarray, _: Any, height: int, width: int) -> Region:
    """Return the circle of a centre and a point on it."""
    if len(points) != 2:
        raise DataError(f"a circle has {len(points)} points; expected its centre and a point on it")
    (x, y), radius = points[0].tolist(), float(np.hypot(*(points[1] - points[0])))
    return Region.from_polygon(ellipse(x, y, radius, radius), height, width)


def _mask(points: np.ndarray, mask: Any, height: int, width: int) -> Region:
    """Return the mask, a PNG image in base64, whose upper left pixel is the first point."""
    try:
        pixels = np.asarray(image_from_bytes(base64.b64decode(mask, validate=True), ["PNG"]))
    except (TypeError, ValueError) as error:
        raise error if isinstance(error, DataError) else DataError(f"its mask {brief(mask)!r} is no image in base64") from None
    if pixels.ndim != 2 or not len(points):
        raise DataError(f"its mask has the shape {pixels.shape}, and {len(points)} points; expected a mask (h, w) and its corner")
    left, top = (round(number) for number in points[0].tolist())
    return paste(pixels != 0, left, top, height, width)


#: A shape's type -> makes its region from points (N, 2), the mask in base64, height and width. Raises DataError.
_SHAPES: dict[str, Callable[[np.ndarray, Any, int, int], Region]] = {
    "polygon": _polygon,
    "rectangle": _rectangle,
    "oriented_rectangle": _polygon,
    "rotation": _polygon,  # X-AnyLabeling
    "quadrilateral": _polygon,
    "circle": _circle,
    "mask": _mask,
}
