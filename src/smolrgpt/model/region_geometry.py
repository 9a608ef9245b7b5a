"""Geometry of one region: its position and size as measured from mask, depth and camera. numpy only.

The model reads the features listed in ``FEATURES``, in this order and in these units; each declares which measurements it needs.

Legend: F geometry features, H W size of a mask, h w size of a depth map, N points.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from .floor import MAX_POINTS, OUTER_QUANTILES, Floor, find_floor, floor_rectangle, quantiles
from .object_layer import object_pixels

#: (fx, fy, cx, cy, width, height): a pinhole camera in pixels of an image of (height, width).
CameraTuple = tuple[float, float, float, float, int, int]
#: Metres per unit of a metric feature: scenes of tens of metres stay near [-1, 1]. Chosen; saved models depend on it.
METRES_PER_UNIT = 10.0
#: Metric depth is compressed as log(1 + z) / log(1 + FAR_M): 1 at 50 m, the far end of the largest warehouse halls. Chosen.
FAR_M = 50.0
#: Depth is background when it lies outside the quartiles by more than this many interquartile ranges and this share of the median. Chosen
#: on synthetic masks that overlap their borders (test_background_at_the_border_does_not_move_the_middle).
FENCE_QUARTILES, FENCE_SHARE = 2.0, 0.1
#: Most pixels sampled per region for depth statistics; with more, quantiles do not change in the third digit.
MAX_REGION_PIXELS = 8192

#: Flag features (0 or 1): which measurements an image has.
FLAGS: tuple[str, ...] = ("has_depth", "is_metric", "has_camera", "has_floor")
_DEPTH = ("has_depth",)
_METRIC = ("has_depth", "is_metric", "has_camera")
_FLOOR = (*_METRIC, "has_floor")


class Feature(NamedTuple):
    """One column of ``region_geometry``.

    Attributes:
        name: name of the column; metric ones end in "_m".
        needs: flags that must all be 1 for the value to be known; where one is 0, the value is 0 and means nothing.
    """

    name: str
    needs: tuple[str, ...] = ()


#: The columns of ``region_geometry`` (N, F), in order; ``measure_region`` documents units and ranges.
FEATURES: tuple[Feature, ...] = (
    *(Feature(name) for name in ("box_cx", "box_cy", "box_w", "box_h", "centroid_x", "centroid_y", "sqrt_area")),
    *(Feature(name, _DEPTH) for name in ("depth_q05", "depth_q25", "depth_q50", "depth_q75", "depth_q95", "depth_spread")),
    *(Feature(name, _METRIC) for name in ("x_m", "y_m", "z_m", "extent_x_m", "extent_y_m", "extent_z_m", "range_m")),
    *(Feature(name, _FLOOR) for name in ("floor_low_m", "floor_high_m", "floor_long_m", "floor_short_m")),
    *(Feature(name) for name in FLAGS),
)
#: Names of ``FEATURES``, in order.
REGION_GEOMETRY_FEATURES: tuple[str, ...] = tuple(feature.name for feature in FEATURES)
#: Name of the column that follows ``FEATURES`` where the unit is "range": the logarithm of the region's unit in metres, 0 without metric
#: depth. Nothing else depends on the scale of a scene.
LOG_UNIT = "log_unit"
#: Names of depth quantiles, of lengths in metres but the range, and of the features that only "range" scales otherwise.
_QUANTILES = tuple(name for name in REGION_GEOMETRY_FEATURES if name.startswith("depth_q"))
_LENGTHS = tuple(name for name in REGION_GEOMETRY_FEATURES if name.endswith("_m") and name != "range_m")

Array = npt.NDArray[Any]


# ----------------------------------------------------------------------------------------------------------------------- masks
class MaskPatch(NamedTuple):
    """A mask cropped to the rows and columns it occupies, so that later steps do not scan a whole image of zeros.

    Attributes:
        pixels: bool (h, w); empty for an empty mask.
        top: row of ``pixels[0, 0]`` in the whole mask.
        left: column of ``pixels[0, 0]`` in the whole mask.
        height: H of the whole mask.
        width: W of the whole mask.
    """

    pixels: Array
    top: int
    left: int
    height: int
    width: int


def check_mask(mask: Any) -> MaskPatch:
    """Check a mask and crop it.

    Args:
        mask: bool or integer (H, W), set where not 0; or the five fields of a ``MaskPatch``.

    Raises:
        ValueError: for another type or shape.
    """
    if isinstance(mask, tuple) and len(mask) == len(MaskPatch._fields):
        return MaskPatch(*mask)
    mask = np.asarray(mask)
    if mask.ndim != 2 or mask.size == 0 or not (mask.dtype == np.bool_ or np.issubdtype(mask.dtype, np.integer)):
        raise ValueError(f"a region mask is {mask.dtype} {mask.shape}; expected bool (height, width)")
    return _crop(mask if mask.dtype == np.bool_ else mask != 0)


def _crop(mask: Array) -> MaskPatch:
    rows = np.flatnonzero(mask.any(axis=1))
    band = mask[rows[0] : rows[-1] + 1] if rows.size else mask[:0]
    columns = np.flatnonzero(band.any(axis=0))
    if not columns.size:
        return MaskPatch(mask[:0, :0], 0, 0, *mask.shape)
    return MaskPatch(band[:, columns[0] : columns[-1] + 1], int(rows[0]), int(columns[0]), *mask.shape)


# -------------------------------------------------------------------------------------------------------------------- geometry
def log_depth(depth_m: Array | float) -> Array:
    """Map metres to [0, 1], logarithmic; 1 from ``FAR_M`` on."""
    return np.asarray(np.clip(np.log1p(depth_m) / math.log1p(FAR_M), 0.0, 1.0))


def find_image_floor(
    depth: Array | None, kind: str | None, camera: CameraTuple | None, median_depth_m: float | None = None
) -> Floor | None:
    """Find the floor of an image; None without metric depth or camera, or where no floor is visible.

    Arguments: see ``measure_region`` and ``find_floor``.
    """
    if depth is None or kind != "metric" or camera is None:
        return None
    step = max(1, math.isqrt(depth.size // MAX_POINTS))
    rows, columns = np.nonzero(~np.isnan(depth[::step, ::step]))
    rows, columns = rows * step, columns * step
    return find_floor(_back_project(depth.shape, rows, columns, depth[rows, columns], camera), median_depth_m)


def image_range(depth: Array | None, kind: str | None) -> float:
    """Return the median depth of an image in metres; 1 without metric depth. Arguments: see ``measure_region``."""
    if depth is None or kind != "metric":
        return 1.0
    step = max(1, math.isqrt(depth.size // MAX_POINTS))
    some = depth[::step, ::step]
    return float(np.nanmedian(depth if np.isnan(some).all() else some))


def feature_names(length_unit: str) -> tuple[str, ...]:
    """Return the names of the features that ``measure_region`` returns for this unit."""
    return REGION_GEOMETRY_FEATURES if length_unit == "fixed" else (*REGION_GEOMETRY_FEATURES, LOG_UNIT)


def measure_region(
    mask: Array | MaskPatch,
    depth: Array | None = None,
    kind: str | None = None,
    camera: CameraTuple | None = None,
    floor: Floor | None = None,
    length_unit: str = "fixed",
    image_range_m: float = 1.0,
) -> Array:
    """Measure one region: float32 (F,), in the order of ``FEATURES``, in the units of ``length_unit``, which is one of ``LENGTH_UNITS``.

    * box (centre, size), centroid, square root of the area: fractions of the image mapped from [0, 1] to [-1, 1]
    * depth quantiles: relative [0, 1] or log(1 + m) / log(51), mapped to [-1, 1]; spread q95 - q05: relative, or metres / 10
    * x right, y down, z forward of the middle of the visible surface's box, the box's sides (q99.5 - q0.5) and distance: metres / 10
    * floor_low, floor_high: least and greatest height above the floor; floor_long, floor_short: sides of the smallest rectangle around it
      on the floor (both q99.5 and q0.5): metres / 10
    * has_depth, is_metric, has_camera, has_floor: 1 where the features that need them are known; unknown features are 0

    With the unit "range", lengths are divided by the region's distance from the camera instead of 10 m, depth quantiles are logarithms
    relative to it, range_m is the logarithm of the distance relative to ``image_range_m``, and the column ``LOG_UNIT`` follows.

    The middle of the box is used, not the mean of the points: nearer parts have more pixels, and occluders remove some. Points far outside
    the quartiles of the region's depth are left out, because mask borders include background.

    Args:
        mask: see ``check_mask``. An empty mask gives zeros.
        depth: float32 (h, w) of the same image at any size, NaN where not measured.
        kind: "metric" (metres) or "relative" ([0, 1]); needed with ``depth``.
        camera: intrinsics, for any size of the same image.
        floor: see ``find_image_floor``.
        length_unit: "fixed" or "range".
        image_range_m: of ``image_range``; only for "range".
    """
    values = dict.fromkeys(feature_names(length_unit), 0.0)
    patch = check_mask(mask)
    if patch.pixels.size:
        rows, columns = _sample_pixels(patch)
        values |= _outline_features(patch, rows, columns)
        if depth is not None:
            select = _in_fence if length_unit == "fixed" else _on_object
            measured = _depth_features(patch, rows, columns, depth, kind, camera, floor, select)
            values |= LENGTH_UNITS[length_unit](measured, image_range_m) if measured else {}
    return np.array(list(values.values()), dtype=np.float32)


def _in_fixed_units(values: dict[str, float], image_range_m: float) -> dict[str, float]:
    """Divide lengths in metres by ``METRES_PER_UNIT``, and map depth quantiles to [-1, 1]."""
    metric = bool(values["is_metric"])
    scaled = {name: 2.0 * float(log_depth(values[name]) if metric else values[name]) - 1.0 for name in _QUANTILES}
    names = [*_LENGTHS, "range_m", *(["depth_spread"] if metric else [])]
    return values | scaled | {name: values[name] / METRES_PER_UNIT for name in names if name in values}


def _in_units_of_range(values: dict[str, float], image_range_m: float) -> dict[str, float]:
    """Divide lengths in metres by the region's distance from the camera, or by its median depth where that is not known."""
    if not values["is_metric"]:
        return values | {name: 2.0 * values[name] - 1.0 for name in _QUANTILES}
    unit = values.get("range_m") or values["depth_q50"]
    scaled = {name: math.log(values[name] / unit) for name in _QUANTILES}
    scaled |= {name: values[name] / unit for name in (*_LENGTHS, "depth_spread") if name in values}
    return values | scaled | {"range_m": math.log(unit / image_range_m), LOG_UNIT: math.log(unit)}


