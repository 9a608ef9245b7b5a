"""A user's own images with Label Studio annotations: what its "JSON" export holds.

    <root>/<split>.json          tasks: {"id", "data": {"image": ...}, "annotations": [{"result": [...]}, ...]}
    <root>/<split>/images/ or <root>/images/   the images, by the name they had before Label Studio put an upload number in front
    <root>/<split>/depths/ or <root>/depths/   depth maps, where there are any; near = bright unless their depth.json states dark

Regions are rectangles (also rotated ones), ellipses, polygons and brush strokes (``label_studio_shapes``), numbered from 0 in the order of
the results. Questions and answers are text areas named "question" and "answer" (the k-th answers the k-th); a question mentions regions as
``<region 2>`` (or ``[Region 2]``), or has one plain ``<mask>`` per region of the task, in order. A region's number becomes its position in
the question, also in the answer, which may only name regions that its question mentions.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from smolrgpt.data.loading import SkipLog
from smolrgpt.data.sources.folders import FileFolder, ImageSet
from smolrgpt.data.sources.label_studio_shapes import SHAPES
from smolrgpt.data.sources.rows import MissingFileError, field, image_shape, iter_samples, split_files
from smolrgpt.schema import REGION_PLACEHOLDER, DataError, Region, Sample, brief
from smolrgpt.tasks.region_text import MARKED_REGION, find_regions, region_tag, replace_regions

_UPLOAD_NUMBER = re.compile(r"\A[0-9a-f]{8}-")
_UNNAMED = "object"


def iter_label_studio(
    root: Path | str,
    split: str,
    *,
    skips: SkipLog,
    images: str | None = None,
    depths: str | None = None,
    image_field: str = "image",
    question: str = "question",
    answer: str = "answer",
) -> Iterator[Sample]:
    """Yield one sample per question, in file order, with ids ``<task>-<k>``; opens no image.

    Of a task's annotations the first that was not cancelled counts. ``metadata`` has region_names, the labels of the question's regions.

    Args:
        root: The folder of the data set.
        split: The name in the paths above.
        skips: Counts tasks that cannot be used.
        images: The folder of images relative to root, where it is none of those above.
        depths: The folder of depth maps relative to root, where it is none of those above.
        image_field: The key of ``data`` that holds the image.
        question: The name of the text area with questions.
        answer: The name of the text area with answers.

    Raises:
        DataError: When tasks or images do not exist.
    """
    root = Path(root)
    files = ImageSet.first_existing(
        root, [images] if images else [f"{split}/images", "images"], [depths] if depths else [f"{split}/depths", "depths"], "bright"
    )
    return iter_samples(split_files(root, split), lambda task: _samples(task, files, image_field, question, answer), skips)


def _samples(task: dict[str, Any], files: ImageSet, image_field: str, question: str, answer: str) -> Iterator[Sample]:
    results = _results(task)
    found = files.find(_image_name(field(field(task, "data", dict), image_field, str), files.images))
    regions, names = _regions(results)
    questions, answers = _texts(results, question), _texts(results, answer)
    if not questions:
        raise DataError(f"task {task.get('id')!r} has no text area {question!r}; expected one text per question (question=NAME of yours)")
    for index, asked in enumerate(questions):
        text, indices = _read_question(asked, len(regions))
        yield Sample(
            id=f"{task.get('id')}-{index}",
            image=found.image,
            question=text,
            regions=[regions[i] for i in indices],
            depth=found.depth,
            answer=_read_answer(answers[index], indices) if index < len(answers) else None,
            metadata={"region_names": [names[i] for i in indices]},
        )


def _results(task: dict[str, Any]) -> list[dict[str, Any]]:
    for annotation in field(task, "annotations", list):
        if isinstance(annotation, dict) and not annotation.get("was_cancelled"):
            return [result for result in field(annotation, "result", list) if isinstance(result, dict)]
    raise DataError(f"task {task.get('id')!r} has no annotation that was not cancelled")


def _regions(results: list[dict[str, Any]]) -> tuple[list[Region], list[str]]:
    """Return regions and their labels, in the order they were drawn.

    The labels of a shape are its own, or those of the result of type "labels" with the same id.
    """
    regions, names = [], []
    labels_of = {str(result.get("id")): field(result, "value", dict).get("labels") for result in results if result.get("type") == "labels"}
    for result in results:
        kind = str(result.get("type"))
        make_region = SHAPES.get(kind.removesuffix("labels"))
        if make_region is None:
            continue
        try:
            if result.get("image_rotation"):
                raise DataError(f"image_rotation is {result['image_rotation']}; expected 0, so rotate the image file itself")
            value, (height, width) = field(result, "value", dict), image_shape(result, "original_height", "original_width")
            regions.append(make_region(value, height, width))
        except DataError as error:
            raise DataError(f"result {result.get('id')!r}: {error}") from error
        labels = value.get(kind) or labels_of.get(str(result.get("id"))) or _UNNAMED
        names.append(", ".join(map(str, labels)) if isinstance(labels, list) else str(labels))
    return regions, names


def _texts(results: list[dict[str, Any]], name: str) -> list[str]:
    areas = [result for result in results if result.get("type") == "textarea" and result.get("from_name") == name]
    found = [field(area, "value", dict).get("text") for area in areas]
    return [str(line) for text in found for line in (text if isinstance(text, list) else [text])]


def _read_question(question: str, num_regions: int) -> tuple[str, list[int]]:
    """Return the question with ``<mask>``, and the region index of each ``<mask>``. Raises DataError."""
    indices = find_regions(question, MARKED_REGION)
    if not indices:
        return question, list(range(num_regions)) if REGION_PLACEHOLDER in question else []
    if REGION_PLACEHOLDER in question:
        raise DataError(f"the question mixes <region k> and <mask>; use one of the two: {brief(question)!r}")
    if max(indices) >= num_regions:
        raise DataError(f"the question mentions region {max(indices)}; the task has {num_regions}, numbered from 0")
    return replace_regions(question, lambda _: REGION_PLACEHOLDER, MARKED_REGION), indices


def _read_answer(answer: str, indices: list[int]) -> str:
    """Return the answer with each region named by its position in the question. Raises DataError for a region that is not in there."""

    def write(index: int) -> str:
        if index not in indices:
            raise DataError(f"the answer names region {index}, which the question does not mention: {brief(answer)!r}")
        return region_tag(indices.index(index))

    return replace_regions(answer, write, MARKED_REGION)


def _image_name(source: str, images: FileFolder) -> str:
    """Return the file that a task's image is: an upload (/data/upload/1/0123abcd-name.jpg), local storage (?d=folder/name.jpg) or a URL."""
    url = urlsplit(source)
    path = PurePosixPath(parse_qs(url.query).get("d", [unquote(url.path)])[0])
    names = (str(path).lstrip("/"), path.name, _UPLOAD_NUMBER.sub("", path.name))
    for name in names:
        try:
            images.find(name)
        except MissingFileError:
            continue
        return name
    raise MissingFileError("image", f"none of {', '.join(dict.fromkeys(names))} is in {images.folder}")
