"""SceneGraph: the contents of an image in 3-D.

Scene coordinates: metres, z up. Where the graph has a supporting plane (a floor, a table top), the plane is z = 0. Camera coordinates:
metres, x right, y down, z forward. Legend: N points.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from smolrgpt.schema.camera import Camera
from smolrgpt.schema.region import Region

#: An object whose height is at most this share of its longer side is flat: an area of the supporting plane without a height.
FLAT_SHARE = 0.05


def round_length(metres: float, digits: int) -> float:
    """Return a length with so many significant digits; to the centimetre where ``digits`` is 0."""
    return float(f"{metres:.{digits}g}") if digits else round(float(metres), 2)


@dataclass(frozen=True, eq=False)
class CameraPose:
    """The pose of the camera in scene coordinates.

    Attributes:
        position: (3,) metres.
        axes: (3, 3); the rows are the camera's x (right), y (down) and z (forward) axes in scene coordinates.
    """

    position: np.ndarray
    axes: np.ndarray

    @classmethod
    def level(cls) -> CameraPose:
        """Return the pose of a camera at the origin that looks along the scene's y axis, for scenes without a known plane."""
        return cls(np.zeros(3), np.array([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]]))

    @classmethod
    def above_plane(cls, normal: Sequence[float] | np.ndarray, offset: float) -> CameraPose:
        """Return the pose of a camera that views the plane ``normal . point + offset = 0`` (camera coordinates) as z = 0.

        Args:
            normal: (3,) the plane's direction away from what supports it, towards the camera's side.
            offset: height of the camera above the plane in units of the normal's length; metres for a unit normal.
        """
        length = float(np.linalg.norm(normal))
        up = np.asarray(normal, np.float64) / length
        ahead = np.array([0.0, 0.0, 1.0]) if abs(up[2]) < 0.99 else np.array([0.0, -1.0, 0.0])
        ahead = ahead - (ahead @ up) * up
        ahead /= np.linalg.norm(ahead)
        to_scene = np.stack([np.cross(ahead, up), ahead, up])  # rows: the scene's x, y and z axes in camera coordinates
        return cls(np.array([0.0, 0.0, offset / length]), to_scene.T)

    def to_camera(self, points: np.ndarray) -> np.ndarray:
        """Convert (..., 3) scene coordinates to camera coordinates."""
        converted: np.ndarray = (np.asarray(points) - self.position) @ self.axes.T
        return converted

    def to_scene(self, points: np.ndarray) -> np.ndarray:
        """Convert (..., 3) camera coordinates to scene coordinates."""
        converted: np.ndarray = np.asarray(points) @ self.axes + self.position
        return converted


@dataclass(frozen=True, eq=False)
class SceneObject:
    """One object of a scene: its name, its region in the image, and its geometry in scene coordinates.

    The geometry is a 3-D box (drawn or annotated) or measured from points; two objects are equal only when they are the same object.

    Attributes:
        kind: the kind that question makers select objects by, such as "buffer".
        name: the noun that questions and answers use, such as "buffer region".
        region: the visible part of the object.
        image_xy: centroid of the region in pixels (column, row) of the image.
        center_m: (3,) middle of the 3-D box, or of the measured points.
        size_m: length and width along the supporting plane, height above it, in metres.
        yaw_rad: angle from the scene's x axis to the side that ``size_m`` calls the length; None where no footprint is known.
        points_m: (N, 3) measured points in scene coordinates; None where a 3-D box is known.
        visible_fraction: share of the object that the image shows, in [0, 1]; None where it is not known.
        loaded: whether a vehicle carries a load; None where that does not apply or is not known.
        drawn_box: x0, y0, x1, y1 of a rectangle drawn in the image, in pixels, which an area is that is no object of the scene: its lengths
            mean nothing, and it covers what the image shows in it. None for everything else.
        digits: significant digits of lengths that questions give; 0: to the centimetre, as the official warehouse does.
    """

    kind: str
    name: str
    region: Region
    image_xy: tuple[float, float]
    center_m: np.ndarray
    size_m: tuple[float, float, float]
    yaw_rad: float | None = None
    points_m: np.ndarray | None = None
    visible_fraction: float | None = None
    loaded: bool | None = None
    drawn_box: tuple[float, float, float, float] | None = None
    digits: int = 0

    @property
    def is_flat(self) -> bool:
        """Whether the object is an area of the supporting plane, without a height of its own."""
        return self.size_m[2] <= FLAT_SHARE * max(self.size_m[:2])

    @property
    def width_m(self) -> float:
        """The longer side along the supporting plane, in metres, rounded."""
        return round_length(max(self.size_m[:2]), self.digits)

    @property
    def height_m(self) -> float | None:
        """The height above the supporting plane, in metres, rounded; None for a flat object."""
        return None if self.is_flat else round_length(self.size_m[2], self.digits)

    def covers(self, other: SceneObject) -> bool:
        """Return whether the middle of ``other`` lies above this object's footprint, or in its drawn box; False where that is not known."""
        if self.drawn_box is not None:
            x0, y0, x1, y1 = self.drawn_box
            return x0 <= other.image_xy[0] <= x1 and y0 <= other.image_xy[1] <= y1
        if self.yaw_rad is None:
            return False
        x, y = float(other.center_m[0]), float(other.center_m[1])
        if self.points_m is not None:
            return _is_in_hull(self.points_m[:, :2], x, y)
        dx, dy = x - float(self.center_m[0]), y - float(self.center_m[1])
        cos, sin = math.cos(self.yaw_rad), math.sin(self.yaw_rad)
        return abs(cos * dx + sin * dy) <= self.size_m[0] / 2 and abs(cos * dy - sin * dx) <= self.size_m[1] / 2


@dataclass(frozen=True, eq=False)
class SceneGraph:
    """The contents of an image in 3-D: drawn, read from 3-D box annotations, or measured from masks and metric depth.

    Attributes:
        objects: the objects that questions may ask about, each with a region.
        camera: intrinsics of the image; ``image_xy`` and regions refer to an image of this size.
        pose: where the camera is in scene coordinates.
        has_plane: whether z = 0 is a known supporting plane; questions about heights, widths and containment need one.
        areas: rectangles drawn in the image (``SceneObject.drawn_box``), of the kind "buffer"; only questions of containment use them.
    """

    objects: tuple[SceneObject, ...]
    camera: Camera
    pose: CameraPose
    has_plane: bool = True
    areas: tuple[SceneObject, ...] = ()

    @property
    def containers(self) -> list[SceneObject]:
        """The buffers and the drawn areas: what objects can be counted in."""
        return [*self.of_kind("buffer"), *self.areas]

    def of_kind(self, kind: str) -> list[SceneObject]:
        """Return the objects of a kind, in order."""
        return [item for item in self.objects if item.kind == kind]

    def camera_distance_m(self, item: SceneObject) -> float:
        """Return the distance from the camera to the middle of an object, in metres."""
        return float(np.linalg.norm(self.pose.to_camera(item.center_m)))


def _is_in_hull(points: np.ndarray, x: float, y: float) -> bool:
    """Return whether (x, y) lies in the convex hull of (N, 2) points: no gap between their directions from it reaches half a turn."""
    away = points - (x, y)
    angles = np.sort(np.arctan2(away[:, 1], away[:, 0]))
    if len(angles) < 3:
        return False
    gaps = np.append(np.diff(angles), 2 * math.pi - (angles[-1] - angles[0]))
    return bool(gaps.max() <= math.pi)
