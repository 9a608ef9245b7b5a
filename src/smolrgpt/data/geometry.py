"""Pinhole geometry: pixels and metric depth to points and back.

Camera frame: x right, y down, z forward, metres; depth is z (planar), not the distance along the ray. The centre of the pixel
in column u, row v is at (u, v), the convention of the intrinsics that RGB-D cameras ship. Legend: H W image, N points.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from smolrgpt.schema import Camera, DataError, brief

#: Pictures whose sides' ratios differ by no more than this belong together (depth, masks and image of one scene).
ASPECT_TOLERANCE = 0.01


#: fx, fy, cx, cy as shares of a picture's longer side: from 178 degrees of view to a telescope's, the middle within ten pictures.
CAMERA_RANGES = ((0.005, 1000.0), (0.005, 1000.0), (-10.0, 10.0), (-10.0, 10.0))


def camera_from(value: Mapping[str, Any] | Sequence[Any], width: int, height: int) -> Camera:
    """fx, fy, cx, cy (and width, height where they are of another size) as a Camera of the (height, width) picture. Raises DataError."""
    try:
        pairs = value if isinstance(value, Mapping) else zip(("fx", "fy", "cx", "cy", "width", "height"), value, strict=False)
        values: dict[str, Any] = dict(pairs)
        numbers = [float(values[name]) for name in ("fx", "fy", "cx", "cy")]
        size = int(values.get("width", width)), int(values.get("height", height))
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise DataError(f"camera {brief(value)} is not fx, fy, cx, cy in pixels") from error
    if not np.isfinite(numbers).all() or min(numbers[:2]) <= 0 or min(size) <= 0:
        raise DataError(f"camera {brief(value)}: focal lengths and size must be finite and above 0")
    if not all(low * max(size) <= number <= high * max(size) for number, (low, high) in zip(numbers, CAMERA_RANGES, strict=True)):
        raise DataError(
            f"camera {brief(value)} of a picture of {size[0]}x{size[1]}: no camera is like this; expected pixels of the picture"
        )
    fx, fy, cx, cy = numbers
    return Camera(fx, fy, cx, cy, *size)


def same_aspect(one: tuple[int, ...], other: tuple[int, ...]) -> bool:
    """Whether two (height, width) have the same ratio, within the tolerance or the rounding to whole pixels of the smaller one."""
    (h0, w0), (h1, w1) = sorted([one, other])
    return abs(h0 - w0 * h1 / w1) <= max(1.0, ASPECT_TOLERANCE * h0) or abs(w0 - h0 * w1 / h1) <= max(1.0, ASPECT_TOLERANCE * w0)


def backproject(depth_m: np.ndarray, camera: Camera, mask: np.ndarray | None = None) -> np.ndarray:
    """(H, W) metres, NaN invalid, to (N, 3) float32 points of the valid pixels (inside ``mask`` (H, W) bool), in row-major order.

    The camera may be that of another size of the same picture. Raises DataError when mask and depth differ in shape.
    """
    height, width = depth_m.shape
    camera = camera.resized(width, height)
    valid = np.isfinite(depth_m) & (depth_m > 0)
    if mask is not None:
        if mask.shape != depth_m.shape:
            raise DataError(f"mask is {mask.shape}, depth is {depth_m.shape}; expected the same (H, W)")
        valid &= mask.astype(bool)
    v, u = np.nonzero(valid)
    z = depth_m[v, u].astype(np.float64)
    points = np.stack([(u - camera.cx) / camera.fx * z, (v - camera.cy) / camera.fy * z, z], axis=-1)
    return points.astype(np.float32)


def project(points: np.ndarray, camera: Camera) -> np.ndarray:
    """(N, 3) metres to (N, 2) float32 pixels (column, row); NaN for points not in front of the camera."""
    points = np.asarray(points, dtype=np.float64).reshape(-1, 3)
    z = np.where(points[:, 2] > 0, points[:, 2], np.nan)
    return np.stack([points[:, 0] / z * camera.fx + camera.cx, points[:, 1] / z * camera.fy + camera.cy], axis=-1).astype(np.float32)


def visible_centroid(points: np.ndarray) -> np.ndarray:
    """(N, 3) to (3,) float32: the middle of the visible surface's bounding box; NaN without points.

    Robust (2nd to 98th percentile a side), because mask edges pick up background; the mean would lean to the near side,
    which has more pixels.
    """
    low, high = _robust_bounds(points)
    return ((low + high) / 2).astype(np.float32)


def box_extent(points: np.ndarray) -> np.ndarray:
    """(N, 3) to (3,) float32 metres: size of the visible surface along x, y, z (2nd to 98th percentile); NaN without points."""
    low, high = _robust_bounds(points)
    return (high - low).astype(np.float32)


def _robust_bounds(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if len(points) == 0:
        return np.full(3, np.nan), np.full(3, np.nan)
    low, high = np.percentile(points, [2, 98], axis=0)
    return low, high
