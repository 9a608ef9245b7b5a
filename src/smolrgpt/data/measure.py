"""A scene graph measured from masks, metric depth and the camera's intrinsics.

What is measured is the visible surface: its middle and extents, robust against mask edges that pick up background. Legend: N points.
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
    mask = item.region.to_mask()
    points = pose.to_scene(backproject(depth_m, camera, mask))  # (N, 3)
    if len(points) == 0:
        return None
    yaw = _footprint_yaw(points[:, :2]) if find_sides else None
    to_sides = _rotation(yaw or 0.0)
    turned = points @ to_sides.T
    center, size = (values.astype(np.float64) for values in visible_box(turned))
    inner = points[(np.abs(turned - center) <= size / 2).all(axis=1)]
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
