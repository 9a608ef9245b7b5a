"""The floor of an image with metric depth: the upward direction and the heights of points above it. numpy only.

Camera frame as everywhere: x right, y down, z forward, metres.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

#: Planes tried. A floor that fills half of the image is met by about one in eight of them.
NUM_TRIALS = 192
#: Most points used, from a regular grid over the image.
MAX_POINTS = 1600
#: A point belongs to a plane within this distance: metres, plus a share of its depth (sensor errors grow with distance).
TOLERANCE_M, TOLERANCE_SHARE = 0.02, 0.006
#: Without a known scale, ``TOLERANCE_M`` and the least height of the camera are shares of an image's median depth, which is about 8 m in
#: the synthetic warehouse.
TYPICAL_DEPTH_M = 8.0
#: Least height of the camera above the floor, in metres.
MIN_CAMERA_M = 0.05
#: Weight of a point below a plane against a point on it: no part of the scene is below the floor.
BELOW_COSTS = 3.0
#: Least share of the points that a floor has; planes with fewer are tables or chance.
MIN_SHARE = 0.05
#: Bounds of the floor's normal in the camera's frame: the camera is rolled by less than 30 degrees and looks up by at most 15.
MAX_SIDEWAYS, MAX_FORWARD = 0.5, 0.26
#: A plane whose normal has less than this forward component is a floor seen from above, or a wall: another plane is preferred.
STEEP_FORWARD = -0.9
#: Quantiles that stand for the lowest and the highest of many measured values, of which a few are far off.
OUTER_QUANTILES = (0.005, 0.995)


class Floor(NamedTuple):
    """The plane ``up @ point + height_m = 0``: ``up`` (3,) float64 of length 1, ``height_m`` of the camera above it."""

    up: np.ndarray
    height_m: float

    def above(self, points: np.ndarray) -> np.ndarray:
        """Return the heights (N,) above the floor of points (3, N), in metres."""
        heights: np.ndarray = self.up @ points + self.height_m
        return heights

    def along(self, points: np.ndarray) -> np.ndarray:
        """Return the coordinates (2, N) of points (3, N) on the floor, along two axes at right angles, in metres."""
        axis = np.cross(self.up, np.eye(3)[np.argmin(np.abs(self.up))])
        axis /= np.linalg.norm(axis)
        coordinates: np.ndarray = np.stack([axis, np.cross(self.up, axis)]) @ points
        return coordinates


def find_floor(points: np.ndarray, median_depth_m: float | None = None) -> Floor | None:
    """Find the plane that many of an image's (3, N) points lie on and few lie below; None where there is none.

    Random sample consensus with a fixed seed, then least squares on the points of the best plane. With ``median_depth_m``, tolerances grow
    with the scene: points that are k times as far have a floor that is k times as far.
    """
    scale = 1.0 if median_depth_m is None else median_depth_m / TYPICAL_DEPTH_M
    points = points[:, :: max(1, points.shape[1] // MAX_POINTS)].astype(np.float64)
    count = points.shape[1]
    if count < 10:
        return None
    triples = points[:, np.random.default_rng(0).integers(0, count, (NUM_TRIALS, 3))]  # (3, trials, 3 corners)
    ups = np.cross(triples[:, :, 1] - triples[:, :, 0], triples[:, :, 2] - triples[:, :, 0], axis=0)
    lengths = np.linalg.norm(ups, axis=0)
    ups = np.divide(ups, lengths, out=np.zeros_like(ups), where=lengths > 1e-9 * scale**2)
    heights = -(ups * triples[:, :, 0]).sum(0)
    ups, heights = ups * np.sign(heights), np.abs(heights)  # the camera is above
    stands = (np.abs(ups[0]) < MAX_SIDEWAYS) & (ups[1] < 0) & (ups[2] < MAX_FORWARD) & (heights > MIN_CAMERA_M * scale)
    if not stands.any():
        return None
    ups, heights = ups[:, stands], heights[stands]
    tolerance = TOLERANCE_M * scale + TOLERANCE_SHARE * points[2]
    above = (ups.T @ points + heights[:, None]) / tolerance  # (planes, N)
    scores = (np.abs(above) < 1).sum(1) - BELOW_COSTS * (above < -2).sum(1)
    preferred = np.where(ups[2] < STEEP_FORWARD, -np.inf, scores)
    use_preferred = median_depth_m is not None and preferred.max() >= MIN_SHARE * count
    best = int(np.argmax(preferred if use_preferred else scores))
    floor = Floor(ups[:, best], float(heights[best]))
    for _ in range(2):
        near = points[:, np.abs(floor.above(points)) < tolerance]
        if near.shape[1] < max(10, MIN_SHARE * count):
            return None
        middle = near.mean(1)
        up = np.linalg.svd(near - middle[:, None], full_matrices=False)[0][:, 2]
        up = up * (-1.0 if up @ middle > 0 else 1.0)
        floor = Floor(up, float(-up @ middle))
    return floor if scores[best] > 0 else None


def floor_rectangle(along: np.ndarray) -> tuple[float, float]:
    """Return longer and shorter side, metres, of the smallest rectangle around (2, N) floor points, up to `OUTER_QUANTILES`.

    Its direction is found to 3 degrees, from at most 256 of the points.
    """
    angles = np.radians(np.arange(0, 90, 3))
    turns = np.stack([np.stack([np.cos(angles), np.sin(angles)], 1), np.stack([-np.sin(angles), np.cos(angles)], 1)])  # (2, angles, 2)
    some = turns @ along[:, :: max(1, along.shape[1] // 256)]  # (2 sides, angles, points)
    low, high = quantiles(some, OUTER_QUANTILES)
    best = int(np.argmin((high - low).prod(0)))
    low, high = quantiles(turns[:, best] @ along, OUTER_QUANTILES)
    short, long = sorted((high - low).tolist())
    return long, short


def quantiles(values: np.ndarray, fractions: Sequence[float]) -> np.ndarray:
    """Return linear quantiles (fractions, ...) over the last axis; one sort is several times faster than ``np.quantile``."""
    ordered = np.sort(values)
    position = np.asarray(fractions) * (ordered.shape[-1] - 1)
    low = position.astype(np.int64)
    high = np.minimum(low + 1, ordered.shape[-1] - 1)
    return np.moveaxis(ordered[..., low] + (position - low) * (ordered[..., high] - ordered[..., low]), -1, 0)
