"""From annotated objects of images to samples: what the readers of COCO, YOLO, LabelMe, CVAT and Supervisely share.

    questions_<split>.jsonl, the user's; optional:
        {"image": file name, "question": "How far is <mask> from <mask>?", "annotation_ids": [one per <mask>], "answer": ...,
         "normalized_answer": ..., "category": ..., "id": ..., "metadata": {...}}   only the first three are needed

A question may also mention its annotations as ``<region 0>``, ``<region 1>``, ..., in order. Without questions, every pair of objects is
asked which of the two is left, and the masks' centroids give the answer. Of images the headers are read. Annotations of the pixels as a
camera stored them are turned upright with the image where its EXIF orientation and the sizes say so.

Entries about the same file are put together. Two objects of one image with the same id cannot be told apart, and neither can two images
whose names lead to the same file; both are counted and left out.
"""

from __future__ import annotations

import functools
import itertools
import logging
import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from smolrgpt.data.frame import fit_region
from smolrgpt.data.loading import SkipLog
from smolrgpt.data.sources.folders import ImageFiles, ImageSet
from smolrgpt.data.sources.image_names import find_image, is_same_name
from smolrgpt.data.sources.outlines import union
from smolrgpt.data.sources.questions import read_question
from smolrgpt.data.sources.rows import UNUSABLE_ROW, check_fields, iter_samples, optional, scalar, skip_reason
from smolrgpt.data.sources.rows import field as read_field
from smolrgpt.schema import DataError, Region, Sample, brief
from smolrgpt.schema.image_file import read_header
from smolrgpt.tasks.side import LEFT_RIGHT

logger = logging.getLogger(__name__)

#: Name of an object whose category has none.
UNNAMED = "object"
#: Reason under which parts and shapes are counted that are left out of an image whose other objects are used.
UNREAD_SHAPE = "unread shape"
#: The fields of a question.
QUESTION_FIELDS = ("image", "question", "annotation_ids", "answer", "normalized_answer", "category", "id", "metadata")
#: Share of the image's width; annotators disagree about the side of objects whose centroids are closer to each other.
_MIN_SIDE_GAP = 0.02
_SIDE_QUESTION = "Is <mask> to the left or to the right of <mask>?"


@dataclass(frozen=True, eq=False)
class AnnotatedObject:
    """One object of an image.

    Attributes:
        id: Unique in its image.
        name: That of its category.
        make_region: Called with (height, width) of the upright image and the EXIF orientation of its stored pixels, returns the region, of
            any size with the sides of the upright or the stored image. Raises DataError.
        is_crowd: Whether it is a group of objects, about which no question is made.
    """

    id: int | str
    name: str
    make_region: Callable[[tuple[int, int], int], Region]
    is_crowd: bool = False


@dataclass(eq=False)
class AnnotatedImage:
    """One entry about an image; ``name`` is what the annotations call it, ``source`` the file with the annotations, for messages."""

    name: str
    source: str
    objects: list[AnnotatedObject] = field(default_factory=list)


def iter_annotated(
    images: Iterable[AnnotatedImage], files: ImageSet, questions: Path, skips: SkipLog, max_pairs: int = 16
) -> Iterator[Sample]:
    """Yield samples in the order of the questions, without questions in the order of the annotated images.

    ``metadata`` has region_names (category names) and annotation_ids, in order of the regions. Without questions, crowds are left out.

    Args:
        images: Entries; several may be about one file.
        files: Where the images and depth maps lie.
        questions: The questions file, which need not exist.
        skips: Counts questions and objects that cannot be used.
        max_pairs: Questions per image without a questions file; a random draw by the image's name where there are more pairs.

    Raises:
        DataError: When max_pairs is not a number.
    """
    if not isinstance(max_pairs, int) or max_pairs < 0:
        raise DataError(f"max_pairs is {brief(max_pairs)!r}; expected a number of questions per image")
    table = _Table(images, files, skips)
    if questions.is_file():
        return iter_samples([questions], lambda row: [table.asked(row)], skips)
    return table.side_questions(max_pairs)


