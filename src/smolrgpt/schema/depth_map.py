"""DepthMap: planar depth of one meaning, with converters from the usual files and arrays; DepthFile: one not yet read.

| file | kind | unit |
|---|---|---|
| 8-bit grey, or RGB with equal channels | relative | value / 255, inverted when near is bright |
| 16-bit (or 32-bit integer) grey, integer .npy | metric | millimetres, 0 = not measured |
| 32-bit float TIFF, float .npy | metric | metres |
"""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Literal, get_args

import numpy as np
from PIL import Image

from smolrgpt.schema.errors import DataError, naming
from smolrgpt.schema.image_file import open_file, read_image
from smolrgpt.schema.tar_member import TarMember

DepthKind = Literal["metric", "relative"]
#: Whether near pixels of a relative map are dark (small values) or bright (large values).
Polarity = Literal["dark", "bright"]

#: Metres per unit of integer depth; the convention of RGB-D cameras (PrimeSense, RealSense, Kinect, Redwood).
MILLIMETRE = 1e-3
_ALL_16_BIT = np.arange(1 << 16, dtype=np.uint16)


@dataclass(frozen=True)
class DepthFile:
    """A file with a depth map, and what its values mean where the file itself does not state it.

    Attributes:
        source: The file.
        near: Whether near pixels of a relative map are dark or bright; metric maps are always near = small.
        kind: Whether the values are metres or relative; None: by the file's type, see above.

    Raises:
        DataError: When ``near`` or ``kind`` is none of these.
    """

    source: Path | TarMember
    near: Polarity = "dark"
    kind: DepthKind | None = None

    def __post_init__(self) -> None:
        _check_meaning(self.near, self.kind)

    def load(self) -> DepthMap:
        """Read the map. Raises DataError naming the file."""
        return DepthMap.from_file(self.source, near=self.near, kind=self.kind)


@dataclass(frozen=True)
class DepthReading:
    """How a depth map was read.

    Attributes:
        kind: "metric" or "relative", as the values are used.
        unit: What one stored unit means, in words: "1 mm", "0.2 mm (1/5000 m)", "metres", "grey level, near = dark".
        low: The smallest and
        high: the largest measured value, in metres or in [0, 1]; None where nothing was measured.
        missing_share: Share of the pixels without a measurement.
        width: Of the map, in pixels.
        height: Of the map, in pixels.
        step_m: Metres between two neighbouring stored values; None for floats and relative maps.
    """

    kind: DepthKind
    unit: str
    low: float | None
    high: float | None
    missing_share: float
    width: int
    height: int
    step_m: float | None = None

    def describe(self) -> str:
        """Return the reading in words: kind, unit, range, missing share, resolution."""
        scale = " m" if self.kind == "metric" else ""
        span = "nothing measured" if self.low is None or self.high is None else f"{self.low:.4g} to {self.high:.4g}{scale}"
        return f"{self.kind}, unit {self.unit}, {span}, {self.missing_share:.1%} missing, {self.width}x{self.height}"


