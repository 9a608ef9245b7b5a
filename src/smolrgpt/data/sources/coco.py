"""Your own pictures with COCO annotations: instances or panoptic, as COCO ships them or as annotation tools export them.

    <root>/annotations/instances_<split>.json, panoptic_<split>.json, or <root>/<split>.json
    <root>/annotations/panoptic_<split>/     the segment pictures of a panoptic file (beside it, under its own name)
    <root>/annotations/questions_<split>.jsonl   yours, beside the annotation file; optional:
        {"image": file name, "question": "How far is <mask> from <mask>?", "annotation_ids": [one per <mask>], "answer": ...,
         "normalized_answer": ..., "category": ..., "id": ...}   only the first three are needed
    <root>/<split>/ (COCO's way) or <root>/<split>/images/   the pictures; depth in <root>/<split>/depths/

Without questions every pair of objects is asked which is left, and the masks' centroids give the answer. The annotation file is one JSON
object and is held in memory; pictures are not opened, except the segment pictures of a panoptic file, one at a time.
"""

from __future__ import annotations

import functools
import itertools
import json
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from smolrgpt.data.loading import SkipLog
from smolrgpt.data.sources.folders import ImageSet, Pictures
from smolrgpt.data.sources.rows import Missing, field, frame, iter_samples, optional, scalar
from smolrgpt.schema import DataError, Region, Sample
from smolrgpt.schema.image_file import read_image, to_rgb
from smolrgpt.tasks.side import LEFT_RIGHT

#: Of the picture's width; centroids nearer than that have no side a person would agree on.
_MIN_SIDE_GAP = 0.02


@dataclass(frozen=True, eq=False)
class _Object:
    """One annotation: its number, its category's name, and what its region is made from."""

    id: int
    name: str
    shape: Mapping[str, Any]


@dataclass(frozen=True)
class _Image:
    """One annotated picture; ``segments`` is the panoptic file that paints its objects' numbers, if any."""

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
    questions: str | None = None,
    near: str = "bright",
    max_pairs: int = 16,
) -> Iterator[Sample]:
    """Samples in the order of the questions, without questions in the order of the annotated images.

    annotations, questions: files, images, depths: folders, relative to root, where they are not in the places above. near: the near end of
    relative depth maps, where no depth.json says it. max_pairs: left_right questions an image, drawn by its name when it has more.
    ``metadata`` has region_names (category names) and annotation_ids, in order of the regions. Crowds are not asked about by themselves.
    Raises DataError when the annotations or the pictures are not there, or the annotation file is damaged.
    """
    root = Path(root)
    path = _annotation_file(root, split, annotations)
    folder = next((place for place in (f"{split}/images", split, "images") if (root / place).is_dir()), f"{split}/images")
    maps = depths or next((place for place in (f"{split}/depths", "depths") if (root / place).is_dir()), None)
    pictures = ImageSet(root, images or folder, maps, near)
    table = _read(path, skips)
    asked = root / questions if questions else path.with_name(f"questions_{split}.jsonl")
    if asked.is_file():
        return iter_samples([asked], lambda row: [_asked(row, table, pictures)], skips)
    if questions:
        raise DataError(f"{asked}: no such file; expected one JSON object a line with image, question and annotation_ids")
    return _pairs(path, table, pictures, skips, max_pairs)


def _annotation_file(root: Path, split: str, annotations: str | None) -> Path:
    names = [annotations] if annotations else [f"annotations/instances_{split}.json", f"annotations/panoptic_{split}.json", f"{split}.json"]
    for name in names:
        if (root / name).is_file():
            return root / name
    raise DataError(f"{root}: no annotations of the split {split!r}; expected one of {', '.join(names)}")


def _read(path: Path, skips: SkipLog) -> dict[str, _Image]:
    """File name -> annotated image, in the file's order. Annotations that cannot be used are counted."""
    try:
        file = json.loads(path.read_text(encoding="utf-8-sig"))
    except ValueError as error:
        raise DataError(f"{path}: damaged JSON ({error}); fetch or export it again") from error
    if not isinstance(file, dict) or not all(isinstance(file.get(name), list) for name in ("images", "annotations")):
        raise DataError(f"{path}: expected a COCO object with lists of images, annotations and categories")
    names = {str(entry.get("id")): str(entry.get("name")) for entry in file.get("categories") or [] if isinstance(entry, dict)}
    images: dict[str, _Image] = {}
    for index, entry in enumerate(file["images"]):
        try:
            image = _Image(field(entry, "file_name", str), *frame(entry, "height", "width"), [])
        except DataError as error:
            skips.add("unusable row", f"{path.name} images[{index}]: {error}")
        else:
            images[str(entry.get("id"))] = image
    painted = any(isinstance(entry, dict) and "segments_info" in entry for entry in file["annotations"])
    segments = Pictures(path.with_suffix(""), "segment") if painted else None
    for index, entry in enumerate(file["annotations"]):
        try:
            number = str(field(entry, "image_id", object))
            if number not in images:
                raise DataError(f"image_id {number} is of no image")
            image = images[number]
            if segments and "segments_info" in entry:
                images[number] = _panoptic(segments, image, entry, names)
            elif not entry.get("iscrowd"):
                image.objects.append(_Object(field(entry, "id", int), names.get(str(entry.get("category_id")), "object"), entry))
        except DataError as error:
            skips.add("unusable row", f"{path.name} annotations[{index}]: {error}")
    return {image.file_name: image for image in images.values()}