def group_parts(parts: Iterable[tuple[object, AnnotatedObject]]) -> list[AnnotatedObject]:
    """Put the parts of an object together that tools draw as several shapes with one group number.

    Args:
        parts: The group, None for a shape of its own, with the shape. Shapes of one group and name become one object with the first id.
    """
    groups: dict[object, list[AnnotatedObject]] = {}
    for group, part in parts:
        groups.setdefault(part if group is None else (group, part.name), []).append(part)
    return [replace(shapes[0], make_region=functools.partial(_union, shapes)) for shapes in groups.values()]


def _union(shapes: list[AnnotatedObject], size: tuple[int, int], orientation: int) -> Region:
    return union([shape.make_region(size, orientation) for shape in shapes])


@dataclass(eq=False)
class _File:
    """All entries about one image file; ``found`` is the error of an image that cannot be used."""

    name: str
    source: str
    found: ImageFiles | DataError
    objects: dict[str, AnnotatedObject]

    def files(self) -> ImageFiles:
        """Return the files. Raises DataError when the image cannot be used."""
        if isinstance(self.found, DataError):
            raise self.found
        return self.found


class _Table:
    """The annotated images, one entry for each file."""

    def __init__(self, images: Iterable[AnnotatedImage], files: ImageSet, skips: SkipLog):
        self._files, self._skips = files, skips
        self._read_header = functools.lru_cache(maxsize=1)(read_header)  # questions about an image follow each other
        entries: dict[Path | str, list[AnnotatedImage]] = {}
        found: dict[Path | str, ImageFiles | DataError] = {}
        for image in images:
            place = self._find(image.name)
            key = place.image if isinstance(place, ImageFiles) else image.name
            entries.setdefault(key, []).append(image)
            found[key] = place
        self._by_key = {key: self._merge(same, found[key]) for key, same in entries.items()}
        self._by_name = {image.name: self._by_key[key] for key, same in entries.items() for image in same}

    def _find(self, name: str) -> ImageFiles | DataError:
        try:
            return self._files.find(find_image(self._files.images, name))
        except DataError as error:
            return error

    def _merge(self, entries: list[AnnotatedImage], found: ImageFiles | DataError) -> _File:
        """Return the objects of all entries of one file; those whose id occurs again are counted and left out."""
        other = next((entry.name for entry in entries if not is_same_name(entry.name, entries[0].name)), None)
        if other is not None and isinstance(found, ImageFiles):
            found = DataError(f"{brief(entries[0].name)!r} and {brief(other)!r} both lead to {found.image}, which can be only one of them")
        times = Counter(str(item.id) for entry in entries for item in entry.objects)
        objects: dict[str, AnnotatedObject] = {}
        for entry in entries:
            for item in entry.objects:
                if times[str(item.id)] > 1:
                    message = f"{times[str(item.id)]} annotations have the id {item.id!r}; expected one each"
                    self._skips.add(UNUSABLE_ROW, f"{entry.source} image {entry.name!r}: {message}")
                else:
                    objects[str(item.id)] = item
        return _File(entries[0].name, entries[0].source, found, objects)

    def asked(self, row: dict[str, Any]) -> Sample:
        """Return the sample of one row of the questions file. Raises DataError."""
        check_fields(row, QUESTION_FIELDS)
        name, ids = read_field(row, "image", str), read_field(row, "annotation_ids", list)
        image = self._named(name)
        if unknown := [number for number in ids if isinstance(number, bool) or str(number) not in image.objects]:
            known = brief(", ".join(image.objects), 200)
            raise DataError(f"image {name!r} has no annotation {brief(unknown[0])!r}; it has {known or 'none'}")
        question, indices = read_question(read_field(row, "question", str), len(ids))
        if indices != list(range(len(ids))):
            raise DataError(f"the question mentions regions {indices}; expected annotation_ids in the order in which they are mentioned")
        objects = [image.objects[str(number)] for number in ids]
        sample = _sample(image, objects, question, [self._region(item, image) for item in objects], str(row.get("id", "")))
        sample.answer, sample.category = optional(row, "answer"), optional(row, "category")
        sample.normalized_answer = scalar(row, "normalized_answer")
        sample.metadata |= {} if row.get("metadata") is None else read_field(row, "metadata", dict)
        return sample

    def _named(self, name: str) -> _File:
        if name in self._by_name:
            return self._by_name[name]
        found = self._find(name)
        if isinstance(found, ImageFiles) and found.image in self._by_key:
            return self._by_key[found.image]
        same = [self._by_key[key] for key in self._by_key if is_same_name(name, self._by_key[key].name)]
        if len(same) == 1:
            return same[0]
        raise DataError(f"image {brief(name)!r} is not among the annotated images")

    def _region(self, item: AnnotatedObject, image: _File) -> Region:
        """Return the object's region on the upright image.

        Raises DataError when it cannot be made or does not fit the image, and for an image that cannot be read.
        """
        (width, height), orientation = self._read_header(image.files().image)
        return fit_region(f"annotation {item.id}", item.make_region((height, width), orientation), (height, width), orientation)

    def side_questions(self, max_pairs: int) -> Iterator[Sample]:
        """Yield questions about pairs whose centroids are apart, in a random order of the two, so that neither side is more frequent."""
        for image in self._by_key.values():
            rng = random.Random(image.name)
            regions, columns = dict[AnnotatedObject, Region](), dict[AnnotatedObject, float]()
            for item in (item for item in image.objects.values() if not item.is_crowd):
                try:
                    regions[item] = self._region(item, image)
                    columns[item] = _centroid_column(regions[item])
                except DataError as error:
                    self._skips.add(skip_reason(error), f"{image.source} annotation {item.id} of {image.name!r}: {error}")
            pairs = [pair for pair in itertools.combinations(columns, 2) if abs(columns[pair[0]] - columns[pair[1]]) >= _MIN_SIDE_GAP]
            for pair in rng.sample(pairs, min(max_pairs, len(pairs))):
                first, second = rng.sample(pair, 2)
                side = "left" if columns[first] < columns[second] else "right"
                sample = _sample(image, [first, second], _SIDE_QUESTION, [regions[first], regions[second]])
                sample.answer, sample.normalized_answer = f"[Region 0] is to the {side} of [Region 1].", side
                sample.category = LEFT_RIGHT.name
                yield sample