#: Units of a region's metric features: ``METRES_PER_UNIT`` for every region, or the region's own distance from the camera.
LENGTH_UNITS: dict[str, Callable[[dict[str, float], float], dict[str, float]]] = {"fixed": _in_fixed_units, "range": _in_units_of_range}


def _sample_pixels(mask: MaskPatch) -> tuple[Array, Array]:
    """Return rows and columns, in the whole mask, of set pixels on a regular grid over the patch, at most ``MAX_REGION_PIXELS``."""
    step = max(1, math.ceil(math.sqrt(mask.pixels.size / MAX_REGION_PIXELS)))
    while True:
        start = step // 2
        rows, columns = np.nonzero(mask.pixels[start::step, start::step])
        if rows.size or step == 1:
            return rows * step + (mask.top + start), columns * step + (mask.left + start)
        step //= 2  # a thin shape may fall between the grid's points


def _outline_features(mask: MaskPatch, rows: Array, columns: Array) -> dict[str, float]:
    box_height, box_width = mask.pixels.shape
    fractions = {
        "box_cx": (mask.left + box_width / 2) / mask.width,
        "box_cy": (mask.top + box_height / 2) / mask.height,
        "box_w": box_width / mask.width,
        "box_h": box_height / mask.height,
        "centroid_x": (columns.mean() + 0.5) / mask.width,
        "centroid_y": (rows.mean() + 0.5) / mask.height,
        "sqrt_area": math.sqrt(np.count_nonzero(mask.pixels) / (mask.height * mask.width)),
    }
    return {name: 2.0 * float(value) - 1.0 for name, value in fractions.items()}