def _panoptic(segments: Pictures, image: _Image, entry: dict[str, Any], names: dict[str, str]) -> _Image:
    things = [segment for segment in field(entry, "segments_info", list) if not (isinstance(segment, dict) and segment.get("iscrowd"))]
    objects = [_Object(field(thing, "id", int), names.get(str(thing.get("category_id")), "object"), thing) for thing in things]
    return _Image(image.file_name, image.height, image.width, objects, segments.find(field(entry, "file_name", str)))


def _regions(image: _Image, objects: Sequence[_Object]) -> list[Region]:
    """The objects' regions, in order. Raises DataError for one that cannot be made, or a segment picture that cannot be read."""
    if image.segments is None:
        return [_region(item.shape, image) for item in objects]
    numbers = _segment_numbers(image.segments)
    return [Region.from_mask(numbers == item.id) for item in objects]


@functools.lru_cache(maxsize=1)  # questions about a picture stand together
def _segment_numbers(path: Path) -> np.ndarray:
    """int64 (H, W): the number each pixel's colour says, R + 256 G + 256^2 B (COCO's panoptic format)."""
    return np.asarray(to_rgb(read_image(path)), dtype=np.int64) @ (1, 256, 256**2)


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


def _asked(row: dict[str, Any], table: dict[str, _Image], pictures: ImageSet) -> Sample:
    """One row of the questions file. Raises DataError."""
    name, wanted = field(row, "image", str), field(row, "annotation_ids", list)
    if name not in table:
        raise DataError(f"image {name!r} is not among the annotated images")
    objects = {item.id: item for item in table[name].objects}
    if unknown := [number for number in wanted if not isinstance(number, int) or number not in objects]:
        raise DataError(f"image {name!r} has no annotation {unknown[0]!r}; it has {sorted(objects)[:20]}")
    sample = _sample(table[name], [objects[number] for number in wanted], field(row, "question", str), pictures, str(row.get("id", "")))
    sample.answer, sample.category = optional(row, "answer"), optional(row, "category")
    sample.normalized_answer = scalar(row, "normalized_answer")
    return sample


def _sample(image: _Image, objects: Sequence[_Object], question: str, pictures: ImageSet, name: str = "") -> Sample:
    numbers = [item.id for item in objects]
    return Sample(
        id=name or f"{image.file_name}:{'-'.join(map(str, numbers))}",
        question=question,
        regions=_regions(image, objects),
        metadata={**pictures.metadata, "region_names": [item.name for item in objects], "annotation_ids": numbers},
        **pictures.files(image.file_name),
    )


def _centroid_column(region: Region) -> float:
    """In widths of the picture. Raises DataError for an empty region."""
    columns = np.nonzero(region.to_mask())[1]
    if not columns.size:
        raise DataError("its region holds no pixel")
    return float(columns.mean()) / region.size[1]


def _pairs(path: Path, table: dict[str, _Image], pictures: ImageSet, skips: SkipLog, max_pairs: int) -> Iterator[Sample]:
    """left_right questions about pairs whose centroids are apart, answered from them; which comes first is drawn, so no side is usual."""
    for image in table.values():
        rng = random.Random(image.file_name)
        columns: dict[_Object, float] = {}
        for item in image.objects:
            try:
                pictures.files(image.file_name)
                columns[item] = _centroid_column(_regions(image, [item])[0])
            except DataError as error:
                reason = f"missing {error.kind}" if isinstance(error, Missing) else "unusable row"
                skips.add(reason, f"{path.name} annotation {item.id} of {image.file_name!r}: {error}")
        pairs = [pair for pair in itertools.combinations(columns, 2) if abs(columns[pair[0]] - columns[pair[1]]) >= _MIN_SIDE_GAP]
        for pair in rng.sample(pairs, min(max_pairs, len(pairs))):
            first, second = rng.sample(pair, 2)
            side = "left" if columns[first] < columns[second] else "right"
            sample = _sample(image, (first, second), "Is <mask> to the left or to the right of <mask>?", pictures)
            sample.answer, sample.normalized_answer = f"[Region 0] is to the {side} of [Region 1].", side
            sample.category = LEFT_RIGHT.name
            yield sample
