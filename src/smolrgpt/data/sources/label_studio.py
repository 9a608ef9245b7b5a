"""A user's own images with Label Studio annotations: what its "JSON" export holds.

    <root>/<split>.json          tasks: {"id", "data": {"image": ...}, "annotations": [{"result": [...]}, ...]}
    <root>/<split>/images/ or <root>/images/   the images, by the name they had before Label Studio put an upload number in front
    <root>/<split>/depths/ or <root>/depths/   depth maps, where there are any; near = bright unless their depth.json states dark

Regions are rectangles (also rotated ones), ellipses, polygons and brush strokes (``label_studio_shapes``), numbered from 0 in the order of
the results. A task with a shape of another kind cannot be used: without it, later regions would have other numbers than the annotator's.
Questions and answers are text areas named "question" and "answer" (the k-th answers the k-th); both mention regions as ``read_mentions``
reads them, a question may instead have one plain ``<mask>`` per region of the task, in order. A region's number becomes its position in
the question, also in the answer, which may only name regions that its question mentions.

Of a task with several images or pages, one is read: results with another ``to_name`` or ``item_index`` belong to the others.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from smolrgpt.data.loading import SkipLog
from smolrgpt.data.sources.annotated import UNNAMED
from smolrgpt.data.sources.folders import ImageSet
from smolrgpt.data.sources.image_names import find_image, is_same_name
from smolrgpt.data.sources.label_studio_shapes import SHAPES
from smolrgpt.data.sources.questions import read_answer, read_question
from smolrgpt.data.sources.rows import field, image_shape, iter_samples, split_files
from smolrgpt.schema import DataError, Region, Sample, brief

#: Types of results that are no shapes.
_NO_SHAPES = ("labels", "textarea", "choices", "rating", "number", "datetime", "taxonomy", "relation", "ranker", "pairwise")
#: Types of results that questions and answers may have -> where their value holds them.
_TEXTS = {"textarea": "text", "choices": "choices", "number": "number"}
_IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".jfif", ".heic", ".avif")


def iter_label_studio(  # noqa: PLR0913 (the options of a reader)
    root: Path | str,
    split: str,
    *,
    skips: SkipLog,
    images: str | None = None,
    depths: str | None = None,
    image_field: str = "image",
    to_name: str | None = None,
    item_index: int = 0,
    question: str = "question",
    answer: str = "answer",
) -> Iterator[Sample]:
    """Yield one sample per question, in file order, with ids ``<task>-<k>``; decodes no image.

    Of a task's annotations the first that was not cancelled counts. ``metadata`` has region_names, the labels of the question's regions.

    Args:
        root: The folder of the data set.
        split: The name in the paths above.
        skips: Counts tasks that cannot be used.
        images: The folder of images relative to root, where it is none of those above.
        depths: The folder of depth maps relative to root, where it is none of those above.
        image_field: The key of ``data`` that holds the image, or a list of images.
        to_name: The name of the labelling interface's Image tag that shows it; needed for a task with several images, unless the tags are
            named as the fields.
        item_index: Which image of a list, or page.
        question: The name of the text area with questions.
        answer: The name of the text area with answers.

    Raises:
        DataError: When tasks or images do not exist.
    """
    root = Path(root)
    files = ImageSet.of_split(root, split, images, depths, [f"{split}/images", "images"])
    reader = _TaskReader(files, image_field, to_name, item_index, question, answer)
    return iter_samples(split_files(root, split), reader.samples, skips)


@dataclass
class _TaskReader:
    """Reads tasks; the fields are the options of ``iter_label_studio``. ``_names`` holds what the tasks call each image file."""

    files: ImageSet
    image_field: str
    to_name: str | None
    item_index: int
    question: str
    answer: str
    _names: dict[Path, str] = dataclass_field(default_factory=dict)

    def samples(self, task: dict[str, Any]) -> Iterator[Sample]:
        """Yield a sample for each question of a task. Raises DataError."""
        if "data" not in task and "annotations" not in task:
            raise DataError(f"the task has the fields {brief(', '.join(task))}, as of the export JSON-MIN; export it as JSON")
        data = field(task, "data", dict)
        source = self._image(data)
        found = self.files.find(find_image(self.files.images, source))
        known = self._names.setdefault(found.image, source)
        if not is_same_name(known, source):
            raise DataError(f"{brief(known)!r} and {brief(source)!r} both lead to {found.image}, which can be only one of them")
        results = [result for result in _results(task) if str(result.get("item_index")) in ("None", str(self.item_index))]
        regions, names = _regions(self._of_image([result for result in results if result.get("type") not in _NO_SHAPES], data), results)
        texts = [
            result for result in results if result.get("from_name") in (self.question, self.answer) and not self._is_other(result, data)
        ]
        questions, answers = _texts(texts, self.question), _texts(texts, self.answer)
        if not questions:
            message = f"task {task.get('id')!r} has no text area {self.question!r} of this image"
            raise DataError(f"{message}; expected one text per question (question=NAME of yours)")
        if len(answers) > len(questions):
            raise DataError(f"task {task.get('id')!r} has {len(answers)} answers to {len(questions)} questions")
        for index, asked in enumerate(questions):
            text, indices = read_question(asked, len(regions))
            yield Sample(
                id=f"{task.get('id')}-{index}",
                image=found.image,
                question=text,
                regions=[regions[i] for i in indices],
                depth=found.depth,
                answer=read_answer(answers[index], len(regions), indices) if index < len(answers) else None,
                metadata={"region_names": [names[i] for i in indices]},
            )

    def _image(self, data: dict[str, Any]) -> str:
        """Return what a task calls its image. Raises DataError."""
        value = data.get(self.image_field)
        if value is None:
            others = ", ".join(name for name in data if _is_image(data[name])) or "none"
            raise DataError(f"the task has no image {self.image_field!r}; its images are {others} (image_field=NAME)")
        if isinstance(value, list):
            if not 0 <= self.item_index < len(value):
                raise DataError(f"{self.image_field} lists {len(value)} images; expected one with the number item_index={self.item_index}")
            value = value[self.item_index]
        elif self.item_index:
            raise DataError(f"{self.image_field} is no list of images, and item_index is {self.item_index}")
        if not isinstance(value, str):
            raise DataError(f"{self.image_field} is {brief(value)!r} ({type(value).__name__}); expected the name of an image")
        return value

    def _is_other(self, result: dict[str, Any], data: dict[str, Any]) -> bool:
        """Return whether a result is that of another image of the task, whose tag is named as its field."""
        name = _to_name(result)
        return name not in (None, self.to_name, self.image_field) and name in data and _is_image(data[name])

    def _of_image(self, shapes: list[dict[str, Any]], data: dict[str, Any]) -> list[dict[str, Any]]:
        """Return the shapes drawn on the task's image. Raises DataError where it has several and the names do not tell."""
        if self.to_name is not None:
            return [shape for shape in shapes if _to_name(shape) == self.to_name]
        shapes = [shape for shape in shapes if not self._is_other(shape, data)]
        tags = dict.fromkeys(map(_to_name, shapes))
        images = [name for name in data if name == self.image_field or _is_image(data[name])]
        if len(tags) > 1 or (len(images) > 1 and any(tag not in (None, self.image_field) for tag in tags)):
            found = ", ".join(map(str, tags))
            raise DataError(
                f"the task has the images {', '.join(images)} and shapes on {found}; "
                f"state to_name=NAME, that of the Image tag of {self.image_field}"
            )
        return shapes


