"""Your own pictures with Label Studio annotations: what its "JSON" export holds.

    <root>/<split>.json          tasks: {"id", "data": {"image": ...}, "annotations": [{"result": [...]}, ...]}
    <root>/<split>/images/ or <root>/images/   the pictures, by the name they had before Label Studio put an upload number in front
    <root>/<split>/depths/ or <root>/depths/   depth maps, where there are any

Regions are rectangles (also turned ones), ellipses, polygons and brush strokes, numbered from 0 in the order of the results. Questions and
answers are text areas named "question" and "answer" (the k-th answers the k-th); a question mentions regions as ``<region 2>`` (or
``[Region 2]``), or has one plain ``<mask>`` per region of the task, in order. A region's number becomes its place in the question, in
the answer too, which may only name regions that its question mentions.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np

from smolrgpt.data.loading import SkipLog
from smolrgpt.data.sources.folders import ImageSet
from smolrgpt.data.sources.rows import Missing, field, frame, iter_samples, split_files
from smolrgpt.schema import REGION_PLACEHOLDER, DataError, Region, Sample
from smolrgpt.tasks.region_text import MARKED_REGION, find_regions, region_tag, replace_regions

_UPLOAD_NUMBER = re.compile(r"\A[0-9a-f]{8}-")
_ELLIPSE_POINTS = 64  # a polygon of so many corners misses less than 0.2 % of the ellipse's area


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
    near: str = "bright",
) -> Iterator[Sample]:
    """One sample per question, in file order, ids ``<task>-<k>``; opens no image.

    images, depths: folders relative to root, where they are not in the places above. image_field: the key of ``data`` that holds the
    picture. question, answer: names of the text areas. near: the end of relative depth maps that is near, where no depth.json says it.
    Of a task's annotations the first that was not cancelled counts. ``metadata["region_names"]`` has the labels of the question's regions.
    A task that cannot be used is counted in ``skips``. Raises DataError when tasks or pictures are not there.
    """
    root = Path(root)
    files = split_files(root, split)
    folder = next((place for place in (f"{split}/images", "images") if (root / place).is_dir()), "images")
    maps = depths or next((place for place in (f"{split}/depths", "depths") if (root / place).is_dir()), None)
    pictures = ImageSet(root, images or folder, maps, near)
    return iter_samples(files, lambda task: _samples(task, pictures, image_field, question, answer), skips)


def decode_brush(codes: list[int], height: int, width: int) -> np.ndarray:
    """Label Studio's brush run lengths as bool (H, W). Raises DataError when they do not describe such a picture.

    The bytes are a stream of bits, most significant first (the format of the rle-pack library): the number of values (32 bits), their bit
    width - 1 (5), four bit widths of run lengths - 1 (4 each); then runs: a bit, an index (2) into those four, the run's length - 1, and
    one value for the whole run when the bit is 1, else one value each. Values are RGBA pixels in rows; what has alpha > 0 is inside.
    """
    try:
        data = bytes(codes)
    except (TypeError, ValueError) as error:
        raise DataError(f"brush run lengths are no bytes ({error}); expected a list of integers from 0 to 255") from None
    bits, at = format(int.from_bytes(data, "big"), f"0{8 * len(data)}b"), 0

    def read(size: int) -> int:
        nonlocal at
        at += size
        if at > len(bits):
            raise DataError(f"brush run lengths end after {len(data)} bytes, in the middle of the picture")
        return int(bits[at - size : at], 2)

    count = read(32)
    if count != 4 * height * width:
        raise DataError(f"brush run lengths hold {count} values; expected 4 x {height} x {width} = {4 * height * width}")
    value_bits, length_bits = read(5) + 1, [read(4) + 1 for _ in range(4)]
    values, start = np.zeros(count, dtype=np.uint32), 0
    while start < count:
        is_run = read(1)
        end = start + read(length_bits[read(2)]) + 1
        values[start:end] = read(value_bits) if is_run else [read(value_bits) for _ in range(min(end, count) - start)]
        start = end
    return values.reshape(height, width, 4)[..., 3] > 0


def _rectangle(value: dict[str, Any], height: int, width: int) -> Region:
    """x, y, width, height in percent; turned by ``rotation`` degrees clockwise about (x, y)."""
    x, y, w, h = _percent(value, height, width, "x", "y", "width", "height")
    corners = np.array([(0, 0), (w, 0), (w, h), (0, h)])
    return Region.from_polygon((corners @ _turn(value)) + (x, y), height, width)


def _ellipse(value: dict[str, Any], height: int, width: int) -> Region:
    """Centre and radii in percent; turned about the centre."""
    x, y, rx, ry = _percent(value, height, width, "x", "y", "radiusX", "radiusY")
    angles = np.linspace(0, 2 * np.pi, _ELLIPSE_POINTS, endpoint=False)
    return Region.from_polygon(np.stack([rx * np.cos(angles), ry * np.sin(angles)], axis=-1) @ _turn(value) + (x, y), height, width)


def _polygon(value: dict[str, Any], height: int, width: int) -> Region:
    points = field(value, "points", list)
    try:
        return Region.from_polygon(np.asarray(points, dtype=np.float64) * (width / 100, height / 100), height, width)
    except (TypeError, ValueError) as error:
        raise error if isinstance(error, DataError) else DataError(f"points {str(points)[:60]} are no [x, y] pairs") from None


def _brush(value: dict[str, Any], height: int, width: int) -> Region:
    return Region.from_mask(decode_brush(field(value, "rle", list), height, width))


#: A result's type, without "labels" at its end -> its region.
_SHAPES: dict[str, Callable[[dict[str, Any], int, int], Region]] = {
    "rectangle": _rectangle,
    "ellipse": _ellipse,
    "polygon": _polygon,
    "brush": _brush,
}


def _percent(value: dict[str, Any], height: int, width: int, *names: str) -> list[float]:
    """The named fields, horizontal and vertical ones in turn, in pixels."""
    try:
        return [float(value[name]) / 100 * side for name, side in zip(names, (width, height) * 2, strict=True)]
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{str(value)[:80]} has not the numbers {', '.join(names)}") from error


def _turn(value: dict[str, Any]) -> np.ndarray:
    """(2, 2), for row vectors on its right: the clockwise turn on a picture whose y points down."""
    try:
        angle = np.radians(float(value.get("rotation") or 0))
    except (TypeError, ValueError):
        raise DataError(f"rotation is {str(value['rotation'])[:60]!r}; expected degrees") from None
    return np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])


def _samples(task: dict[str, Any], pictures: ImageSet, image_field: str, question: str, answer: str) -> Iterator[Sample]:
    results = _results(task)
    files = pictures.files(_picture(field(field(task, "data", dict), image_field, str), pictures))
    regions, names = _regions(results)
    asked, answered = _texts(results, question), _texts(results, answer)
    if not asked:
        raise DataError(f"task {task.get('id')!r} has no text area {question!r}; expected one text per question (question=NAME of yours)")
    for index, text in enumerate(asked):
        reply = answered[index] if index < len(answered) else None
        text, reply, used = _mentions(text, reply, len(regions))
        yield Sample(
            id=f"{task.get('id')}-{index}",
            question=text,
            regions=[regions[number] for number in used],
            answer=reply,
            metadata={**pictures.metadata, "region_names": [names[number] for number in used]},
            **files,
        )


def _results(task: dict[str, Any]) -> list[dict[str, Any]]:
    for annotation in field(task, "annotations", list):
        if isinstance(annotation, dict) and not annotation.get("was_cancelled"):
            return [result for result in field(annotation, "result", list) if isinstance(result, dict)]
    raise DataError(f"task {task.get('id')!r} has no annotation that was not cancelled")


def _regions(results: list[dict[str, Any]]) -> tuple[list[Region], list[str]]:
    """Regions and their labels, in the order they were drawn. A shape's labels are its own, or those of the "labels" result with its id."""
    regions, names = [], []
    apart = {str(result.get("id")): field(result, "value", dict).get("labels") for result in results if result.get("type") == "labels"}
    for result in results:
        kind = str(result.get("type"))
        if kind.removesuffix("labels") not in _SHAPES:
            continue
        try:
            if result.get("image_rotation"):
                raise DataError(f"image_rotation is {result['image_rotation']}; expected 0, so turn the picture file itself")
            value, (height, width) = field(result, "value", dict), frame(result, "original_height", "original_width")
            regions.append(_SHAPES[kind.removesuffix("labels")](value, height, width))
        except DataError as error:
            raise DataError(f"result {result.get('id')!r}: {error}") from error
        labels = value.get(kind) or apart.get(str(result.get("id"))) or "object"
        names.append(", ".join(map(str, labels)) if isinstance(labels, list) else str(labels))
    return regions, names


