"""A user's own images with Supervisely annotations: one JSON file for each image.

    <root>/<split>/ann/<image name>.json and <root>/<split>/img/, where a split is a data set of the project; or <root>/ann/ and <root>/img/
    <root>/questions_<split>.jsonl   see ``annotated``; an object's annotation id is its ``id``, its position without one

Polygons (also with holes), rectangles and bitmaps are read; lines, points, cuboids and graphs are counted.
"""

from __future__ import annotations

import base64
import functools
import json
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from smolrgpt.data.loading import SkipLog
from smolrgpt.data.sources.annotated import UNNAMED, UNREAD_SHAPE, AnnotatedImage, AnnotatedObject, iter_annotated, warn_of_no_splits
from smolrgpt.data.sources.folders import ImageSet
from smolrgpt.data.sources.outlines import paste
from smolrgpt.data.sources.rows import UNUSABLE_ROW, field, image_shape
from smolrgpt.schema import DataError, Region, Sample, brief
from smolrgpt.schema.image_file import image_from_bytes

_MAX_BITMAP_BYTES = 1 << 26


def iter_supervisely(
    root: Path | str,
    split: str,
    *,
    skips: SkipLog,
    depths: str | None = None,
    max_pairs: int = 16,
) -> Iterator[Sample]:
    """Yield samples as of ``iter_annotated``, in order of the JSON files' names.

    Args:
        root: The folder of the project.
        split: The name in the paths above.
        skips: Counts files and objects that cannot be used.
        depths: The folder of depth maps relative to root, where it is none of <split>/depths and depths.
        max_pairs: Questions per image without a questions file; a random draw by the image's name where there are more pairs.

    Raises:
        DataError: When annotations or images do not exist.
    """
    root = Path(root)
    name = next((name for name in (split, ".") if (root / name / "ann").is_dir()), None)
    if name is None:
        there = ", ".join(sorted(path.parent.relative_to(root).as_posix() for path in root.glob("**/ann") if path.is_dir())) or "none"
        raise DataError(f"{root}: no annotations of the split {split!r}; expected {split}/ann/ and {split}/img/; its data sets are {there}")
    if name == ".":
        warn_of_no_splits(root, split)
    files = ImageSet.of_split(root, split, f"{name}/img", depths, [])
    annotations = root / name / "ann"
    table = list(_read_files(sorted(annotations.rglob("*.json")), annotations, skips))
    return iter_annotated(table, files, root / f"questions_{split}.jsonl", skips, max_pairs)


def _read_files(paths: list[Path], folder: Path, skips: SkipLog) -> Iterator[AnnotatedImage]:
    for path in paths:
        try:
            file = json.loads(path.read_text(encoding="utf-8-sig"))
            size, objects = image_shape(field(file, "size", dict), "height", "width"), field(file, "objects", list)
        except (ValueError, RecursionError, OSError) as error:  # DataError is a ValueError
            skips.add(UNUSABLE_ROW, f"{path.name}: {error}")
            continue
        image = AnnotatedImage(path.relative_to(folder).with_suffix("").as_posix(), path.name)
        for index, entry in enumerate(objects):
            where = f"{path.name} objects[{index}]"
            try:
                kind = field(entry, "geometryType", str)
                if kind in _SHAPES:
                    number, name = entry.get("id", index), entry.get("classTitle") or UNNAMED
                    number = number if isinstance(number, (int, str)) else field(entry, "id", int)
                    image.objects.append(AnnotatedObject(number, str(name), functools.partial(_region, entry, kind, size)))
                else:
                    skips.add(UNREAD_SHAPE, f"{where}: it is of the kind {brief(kind)}, which is not read; {', '.join(_SHAPES)} are")
            except DataError as error:
                skips.add(UNUSABLE_ROW, f"{where}: {error}")
        yield image


def _region(entry: dict[str, Any], kind: str, size: tuple[int, int], *_: Any) -> Region:
    return _SHAPES[kind](entry, *size)


def _polygon(entry: dict[str, Any], height: int, width: int) -> Region:
    """Return the polygon without its holes."""
    points = field(entry, "points", dict)
    region = Region.from_polygon(field(points, "exterior", list), height, width)
    interior = [] if points.get("interior") is None else field(points, "interior", list)
    holes = [Region.from_polygon(hole, height, width).to_mask() for hole in interior]
    return Region.from_mask(region.to_mask() & ~np.logical_or.reduce(holes)) if holes else region


def _rectangle(entry: dict[str, Any], height: int, width: int) -> Region:
    """Return the rectangle of two opposite corners, both inside."""
    try:
        corners = np.asarray(field(field(entry, "points", dict), "exterior", list), dtype=np.float64).reshape(2, 2)
    except (TypeError, ValueError) as error:
        raise DataError(f"points {brief(entry.get('points'))} are no two corners") from error
    return Region.from_box((*corners.min(axis=0), *(corners.max(axis=0) + 1)), height, width)


def _bitmap(entry: dict[str, Any], height: int, width: int) -> Region:
    """Return the bitmap, a compressed PNG image in base64, whose upper left pixel is ``origin``."""
    bitmap = field(entry, "bitmap", dict)
    try:
        left, top = (int(number) for number in field(bitmap, "origin", list))
        unpacked = zlib.decompressobj().decompress(base64.b64decode(field(bitmap, "data", str), validate=True), _MAX_BITMAP_BYTES)
    except (TypeError, ValueError, OverflowError, zlib.error) as error:
        raise error if isinstance(error, DataError) else DataError(f"its bitmap cannot be read ({brief(error)})") from error
    pixels = np.asarray(image_from_bytes(unpacked, ["PNG"]))
    return paste((pixels if pixels.ndim == 2 else pixels[..., -1]) != 0, left, top, height, width)


#: A geometry type -> makes its region from the object, height and width. Raises DataError.
_SHAPES: dict[str, Callable[[dict[str, Any], int, int], Region]] = {"polygon": _polygon, "rectangle": _rectangle, "bitmap": _bitmap}