def _to_name(result: dict[str, Any]) -> str | None:
    return None if result.get("to_name") is None else str(result["to_name"])


def _is_image(value: Any) -> bool:
    """Return whether a value of a task's data is the name of an image, or a list of those."""
    if isinstance(value, list):
        return bool(value) and all(map(_is_image, value))
    if not isinstance(value, str):
        return False
    try:
        path = urlsplit(value).path or value
    except ValueError:
        path = value
    return any(PurePosixPath(name).suffix.lower() in _IMAGE_SUFFIXES for name in (path, value))


def _results(task: dict[str, Any]) -> list[dict[str, Any]]:
    for annotation in field(task, "annotations", list):
        if isinstance(annotation, dict) and not annotation.get("was_cancelled"):
            results: list[dict[str, Any]] = field(annotation, "result", list)
            if wrong := [result for result in results if not isinstance(result, dict)]:
                raise DataError(f"result {brief(wrong[0])!r} is a {type(wrong[0]).__name__}; expected an object")
            return results
    raise DataError(f"task {task.get('id')!r} has no annotation that was not cancelled")


def _regions(shapes: list[dict[str, Any]], results: list[dict[str, Any]]) -> tuple[list[Region], list[str]]:
    """Return regions and their labels, in the order they were drawn.

    The labels of a shape are its own, or those of the result of type "labels" with the same id. Raises DataError for a shape of a kind that
    is not read.
    """
    regions, names = [], []
    labels_of = {str(result.get("id")): field(result, "value", dict).get("labels") for result in results if result.get("type") == "labels"}
    for result in shapes:
        kind = str(result.get("type"))
        try:
            make_region = SHAPES.get(kind.removesuffix("labels"))
            if make_region is None:
                raise DataError(f"it is a {brief(kind.removesuffix('labels'))}, which is not read; {', '.join(SHAPES)} are")
            if result.get("image_rotation"):
                raise DataError(f"image_rotation is {result['image_rotation']}; expected 0, so rotate the image file itself")
            value, (height, width) = field(result, "value", dict), image_shape(result, "original_height", "original_width")
            regions.append(make_region(value, height, width))
        except DataError as error:
            raise DataError(f"result {brief(result.get('id'))!r}: {error}") from error
        labels = value.get(kind) or labels_of.get(str(result.get("id"))) or UNNAMED
        names.append(", ".join(map(str, labels)) if isinstance(labels, list) else str(labels))
    return regions, names


def _texts(areas: list[dict[str, Any]], name: str) -> list[str]:
    """Return the lines of the text areas of that name, and what was chosen or typed as a number. Raises DataError for anything else."""
    found = [field(area, "value", dict).get(_TEXTS.get(str(area.get("type")), "")) for area in areas if area.get("from_name") == name]
    lines: list[str] = []
    for line in (line for text in found for line in (text if isinstance(text, list) else [text])):
        if isinstance(line, int | float) and not isinstance(line, bool):
            line = f"{line:g}"
        if not isinstance(line, str):
            raise DataError(f"{name!r} holds {brief(line)!r}; expected texts, choices or numbers")
        lines.append(line)
    return lines