def _texts(results: list[dict[str, Any]], name: str) -> list[str]:
    areas = [result for result in results if result.get("type") == "textarea" and result.get("from_name") == name]
    found = [field(area, "value", dict).get("text") for area in areas]
    return [str(line) for text in found for line in (text if isinstance(text, list) else [text])]


def _mentions(question: str, answer: str | None, num_regions: int) -> tuple[str, str | None, list[int]]:
    """(question with ``<mask>``, answer with the question's own numbers, region number of each ``<mask>``). Raises DataError."""
    numbers = find_regions(question, MARKED_REGION)
    if not numbers:
        numbers = list(range(num_regions)) if REGION_PLACEHOLDER in question else []
        return question, _renumbered(answer, numbers), numbers
    if REGION_PLACEHOLDER in question:
        raise DataError(f"the question mixes <region k> and <mask>; use one of the two: {question[:80]!r}")
    if max(numbers) >= num_regions:
        raise DataError(f"the question mentions region {max(numbers)}; the task has {num_regions}, numbered from 0")
    return MARKED_REGION.sub(REGION_PLACEHOLDER, question), _renumbered(answer, numbers), numbers


def _renumbered(answer: str | None, numbers: list[int]) -> str | None:
    def place(index: int) -> str:
        if index not in numbers:
            raise DataError(f"the answer names region {index}, which the question does not mention: {answer!r}")
        return region_tag(numbers.index(index))

    return None if answer is None else replace_regions(answer, place, MARKED_REGION)


def _picture(source: str, pictures: ImageSet) -> str:
    """The file a task's picture is: an upload (/data/upload/1/0123abcd-name.jpg), local storage (?d=folder/name.jpg), a URL or a path."""
    url = urlsplit(source)
    path = PurePosixPath(parse_qs(url.query).get("d", [unquote(url.path)])[0])
    names = (str(path).lstrip("/"), path.name, _UPLOAD_NUMBER.sub("", path.name))
    for name in names:
        try:
            pictures.pictures.find(name)
        except Missing:
            continue
        return name
    raise Missing("image", f"none of {', '.join(dict.fromkeys(names))} is in {pictures.pictures.folder}")
