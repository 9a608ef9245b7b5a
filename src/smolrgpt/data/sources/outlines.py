"""Outlines and unions of shapes, in pixels whose y points down; what the readers of annotation tools share."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from smolrgpt.schema import DataError, Region, brief

_ELLIPSE_POINTS = 64  # a polygon with this many corners misses less than 0.2 % of the ellipse's area


def rotate(points: np.ndarray, degrees: float) -> np.ndarray:
    """Rotate points (N, 2) clockwise about the origin."""
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    rotated: np.ndarray = points @ np.array([[cos, sin], [-sin, cos]])
    return rotated


def ellipse(x: float, y: float, radius_x: float, radius_y: float, degrees: float = 0) -> np.ndarray:
    """Return the outline (N, 2) of an ellipse about (x, y), rotated clockwise."""
    angles = np.linspace(0, 2 * np.pi, _ELLIPSE_POINTS, endpoint=False)
    outline: np.ndarray = np.array([x, y]) + rotate(np.stack([radius_x * np.cos(angles), radius_y * np.sin(angles)], axis=-1), degrees)
    return outline


def union(regions: Sequence[Region]) -> Region:
    """Return the region of all pixels of regions of one size. Raises DataError when it is empty or run lengths are corrupt."""
    if len(regions) == 1:
        return regions[0]
    return Region.from_mask(np.logical_or.reduce([region.to_mask() for region in regions]))


def paste(mask: np.ndarray, left: int, top: int, height: int, width: int) -> Region:
    """Return the region of a (height, width) image that is ``mask``, bool (h, w), at that corner; what lies outside is cut off.

    Raises DataError when no pixel is left.
    """
    if not (-mask.shape[0] < top < height and -mask.shape[1] < left < width):
        raise DataError(f"its mask begins at {brief((left, top))}, outside the image of {width}x{height} pixels")
    whole = np.zeros((height, width), dtype=bool)
    part = mask[max(-top, 0) :, max(-left, 0) :]
    rows, columns = whole[max(top, 0) :, max(left, 0) :].shape
    part = part[:rows, :columns]
    whole[max(top, 0) : max(top, 0) + part.shape[0], max(left, 0) : max(left, 0) + part.shape[1]] = part
    return Region.from_mask(whole)
