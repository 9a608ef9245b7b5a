"""Picture, depth and masks of one image -> the arrays the model reads. numpy and PIL only.

Legend: S input size, G side of the refiner grid, R regions, F geometry features, H W size of a mask, h w size of a depth map.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from PIL import Image
from transformers.image_processing_utils import BaseImageProcessor, BatchFeature
from transformers.processing_utils import ImagesKwargs

from .configuration_smolrgpt import METRES_PER_UNIT, REGION_GEOMETRY_FEATURES
from .floor import MAX_POINTS, Floor, find_floor, floor_rectangle, quantiles

#: (fx, fy, cx, cy, width, height): a pinhole camera in pixels of a picture of (height, width).
CameraTuple = tuple[float, float, float, float, int, int]
#: Metric depth is squeezed by log(1 + z) / log(1 + FAR_M): 1 at 50 m, the far end of the largest warehouse halls.
FAR_M = 50.0
#: "inverse" is HALF_M / (HALF_M + z): one half at 2 m, the near end of the scenes.
HALF_M = 2.0
#: Depth further than this many times the quartiles' distance, and than this share of the median, outside of the quartiles is background.
FENCE_QUARTILES, FENCE_SHARE = 2.0, 0.1
#: Pixels looked at per region for depth statistics; quantiles of more do not change in the third digit.
MAX_REGION_PIXELS = 8192


# ----------------------------------------------------------------------------------------------------------------------- depth
def _log_depth(depth_m: np.ndarray) -> np.ndarray:
    """Metres -> [0, 1], 1 from ``FAR_M`` on."""
    return np.clip(np.log1p(depth_m) / math.log1p(FAR_M), 0.0, 1.0)


def _minmax(depth: np.ndarray) -> np.ndarray:
    """Per-image [min, max] -> [0, 1]; a constant map -> 0; NaN stays NaN."""
    low, high = np.nanmin(depth), np.nanmax(depth)
    return (depth - low) / max(float(high - low), 1e-6)


def _encode_minmax(depth: np.ndarray, kind: str) -> np.ndarray:
    return np.broadcast_to(np.nan_to_num(_minmax(depth), nan=1.0), (3, *depth.shape))


def _encode_log(depth: np.ndarray, kind: str) -> np.ndarray:
    value = _log_depth(depth) if kind == "metric" else np.clip(depth, 0.0, 1.0)
    return np.broadcast_to(np.nan_to_num(value, nan=1.0), (3, *depth.shape))


def _encode_inverse(depth: np.ndarray, kind: str) -> np.ndarray:
    value = HALF_M / (HALF_M + depth) if kind == "metric" else 1.0 - np.clip(depth, 0.0, 1.0)
    return np.broadcast_to(np.nan_to_num(value, nan=0.0), (3, *depth.shape))


def _encode_minmax_log(depth: np.ndarray, kind: str) -> np.ndarray:
    minmax = _minmax(depth)
    absolute = _log_depth(depth) if kind == "metric" else minmax
    measured = np.where(np.isnan(depth), 0.0, 1.0 if kind == "metric" else 0.5)
    return np.stack([np.nan_to_num(minmax, nan=1.0), np.nan_to_num(absolute, nan=1.0), measured])


#: name -> function (depth float32 (S, S) with NaN and at least one measurement, kind) -> (3, S, S) in [0, 1], later normalised like RGB.
#: A pixel without measurement counts as infinitely far (1, for "inverse" 0). An image without depth is all zeros *after* that.
#:   minmax      the published one: per-image min-max in all three channels
#:   log         log(1 + metres) / log(51); relative depth as it is
#:   inverse     2 / (2 + metres), near = 1; relative depth as 1 - depth
#:   minmax_log  min-max | log metres (min-max again when relative) | 1 metric, 0.5 relative, 0 no measurement
DEPTH_ENCODINGS: dict[str, Callable[[np.ndarray, str], np.ndarray]] = {
    "minmax": _encode_minmax,
    "log": _encode_log,
    "inverse": _encode_inverse,
    "minmax_log": _encode_minmax_log,
}


def check_depth(depth: Any, kind: str | None) -> np.ndarray | None:
    """Depth as float32 (h, w) with NaN for everything that is no measurement (inf, metric <= 0); None when nothing was measured.

    Raises ValueError for integers (their unit is unknown), other shapes and an unknown kind.
    """
    if depth is None:
        return None
    if kind not in ("metric", "relative"):
        raise ValueError(f"depth_kind is {kind!r}; expected 'metric' (metres) or 'relative' ([0, 1], near = small) when depth is given")
    depth = np.asarray(depth)
    if depth.ndim != 2 or not np.issubdtype(depth.dtype, np.floating):
        raise ValueError(
            f"depth is {depth.dtype} {depth.shape}; expected float (height, width), metres or [0, 1]; convert integers to their unit first"
        )
    depth = depth.astype(np.float32, copy=False)
    valid = np.isfinite(depth) & ((depth > 0) if kind == "metric" else True)
    if not valid.any():
        return None
    return depth if valid.all() else np.where(valid, depth, np.float32(np.nan))


def resize_depth(depth: np.ndarray, size: int) -> np.ndarray:
    """(h, w) -> (size, size), bilinear over the measured pixels only; NaN where less than half of the weight was measured."""
    valid = ~np.isnan(depth)
    if valid.all():
        return _resize(depth, size)
    filled = _resize(np.where(valid, depth, np.float32(0)), size)
    weight = _resize(valid.astype(np.float32), size)
    return np.where(weight >= 0.5, filled / np.maximum(weight, 0.5), np.float32(np.nan))


def _resize(values: np.ndarray, size: int) -> np.ndarray:
    return np.asarray(Image.fromarray(values).resize((size, size), Image.Resampling.BILINEAR))


# ----------------------------------------------------------------------------------------------------------------------- masks
class MaskPatch(NamedTuple):
    """A mask cut to the rows and columns it occupies, so that nothing after it looks at a whole picture of zeros.

    pixels: bool (h, w), empty for an empty mask; top, left: where pixels[0, 0] lies; height, width: H, W of the whole mask.
    """

    pixels: np.ndarray
    top: int
    left: int
    height: int
    width: int


def check_mask(mask: Any) -> MaskPatch:
    """A mask (H, W), bool or integers set where not 0, or the five fields of a ``MaskPatch``. Raises ValueError for anything else."""
    if isinstance(mask, tuple) and len(mask) == len(MaskPatch._fields):
        return MaskPatch(*mask)
    mask = np.asarray(mask)
    if mask.ndim != 2 or mask.size == 0 or not (mask.dtype == np.bool_ or np.issubdtype(mask.dtype, np.integer)):
        raise ValueError(f"a region mask is {mask.dtype} {mask.shape}; expected bool (height, width)")
    return _cut(mask if mask.dtype == np.bool_ else mask != 0)


def _cut(mask: np.ndarray) -> MaskPatch:
    rows = np.flatnonzero(mask.any(axis=1))
    band = mask[rows[0] : rows[-1] + 1] if rows.size else mask[:0]
    columns = np.flatnonzero(band.any(axis=0))
    if not columns.size:
        return MaskPatch(mask[:0, :0], 0, 0, *mask.shape)
    return MaskPatch(band[:, columns[0] : columns[-1] + 1], int(rows[0]), int(columns[0]), *mask.shape)


@lru_cache(maxsize=64)
def _area_weights(length: int, grid: int) -> np.ndarray:
    """(grid, length) float32: the share of each cell that each pixel covers; rows sum to 1. Any ratio, up or down."""
    edges = np.arange(grid + 1) * (length / grid)
    pixel = np.arange(length)
    overlap = np.minimum(edges[1:, None], pixel + 1) - np.maximum(edges[:-1, None], pixel)
    return (np.clip(overlap, 0.0, None) * (grid / length)).astype(np.float32)


@lru_cache(maxsize=64)
def _bilinear_taps(length: int, grid: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices (2, grid) and weights (2, grid) of torch's bilinear interpolation (align_corners=False, no antialiasing)."""
    source = np.maximum((np.arange(grid) + 0.5) * (length / grid) - 0.5, 0.0)
    low = np.minimum(source.astype(np.int64), length - 1)
    fraction = (source - low).astype(np.float32)
    return np.stack([low, np.minimum(low + 1, length - 1)]), np.stack([1 - fraction, fraction])


