"""Answers official questions from their words and the true geometry, by rules of its own.

The check that every question has one right answer: the oracle reads the words of a question (which kinds of objects are listed,
which words define the task) and shares no code with the question makers, so that a wrong index, a swapped pair or an ambiguous wording
shows up as a disagreement. ``visible_geometry`` gives the same rules only visible facts: middles from masks and depth instead of boxes.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from smolrgpt.data.measure import MarkedObject, measure_graph
from smolrgpt.data.worlds.scene import PlacedObject, Scene
from smolrgpt.schema import DepthMap, Region
from smolrgpt.schema.scene_graph import round_length

_SIDE = r"(left|right|middle)(?: ?most)?"
_END = re.compile(rf"\b{_SIDE} (pallet|buffer)")
_SIDES = re.compile(rf"\b{_SIDE}\b")
_SHELF_SIDE = re.compile(r"shel(?:f|ves) on the (left|right)")
#: A misprint of the data set: the buffer that is meant stands before "the", and the sentence ends in another one's name.
_MISPRINT = re.compile(rf"^from {_SIDE}the given")


@dataclass(frozen=True)
class ObjectFacts:
    """The properties of an object that the rules use.

    Attributes:
        kind: pallet, transporter, shelf or buffer.
        x: column of its centroid in the image.
        center_m: its middle in metres.
        loaded: whether it carries a load.
        inside: the numbers of itself and of the buffer it stands in.
    """

    kind: str
    x: float
    center_m: tuple[float, float, float]
    loaded: bool | None
    inside: frozenset[int]


def true_geometry(scene: Scene) -> dict[Region, ObjectFacts]:
    """Return the facts of every region from the scene's own description."""
    return {item.region: _facts(item, item.center_m, scene) for item in scene.regions} | _area_facts(scene)


def visible_geometry(scene: Scene) -> dict[Region, ObjectFacts]:
    """Return the same facts with middles measured from masks and depth, which occlusion moves."""
    marked = [MarkedObject(item.kind, item.kind, item.region) for item in scene.regions]
    measured = measure_graph(marked, DepthMap(scene.depth_m, "metric"), scene.camera)
    centers = {item.region: item.center_m for item in measured.objects}
    return {item.region: _facts(item, centers[item.region], scene) for item in scene.regions} | _area_facts(scene)


def answer(question: str, regions: Sequence[Region], facts: Mapping[Region, ObjectFacts]) -> str | int | float:
    """Return the normalised answer to an official question.

    Raises:
        ValueError: for a question that no rule reads.
        KeyError: for an unknown region.
    """
    objects = [facts[region] for region in regions]
    text = question.lower()
    if re.search(r"how many|number of|count of", text):
        return _count(text, objects)
    if re.search(r"\bwhich\b", text):
        return str(_choice(text, objects))
    if re.search(r"distan|how far|how close", text):
        return _distance(text, objects)
    if len(objects) == 2 and re.search(r"left|right", text):
        return "left" if objects[0].x < objects[1].x else "right"
    raise ValueError(f"no rule reads the question {question!r}")


def _facts(item: PlacedObject, center: np.ndarray, scene: Scene) -> ObjectFacts:
    x, y, z = (float(value) for value in center)
    inside = {number for number, other in enumerate(scene.objects) if other is item or (other.kind == "buffer" and _is_over(item, other))}
    column, row = item.image_xy
    if item.kind != "buffer":
        inside |= {-1 - k for k, (x0, y0, x1, y1) in enumerate(scene.areas) if x0 < column < x1 and y0 < row < y1}
    return ObjectFacts(item.kind, column, (x, y, z), item.loaded, frozenset(inside))


def _area_facts(scene: Scene) -> dict[Region, ObjectFacts]:
    """Return the facts of the areas drawn in the image, whose numbers are negative; they are nowhere in 3-D."""
    shape, nowhere = scene.depth_m.shape, (math.nan, math.nan, math.nan)
    return {
        Region.from_box(box, *shape): ObjectFacts("buffer", (box[0] + box[2]) / 2, nowhere, None, frozenset({-1 - k}))
        for k, box in enumerate(scene.areas)
    }