def _depth_features(
    patch: MaskPatch,
    rows: Array,
    columns: Array,
    depth: Array,
    kind: str | None,
    camera: CameraTuple | None,
    floor: Floor | None,
    select: Callable[[MaskPatch, Array, Array, Array, Floor | None], Array],
) -> dict[str, float]:
    """Return depth features in the map's own unit and lengths in metres; empty without a measurement.

    select: returns which of N measured pixels show the object, of the patch, their rows and columns, their points (3, N) and the floor.
    """
    size = height, width = patch.height, patch.width
    z = depth[(2 * rows + 1) * depth.shape[0] // (2 * height), (2 * columns + 1) * depth.shape[1] // (2 * width)]
    valid = ~np.isnan(z)
    if not valid.any():
        return {}
    if not valid.all():
        rows, columns, z = rows[valid], columns[valid], z[valid]
    at = quantiles(z, (0.05, 0.25, 0.5, 0.75, 0.95))
    metric = kind == "metric"
    features = dict(zip(_QUANTILES, at.tolist(), strict=True))
    features["depth_spread"] = float(at[-1] - at[0])
    features |= {"has_depth": 1.0, "is_metric": float(metric)}
    if metric and camera is not None:
        points = _back_project(size, rows, columns, z, camera)
        points = points[:, select(patch, rows, columns, points, floor)]
        features |= _metric_features(points)
        if floor is not None:
            features |= _floor_features(points, floor)
    return features


def _in_fence(patch: MaskPatch, rows: Array, columns: Array, points: Array, floor: Floor | None) -> Array:
    """Return which points are not far outside of the quartiles of their depth."""
    low, median, high = quantiles(points[2], (0.25, 0.5, 0.75))
    slack = max(FENCE_QUARTILES * (high - low), FENCE_SHARE * median)
    return np.asarray((points[2] >= low - slack) & (points[2] <= high + slack))


def _on_object(patch: MaskPatch, rows: Array, columns: Array, points: Array, floor: Floor | None) -> Array:
    """Return which points are the object's, see ``object_pixels``."""
    return object_pixels(patch.pixels, rows - patch.top, columns - patch.left, points, floor)


def _back_project(size: tuple[int, ...], rows: Array, columns: Array, depth_m: Array, camera: CameraTuple) -> Array:
    """Back-project pixels of a (H, W) mask to points (3, N) in metres, via the camera's own pixels (centres at whole numbers)."""
    fx, fy, cx, cy, camera_width, camera_height = camera
    u = (columns + 0.5) * (camera_width / size[1]) - 0.5
    v = (rows + 0.5) * (camera_height / size[0]) - 0.5
    return np.stack([(u - cx) / fx * depth_m, (v - cy) / fy * depth_m, depth_m])


def _metric_features(points: Array) -> dict[str, float]:
    """Return middle, sides and range in metres of the box of points (3, N) in metres."""
    low, high = quantiles(points, OUTER_QUANTILES)
    middle = (low + high) / 2
    names = ("x_m", "y_m", "z_m", "extent_x_m", "extent_y_m", "extent_z_m")
    features = dict(zip(names, [*middle.tolist(), *(high - low).tolist()], strict=True))
    return features | {"range_m": float(np.linalg.norm(middle)), "has_camera": 1.0}


def _floor_features(points: Array, floor: Floor) -> dict[str, float]:
    """Return heights above the floor and sides of the rectangle on it, in metres, of points (3, N) in metres."""
    values = (*quantiles(floor.above(points), OUTER_QUANTILES).tolist(), *floor_rectangle(floor.along(points)))
    names = ("floor_low_m", "floor_high_m", "floor_long_m", "floor_short_m")
    return dict(zip(names, map(float, values), strict=True)) | {"has_floor": 1.0}


__all__ = [
    "FEATURES",
    "FLAGS",
    "LENGTH_UNITS",
    "LOG_UNIT",
    "METRES_PER_UNIT",
    "REGION_GEOMETRY_FEATURES",
    "Feature",
    "MaskPatch",
    "check_mask",
    "measure_region",
]
