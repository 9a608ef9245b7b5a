"""A user's own images with COCO annotations: instances or panoptic, as COCO ships them or as annotation tools export them.

    <root>/annotations/instances_<split>.json, panoptic_<split>.json, or <root>/<split>.json
    <root>/annotations/panoptic_<split>/     the segment images of a panoptic file (next to it, under its own name)
    <root>/annotations/questions_<split>.jsonl   the user's, next to the annotation file; optional:
        {"image": file name, "question": "How far is <mask> from <mask>?", "annotation_ids": [one per <mask>], "answer": ...,
         "normalized_answer": ..., "category": ..., "id": ...}   only the first three are needed
    <root>/<split>/ (COCO's layout) or <root>/<split>/images/   the images; depth in <root>/<split>/depths/

Without questions, every pair of objects is asked which of the two is left, and the masks' centroids give the answer. The annotation file is
one JSON object and is held in memory; of images the headers are read, of panoptic files the segment images, one at a time. Annotations of
the pixels as a camera stored them are turned upright with the image where its EXIF orientation and the sizes say so.
"""

from __future__ import annotations

import functools
import itertools
import json
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from smolrgpt.data.frame import fit_region
from smolrgpt.data.loading import SkipLog
from smolrgpt.data.sources.folders import FileFolder, ImageSet
from smolrgpt.data.sources.rows import UNUSABLE_ROW, field, image_shape, iter_samples, optional, scalar, skip_reason
from smolrgpt.schema import DataError, Polarity, Region, Sample
from smolrgpt.schema.image_file import read_header, read_rgb
from smolrgpt.tasks.side import LEFT_RIGHT

#: Share of the image's width; annotators disagree about the side of objects whose centroids are closer to each other.
_MIN_SIDE_GAP = 0.02
_SIDE_QUESTION = "Is <mask> to the left or to the right of <mask>?"
_UNNAMED = "object"


@dataclass(frozen=True, eq=False)
class _Object:
    """One annotation: its id, its category's name, and the annotation that its region is made from."""

    id: int
    name: str
    shape: Mapping[str, Any]


@dataclass(frozen=True)
class _Image:
    """One annotated image; ``segments`` is the panoptic file whose colours are its objects' ids, if any."""

    file_name: str
    height: int
    width: int
    objects: list[_Object]
    segments: Path | None = None


def iter_coco(
    root: Path | str,
    split: str,
    *,
    skips: SkipLog,
    annotations: str | None = None,
    images: str | None = None,
    depths: str | None = None,
    near: Polarity = "bright",
    max_pairs: int = 16,
) -> Iterator[Sample]:
    """Yield samples in the order of the questions, without questions in the order of the annotated images.

    ``metadata`` has region_names (category names) and annotation_ids, in order of the regions. Without questions, crowds are left out.

    Args:
        root: The folder of the data set.
        split: The name in the paths above.
        skips: Counts rows and annotations that cannot be used.
        annotations: The annotation file relative to root, where it is none of those above.
        images: The folder of images relative to root, where it is none of those above.
        depths: The folder of depth maps relative to root, where it is none of those above.
        near: The near end of relative depth maps where no depth.json records it.
        max_pairs: Questions per image without a questions file; a random draw by the image's name where there are more pairs.

    Raises:
        DataError: When annotations or images do not exist, or the annotation file is damaged.
    """
    root = Path(root)
    path = _annotation_file(root, split, annotations)
    files = ImageSet.first_existing(
        root, [images] if images else [f"{split}/images", split, "images"], [depths] if depths else [f"{split}/depths", "depths"], near
    )
    table = _AnnotationReader(path, skips).read()
    questions = path.with_name(f"questions_{split}.jsonl")
    if questions.is_file():
        return iter_samples([questions], lambda row: [_asked(row, table, files)], skips)
    return _side_questions(path, table, files, skips, max_pairs)