def _is_over(item: PlacedObject, buffer: PlacedObject) -> bool:
    """Return whether the middle of a pallet or transporter is inside a buffer's four corners, by cross products."""
    if item.kind not in ("pallet", "transporter"):
        return False
    corners = buffer.footprint.corners()
    to_next, to_item = np.roll(corners, -1, axis=0) - corners, item.center_m[:2] - corners
    cross = to_next[:, 0] * to_item[:, 1] - to_next[:, 1] * to_item[:, 0]
    return bool((cross >= 0).all() or (cross <= 0).all())


def _of(objects: Sequence[ObjectFacts], kind: str) -> list[int]:
    return [number for number, item in enumerate(objects) if item.kind == kind]


def _on_side(objects: Sequence[ObjectFacts], numbers: Sequence[int], side: str) -> int:
    ordered = sorted(numbers, key=lambda number: objects[number].x)
    return ordered[{"left": 0, "right": -1, "middle": len(ordered) // 2}[side]]


def _nearest(objects: Sequence[ObjectFacts], number: int, others: Sequence[int]) -> int:
    return min(others, key=lambda other: math.dist(objects[number].center_m, objects[other].center_m))


def _holds(buffer: ObjectFacts, item: ObjectFacts) -> bool:
    """Return whether the buffer's number is in both: its own, and that of what stands in it."""
    return buffer.kind == "buffer" and item.kind != "buffer" and bool(buffer.inside & item.inside)


def _wanted_buffer(text: str, objects: Sequence[ObjectFacts]) -> int:
    """Return the buffer that is asked about: by the shelf that is marked or on a side, or by its own side."""
    buffers, shelves = _of(objects, "buffer"), _of(objects, "shelf")
    if found := _SHELF_SIDE.search(text):
        return _nearest(objects, _on_side(objects, shelves, found[1]), buffers)
    if len(shelves) == 1 and re.search(r"closest|nearest|shortest|smallest", text):
        return _nearest(objects, shelves[0], buffers)
    misprint = _MISPRINT.search(text)
    sides = [misprint[1]] if misprint else _SIDES.findall(text)
    if len(sides) != 1:
        raise ValueError(f"expected one side in {text!r}, found {sides}")
    return _on_side(objects, buffers, sides[0])


def _count(text: str, objects: Sequence[ObjectFacts]) -> int:
    buffer = objects[_wanted_buffer(text, objects)]
    return sum(item.kind == "pallet" and _holds(buffer, item) for item in objects)


def _choice(text: str, objects: Sequence[ObjectFacts]) -> int:
    carriers, pallets = _of(objects, "transporter"), _of(objects, "pallet")
    if "pallet" in text and re.search(r"collect|optimal|retriev|pick|assigned|access", text):
        free = [number for number in carriers if not objects[number].loaded] if len(carriers) > 1 else carriers
        if len(free) != 1:
            raise ValueError(f"expected one free transporter, found {len(free)}")
        return _nearest(objects, free[0], pallets)
    sides = _SIDES.findall(text)
    if _SHELF_SIDE.search(text) or not sides:
        return _wanted_buffer(text, objects)
    return _on_side(objects, range(len(objects)), sides[0])


def _distance(text: str, objects: Sequence[ObjectFacts]) -> int | float:
    """Return the distance of both ends: 'the <side>most <kind>' picks among that kind; an object named alone is its own end."""
    ends = [_on_side(objects, _of(objects, kind), side) for side, kind in _END.findall(text)]
    if found := _SHELF_SIDE.search(text):
        ends.append(_on_side(objects, _of(objects, "shelf"), found[1]))
    elif not ends:
        ends = list(range(len(objects)))
    elif len(ends) == 1:
        ends += [number for kind in ("transporter", "shelf") for number in _of(objects, kind)]
    if len(ends) != 2:
        raise ValueError(f"expected two ends of a distance in {text!r}, found {len(ends)}")
    first, second = objects[ends[0]], objects[ends[1]]
    metres = math.dist(first.center_m, second.center_m)
    if _holds(first, second) or _holds(second, first):
        return 0
    return round(metres, 2) if metres > 1 else round_length(metres, 3)
