"""Answers official questions from the words and the true geometry, by rules of its own: the check that every question has one right answer.

It reads the question as a person would (which kinds of objects are listed, which words say what is wanted) and shares no code with the
question writer, so a wrong index, a swapped pair or an ambiguous wording shows up as a disagreement.
``visible_geometry`` gives the same rules what a camera really sees: centres from masks and depth instead of true boxes.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from smolrgpt.data.geometry import backproject, visible_centroid
from smolrgpt.data.worlds.scene import Scene, SceneObject
from smolrgpt.schema import Region

_END = re.compile(r"\b(left|right|middle)(?:most)? (pallet|buffer)")
_SIDES = re.compile(r"\b(left|right|middle)(?:most)?\b", re.IGNORECASE)


@dataclass(frozen=True)
class Known:
    """What the rules need of an object: kind, column in the image, centre in metres, load; inside: itself and the buffer it is in."""

    kind: str
    x: float
    center_m: tuple[float, float, float]
    loaded: bool | None
    inside: frozenset[int]


def true_geometry(scene: Scene) -> dict[Region, Known]:
    """Region -> facts from the scene's own description."""
    return {thing.region: _known(thing, thing.center_m, scene) for thing in scene.regions}


def visible_geometry(scene: Scene) -> dict[Region, Known]:
    """The same with centres in camera coordinates from mask, depth and intrinsics: what occlusion leaves of the truth."""
    facts = {}
    for thing in scene.regions:
        points = backproject(scene.depth_m, scene.camera, thing.mask)
        facts[thing.region] = _known(thing, visible_centroid(points), scene)
    return facts


def answer(question: str, regions: Sequence[Region], facts: Mapping[Region, Known]) -> str | int | float:
    """The normalised answer to an official question. Raises ValueError for a question it cannot read, KeyError for an unknown region."""
    things = [facts[region] for region in regions]
    text = question.lower()
    if re.search(r"how many|number of|count of", text):
        return _count(text, things)
    if re.search(r"distan|how far|how close", text):
        return _distance(text, things)
    if re.search(r"\bwhich\b", text):
        return str(_choice(text, things))
    if len(things) == 2 and re.search(r"left|right", text):
        return "left" if things[0].x < things[1].x else "right"
    raise ValueError(f"no rule reads the question {question!r}")


def _known(thing: SceneObject, center: np.ndarray, scene: Scene) -> Known:
    x, y, z = (float(value) for value in center)
    inside = frozenset(
        number for number, other in enumerate(scene.objects) if other is thing or (other.kind == "buffer" and _over(thing, other))
    )
    return Known(thing.kind, thing.image_xy[0], (x, y, z), thing.loaded, inside)


def _over(thing: SceneObject, buffer: SceneObject) -> bool:
    """Whether the middle of a pallet or transporter is inside a buffer's four corners (cross products, not the layout's own test)."""
    if thing.kind not in ("pallet", "transporter"):
        return False
    corners = buffer.footprint.corners()
    to_next, to_thing = np.roll(corners, -1, axis=0) - corners, thing.center_m[:2] - corners
    cross = to_next[:, 0] * to_thing[:, 1] - to_next[:, 1] * to_thing[:, 0]
    return bool((cross >= 0).all() or (cross <= 0).all())


def _of(things: Sequence[Known], kind: str) -> list[int]:
    return [number for number, thing in enumerate(things) if thing.kind == kind]


def _side_of(things: Sequence[Known], numbers: Sequence[int], side: str) -> int:
    ordered = sorted(numbers, key=lambda number: things[number].x)
    return ordered[{"left": 0, "right": -1, "middle": len(ordered) // 2}[side]]


def _apart(one: Known, two: Known) -> float:
    return math.dist(one.center_m, two.center_m)


def _nearest(things: Sequence[Known], number: int, others: Sequence[int]) -> int:
    return min(others, key=lambda other: _apart(things[number], things[other]))


def _holds(buffer: Known, thing: Known) -> bool:
    """Whether the buffer's number is in both: its own, and that of what stands in it."""
    return buffer.kind == "buffer" and thing.kind != "buffer" and bool(buffer.inside & thing.inside)


def _wanted_buffer(text: str, things: Sequence[Known]) -> int:
    """The buffer a count is about: by side, or by the shelf on a side."""
    buffers = _of(things, "buffer")
    if found := re.search(r"shel(?:f|ves) on the (left|right)", text):
        return _nearest(things, _side_of(things, _of(things, "shelf"), found.group(1)), buffers)
    sides = _SIDES.findall(text)
    if len(sides) != 1:
        raise ValueError(f"expected one side in {text!r}, found {sides}")
    return _side_of(things, buffers, sides[0])


def _count(text: str, things: Sequence[Known]) -> int:
    buffer = things[_wanted_buffer(text, things)]
    return sum(thing.kind == "pallet" and _holds(buffer, thing) for thing in things)


def _choice(text: str, things: Sequence[Known]) -> int:
    carriers, pallets = _of(things, "transporter"), _of(things, "pallet")
    if "pallet" in text and re.search(r"collect|optimal|retriev|pick|assigned", text):
        free = [number for number in carriers if not things[number].loaded] if len(carriers) > 1 else carriers
        if len(free) != 1:
            raise ValueError(f"expected one free transporter, found {len(free)}")
        return _nearest(things, free[0], pallets)
    if "shel" in text and "buffer" in text and len(things) > 3:
        return _wanted_buffer(text, things)
    return _side_of(things, range(len(things)), _SIDES.findall(text)[0])


def _distance(text: str, things: Sequence[Known]) -> int | float:
    """Both ends: 'the <side>most <kind>' picks among that kind, everything named singly stands for itself."""
    ends = [_side_of(things, _of(things, kind), side) for side, kind in _END.findall(text)]
    if not ends:
        ends = list(range(len(things)))
    elif len(ends) == 1:
        ends += [number for kind in ("transporter", "shelf") for number in _of(things, kind)]
    if len(ends) != 2:
        raise ValueError(f"expected two ends of a distance in {text!r}, found {len(ends)}")
    one, two = things[ends[0]], things[ends[1]]
    if _holds(one, two) or _holds(two, one):
        return 0
    return round(_apart(one, two), 2)
