"""An image, its depth and its masks -> the arrays the model reads. numpy and PIL only.

Legend: S input size, G side of the refiner grid, R regions, F geometry features, H W size of a mask, h w size of a depth map.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from PIL import Image
from transformers.image_processing_utils import BaseImageProcessor, BatchFeature
from transformers.processing_utils import ImagesKwargs

from .region_geometry import (
    LENGTH_UNITS,
    CameraTuple,
    MaskPatch,
    check_mask,
    feature_names,
    find_image_floor,
    image_range,
    log_depth,
    measure_region,
)

Array = npt.NDArray[Any]


# ----------------------------------------------------------------------------------------------------------------------- depth
def _scale_to_range(depth: Array) -> Array:
    """Scale a map from its own [min, max] to [0, 1]; a constant map becomes 0; NaN stays NaN."""
    low, high = np.nanmin(depth), np.nanmax(depth)
    return cast(Array, (depth - low) / max(float(high - low), 1e-6))


def _encode_minmax(depth: Array, kind: str) -> Array:
    return np.broadcast_to(np.nan_to_num(_scale_to_range(depth), nan=1.0), (3, *depth.shape))


def _encode_minmax_log(depth: Array, kind: str) -> Array:
    scaled = _scale_to_range(depth)
    absolute = log_depth(depth) if kind == "metric" else scaled
    measured = np.where(np.isnan(depth), 0.0, 1.0 if kind == "metric" else 0.5)
    return np.stack([np.nan_to_num(scaled, nan=1.0), np.nan_to_num(absolute, nan=1.0), measured])


def _encode_ranks(depth: Array, kind: str) -> Array:
    scaled = _scale_to_range(np.log(depth) if kind == "metric" else depth)
    ordered = np.sort(depth[~np.isnan(depth)])
    ranks = np.searchsorted(ordered, depth) / len(ordered)
    measured = np.where(np.isnan(depth), 0.0, 1.0 if kind == "metric" else 0.5)
    return np.stack([np.nan_to_num(scaled, nan=1.0), np.where(np.isnan(depth), 1.0, ranks), measured])


#: name -> function (depth float32 (S, S) with NaN and at least one measurement, kind) -> (3, S, S) in [0, 1], later normalised like RGB.
#: A pixel without measurement counts as infinitely far (1). An image without depth is all zeros *after* that.
#:   minmax      the published one: per-image min-max in all three channels
#:   minmax_log  min-max | log(1 + metres) / log(51), min-max again when relative | 1 metric, 0.5 relative, 0 not measured
#:   ranks       min-max of the logarithm (of relative depth itself) | share of the pixels that are nearer | as above; the same at any scale
DEPTH_ENCODINGS: dict[str, Callable[[Array, str], Array]] = {
    "minmax": _encode_minmax,
    "minmax_log": _encode_minmax_log,
    "ranks": _encode_ranks,
}


def check_depth(depth: Any, kind: str | None) -> Array | None:
    """Check a depth map and return it as float32 (h, w), NaN where not measured (inf, metric <= 0); None when nothing was measured.

    Raises:
        ValueError: for integers (their unit is unknown), another shape or an unknown kind.
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


def resize_depth(depth: Array, size: int) -> Array:
    """Resize (h, w) to (size, size), bilinear over measured pixels only; NaN where less than half of the weight was measured."""
    valid = ~np.isnan(depth)
    if valid.all():
        return _resize(depth, size)
    filled = _resize(np.where(valid, depth, np.float32(0)), size)
    weight = _resize(valid.astype(np.float32), size)
    return np.where(weight >= 0.5, filled / np.maximum(weight, 0.5), np.float32(np.nan))


def _resize(values: Array, size: int) -> Array:
    return np.asarray(Image.fromarray(values).resize((size, size), Image.Resampling.BILINEAR))


# ----------------------------------------------------------------------------------------------------------------------- masks
@lru_cache(maxsize=64)
def _area_weights(length: int, grid: int) -> Array:
    """Return (grid, length) float32: the share of each cell that each pixel covers; rows sum to 1. Any ratio, up or down."""
    edges = np.arange(grid + 1) * (length / grid)
    pixel = np.arange(length)
    overlap = np.minimum(edges[1:, None], pixel + 1) - np.maximum(edges[:-1, None], pixel)
    weights: Array = np.clip(overlap, 0.0, None) * (grid / length)
    return weights.astype(np.float32)


@lru_cache(maxsize=64)
def _bilinear_taps(length: int, grid: int) -> tuple[Array, Array]:
    """Return indices (2, grid) and weights (2, grid) of torch's bilinear interpolation (align_corners=False, no antialiasing)."""
    source = np.maximum((np.arange(grid) + 0.5) * (length / grid) - 0.5, 0.0)
    low = np.minimum(source.astype(np.int64), length - 1)
    fraction = (source - low).astype(np.float32)
    return np.stack([low, np.minimum(low + 1, length - 1)]), np.stack([1 - fraction, fraction])