def _annotation_file(root: Path, split: str, annotations: str | None) -> Path:
    names = [annotations] if annotations else [f"annotations/instances_{split}.json", f"annotations/panoptic_{split}.json", f"{split}.json"]
    for name in names:
        if (root / name).is_file():
            return root / name
    raise DataError(f"{root}: no annotations of the split {split!r}; expected one of {', '.join(names)}")


class _AnnotationReader:
    """Reads an annotation file; entries that cannot be used are counted in ``skips``."""

    def __init__(self, path: Path, skips: SkipLog):
        self._path, self._skips = path, skips

    def read(self) -> dict[str, _Image]:
        """Return the annotated images by file name, in the file's order."""
        try:
            file = json.loads(self._path.read_text(encoding="utf-8-sig"))
        except ValueError as error:
            raise DataError(f"{self._path}: damaged JSON ({error}); fetch or export it again") from error
        if not isinstance(file, dict) or not all(isinstance(file.get(name), list) for name in ("images", "annotations")):
            raise DataError(f"{self._path}: expected a COCO object with lists of images, annotations and categories")
        self._names = {str(entry.get("id")): str(entry.get("name")) for entry in file.get("categories") or [] if isinstance(entry, dict)}
        images = self._read_images(file["images"])
        self._add_annotations(images, file["annotations"])
        return {image.file_name: image for image in images.values()}

    def _read_images(self, entries: list[Any]) -> dict[str, _Image]:
        """Return the images by id, without annotations."""
        images: dict[str, _Image] = {}
        for index, entry in enumerate(entries):
            try:
                image = _Image(field(entry, "file_name", str), *image_shape(entry, "height", "width"), [])
            except DataError as error:
                self._skips.add(UNUSABLE_ROW, f"{self._path.name} images[{index}]: {error}")
            else:
                images[str(entry.get("id"))] = image
        return images

    def _add_annotations(self, images: dict[str, _Image], entries: list[Any]) -> None:
        is_panoptic = any(isinstance(entry, dict) and "segments_info" in entry for entry in entries)
        segments = FileFolder(self._path.with_suffix(""), "segment") if is_panoptic else None
        for index, entry in enumerate(entries):
            try:
                number = str(field(entry, "image_id", object))
                if number not in images:
                    raise DataError(f"image_id {number} is of no image")
                if segments and "segments_info" in entry:
                    objects = [self._object(segment) for segment in field(entry, "segments_info", list) if not _is_crowd(segment)]
                    file = segments.find(field(entry, "file_name", str))
                    images[number] = replace(images[number], objects=objects, segments=file)
                elif not _is_crowd(entry):
                    images[number].objects.append(self._object(entry))
            except DataError as error:
                self._skips.add(UNUSABLE_ROW, f"{self._path.name} annotations[{index}]: {error}")

    def _object(self, entry: Any) -> _Object:
        return _Object(field(entry, "id", int), self._names.get(str(entry.get("category_id")), _UNNAMED), entry)


def _is_crowd(entry: Any) -> bool:
    return isinstance(entry, dict) and bool(entry.get("iscrowd"))


# ---------------------------------------------------------------------------------------------------------------------- regions
def _regions(image: _Image, objects: Sequence[_Object], path: Path) -> list[Region]:
    """Return the objects' regions on the upright image at ``path``, in order.

    Raises DataError for one that cannot be made or does not fit the image, and for an image that cannot be read.
    """
    if image.segments is None:
        regions = [_region(item.shape, image) for item in objects]
    else:
        ids = _segment_ids(image.segments)
        regions = [Region.from_mask(ids == item.id) for item in objects]
    (width, height), orientation = _header(path)
    return [
        fit_region(f"annotation {item.id}", region, (height, width), orientation) for item, region in zip(objects, regions, strict=True)
    ]


_header = functools.lru_cache(maxsize=1)(read_header)  # questions about an image follow each other


