"""Relations of objects that questions ask about: sides in the image, distances, containment, and the steps that find an object by them.

Whatever the image does not show clearly is None: the leftmost by a hair, two objects that are equally near.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from smolrgpt.schema import SceneGraph, SceneObject
from smolrgpt.schema.scene_graph import round_length
from smolrgpt.tasks.question import region_tags

#: Two objects are left and right of one another when their centroids differ by this share of the image's width.
SIDE_MARGIN = 0.02
#: The nearest of several must be this much nearer than the second.
NEAREST_MARGIN = 0.08
#: Vertical distances below this, in metres, are not asked for: a quarter of it is a centimetre.
MIN_VERTICAL_M = 0.05


def side_of(item: SceneObject, anchor: SceneObject) -> str:
    """Return "left" or "right": the side of the anchor on which the image shows the object."""
    return "left" if item.image_xy[0] < anchor.image_xy[0] else "right"


def is_side_clear(graph: SceneGraph, objects: Sequence[SceneObject]) -> bool:
    """Return whether the order of the objects from left to right is clear: no two neighbours are close to one another."""
    x = sorted(item.image_xy[0] for item in objects)
    return all(b - a >= SIDE_MARGIN * graph.camera.width for a, b in itertools.pairwise(x))


def find_extreme(graph: SceneGraph, objects: Sequence[SceneObject], side: str) -> SceneObject | None:
    """Return the "leftmost", "rightmost" or (of three) "middle" object; None where that is not clear."""
    if side == "middle":
        is_clear = len(objects) == 3 and is_side_clear(graph, objects)
        return sorted(objects, key=lambda item: item.image_xy[0])[1] if is_clear else None
    ordered = sorted(objects, key=lambda item: item.image_xy[0], reverse=side == "rightmost")
    if len(ordered) < 2 or abs(ordered[0].image_xy[0] - ordered[1].image_xy[0]) < SIDE_MARGIN * graph.camera.width:
        return None
    return ordered[0]


def find_nearest(anchor: SceneObject, others: Sequence[SceneObject]) -> SceneObject | None:
    """Return the nearest of several objects by their middles; None where the second is nearly as near."""
    if len(others) < 2:
        return None
    distances = np.array([between_middles_m(anchor, other) for other in others])
    order = np.argsort(distances)
    return others[int(order[0])] if distances[order[1]] >= (1 + NEAREST_MARGIN) * distances[order[0]] else None


def find_shelf_and_buffer(
    graph: SceneGraph, shelves: Sequence[SceneObject], side: str, buffers: Sequence[SceneObject]
) -> tuple[SceneObject | None, SceneObject | None]:
    """Return a shelf and the buffer nearest to it; None where either is not clear.

    The shelf is the "left" or "right" one of two, or the first one where ``side`` is empty.
    """
    shelf = next(iter(shelves), None)
    if side:
        shelf = find_extreme(graph, shelves, side + "most") if len(shelves) == 2 else None
    return shelf, None if shelf is None else find_nearest(shelf, buffers)


def distance_m(a: SceneObject, b: SceneObject) -> float:
    """Return the metres between the middles of two objects, rounded; 0 where one stands in the other."""
    return 0.0 if stands_in(a, b) or stands_in(b, a) else round_length(between_middles_m(a, b), max(a.digits, b.digits))


def vertical_distance_m(a: SceneObject, b: SceneObject) -> float:
    """Return the metres between the heights of the middles of two objects, rounded."""
    return round_length(abs(float(a.center_m[2] - b.center_m[2])), max(a.digits, b.digits))


def stands_in(item: SceneObject, buffer: SceneObject) -> bool:
    """Return whether an object that can be moved stands in a buffer region."""
    return item.kind in ("pallet", "transporter") and buffer.kind == "buffer" and buffer.covers(item)


#: A thing rests on another when its foot is so near the other's top, as a share of its own height; farther than the second it does not.
_RESTS_SHARE, _LIFTED_SHARE = 0.15, 0.4
#: A footprint is this much longer and wider where it is asked whether something is clearly beside it.
_BESIDE_FACTOR = 1.25


def is_on(item: SceneObject, base: SceneObject) -> bool | None:
    """Return whether an object rests directly on top of another; None where that is not clear, as in the second storey of a stack."""
    if item.drawn_box is not None or base.drawn_box is not None or base.kind == "buffer" or item.is_flat or base.yaw_rad is None:
        return None
    if not base.covers(item):
        return False if _is_beside(item, base) else None
    above = float(item.center_m[2] - item.size_m[2] / 2) - float(base.center_m[2] + base.size_m[2] / 2)
    if abs(above) <= _RESTS_SHARE * item.size_m[2]:
        return True
    return False if above < -_LIFTED_SHARE * item.size_m[2] else None


def contains(container: SceneObject, item: SceneObject) -> bool | None:
    """Return whether an object is inside another, or in an area of the plane or of the image; None where that is not clear.

    Its middle is above the footprint; in what has a height it is also below the top, and the object is the smaller one.
    """
    if item.is_flat or item.drawn_box is not None:
        return None
    if container.drawn_box is not None:
        return container.covers(item)
    if container.yaw_rad is None:
        return None
    if not container.covers(item):
        return False if _is_beside(item, container) else None
    if container.is_flat:
        foot = float(item.center_m[2] - item.size_m[2] / 2)
        return True if container.kind == "buffer" and foot <= _LIFTED_SHARE * item.size_m[2] else None
    low, high = (float(container.center_m[2]) + sign * container.size_m[2] / 2 for sign in (-1, 1))
    middle = float(item.center_m[2])
    if middle > high + _RESTS_SHARE * item.size_m[2] or middle < low:
        return False
    is_smaller = max(item.size_m[:2]) < max(container.size_m[:2]) and np.prod(item.size_m) < 0.8 * np.prod(container.size_m)
    return True if is_smaller and middle < high - _RESTS_SHARE * item.size_m[2] else None


def _is_beside(item: SceneObject, base: SceneObject) -> bool:
    """Return whether an object's middle is clearly beside the footprint of another."""
    if base.points_m is not None:
        nearest = float(np.linalg.norm(base.points_m[:, :2] - item.center_m[:2], axis=1).min())
        return nearest > (_BESIDE_FACTOR - 1) / 2 * max(base.size_m[:2])
    length, width, height = base.size_m
    return not replace(base, size_m=(_BESIDE_FACTOR * length, _BESIDE_FACTOR * width, height)).covers(item)