def _resize_area(mask: MaskPatch, grid: int) -> np.ndarray:
    bottom, right = mask.top + mask.pixels.shape[0], mask.left + mask.pixels.shape[1]
    cells_y = slice(mask.top * grid // mask.height, -(-bottom * grid // mask.height))
    cells_x = slice(mask.left * grid // mask.width, -(-right * grid // mask.width))
    share_y = _area_weights(mask.height, grid)[cells_y, mask.top : bottom]
    share_x = _area_weights(mask.width, grid)[cells_x, mask.left : right]
    coverage = np.zeros((grid, grid), dtype=np.float32)
    coverage[cells_y, cells_x] = share_y @ (mask.pixels.astype(np.float32) @ share_x.T)
    return np.minimum(coverage, 1.0, out=coverage)


def _resize_bilinear(mask: MaskPatch, grid: int) -> np.ndarray:
    rows, row_weights = _taps_inside(mask.height, grid, mask.top, mask.pixels.shape[0])
    columns, column_weights = _taps_inside(mask.width, grid, mask.left, mask.pixels.shape[1])
    taps = mask.pixels[rows.reshape(-1)][:, columns.reshape(-1)].reshape(2, grid, 2, grid)
    return np.einsum("ayx,ay->yx", np.einsum("aybx,bx->ayx", taps, column_weights), row_weights)


def _taps_inside(length: int, grid: int, start: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """``_bilinear_taps`` of a line of which only pixels start to start + count are kept; the others are zero, so their weight is."""
    taps, weights = _bilinear_taps(length, grid)
    return np.clip(taps - start, 0, count - 1), np.where((taps >= start) & (taps < start + count), weights, np.float32(0))


#: name -> function (mask that is not empty, G) -> (G, G) float32 in [0, 1].
#:   area      the exact share of each cell that the mask covers: the smallest region keeps its weight and its place
#:   bilinear  point samples, what the released program does; a small region can vanish
MASK_RESIZES: dict[str, Callable[[MaskPatch, int], np.ndarray]] = {"area": _resize_area, "bilinear": _resize_bilinear}


# -------------------------------------------------------------------------------------------------------------------- geometry
def picture_floor(depth: np.ndarray | None, kind: str | None, camera: CameraTuple | None) -> Floor | None:
    """The floor of a picture; None where none is to be seen, and without metric depth or camera. Arguments: see ``region_geometry``."""
    if depth is None or kind != "metric" or camera is None:
        return None
    step = max(1, math.isqrt(depth.size // MAX_POINTS))
    rows, columns = np.nonzero(~np.isnan(depth[::step, ::step]))
    rows, columns = rows * step, columns * step
    return find_floor(_back_project(depth.shape, rows, columns, depth[rows, columns], camera))


def region_geometry(
    mask: np.ndarray | MaskPatch,
    depth: np.ndarray | None = None,
    kind: str | None = None,
    camera: CameraTuple | None = None,
    floor: Floor | None = None,
) -> np.ndarray:
    """What can be measured of one region: float32 (F,), named by ``REGION_GEOMETRY_FEATURES``.

    mask: see ``check_mask``; depth: float32 (h, w) of the same picture at any size, NaN = not measured; camera: intrinsics, likewise at
    any size; floor: see ``picture_floor``.

    * box (centre, size), centroid, square root of the area: fractions of the picture mapped from [0, 1] to [-1, 1]
    * depth quantiles: relative [0, 1] or log(1 + m) / log(51), mapped to [-1, 1]; spread q95 - q05: relative, or metres / 10
    * x right, y down, z forward of the middle of the visible surface's box, the box's sides (q99.5 - q0.5) and distance: metres / 10
    * floor_low, floor_high: least and greatest height above the floor; floor_long, floor_short: sides of the smallest rectangle around it
      as seen from above (both q99.5 and q0.5): metres / 10
    * has_depth, is_metric, has_camera, has_floor: 1 where the features that need them are real, otherwise those are 0

    The middle of the box, not the mean of the points: what is near has more pixels, what stands in front takes some away. Points far
    outside the quartiles of the region's depth are left out: mask borders pick up the background. An empty mask gives zeros.
    """
    values = dict.fromkeys(REGION_GEOMETRY_FEATURES, 0.0)
    patch = check_mask(mask)
    if patch.pixels.size:
        rows, columns = _sample_pixels(patch)
        values |= _outline_features(patch, rows, columns)
        if depth is not None:
            values |= _depth_features((patch.height, patch.width), rows, columns, depth, kind, camera, floor)
    return np.array([values[name] for name in REGION_GEOMETRY_FEATURES], dtype=np.float32)


def _sample_pixels(mask: MaskPatch) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns, of the whole mask, of the set pixels on a regular lattice over the patch, ``MAX_REGION_PIXELS`` at most."""
    step = max(1, math.ceil(math.sqrt(mask.pixels.size / MAX_REGION_PIXELS)))
    while True:
        start = step // 2
        rows, columns = np.nonzero(mask.pixels[start::step, start::step])
        if rows.size or step == 1:
            return rows * step + (mask.top + start), columns * step + (mask.left + start)
        step //= 2  # a thin shape may fall between the lattice points


def _outline_features(mask: MaskPatch, rows: np.ndarray, columns: np.ndarray) -> dict[str, float]:
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
    size: tuple[int, ...],
    rows: np.ndarray,
    columns: np.ndarray,
    depth: np.ndarray,
    kind: str | None,
    camera: CameraTuple | None,
    floor: Floor | None,
) -> dict[str, float]:
    height, width = size
    z = depth[(2 * rows + 1) * depth.shape[0] // (2 * height), (2 * columns + 1) * depth.shape[1] // (2 * width)]
    valid = ~np.isnan(z)
    if not valid.any():
        return {}
    if not valid.all():
        rows, columns, z = rows[valid], columns[valid], z[valid]
    at = quantiles(z, (0.05, 0.25, 0.5, 0.75, 0.95))
    metric = kind == "metric"
    scaled = 2.0 * (_log_depth(at) if metric else at) - 1.0
    features = dict(zip(("depth_q05", "depth_q25", "depth_q50", "depth_q75", "depth_q95"), scaled.tolist(), strict=True))
    features["depth_spread"] = float(at[-1] - at[0]) / (METRES_PER_UNIT if metric else 1.0)
    features |= {"has_depth": 1.0, "is_metric": float(metric)}
    if metric and camera is not None:
        slack = max(FENCE_QUARTILES * (at[3] - at[1]), FENCE_SHARE * at[2])
        keep = (z >= at[1] - slack) & (z <= at[3] + slack)
        points = _back_project(size, rows[keep], columns[keep], z[keep], camera)
        features |= _metric_features(points)
        if floor is not None:
            features |= _floor_features(points, floor)
    return features


def _back_project(size: tuple[int, ...], rows: np.ndarray, columns: np.ndarray, depth_m: np.ndarray, camera: CameraTuple) -> np.ndarray:
    """Pixels of a (H, W) mask -> points (3, N) in metres, through the camera's own pixels (centres at whole numbers)."""
    fx, fy, cx, cy, camera_width, camera_height = camera
    u = (columns + 0.5) * (camera_width / size[1]) - 0.5
    v = (rows + 0.5) * (camera_height / size[0]) - 0.5
    return np.stack([(u - cx) / fx * depth_m, (v - cy) / fy * depth_m, depth_m])


def _metric_features(points: np.ndarray) -> dict[str, float]:
    """Points (3, N) in metres -> middle, sides and range of their box in metres / 10."""
    low, high = quantiles(points, (0.005, 0.995)) / METRES_PER_UNIT
    middle = (low + high) / 2
    names = ("x_m", "y_m", "z_m", "extent_x_m", "extent_y_m", "extent_z_m")
    features = dict(zip(names, [*middle.tolist(), *(high - low).tolist()], strict=True))
    return features | {"range_m": float(np.linalg.norm(middle)), "has_camera": 1.0}


def _floor_features(points: np.ndarray, floor: Floor) -> dict[str, float]:
    """Points (3, N) in metres -> how they stand on the floor, in metres / 10."""
    values = (*quantiles(floor.above(points), (0.005, 0.995)).tolist(), *floor_rectangle(floor.along(points)))
    names = ("floor_low_m", "floor_high_m", "floor_long_m", "floor_short_m")
    return {name: value / METRES_PER_UNIT for name, value in zip(names, values, strict=True)} | {"has_floor": 1.0}


# ------------------------------------------------------------------------------------------------------------------- processor
class SmolRGPTImageProcessorKwargs(ImagesKwargs, total=False):
    """Options that ``from_pretrained`` may override."""

    grid_size: int
    mask_resize: str
    depth_encoding: str


class SmolRGPTImageProcessor(BaseImageProcessor):
    """Prepares one image with its depth and regions.

    size: side S of the square the picture and depth are stretched to (as released; regions are stretched alike).
    grid_size: side G of the refined feature map. mask_resize: a name of ``MASK_RESIZES``. depth_encoding: a name of ``DEPTH_ENCODINGS``.
    image_mean, image_std: of the vision tower, applied to RGB and to encoded depth in [0, 1], one for all channels (SigLIP: 0.5) or three.
    """

    model_input_names = ["pixel_values", "depth_values", "region_masks", "region_geometry"]
    valid_kwargs = SmolRGPTImageProcessorKwargs

    def __init__(
        self,
        size: int | dict[str, int] = 256,
        grid_size: int = 64,
        mask_resize: str = "area",
        depth_encoding: str = "minmax",
        image_mean: float | Sequence[float] = 0.5,
        image_std: float | Sequence[float] = 0.5,
        **kwargs: Any,
    ):
        kwargs.pop("image_processor_type", None)
        super().__init__(**kwargs)
        self.size = size["height"] if isinstance(size, dict) else size
        self.grid_size = grid_size
        self.mask_resize, self.depth_encoding = mask_resize, depth_encoding
        self.image_mean, self.image_std = image_mean, image_std
        for name, values in (("image_mean", image_mean), ("image_std", image_std)):
            if np.shape(values) not in ((), (1,), (3,)):
                raise ValueError(f"{name} is {values}; expected one number, or one for each of the three channels")
        for name, value, known in (("mask_resize", mask_resize, MASK_RESIZES), ("depth_encoding", depth_encoding, DEPTH_ENCODINGS)):
            if value not in known:
                raise ValueError(f"{name} is {value!r}; expected one of {', '.join(known)}")

    def preprocess_image(
        self,
        image: Image.Image | np.ndarray,
        depth: np.ndarray | None = None,
        depth_kind: str | None = None,
        masks: Sequence[np.ndarray | MaskPatch] = (),
        camera: CameraTuple | None = None,
    ) -> dict[str, np.ndarray]:
        """One image -> pixel_values, depth_values (3, S, S), region_masks (R, G, G), region_geometry (R, F), all float32.

        image: 8-bit picture; depth: float (h, w), NaN = not measured, near = small, any size; masks: see ``check_mask``, any size, all of
        the whole picture; camera: (fx, fy, cx, cy, width, height). Raises ValueError for other types and shapes.
        """
        checked = check_depth(depth, depth_kind)
        patches = [check_mask(mask) for mask in masks]
        coverage = [self.resize_mask(patch) for patch in patches]
        floor = picture_floor(checked, depth_kind, camera) if patches else None
        geometry = [region_geometry(patch, checked, depth_kind, camera, floor) for patch in patches]
        return {
            "pixel_values": self.encode_picture(image),
            "depth_values": self.encode_depth(checked, depth_kind),
            "region_masks": _stack(coverage, (self.grid_size, self.grid_size)),
            "region_geometry": _stack(geometry, (len(REGION_GEOMETRY_FEATURES),)),
        }

    def encode_picture(self, image: Image.Image | np.ndarray) -> np.ndarray:
        """An 8-bit picture, any mode -> (3, S, S) float32, [-1, 1] with the default mean and std. Transparency is dropped."""
        picture = _to_picture(image)
        rgb = picture if picture.mode == "RGB" else picture.convert("RGB")  # which would copy
        pixels = np.asarray(rgb.resize((self.size, self.size), Image.Resampling.BILINEAR), dtype=np.float32).transpose(2, 0, 1)
        return np.ascontiguousarray(self._normalise(pixels / 255.0), dtype=np.float32)

    def _normalise(self, channels: np.ndarray) -> np.ndarray:
        """(3, S, S) in [0, 1] -> what the vision tower was trained on."""
        mean, std = (np.reshape(np.asarray(values, dtype=np.float32), (-1, 1, 1)) for values in (self.image_mean, self.image_std))
        return (channels - mean) / std

    def encode_depth(self, depth: np.ndarray | None, kind: str | None) -> np.ndarray:
        """Checked depth (h, w) -> (3, S, S) float32, [-1, 1] with the default mean and std; zeros without depth."""
        resized = None if depth is None else resize_depth(depth, self.size)
        if resized is None or kind is None or np.isnan(resized).all():
            return np.zeros((3, self.size, self.size), dtype=np.float32)
        return self._normalise(DEPTH_ENCODINGS[self.depth_encoding](resized, kind)).astype(np.float32)

    def resize_mask(self, mask: np.ndarray | MaskPatch) -> np.ndarray:
        """A mask, see ``check_mask`` -> (G, G) float32 coverage in [0, 1]; zeros for an empty mask."""
        patch = check_mask(mask)
        if not patch.pixels.size:
            return np.zeros((self.grid_size, self.grid_size), dtype=np.float32)
        return MASK_RESIZES[self.mask_resize](patch, self.grid_size)

    def preprocess(self, images: Any, return_tensors: str | None = None, **kwargs: Any) -> BatchFeature:
        """The library's entry point: pictures only -> ``pixel_values`` (I, 3, S, S)."""
        pictures = images if isinstance(images, (list, tuple)) else [images]
        return BatchFeature({"pixel_values": np.stack([self.encode_picture(i) for i in pictures])}, tensor_type=return_tensors)


def _stack(arrays: list[np.ndarray], shape: tuple[int, ...]) -> np.ndarray:
    return np.stack(arrays) if arrays else np.zeros((0, *shape), dtype=np.float32)


def _to_picture(image: Image.Image | np.ndarray) -> Image.Image:
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8:
            raise ValueError(f"the image is {image.dtype} {image.shape}; expected uint8 (height, width[, 3 or 4])")
        return Image.fromarray(image)
    if not isinstance(image, Image.Image):
        raise ValueError(f"the image is a {type(image).__name__}; expected a PIL image or a uint8 array")
    if image.mode.startswith(("I", "F")):
        raise ValueError(f"the image has mode {image.mode} (more than 8 bits); expected an 8-bit picture. Is it a depth map?")
    return image


__all__ = ["SmolRGPTImageProcessor"]