@functools.lru_cache(maxsize=1)  # questions about an image follow each other
def _segment_ids(path: Path) -> np.ndarray:
    """Return int64 (H, W): the id that each pixel's colour encodes, R + 256 G + 256^2 B (COCO's panoptic format)."""
    ids: np.ndarray = np.asarray(read_rgb(path), dtype=np.int64) @ (1, 256, 256**2)
    return ids


def _region(shape: Mapping[str, Any], image: _Image) -> Region:
    segmentation, box = shape.get("segmentation"), shape.get("bbox")
    if isinstance(segmentation, Mapping):
        return Region.from_rle(segmentation)
    if isinstance(segmentation, list) and segmentation:
        return Region.from_polygon(segmentation, image.height, image.width)
    if isinstance(box, list) and len(box) == 4:  # COCO: x, y, width, height
        try:
            x, y, width, height = map(float, box)
        except (TypeError, ValueError):
            raise DataError(f"bbox {box} holds something that is no number") from None
        return Region.from_box((x, y, x + width, y + height), image.height, image.width)
    raise DataError(f"annotation {shape.get('id')!r} has neither segmentation nor bbox")


# -------------------------------------------------------------------------------------------------------------------- questions
def _asked(row: dict[str, Any], table: dict[str, _Image], files: ImageSet) -> Sample:
    """Return the sample of one row of the questions file. Raises DataError."""
    name, ids = field(row, "image", str), field(row, "annotation_ids", list)
    if name not in table:
        raise DataError(f"image {name!r} is not among the annotated images")
    objects = {item.id: item for item in table[name].objects}
    if unknown := [number for number in ids if not isinstance(number, int) or number not in objects]:
        raise DataError(f"image {name!r} has no annotation {unknown[0]!r}; it has {sorted(objects)[:20]}")
    sample = _sample(table[name], [objects[number] for number in ids], field(row, "question", str), files, str(row.get("id", "")))
    sample.answer, sample.category = optional(row, "answer"), optional(row, "category")
    sample.normalized_answer = scalar(row, "normalized_answer")
    return sample


def _sample(image: _Image, objects: Sequence[_Object], question: str, files: ImageSet, name: str = "") -> Sample:
    ids, found = [item.id for item in objects], files.find(image.file_name)
    return Sample(
        id=name or f"{image.file_name}:{'-'.join(map(str, ids))}",
        image=found.image,
        question=question,
        regions=_regions(image, objects, found.image),
        depth=found.depth,
        metadata={"region_names": [item.name for item in objects], "annotation_ids": ids},
    )


def _side_questions(path: Path, table: dict[str, _Image], files: ImageSet, skips: SkipLog, max_pairs: int) -> Iterator[Sample]:
    """Yield questions about pairs whose centroids are apart, in a random order of the two, so that neither side is more frequent."""
    for image in table.values():
        rng = random.Random(image.file_name)
        columns: dict[_Object, float] = {}
        for item in image.objects:
            try:
                columns[item] = _centroid_column(_regions(image, [item], files.find(image.file_name).image)[0])
            except DataError as error:
                skips.add(skip_reason(error), f"{path.name} annotation {item.id} of {image.file_name!r}: {error}")
        pairs = [pair for pair in itertools.combinations(columns, 2) if abs(columns[pair[0]] - columns[pair[1]]) >= _MIN_SIDE_GAP]
        for pair in rng.sample(pairs, min(max_pairs, len(pairs))):
            first, second = rng.sample(pair, 2)
            side = "left" if columns[first] < columns[second] else "right"
            sample = _sample(image, (first, second), _SIDE_QUESTION, files)
            sample.answer, sample.normalized_answer = f"[Region 0] is to the {side} of [Region 1].", side
            sample.category = LEFT_RIGHT.name
            yield sample


def _centroid_column(region: Region) -> float:
    """Return the centroid's column as a share of the image's width. Raises DataError for an empty region."""
    columns = np.nonzero(region.to_mask())[1]
    if not columns.size:
        raise DataError("its region holds no pixel")
    return float(columns.mean()) / region.size[1]