def compare_sides(objects: Sequence[SceneObject], among: Sequence[SceneObject], side: str) -> list[str]:
    """Return the steps to the leftmost, rightmost or (of three) middle of ``among``.

    Each step compares the best so far with the next object and names the better of the two; the last one names the object that was found.
    """
    steps, found = [], []
    for end in ("leftmost", "rightmost") if side == "middle" else (side,):
        best = among[0]
        for item in among[1:]:
            word = side_of(best, item)
            better = best if end.startswith(word) else item
            steps.append(f"{region_tags(objects, best, item)} {word}{region_tags(objects, better)}")
            best = better
        found.append(best)
    chosen = found[0] if side != "middle" else next(item for item in among if item not in found)
    return [*steps, f"{side} {chosen.kind}{region_tags(objects, chosen)}"]


def compare_distances(objects: Sequence[SceneObject], among: Sequence[SceneObject], anchor: SceneObject) -> list[str]:
    """Return the steps to the object of ``among`` that is nearest to the anchor, as ``compare_sides`` does."""
    steps, best = [], among[0]
    for item in among[1:]:
        is_nearer = between_middles_m(best, anchor) < between_middles_m(item, anchor)
        better = best if is_nearer else item
        steps.append(
            f"{region_tags(objects, anchor, best, anchor, item)} {'nearer' if is_nearer else 'farther'}{region_tags(objects, better)}"
        )
        best = better
    return [*steps, f"nearest {best.kind}{region_tags(objects, best)}"]


def between_middles_m(a: SceneObject, b: SceneObject) -> float:
    """Return the metres between the middles of two objects."""
    return float(np.linalg.norm(a.center_m - b.center_m))
