"""A user's own images with COCO annotations: instances or panoptic, as COCO ships them or as annotation tools export them.

    <root>/annotations/instances_<split>.json, panoptic_<split>.json, <root>/<split>.json, or Roboflow's <split>/_annotations.coco.json
    <root>/annotations/panoptic_<split>/     the segment images of a panoptic file (next to it, under its own name)
    <root>/<split>/ (COCO's layout) or <root>/<split>/images/   the images; depth in <root>/<split>/depths/

Questions lie next to the annotation file, as questions_<split>.jsonl; ``annotated`` describes them, and what is made without them. An
object is its segmentation (polygons, run lengths or a list of those) without the parts that cannot be used, or its bbox where none is left.
The annotation file is one JSON object and is held in memory, and so are two of the last segment images of a panoptic file.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np

from smolrgpt.data.loading import SkipLog
from smolrgpt.data.sources.annotated import (
    UNNAMED,
    UNREAD_SHAPE,
    AnnotatedImage,
    AnnotatedObject,
    first_file,
    iter_annotated,
    warn_of_no_splits,
)
from smolrgpt.data.sources.folders import FileFolder, ImageSet
from smolrgpt.data.sources.outlines import union
from smolrgpt.data.sources.rows import UNUSABLE_ROW, field, image_shape
from smolrgpt.schema import DataError, Region, Sample, brief
from smolrgpt.schema.image_file import read_rgb
from smolrgpt.schema.region import Units


def iter_coco(
    root: Path | str,
    split: str,
    *,
    skips: SkipLog,
    annotations: str | None = None,
    images: str | None = None,
    depths: str | None = None,
    units: Units = "pixels",
    max_pairs: int = 16,
) -> Iterator[Sample]:
    """Yield samples as of ``iter_annotated``.

    Args:
        root: The folder of the data set.
        split: The name in the paths above.
        skips: Counts rows, annotations and parts of them that cannot be used.
        annotations: The annotation file relative to root, where it is none of those above.
        images: The folder of images relative to root, where it is none of those above.
        depths: The folder of depth maps relative to root, where it is none of those above.
        units: What coordinates of boxes and polygons count: pixels, or "normalized" or "thousandths" for shares of the sides.
        max_pairs: Questions per image without a questions file; a random draw by the image's name where there are more pairs.

    Raises:
        DataError: When annotations or images do not exist, the annotation file is damaged, or there are no such units.
    """
    root = Path(root)
    if units not in get_args(Units):
        raise DataError(f"units are {brief(units)!r}; expected one of {', '.join(get_args(Units))}")
    names = [
        f"annotations/instances_{split}.json",
        f"annotations/panoptic_{split}.json",
        f"{split}.json",
        f"{split}/_annotations.coco.json",
    ]
    path = first_file(root, split, [annotations] if annotations else [*names, *_without_splits(root, split, names)])
    files = ImageSet.of_split(root, split, images, depths, [f"{split}/images", f"images/{split}", split, "images"])
    table = _AnnotationReader(path, skips, units).read()
    return iter_annotated(table, files, path.with_name(f"questions_{split}.jsonl"), skips, max_pairs)


def _without_splits(root: Path, split: str, names: Sequence[str]) -> list[str]:
    """Return the file of a set without splits, as CVAT and Label Studio name it; none where the set has the split or others."""
    found = [name for name in ("annotations/instances_default.json", "result.json") if (root / name).is_file()]
    splits = [*root.glob("annotations/instances_*.json"), *root.glob("*/_annotations.coco.json")]
    if any((root / name).is_file() for name in names) or len(found) != 1 or any(path != root / found[0] for path in splits):
        return []
    warn_of_no_splits(root / found[0], split)
    return found


class _AnnotationReader:
    """Reads an annotation file; entries that cannot be used are counted in ``skips``."""

    def __init__(self, path: Path, skips: SkipLog, units: Units):
        self._path, self._skips, self._units = path, skips, units
        self._segment_ids = functools.lru_cache(maxsize=2)(_segment_ids)  # questions about an image follow each other

    def read(self) -> list[AnnotatedImage]:
        """Return the annotated images in the file's order. Raises DataError for a file that is not COCO's."""
        try:
            file = json.loads(self._path.read_text(encoding="utf-8-sig"))
        except (ValueError, RecursionError) as error:
            raise DataError(f"{self._path}: damaged JSON ({error}); fetch or export it again") from error
        if not isinstance(file, dict) or not all(isinstance(file.get(name), list) for name in ("images", "annotations")):
            raise DataError(f"{self._path}: expected a COCO object with lists of images, annotations and categories")
        categories = file.get("categories")
        self._names = {
            str(_whole(entry.get("id"))): str(entry.get("name") or UNNAMED)
            for entry in (categories if isinstance(categories, list) else [])
            if isinstance(entry, dict)
        }
        self._images: dict[str, AnnotatedImage] = {}
        self._sizes: dict[str, tuple[int, int]] = {}
        self._read_images(file["images"])
        self._add_annotations(file["annotations"])
        return list(self._images.values())

    def _read_images(self, entries: list[Any]) -> None:
        """Read the images, without annotations. An id that belongs to several files is that of none."""
        names: dict[str, set[str]] = {}
        for entry in entries:
            if isinstance(entry, dict):
                file = f"{entry.get('file_name')!r} ({entry.get('width')}x{entry.get('height')})"
                names.setdefault(str(_whole(entry.get("id"))), set()).add(file)
        for index, entry in enumerate(entries):
            try:
                name, number, size = field(entry, "file_name", str), str(_id(entry)), image_shape(entry, "height", "width")
                if len(names[number]) > 1:
                    raise DataError(f"id {number} is that of {brief(' and '.join(sorted(names[number])), 200)}; expected one image per id")
            except DataError as error:
                self._count(f"images[{index}]: {error}")
            else:
                self._images.setdefault(number, AnnotatedImage(name, self._path.name))
                self._sizes[number] = size

    def _add_annotations(self, entries: list[Any]) -> None:
        is_panoptic = any(isinstance(entry, dict) and "segments_info" in entry for entry in entries)
        segments = FileFolder(self._path.with_suffix(""), "segment") if is_panoptic else None
        for index, entry in enumerate(entries):
            try:
                number = str(_whole(field(entry, "image_id", object)))
                if number not in self._images:
                    raise DataError(f"image_id {number} is of no image that can be used")
                objects = self._images[number].objects
                if segments and "segments_info" in entry:
                    self._add_segments(objects, entry, segments.find(field(entry, "file_name", str)), f"annotations[{index}]")
                else:
                    objects.append(self._object(entry, self._sizes[number], f"annotations[{index}]"))
            except DataError as error:
                self._count(f"annotations[{index}]: {error}")

    def _add_segments(self, objects: list[AnnotatedObject], entry: Any, file: Path, where: str) -> None:
        for index, segment in enumerate(field(entry, "segments_info", list)):
            try:
                number = field(segment, "id", int)
            except DataError as error:
                self._count(f"{where} segments_info[{index}]: {error}")
            else:
                objects.append(
                    AnnotatedObject(
                        number, self._name(segment), functools.partial(_segment, self._segment_ids, file, number), _is_crowd(segment)
                    )
                )

    def _object(self, entry: dict[str, Any], size: tuple[int, int], where: str) -> AnnotatedObject:
        number, parts, problems = _id(entry), *_usable_parts(entry.get("segmentation"), size)
        for problem in problems:
            self._skips.add(UNREAD_SHAPE, f"{self._path.name} {where}: a part of annotation {number!r} is left out: {problem}")
        make_region = functools.partial(_region, parts, entry.get("bbox"), size, self._units)
        return AnnotatedObject(number, self._name(entry), make_region, _is_crowd(entry))

    def _name(self, entry: Mapping[str, Any]) -> str:
        return self._names.get(str(_whole(entry.get("category_id"))), UNNAMED)

    def _count(self, message: str) -> None:
        self._skips.add(UNUSABLE_ROW, f"{self._path.name} {message}")


def _id(entry: Mapping[str, Any]) -> int | str:
    """Return the id of an entry. Raises DataError for anything but a whole number or a text."""
    number = _whole(entry.get("id"))
    return number if isinstance(number, int | str) and not isinstance(number, bool) else field(entry, "id", int)


def _whole(number: Any) -> Any:
    """Return 1 for 1.0, as pandas writes ids; others are returned unchanged."""
    return int(number) if isinstance(number, float) and number.is_integer() else number


def _is_crowd(entry: Mapping[str, Any]) -> bool:
    return str(entry.get("iscrowd")).casefold() not in ("none", "0", "0.0", "false", "")


# ---------------------------------------------------------------------------------------------------------------------- regions
def _segment_ids(path: Path) -> np.ndarray:
    """Return int64 (H, W): the id that each pixel's colour encodes, R + 256 G + 256^2 B (COCO's panoptic format)."""
    ids: np.ndarray = np.asarray(read_rgb(path), dtype=np.int64) @ (1, 256, 256**2)
    return ids


def _segment(read_ids: Callable[[Path], np.ndarray], file: Path, number: int, *_: Any) -> Region:
    return Region.from_mask(read_ids(file) == number)


def _usable_parts(segmentation: Any, size: tuple[int, int]) -> tuple[list[Any], list[str]]:
    """Return the polygons (flat lists) and run lengths of a segmentation, and what is wrong with each part that is none of both."""
    if isinstance(segmentation, Mapping):
        return [segmentation], []
    if not isinstance(segmentation, list) or not segmentation:
        return [], [] if segmentation in (None, []) else [f"{brief(segmentation)!r} is no list"]
    if not any(isinstance(part, (list, Mapping)) for part in segmentation) or all(map(_is_point, segmentation)):
        segmentation = [segmentation]  # one polygon, as a flat list or as points
    parts, problems = [], []
    for part in segmentation:
        try:
            parts.append(part if isinstance(part, Mapping) else _polygon(part, size))
        except DataError as error:
            problems.append(str(error))
    return parts, problems


def _is_point(part: Any) -> bool:
    return isinstance(part, list) and len(part) == 2 and not any(isinstance(number, list) for number in part)


def _polygon(part: Any, size: tuple[int, int]) -> np.ndarray:
    """Return one polygon as a flat array. Raises DataError where ``Region.from_polygon`` would, but for one that covers no pixel."""
    try:
        numbers = np.asarray(part, dtype=np.float64).reshape(-1)
    except (TypeError, ValueError):
        raise DataError(f"{brief(part)} is no list of numbers") from None
    if numbers.size < 6 or numbers.size % 2 or not np.isfinite(numbers).all():
        raise DataError(f"{brief(part)} has {numbers.size} numbers; expected x,y pairs of at least three points")
    if np.abs(numbers).max() > 16 * max(size):
        raise DataError(f"{brief(part)} lies far outside the image of {size[1]}x{size[0]} pixels")
    return numbers


def _region(parts: list[Any], box: Any, size: tuple[int, int], units: Units, *_: Any) -> Region:
    """Return the region of the usable parts of a segmentation, of the bbox without any. Raises DataError."""
    height, width = size
    polygons = [part for part in parts if not isinstance(part, Mapping)]
    regions = [Region.from_rle(part) for part in parts if isinstance(part, Mapping)]
    if polygons:
        regions.append(Region.from_polygon(polygons, height, width, units))
    if len({region.size for region in regions}) > 1:
        raise DataError(f"the parts of its segmentation are of images of {len({region.size for region in regions})} sizes")
    if regions:
        return union(regions)
    if not isinstance(box, list) or len(box) != 4:
        raise DataError("it has neither a segmentation that can be used nor a bbox [x, y, width, height]")
    try:
        x, y, w, h = map(float, box)  # COCO: x, y, width, height
    except (TypeError, ValueError):
        raise DataError(f"bbox {brief(box)} holds something that is no number") from None
    return Region.from_box((x, y, x + w, y + h), height, width, units)
