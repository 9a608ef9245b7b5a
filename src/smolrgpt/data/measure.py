"""A scene graph measured from masks, metric depth and the camera's intrinsics.

What is measured is the visible surface: its middle and extents. Masks and boxes also hold background, and depth has stray points between
surfaces; ``object_points`` leaves both out. Legend: N points.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from smolrgpt.data.geometry import backproject, visible_box
from smolrgpt.schema import Camera, CameraPose, DataError, DepthMap, Region, SceneGraph, SceneObject

#: Points that are kept of an object at most; enough for its outline on the plane.
MAX_POINTS = 2000
#: Directions that are tried for the sides of a footprint: every two degrees of a quarter turn.
_NUM_DIRECTIONS = 45
#: Depth is counted in steps of this share of itself, and smoothed over some of them.
_STEP_SHARE = 0.01
_KERNEL = np.exp(-0.5 * (np.arange(-6, 7) / 2) ** 2)
_KERNEL /= _KERNEL.sum()
#: The object ends where the weighted density of depth falls below this share of its peak: in masks, and in boxes, which hold background.
_MASK_CUT, _BOX_CUT = 0.03, 0.2
#: Weight of a pixel at the border of its region, against 1 in its middle, and the power of the way in between: masks, boxes.
_BORDER_WEIGHT, _MASK_POWER, _BOX_POWER = 0.03, 2.0, 1.0
#: A point belongs to the supporting plane when it is less than this share of its depth above it; errors of sensors are smaller.
_PLANE_SHARE = 0.01
#: An object stands on the plane when what is left of it begins below this share of its distance from the camera.
_FOOT_SHARE = 2.5 * _PLANE_SHARE
#: Least share of the weight above the plane of an object that stands on it; others are areas of the plane itself.
_STANDING_SHARE = 0.2
#: Longest side, in pixels, at which the distance from the border is counted.
_INSIDE_SIDE = 48


@dataclass(frozen=True)
class MarkedObject:
    """A region of an image with what depth cannot determine: its kind, its noun, and whether it carries a load (None: not known)."""

    kind: str
    name: str
    region: Region
    loaded: bool | None = None


def measure_graph(marked: Sequence[MarkedObject], depth: DepthMap, camera: Camera, pose: CameraPose | None = None) -> SceneGraph:
    """Measure the marked objects of an image.

    Args:
        marked: the objects; regions of the depth map's height and width.
        depth: metric depth.
        camera: intrinsics of the image, of any size.
        pose: where the camera is above the supporting plane (``CameraPose.above_plane``); None where no plane is known.

    Returns:
        The graph; objects without a single measured pixel are left out, and ``has_plane`` is whether a pose was given.

    Raises:
        DataError: when the depth is relative, or a region has another size than the depth map.
    """
    if depth.kind != "metric":
        raise DataError("a scene can be measured from metric depth only; this depth is relative")
    frame = CameraPose.level() if pose is None else pose
    found = [_measure_object(item, depth.values, camera, frame, find_sides=pose is not None) for item in marked]
    return SceneGraph(tuple(item for item in found if item is not None), camera, frame, has_plane=pose is not None)


def _measure_object(item: MarkedObject, depth_m: np.ndarray, camera: Camera, pose: CameraPose, find_sides: bool) -> SceneObject | None:
    points = pose.to_scene(object_points(item.region, depth_m, camera, pose if find_sides else None))  # (N, 3)
    if len(points) == 0:
        return None
    mask = item.region.to_mask()
    yaw = _footprint_yaw(points[:, :2]) if find_sides else None
    to_sides = _rotation(yaw or 0.0)
    turned = points @ to_sides.T
    center, size = (values.astype(np.float64) for values in visible_box(turned))
    inner = points[(np.abs(turned - center) <= size / 2).all(axis=1)]
    if find_sides:
        center[2], size[2] = _down_to_plane(center[2], size[2], float(np.linalg.norm(center - to_sides @ pose.position)))
    rows, columns = np.nonzero(mask)
    height, width = mask.shape
    return SceneObject(
        kind=item.kind,
        name=item.name,
        region=item.region,
        image_xy=(float(columns.mean()) * camera.width / width, float(rows.mean()) * camera.height / height),
        center_m=center @ to_sides,
        size_m=(float(size[0]), float(size[1]), float(size[2])),
        yaw_rad=yaw,
        points_m=inner[:: 1 + len(inner) // MAX_POINTS],
        loaded=item.loaded,
    )


def _down_to_plane(middle_m: float, height_m: float, distance_m: float) -> tuple[float, float]:
    """Return middle and height, both in metres, of an object whose points near the plane were left out: down to the plane if it stands."""
    low = middle_m - height_m / 2
    if low > _FOOT_SHARE * distance_m:
        return middle_m, height_m
    top = max(middle_m + height_m / 2, 0.0)
    return top / 2, top


def object_points(region: Region, depth_m: np.ndarray, camera: Camera, plane: CameraPose | None = None) -> np.ndarray:
    """Return the measured points of the object that a region marks, without background, the plane below it, and stray points.

    Pixels well inside of the region decide where in depth the object is: the most frequent depth and what is connected with it.

    Args:
        region: the object; of the depth map's height and width.
        depth_m: float32 (H, W) metres, NaN where not measured.
        camera: intrinsics of the image, of any size.
        plane: the camera above the plane that supports the object; None where it is not known.

    Returns:
        (N, 3) float32 in camera coordinates; N is 0 where nothing was measured.
    """
    mask = region.to_mask()
    points = backproject(depth_m, camera, mask)
    if len(points) == 0:
        return points
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    patch = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    is_box = bool(patch.all())
    valid = np.isfinite(depth_m[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]) & patch
    weights = (_BORDER_WEIGHT + _insideness(patch)[valid]) ** (_BOX_POWER if is_box else _MASK_POWER)
    if plane is not None:
        stands = plane.to_scene(points)[:, 2] >= _PLANE_SHARE * points[:, 2]
        if weights[stands].sum() <= _STANDING_SHARE * weights.sum():
            return np.asarray(points[~stands])  # an area of the plane, whose far end has few pixels
        points, weights = points[stands], weights[stands]
    kept: np.ndarray = points[_in_main_layer(points[:, 2], weights, _BOX_CUT if is_box else _MASK_CUT)]
    return kept


def _insideness(mask: np.ndarray) -> np.ndarray:
    """Return the distance of every pixel from the border of a cropped mask, as a share of the largest one: float32 (h, w)."""
    step = max(1, math.ceil(max(mask.shape) / _INSIDE_SIDE))
    layer: np.ndarray = mask[::step, ::step]
    found: np.ndarray = np.zeros(layer.shape, np.float32)
    while layer.any():
        found += layer
        padded = np.pad(layer, 1)
        layer = padded[1:-1, 1:-1] & padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    enlarged = np.repeat(np.repeat(found / max(float(found.max()), 1.0), step, 0), step, 1)
    return np.asarray(enlarged[: mask.shape[0], : mask.shape[1]])


def _in_main_layer(z: np.ndarray, weights: np.ndarray, cut: float) -> np.ndarray:
    """Return which depths (N,) are in the layer around the most frequent one: bool (N,). It ends where the density is below the cut."""
    position = ((np.log(z) - math.log(float(z.min()))) / _STEP_SHARE).astype(int) + len(_KERNEL)
    density = np.convolve(np.bincount(position, weights, position.max() + len(_KERNEL)), _KERNEL, "same")
    peak = int(density.argmax())
    sparse = np.flatnonzero(density < cut * density[peak])  # both ends are
    kept: np.ndarray = (position > sparse[sparse < peak].max()) & (position < sparse[sparse > peak].min())
    return kept


def _rotation(yaw: float) -> np.ndarray:
    """Return the (3, 3) matrix that turns scene coordinates into those along a footprint's sides."""
    cos, sin = math.cos(yaw), math.sin(yaw)
    return np.array([[cos, sin, 0.0], [-sin, cos, 0.0], [0.0, 0.0, 1.0]])


def _footprint_yaw(points: np.ndarray) -> float:
    """Return the direction, in radians, of the sides of the smallest rectangle around most of (N, 2) points."""
    few = points[:: 1 + len(points) // MAX_POINTS]
    yaws = np.linspace(0, math.pi / 2, _NUM_DIRECTIONS, endpoint=False)
    along = few @ np.stack([np.cos(yaws), np.sin(yaws)])
    across = few @ np.stack([-np.sin(yaws), np.cos(yaws)])
    sides = [np.diff(np.percentile(values, [2, 98], axis=0), axis=0)[0] for values in (along, across)]
    return float(yaws[int(np.argmin(sides[0] * sides[1]))])
