"""Pinhole geometry: pixels and metric depth to points, and the box around them.

Camera frame: x right, y down, z forward, metres; depth is z (planar), not the distance along the ray. The centre of the pixel
in column u, row v is at (u, v), the convention of the intrinsics that RGB-D cameras ship. Legend: H W image, N points.
"""

from __future__ import annotations

import numpy as np

from smolrgpt.schema import Camera, DataError

#: Depth, masks and image of one scene may differ in the ratio of their sides by this share.
ASPECT_TOLERANCE = 0.01


def same_aspect(size_a: tuple[int, ...], size_b: tuple[int, ...]) -> bool:
    """Return whether two (height, width) have the same ratio, within the tolerance or the rounding to whole pixels of the smaller one."""
    (h0, w0), (h1, w1) = sorted([size_a, size_b])
    return abs(h0 - w0 * h1 / w1) <= max(1.0, ASPECT_TOLERANCE * h0) or abs(w0 - h0 * w1 / h1) <= max(1.0, ASPECT_TOLERANCE * w0)


def backproject(depth_m: np.ndarray, camera: Camera, mask: np.ndarray | None = None) -> np.ndarray:
    """Turn depth (H, W) in metres, NaN = invalid, into (N, 3) float32 points of the valid pixels (inside ``mask`` (H, W) bool), row-major.

    The camera may be that of another size of the same image. Raises DataError when mask and depth differ in shape.
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


def visible_box(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Measure the bounding box of visible points (N, 3) in metres: its middle and its sides along x, y, z, both (3,) float32.

    Robust (2nd to 98th percentile), because mask edges pick up background; the mean would lean to the near side, which has more pixels.
    Both are NaN without points.
    """
    low, high = np.percentile(points, [2, 98], axis=0) if len(points) else np.full((2, 3), np.nan)
    return np.asarray((low + high) / 2, dtype=np.float32), np.asarray(high - low, dtype=np.float32)