def _sample(image: _File, objects: list[AnnotatedObject], question: str, regions: list[Region], name: str = "") -> Sample:
    ids, found = [item.id for item in objects], image.files()
    return Sample(
        id=name or f"{image.name}:{'-'.join(map(str, ids))}",
        image=found.image,
        question=question,
        regions=regions,
        depth=found.depth,
        metadata={"region_names": [item.name for item in objects], "annotation_ids": ids},
    )


def _centroid_column(region: Region) -> float:
    """Return the centroid's column as a share of the image's width. Raises DataError for corrupt run lengths."""
    pixels = region.to_mask().sum(axis=0)
    return float(pixels @ np.arange(len(pixels)) / pixels.sum()) / len(pixels)


def warn_of_no_splits(folder: Path, split: str) -> None:
    """Log that a set without splits is read whole as the split that was asked for."""
    logger.warning("%s: it has no splits, so all of it is read as %r", folder, split)


def first_file(root: Path, split: str, names: Iterable[str]) -> Path:
    """Return the first of these files that exists. Raises DataError when none does."""
    tried = list(names)
    for name in tried:
        if (root / name).is_file():
            return root / name
    raise DataError(f"{root}: no annotations of the split {split!r}; expected one of {', '.join(tried)} (annotations=FILE names another)")


def annotation_folder(root: Path, split: str, list_files: Callable[[Path], list[Path]]) -> str:
    """Return the folder of a split's files, relative to root; that of all files where the set has no splits.

    Args:
        root: The folder of the data set.
        split: The name of the split.
        list_files: Returns the annotation files in a folder, which need not exist.

    Raises:
        DataError: When there is no such folder.
    """
    names = [f"{split}/annotations", split, "annotations", "Annotations", "."]
    shared = names[2:]
    splits = [path.name for path in sorted(root.glob("*")) if path.name not in shared and any(map(list_files, (path, path / shared[0])))]
    found = next((name for name in names if list_files(root / name)), None)
    if found is None or (found in shared and splits):
        there = f", and {', '.join(splits)} hold some" if splits else ""
        raise DataError(f"{root}: no annotation files of the split {split!r}; expected some in one of {', '.join(names)}{there}")
    if found in shared:
        warn_of_no_splits(root / found, split)
    return found