@dataclass(frozen=True)
class DepthMap:
    """A depth map along the optical axis, metric or relative; small values are near.

    values: float32 (H, W). ``metric``: metres along the optical axis, > 0. ``relative``: [0, 1], affine to depth.
    NaN marks a pixel without a measurement; no other value does.
    """

    values: np.ndarray
    kind: DepthKind
    reading: DepthReading | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if self.kind not in ("metric", "relative"):
            raise DataError(f"depth kind is {self.kind!r}; expected 'metric' or 'relative'")
        if self.values.ndim != 2 or self.values.dtype != np.float32:
            raise DataError(f"depth is {self.values.dtype} {self.values.shape}; expected float32 (H, W)")

    def doubts(self) -> list[str]:
        """Return what is implausible about the map, a sentence each without a full stop."""
        return []

    @classmethod
    def from_any(cls, value: Any, *, near: Polarity = "dark") -> DepthMap:
        """Convert a DepthMap (as it is), a DepthFile, an array, an image or a file. Raises DataError for everything else."""
        if isinstance(value, DepthMap):
            return value
        if isinstance(value, DepthFile):
            return value.load()
        if isinstance(value, np.ndarray):
            return cls.from_array(value, near=near)
        if isinstance(value, Image.Image):
            return cls.from_image(value, near=near)
        if isinstance(value, (str, Path, TarMember)):
            return cls.from_file(value, near=near)
        raise DataError(f"depth is a {type(value).__name__}; expected a path, an image, an array (H, W) or a DepthMap")

    @classmethod
    def from_file(
        cls, path: Path | TarMember | str, *, near: Polarity = "dark", kind: DepthKind | None = None, scale_m: float | None = None
    ) -> DepthMap:
        """Read a depth file; arguments as of ``from_array``. Raises DataError naming the file."""
        suffix = Path(str(path)).suffix.lower()
        with naming(path):
            if suffix == ".npy":
                with open_file(path) as file:
                    return cls.from_array(_read_npy(file), near=near, kind=kind, scale_m=scale_m)
            if suffix == ".exr":
                raise DataError("EXR is not read directly; save it as .npy or 32-bit float TIFF in metres")
            return cls.from_image(read_image(path), near=near, kind=kind, scale_m=scale_m)

    @classmethod
    def from_npy_bytes(cls, data: bytes, *, near: Polarity = "dark") -> DepthMap:
        """Read a .npy file in memory; arguments as of ``from_array``. Raises DataError."""
        return cls.from_array(_read_npy(io.BytesIO(data)), near=near)

    @classmethod
    def from_image(
        cls, image: Image.Image, *, near: Polarity = "dark", kind: DepthKind | None = None, scale_m: float | None = None
    ) -> DepthMap:
        """Convert a depth image of any mode; arguments as of ``from_array``. Raises DataError for a coloured image."""
        if image.mode in ("L", "F", "I") or image.mode.startswith("I;16"):
            return cls.from_array(np.asarray(image), near=near, kind=kind, scale_m=scale_m)
        if image.mode in ("LA", "P", "PA", "RGB", "RGBA"):
            rgb = np.asarray(image.convert("RGBA"))[..., :3]
            if (rgb == rgb[..., :1]).all():
                return cls.from_array(np.ascontiguousarray(rgb[..., 0]), near=near, kind=kind, scale_m=scale_m)
            raise DataError("this depth image is coloured, and colours cannot be turned back into depth; expected grey levels")
        raise DataError(f"image mode {image.mode!r} holds no depth; expected 8-bit grey, 16-bit grey or 32-bit float")

    @classmethod
    def from_array(
        cls, values: np.ndarray, *, near: Polarity = "dark", kind: DepthKind | None = None, scale_m: float | None = None
    ) -> DepthMap:
        """Convert an (H, W) array, also (1, H, W) or (H, W, 1).

        kind: None = by type: uint8 relative, other integers metric millimetres, floats metric metres.
        near: whether near pixels are dark (small) or bright (large); only relative maps can be either.
          Bright maps are usually inverse depth: 1 - value keeps their order, not their proportions.
        scale_m: metres per unit of a metric map, when it is not the type's own.
        Metric values that are not finite or <= 0 become NaN; a map without any valid pixel is allowed. Relative floats and wider integers
        are stretched to [0, 1] over their finite values (8 bits are divided by 255, so that equal files give equal values).
        Raises DataError for other shapes and types, a bad ``near``, ``kind`` or ``scale_m``, and 8-bit metric maps without ``scale_m``.
        """
        values = _two_dimensional(np.asarray(values))
        _check_meaning(near, kind)
        kind = kind or ("relative" if values.dtype == np.uint8 and scale_m is None else "metric")
        if kind == "relative":
            return cls(_relative(values, near), "relative")
        return cls(_metric(values, scale_m), "metric")


def _check_meaning(near: Any, kind: Any) -> None:
    if near not in get_args(Polarity):
        raise DataError(f"near is {near!r}; expected 'dark' or 'bright'")
    if kind is not None and kind not in get_args(DepthKind):
        raise DataError(f"depth kind is {kind!r}; expected 'metric', 'relative' or None")


def _metric(values: np.ndarray, scale_m: float | None) -> np.ndarray:
    if scale_m is None:
        if values.dtype == np.uint8:
            raise DataError("an 8-bit map does not say how many metres a grey level is; give scale_m, or use it as relative depth")
        scale_m = 1.0 if values.dtype.kind == "f" else MILLIMETRE
    if not (np.isfinite(scale_m) and scale_m > 0):
        raise DataError(f"scale_m is {scale_m}; expected metres per unit, > 0")
    if values.dtype == np.uint16 and values.size > _ALL_16_BIT.size:
        return np.asarray(_metres(_ALL_16_BIT, scale_m)[values])  # an image has millions of pixels, a table fewer entries
    return _metres(values, scale_m)


def _metres(values: np.ndarray, scale_m: float) -> np.ndarray:
    with np.errstate(over="ignore", invalid="ignore"):
        metres = (values.astype(np.float64) * scale_m).astype(np.float32)
        return np.where(np.isfinite(metres) & (metres > 0), metres, np.float32(np.nan))


def _relative(values: np.ndarray, near: Polarity) -> np.ndarray:
    if values.dtype == np.uint8:
        unit = values.astype(np.float32) / np.float32(255)
    else:
        wide = np.where(np.isfinite(values), values, np.nan).astype(np.float64)
        low, high = (np.nanmin(wide), np.nanmax(wide)) if np.isfinite(wide).any() else (0.0, 0.0)
        unit = ((wide - low) / ((high - low) or 1.0)).astype(np.float32)
    return unit if near == "dark" else np.float32(1) - unit


def _two_dimensional(values: np.ndarray) -> np.ndarray:
    if values.ndim == 3 and 1 in (values.shape[0], values.shape[-1]):
        values = values[0] if values.shape[0] == 1 else values[..., 0]
    if values.ndim != 2 or values.size == 0 or values.dtype.kind not in "iuf":
        raise DataError(f"depth is {values.dtype} {values.shape}; expected numbers of shape (H, W)")
    return values


def _read_npy(file: BinaryIO) -> np.ndarray:
    try:
        return np.asarray(np.load(file, allow_pickle=False))
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"cannot read this array ({error}); expected a .npy file of shape (H, W) in metres") from error