def _resize_area(mask: MaskPatch, grid: int) -> Array:
    bottom, right = mask.top + mask.pixels.shape[0], mask.left + mask.pixels.shape[1]
    cells_y = slice(mask.top * grid // mask.height, -(-bottom * grid // mask.height))
    cells_x = slice(mask.left * grid // mask.width, -(-right * grid // mask.width))
    share_y = _area_weights(mask.height, grid)[cells_y, mask.top : bottom]
    share_x = _area_weights(mask.width, grid)[cells_x, mask.left : right]
    coverage = np.zeros((grid, grid), dtype=np.float32)
    coverage[cells_y, cells_x] = share_y @ (mask.pixels.astype(np.float32) @ share_x.T)
    return np.minimum(coverage, 1.0, out=coverage)


def _resize_bilinear(mask: MaskPatch, grid: int) -> Array:
    rows, row_weights = _taps_inside(mask.height, grid, mask.top, mask.pixels.shape[0])
    columns, column_weights = _taps_inside(mask.width, grid, mask.left, mask.pixels.shape[1])
    taps = mask.pixels[rows.reshape(-1)][:, columns.reshape(-1)].reshape(2, grid, 2, grid)
    coverage: Array = np.einsum("ayx,ay->yx", np.einsum("aybx,bx->ayx", taps, column_weights), row_weights)
    return coverage


def _taps_inside(length: int, grid: int, start: int, count: int) -> tuple[Array, Array]:
    """Return ``_bilinear_taps`` of a line of which ``count`` pixels from ``start`` are kept; all others get weight zero."""
    taps, weights = _bilinear_taps(length, grid)
    return np.clip(taps - start, 0, count - 1), np.where((taps >= start) & (taps < start + count), weights, np.float32(0))


#: name -> function (mask that is not empty, G) -> (G, G) float32 in [0, 1].
#:   area      the exact share of each cell that the mask covers: the smallest region keeps its weight and position
#:   bilinear  point samples, what the released program does; a small region can vanish
MASK_RESIZES: dict[str, Callable[[MaskPatch, int], Array]] = {"area": _resize_area, "bilinear": _resize_bilinear}


# ------------------------------------------------------------------------------------------------------------------- processor
class SmolRGPTImageProcessorKwargs(ImagesKwargs, total=False):
    """Options that ``from_pretrained`` may override."""

    grid_size: int
    mask_resize: str
    depth_encoding: str


class SmolRGPTImageProcessor(BaseImageProcessor):
    """Prepares one image with its depth and regions.

    Args:
        size: side S of the square that image and depth are stretched to (as released; regions are stretched alike).
        grid_size: side G of the refined feature map.
        mask_resize: a name of ``MASK_RESIZES``.
        depth_encoding: a name of ``DEPTH_ENCODINGS``.
        length_unit: unit of the lengths in ``region_geometry``, a name of ``LENGTH_UNITS``.
        image_mean: of the vision tower, for RGB and encoded depth in [0, 1]; one number for all channels (SigLIP: 0.5) or three.
        image_std: likewise.

    Raises:
        ValueError: for an unknown name, or a mean or standard deviation of another length.
    """

    model_input_names = ["pixel_values", "depth_values", "region_masks", "region_geometry"]
    valid_kwargs = SmolRGPTImageProcessorKwargs

    def __init__(
        self,
        size: int | dict[str, int] = 256,
        grid_size: int = 64,
        mask_resize: str = "area",
        depth_encoding: str = "minmax",
        length_unit: str = "fixed",
        image_mean: float | Sequence[float] = 0.5,
        image_std: float | Sequence[float] = 0.5,
        **kwargs: Any,
    ):
        kwargs.pop("image_processor_type", None)
        super().__init__(**kwargs)
        self.size = size["height"] if isinstance(size, dict) else size
        self.grid_size = grid_size
        self.mask_resize, self.depth_encoding, self.length_unit = mask_resize, depth_encoding, length_unit
        self.image_mean, self.image_std = image_mean, image_std
        for name, values in (("image_mean", image_mean), ("image_std", image_std)):
            if np.shape(values) not in ((), (1,), (3,)):
                raise ValueError(f"{name} is {values}; expected one number, or one for each of the three channels")
        options: dict[str, dict[str, Any]] = {
            "mask_resize": MASK_RESIZES,
            "depth_encoding": DEPTH_ENCODINGS,
            "length_unit": LENGTH_UNITS,
        }
        for name, known in options.items():
            if getattr(self, name) not in known:
                raise ValueError(f"{name} is {getattr(self, name)!r}; expected one of {', '.join(known)}")

    def preprocess_image(
        self,
        image: Image.Image | Array,
        depth: Array | None = None,
        depth_kind: str | None = None,
        masks: Sequence[Array | MaskPatch] = (),
        camera: CameraTuple | None = None,
    ) -> dict[str, Array]:
        """Convert one image to pixel_values, depth_values (3, S, S), region_masks (R, G, G), region_geometry (R, F), all float32.

        Args:
            image: 8 bits per channel, PIL or uint8 (H, W[, 3 or 4]).
            depth: float (h, w), near = small, any size; not measured where NaN.
            depth_kind: "metric" (metres) or "relative" ([0, 1]); needed with ``depth``.
            masks: see ``check_mask``; any size, each of the whole image.
            camera: (fx, fy, cx, cy, width, height) in pixels.

        Raises:
            ValueError: for another type or shape.
        """
        checked = check_depth(depth, depth_kind)
        patches = [check_mask(mask) for mask in masks]
        coverage = [self.resize_mask(patch) for patch in patches]
        geometry = self.measure_regions(patches, checked, depth_kind, camera)
        return {
            "pixel_values": self.encode_image(image),
            "depth_values": self.encode_depth(checked, depth_kind),
            "region_masks": _stack(coverage, (self.grid_size, self.grid_size)),
            "region_geometry": _stack(geometry, (len(feature_names(self.length_unit)),)),
        }

    def measure_regions(
        self, patches: Sequence[MaskPatch], depth: Array | None, kind: str | None, camera: CameraTuple | None
    ) -> list[Array]:
        """Measure the geometry (F,) of each region of an image, of checked masks and checked depth."""
        if not patches:
            return []
        range_m = image_range(depth, kind)
        floor = find_image_floor(depth, kind, camera, None if self.length_unit == "fixed" else range_m)
        return [measure_region(patch, depth, kind, camera, floor, self.length_unit, range_m) for patch in patches]

    def encode_image(self, image: Image.Image | Array) -> Array:
        """Convert an 8-bit image of any mode to (3, S, S) float32, [-1, 1] with the default mean and std. Transparency is dropped."""
        checked = _check_image(image)
        rgb = checked if checked.mode == "RGB" else checked.convert("RGB")  # convert would copy
        pixels = np.asarray(rgb.resize((self.size, self.size), Image.Resampling.BILINEAR), dtype=np.float32).transpose(2, 0, 1)
        return np.ascontiguousarray(self._normalise(pixels / 255.0), dtype=np.float32)

    def _normalise(self, channels: Array) -> Array:
        """Scale (3, S, S) from [0, 1] to the range the vision tower was trained on."""
        mean, std = (np.reshape(np.asarray(values, dtype=np.float32), (-1, 1, 1)) for values in (self.image_mean, self.image_std))
        return (channels - mean) / std

    def encode_depth(self, depth: Array | None, kind: str | None) -> Array:
        """Convert checked depth (h, w) to (3, S, S) float32, [-1, 1] with the default mean and std; zeros without depth."""
        resized = None if depth is None else resize_depth(depth, self.size)
        if resized is None or kind is None or np.isnan(resized).all():
            return np.zeros((3, self.size, self.size), dtype=np.float32)
        return self._normalise(DEPTH_ENCODINGS[self.depth_encoding](resized, kind)).astype(np.float32)

    def resize_mask(self, mask: Array | MaskPatch) -> Array:
        """Convert a mask, see ``check_mask``, to (G, G) float32 coverage in [0, 1]; zeros for an empty mask."""
        patch = check_mask(mask)
        if not patch.pixels.size:
            return np.zeros((self.grid_size, self.grid_size), dtype=np.float32)
        return MASK_RESIZES[self.mask_resize](patch, self.grid_size)

    def preprocess(self, images: Any, return_tensors: str | None = None, **kwargs: Any) -> BatchFeature:
        """Convert images to ``pixel_values`` (I, 3, S, S); the entry point of the transformers library."""
        listed = images if isinstance(images, (list, tuple)) else [images]
        return BatchFeature({"pixel_values": np.stack([self.encode_image(image) for image in listed])}, tensor_type=return_tensors)


def _stack(arrays: list[Array], shape: tuple[int, ...]) -> Array:
    return np.stack(arrays) if arrays else np.zeros((0, *shape), dtype=np.float32)


def _check_image(image: Image.Image | Array) -> Image.Image:
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8:
            raise ValueError(f"the image is {image.dtype} {image.shape}; expected uint8 (height, width[, 3 or 4])")
        return Image.fromarray(image)
    if not isinstance(image, Image.Image):
        raise ValueError(f"the image is a {type(image).__name__}; expected a PIL image or a uint8 array")
    if image.mode.startswith(("I", "F")):
        raise ValueError(f"the image has mode {image.mode} (more than 8 bits); expected an 8-bit image. Is it a depth map?")
    return image


__all__ = ["SmolRGPTImageProcessor"]
