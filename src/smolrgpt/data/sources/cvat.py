"""A user's own images with CVAT annotations: the format "CVAT for images 1.1".

    <root>/annotations.xml, annotations/<split>.xml, <split>.xml or <split>/annotations.xml
    <root>/<split>/images/, images/<split>/, images/ or <split>/   the images
    <root>/questions_<split>.jsonl   see ``annotated``; an object's annotation id is its position in the image's element, from 0

Polygons, boxes (also rotated ones), ellipses and masks are read; polylines, points, cuboids and skeletons are counted. Shapes of one label
and ``group_id`` are parts of one object, whose annotation id is that of the first. Of images with a ``subset``, those of the split count.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, ParseError

import numpy as np
from defusedxml import DefusedXmlException
from defusedxml.ElementTree import iterparse

from smolrgpt.data.loading import SkipLog
from smolrgpt.data.sources.annotated import (
    UNNAMED,
    UNREAD_SHAPE,
    AnnotatedImage,
    AnnotatedObject,
    first_file,
    group_parts,
    iter_annotated,
    warn_of_no_splits,
)
from smolrgpt.data.sources.folders import ImageSet
from smolrgpt.data.sources.outlines import ellipse, paste, rotate
from smolrgpt.data.sources.rows import UNUSABLE_ROW, image_shape
from smolrgpt.schema import DataError, Region, Sample, brief


def iter_cvat(
    root: Path | str,
    split: str,
    *,
    skips: SkipLog,
    annotations: str | None = None,
    images: str | None = None,
    depths: str | None = None,
    max_pairs: int = 16,
) -> Iterator[Sample]:
    """Yield samples as of ``iter_annotated``.

    Args:
        root: The folder of the data set.
        split: The name in the paths above.
        skips: Counts images and shapes that cannot be used.
        annotations: The XML file relative to root, where it is none of those above.
        images: The folder of images relative to root, where it is none of those above.
        depths: The folder of depth maps relative to root, where it is none of <split>/depths and depths.
        max_pairs: Questions per image without a questions file; a random draw by the image's name where there are more pairs.

    Raises:
        DataError: When annotations or images do not exist, the file is damaged or of another format, or has no image of the split.
    """
    root = Path(root)
    names = [f"annotations/{split}.xml", f"{split}.xml", f"{split}/annotations.xml", "annotations.xml"]
    path = first_file(root, split, [annotations] if annotations else names)
    files = ImageSet.of_split(root, split, images, depths, [f"{split}/images", f"images/{split}", "images", split])
    table = list(_read_images(path, split, skips))
    return iter_annotated(table, files, root / f"questions_{split}.jsonl", skips, max_pairs)


def _read_images(path: Path, split: str, skips: SkipLog) -> Iterator[AnnotatedImage]:
    subsets: dict[str, int] = {}
    for index, element in enumerate(_image_elements(path)):
        if not index and path.name == "annotations.xml" and path.parent.name != split and not element.get("subset"):
            warn_of_no_splits(path, split)
        subset = element.get("subset") or split
        subsets[subset] = subsets.get(subset, 0) + 1
        if subset.casefold() != split.casefold():
            continue
        try:
            name, where = element.get("name"), f"{path.name} image {index}"
            if not name:
                raise DataError("it has no name")
            size = image_shape({side: _whole(element, side) for side in ("height", "width")}, "height", "width")
        except DataError as error:
            skips.add(UNUSABLE_ROW, f"{where}: {error}")
        else:
            where_it_lies = f"{element.get('subset')}/{name}" if element.get("subset") else name  # projects have a folder for each subset
            yield AnnotatedImage(where_it_lies, path.name, group_parts(_read_shapes(element, size, where, skips)))
    if subsets and split.casefold() not in map(str.casefold, subsets):
        found = ", ".join(f"{subset} ({count})" for subset, count in subsets.items())
        raise DataError(f"{path}: no image of the split {split!r}; its subsets are {found}")


def _image_elements(path: Path) -> Iterator[Element]:
    """Yield the image elements, one in memory at a time. Raises DataError for a damaged file, and one of another format."""
    top: list[Element] = []
    try:
        for event, element in iterparse(str(path), events=("start", "end")):
            if event == "start":
                if not top and element.tag != "annotations":
                    raise DataError(
                        f"{path}: its first element is {brief(element.tag)}; expected annotations, of the format CVAT for images 1.1"
                    )
                if element.tag == "track":
                    raise DataError(f"{path}: it has tracks of a video, which are not read; export it as CVAT for images 1.1")
                top.append(element)
            else:
                top.pop()
                if element.tag == "image" and len(top) == 1:
                    yield element
                    top[0].clear()
    except (ParseError, DefusedXmlException, UnicodeError) as error:
        raise DataError(f"{path}: damaged XML ({brief(error, 200)}); export it again") from error


def _read_shapes(image: Element, size: tuple[int, int], where: str, skips: SkipLog) -> Iterator[tuple[object, AnnotatedObject]]:
    """Yield the group, if any, and the object of each shape that is read; others are counted."""
    for number, shape in enumerate(image):
        if shape.tag == "tag":  # of the whole image
            continue
        if shape.tag not in _SHAPES:
            message = f"it is of the kind {brief(shape.tag)}, which is not read; {', '.join(_SHAPES)} are"
            skips.add(UNREAD_SHAPE, f"{where} shape {number}: {message}")
            continue
        try:
            make_region = functools.partial(_region, *_SHAPES[shape.tag](shape), size)
        except DataError as error:
            skips.add(UNUSABLE_ROW, f"{where} shape {number}: {error}")
        else:
            group = shape.get("group_id")
            yield None if group in (None, "", "0") else group, AnnotatedObject(number, shape.get("label") or UNNAMED, make_region)


def _region(make: Callable[..., Region], content: Any, size: tuple[int, int], *_: Any) -> Region:
    return make(content, *size)


# ----------------------------------------------------------------------------------------------------------------------- shapes
def _polygon(shape: Element) -> tuple[Callable[..., Region], Any]:
    try:
        points = [tuple(map(float, point.split(","))) for point in (shape.get("points") or "").split(";")]
    except ValueError:
        raise DataError(f"points {brief(shape.get('points'))!r} are no x,y;x,y;...") from None
    if any(len(point) != 2 for point in points):
        raise DataError(f"points {brief(shape.get('points'))!r} are no x,y;x,y;...")
    return Region.from_polygon, points


def _box(shape: Element) -> tuple[Callable[..., Region], Any]:
    x0, y0, x1, y1 = _numbers(shape, "xtl", "ytl", "xbr", "ybr")
    degrees = _rotation(shape)
    if not degrees:
        return Region.from_box, (x0, y0, x1, y1)
    centre = np.array([(x0 + x1) / 2, (y0 + y1) / 2])
    corners = np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)]) - centre
    return Region.from_polygon, rotate(corners, degrees) + centre


def _ellipse(shape: Element) -> tuple[Callable[..., Region], Any]:
    x, y, radius_x, radius_y = _numbers(shape, "cx", "cy", "rx", "ry")
    return Region.from_polygon, ellipse(x, y, radius_x, radius_y, _rotation(shape))


def _mask(shape: Element) -> tuple[Callable[..., Region], Any]:
    """Return a mask: run lengths along the rows of a box, the first of them outside."""
    left, top, width, height = (_whole(shape, name) for name in ("left", "top", "width", "height"))
    try:
        runs = [int(run) for run in (shape.get("rle") or "").split(",")]
    except ValueError:
        raise DataError(f"rle {brief(shape.get('rle'))!r} holds something that is no number") from None
    if min(runs) < 0 or width < 1 or height < 1 or sum(runs) != width * height:
        raise DataError(f"its run lengths add up to {sum(runs)}; expected {width} x {height}, all positive")
    return _paste_runs, (runs, left, top, width, height)


def _paste_runs(content: tuple[list[int], int, int, int, int], height: int, width: int) -> Region:
    runs, left, top, w, h = content
    if w > 2 * width or h > 2 * height:
        raise DataError(f"its mask is {w}x{h}, the image {width}x{height}")
    inside = np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(h, w)
    return paste(inside, left, top, height, width)


#: A shape's tag -> what makes its region from its content, height and width, and the content. Raises DataError.
_SHAPES: dict[str, Callable[[Element], tuple[Callable[..., Region], Any]]] = {
    "polygon": _polygon,
    "box": _box,
    "ellipse": _ellipse,
    "mask": _mask,
}


def _numbers(shape: Element, *names: str) -> list[float]:
    try:
        return [float(shape.attrib[name]) for name in names]
    except (KeyError, ValueError):
        raise DataError(f"{brief(shape.attrib)} has not the numbers {', '.join(names)}") from None


def _rotation(shape: Element) -> float:
    return _numbers(shape, "rotation")[0] if shape.get("rotation") else 0.0


def _whole(element: Element, name: str) -> int:
    try:
        return int(element.attrib[name])
    except (KeyError, ValueError):
        raise DataError(f"{name} is {brief(element.get(name))!r}; expected a whole number") from None
