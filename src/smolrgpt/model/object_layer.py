"""The pixels of a region that show its object, by their depth: without background, the plane below it, and stray points. numpy only.

Masks overlap their borders, boxes hold background, and depth has stray points between surfaces. The same rules measure scenes in
``smolrgpt.data.measure``, which a test holds; a saved model has to load without that module. Legend: N pixels of a region.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from .floor import Floor

Array = npt.NDArray[Any]

#: Depth is counted in steps of this share of itself, and smoothed over some of them. Chosen with the constants below on synthetic scenes
#: (smolrgpt.data.measure).
STEP_SHARE = 0.01
_KERNEL = np.exp(-0.5 * (np.arange(-6, 7) / 2) ** 2)
_KERNEL /= _KERNEL.sum()
#: The object ends where the weighted density of depth falls below this share of its peak: masks; boxes, which hold background.
MASK_CUT, BOX_CUT = 0.03, 0.2
#: Weight of a pixel at the border of its region, against 1 in its middle, and the power of the way in between: masks, boxes.
BORDER_WEIGHT, MASK_POWER, BOX_POWER = 0.03, 2.0, 1.0
#: A point belongs to the floor when it is less than this share of its depth above it; errors of sensors are smaller.
PLANE_SHARE = 0.01
#: Least share of the weight above the floor of an object that stands on it; others are areas of the floor itself.
STANDING_SHARE = 0.2
#: Longest side, in pixels, at which the distance from the border is counted.
INSIDE_SIDE = 48


def object_pixels(patch: Array, rows: Array, columns: Array, points: Array, floor: Floor | None) -> Array:
    """Return which pixels of a region show its object: bool (N,).

    Args:
        patch: bool (h, w) the cropped mask.
        rows: (N,) of measured pixels of the patch.
        columns: likewise.
        points: (3, N) in metres, camera frame.
        floor: the plane that supports the object; None where it is not known.
    """
    is_box = bool(patch.all())
    weights = (BORDER_WEIGHT + insideness(patch)[rows, columns]) ** (BOX_POWER if is_box else MASK_POWER)
    kept = np.ones(len(rows), dtype=bool)
    if floor is not None:
        stands = floor.above(points) >= PLANE_SHARE * points[2]
        if weights[stands].sum() <= STANDING_SHARE * weights.sum():
            return np.asarray(~stands)  # an area of the floor, whose far end has few pixels
        kept = stands
    kept[kept] = in_main_layer(points[2][kept], weights[kept], BOX_CUT if is_box else MASK_CUT)
    return kept


def insideness(mask: Array) -> Array:
    """Return the distance of every pixel from the border of a cropped mask, as a share of the largest one: float32 (h, w)."""
    step = max(1, math.ceil(max(mask.shape) / INSIDE_SIDE))
    layer: Array = mask[::step, ::step]
    found: Array = np.zeros(layer.shape, np.float32)
    while layer.any():
        found += layer
        padded = np.pad(layer, 1)
        layer = padded[1:-1, 1:-1] & padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    enlarged = np.repeat(np.repeat(found / max(float(found.max()), 1.0), step, 0), step, 1)
    return np.asarray(enlarged[: mask.shape[0], : mask.shape[1]])


def in_main_layer(z: Array, weights: Array, cut: float) -> Array:
    """Return which depths (N,), N > 0, are in the layer around the most frequent one: bool (N,). It ends below the cut."""
    position = ((np.log(z) - math.log(float(z.min()))) / STEP_SHARE).astype(int) + len(_KERNEL)
    density = np.convolve(np.bincount(position, weights, position.max() + len(_KERNEL)), _KERNEL, "same")
    peak = int(density.argmax())
    sparse = np.flatnonzero(density < cut * density[peak])  # both ends are
    kept: Array = (position > sparse[sparse < peak].max()) & (position < sparse[sparse > peak].min())
    return kept
