"""DepthMap: planar depth of one meaning, with converters from the usual files and arrays; DepthFile: one not yet read.

What the stored values mean is stated by the caller (``DepthMeaning``), else by the folder's depth.json, else by their type:

| values | kind | unit |
|---|---|---|
| 8 bits | relative | value / 255, inverted when near is bright |
| wider integers | metric | millimetres; 0 = not measured, and so is 65535 of 16 bits |
| floats | metric | metres |
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from smolrgpt.schema.depth_file import DEPTH_FORMATS, read_stored, stored_of_image
from smolrgpt.schema.depth_meaning import MILLIMETRE, ROTATED_UNIT, DepthKind, DepthMeaning, Polarity
from smolrgpt.schema.errors import DataError, naming
from smolrgpt.schema.image_file import open_file
from smolrgpt.schema.tar_member import TarMember

#: Metric values above this are not measurements: Blender writes 1e10 and AirSim 65504 (the end of float16) where there is no surface.
MAX_DEPTH_M = 5e4
_END_OF_16_BITS = 65535
#: The median depth of usual images, in metres: close-up cameras measure from 7 cm (RealSense D405), vehicles' lidars to about 200 m.
_MEDIAN_RANGE_M = (0.03, 200.0)
#: The ends of floats that are no metres: normalised, or converted from 8 or 16 bits.
_ENDS_WITHOUT_UNIT = (1.0, 255.0, 65535.0)
#: Share of pixels at the end of the type from which a map may be cut off.
_MAX_SHARE_AT_END = 0.01
_ALL_16_BIT = np.arange(1 << 16, dtype=np.uint16)


@dataclass(frozen=True)
class DepthFile:
    """A file with a depth map, and what its values mean where the file itself does not state it.

    Attributes:
        source: The file.
        meaning: What is stated of its values; the nearest depth.json above the file states the rest.
        relative_near: Whether near pixels of a relative map are dark or bright where neither states it.
    """

    source: Path | TarMember
    meaning: DepthMeaning = field(default_factory=DepthMeaning)
    relative_near: Polarity = "dark"

    def load(self) -> DepthMap:
        """Read the map. Raises DataError naming the file, or its folder's depth.json."""
        with naming(self.source), open_file(self.source) as file:
            return DepthMap.from_array(read_stored(file), self.recorded_meaning(), self.relative_near)

    def recorded_meaning(self) -> DepthMeaning:
        """Return what is stated of the values, here or in the folder's depth.json. Raises DataError where the two contradict each other."""
        if isinstance(self.source, TarMember):
            return self.meaning
        return self.meaning.over(DepthMeaning.recorded_for(self.source.parent))


@dataclass(frozen=True)
class DepthReading:
    """How a depth map was read.

    Attributes:
        kind: "metric" or "relative", as the values are used.
        unit: What one stored unit means, in words: "1 mm", "0.2 mm", "metres", "grey level, near = dark".
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

    Attributes:
        values: float32 (H, W). ``metric``: metres along the optical axis, > 0. ``relative``: [0, 1], affine to depth or to its inverse.
            NaN marks a pixel without a measurement; no other value does.
        kind: Metric or relative.
        unit: What one stored unit meant, in words.
        step_m: Metres between two neighbouring stored values; None for floats and relative maps.
        at_end: bool (H, W): where the stored value was the largest of its type, so that the scene may be farther; None: nowhere.
    """

    values: np.ndarray
    kind: DepthKind
    unit: str = field(default="", compare=False)
    step_m: float | None = field(default=None, compare=False)
    at_end: np.ndarray | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        if self.kind not in ("metric", "relative"):
            raise DataError(f"depth kind is {self.kind!r}; expected 'metric' or 'relative'")
        if self.values.ndim != 2 or self.values.dtype != np.float32:
            raise DataError(f"depth is {self.values.dtype} {self.values.shape}; expected float32 (H, W)")

    @cached_property
    def reading(self) -> DepthReading:
        """How the map was read."""
        measured = self.values[np.isfinite(self.values)]
        height, width = self.values.shape
        low, high = (float(measured.min()), float(measured.max())) if measured.size else (None, None)
        unit = self.unit or ("metres" if self.kind == "metric" else "share of the range, small = near")
        missing = 1 - measured.size / max(self.values.size, 1)
        return DepthReading(self.kind, unit, low, high, missing, width, height, self.step_m)

    def doubts(self) -> list[str]:
        """Return what is implausible about the map, a sentence each without a full stop."""
        return [*self._doubts_of_range(), *self._doubts_of_end()]

    def _doubts_of_range(self) -> Iterator[str]:
        reading = self.reading
        if self.kind != "metric" or reading.low is None or reading.high is None:
            return
        if reading.unit == "metres" and reading.high in _ENDS_WITHOUT_UNIT:
            yield (
                f"the depth map's floats end at exactly {reading.high:g}, as normalised or converted values do, and were read as metres; "
                "state depth_unit, or depth_kind relative or inverse"
            )
        median = float(np.nanmedian(self.values))
        if not _MEDIAN_RANGE_M[0] <= median <= _MEDIAN_RANGE_M[1]:
            yield (
                f"half of the depth map is {'nearer' if median < 1 else 'farther'} than {short(median)} m, read with the unit "
                f"{reading.unit}, which is unusual for a camera; check the unit and state it as depth_unit"
            )

    def _doubts_of_end(self) -> Iterator[str]:
        share = 0.0 if self.at_end is None else float(self.at_end.mean())
        if share < _MAX_SHARE_AT_END:
            return
        yield (
            f"{share:.0%} of the depth map's pixels hold the largest value of its type and count as not measured; if the scene "
            "reaches farther, the map is cut off there, so write it in a coarser unit or as floats"
        )

    @classmethod
    def from_any(cls, value: Any, meaning: DepthMeaning | None = None) -> DepthMap:
        """Convert a DepthMap (as it is), a DepthFile, an array, an image or a file, whose values have this meaning.

        Raises DataError for everything else, and where a DepthMap, which has its meaning, is given another.
        """
        stated = meaning or DepthMeaning()
        if isinstance(value, DepthMap):
            if stated != DepthMeaning():
                raise DataError(f"depth is a DepthMap in {value.reading.unit}, and its meaning is stated again ({stated}); leave that out")
            return value
        if isinstance(value, DepthFile):
            return DepthFile(value.source, stated.over(value.meaning), value.relative_near).load()
        if isinstance(value, np.ndarray):
            return cls.from_array(value, stated)
        if isinstance(value, Image.Image):
            return cls.from_image(value, stated)
        if isinstance(value, (str, Path, TarMember)):
            return cls.from_file(value, stated)
        raise DataError(f"depth is a {type(value).__name__}; expected a path, an image, an array (H, W) or a DepthMap")

    @classmethod
    def from_file(cls, path: Path | TarMember | str, meaning: DepthMeaning | None = None) -> DepthMap:
        """Read a depth file (see ``depth_file``); its folder's depth.json counts where ``meaning`` does not state it.

        Raises DataError naming the file.
        """
        return DepthFile(Path(path) if isinstance(path, str) else path, meaning or DepthMeaning()).load()

    @classmethod
    def from_bytes(cls, data: bytes, meaning: DepthMeaning | None = None, formats: Sequence[str] = DEPTH_FORMATS) -> DepthMap:
        """Read a depth file in memory, of one of these formats (names of ``DEPTH_FORMATS``). Raises DataError."""
        return cls.from_array(read_stored(io.BytesIO(data), formats), meaning)

    @classmethod
    def from_image(cls, image: Image.Image, meaning: DepthMeaning | None = None) -> DepthMap:
        """Convert a depth image of any mode. Raises DataError for a coloured image."""
        return cls.from_array(stored_of_image(image), meaning)

    @classmethod
    def from_array(cls, values: np.ndarray, meaning: DepthMeaning | None = None, relative_near: Polarity = "dark") -> DepthMap:
        """Convert an (H, W) array, also (1, H, W), (H, W, 1) or (H, W, C) with C = 2 to 4 equal channels, of any byte order.

        Metric values that are not finite, <= 0, above ``MAX_DEPTH_M``, or 65535 of 16 bits become NaN. Relative floats and wider integers
        are stretched to [0, 1] over their finite values (8 bits are divided by 255, so that equal files give equal values). Bright and
        inverse maps become 1 - value, which keeps their order, not their proportions; inverse depth with a scale becomes metres.

        Args:
            values: Any integers or floats.
            meaning: What they mean; None, and what it does not state: by their type, see above.
            relative_near: The near end of a relative map where ``meaning`` does not state it.

        Raises:
            DataError: For other shapes and types, unequal channels, a map in which nothing is measured, a meaning that the type
                contradicts, and 8-bit metric maps without a unit.
        """
        values, meaning = _single_channel(np.asarray(values)), meaning or DepthMeaning()
        is_byte = values.dtype.itemsize == 1
        kind = meaning.kind or ("relative" if is_byte and meaning.scale is None else "metric")
        if kind == "metric" and meaning.near == "bright":
            raise DataError(
                f"depth near is 'bright', but {values.dtype} values count as metric, where near is small; state the kind as well: "
                "'relative' or 'inverse'"
            )
        if kind == "metric" or (kind == "inverse" and meaning.scale is not None):
            return _metric(values, meaning, kind == "inverse")
        near = "bright" if kind == "inverse" else meaning.near or relative_near
        grey = "grey level" if values.dtype.kind != "f" else "value over its range"
        unit = f"inverse {grey}, near = bright" if kind == "inverse" else f"{grey}, near = {near}"
        relative = _relative(values, near)
        if not np.isfinite(relative).any():
            raise DataError("this depth map holds no number, only NaN and infinity; expected depth of at least one pixel")
        return cls(relative, "relative", unit)


def short(number: float) -> str:
    """Return a number with three digits, without an exponent up to a million: 21300, 0.00412."""
    return f"{float(f'{number:.3g}'):g}"


def _metric(values: np.ndarray, meaning: DepthMeaning, is_inverse: bool) -> DepthMap:
    is_float = values.dtype.kind == "f"
    scale = meaning.scale_m
    if scale is None:
        if values.dtype.itemsize == 1:
            raise DataError("an 8-bit map does not say how many metres a grey level is; state its unit, or use it as relative depth")
        scale = 1.0 if is_float else MILLIMETRE
    at_end = _at_end(values)
    missing = at_end if values.dtype.itemsize > 1 else None
    if meaning.scale == ROTATED_UNIT:
        if values.dtype.kind not in "ui" or values.min() < 0 or values.max() > _END_OF_16_BITS:
            raise DataError(f"depth unit is {ROTATED_UNIT!r}, of rotated bits, and the values are {values.dtype}; expected 16-bit integers")
        bits = values.astype(np.uint16)
        values = bits >> 3 | bits << 13
    metres = _metres(values, scale, is_inverse)
    if missing is not None:
        metres[missing] = np.nan
    _require_measurement(metres, values, scale)
    words = f"inverse depth, {scale:g} m / value" if is_inverse else _unit_in_words(meaning, scale)
    return DepthMap(metres, "metric", words, None if is_float or is_inverse else scale, at_end)


def _at_end(values: np.ndarray) -> np.ndarray | None:
    """Return bool (H, W): where integers of 8 or 16 bits (also in wider types, also floats) are the largest there are; None: nowhere."""
    end = {np.dtype(np.uint8): 255, np.dtype(np.int16): 32767}.get(values.dtype, _END_OF_16_BITS)
    if values.dtype.kind == "f" and (values.dtype.itemsize == 2 or not (values == np.rint(values)).all()):
        return None  # float16 does not reach the end, and fractions were never 16 bits
    return values == end if values.max() == end else None


def _metres(values: np.ndarray, scale: float, is_inverse: bool) -> np.ndarray:
    """Return float32 metres, NaN where not measured; rounded once, so that equal metres in different units are equal bit for bit."""
    if values.dtype == np.uint16 and values.size > _ALL_16_BIT.size:
        return np.asarray(_metres(_ALL_16_BIT, scale, is_inverse)[values])  # an image has millions of pixels, a table fewer entries
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        exact = values.astype(np.float64)
        metres = (scale / exact if is_inverse else exact * scale).astype(np.float32)
        return np.where(np.isfinite(metres) & (metres > 0) & (metres <= MAX_DEPTH_M), metres, np.float32(np.nan))


def _require_measurement(metres: np.ndarray, values: np.ndarray, scale: float) -> None:
    if np.isfinite(metres).any():
        return
    finite = values[np.isfinite(values)]
    if finite.size and (finite < 0).any() and not (finite > 0).any():
        raise DataError(
            f"all depth is negative ({finite.min():g} to {finite.max():g}): its z axis points backwards, as in OpenGL and ARKit; "
            "negate the map (-depth)"
        )
    if finite.size and finite.max() * scale > MAX_DEPTH_M:
        raise DataError(f"no depth is below {MAX_DEPTH_M / 1000:g} km with {scale:g} m per stored unit; state the unit of this map")
    raise DataError("nothing is measured in this depth map: all values are 0, NaN, infinite or the largest of their type; leave depth out")


def _unit_in_words(meaning: DepthMeaning, scale: float) -> str:
    amount = "metres" if scale == 1 else f"{scale * 1000:.6g} mm"
    named = isinstance(meaning.scale, str) and meaning.scale not in ("m", "cm", "mm", "0.1mm")
    return f"{amount} ({meaning.scale})" if named else amount


def _relative(values: np.ndarray, near: Polarity) -> np.ndarray:
    if values.dtype == np.uint8:
        unit = values.astype(np.float32) / np.float32(255)
    else:
        wide = np.where(np.isfinite(values), values, np.nan).astype(np.float64)
        low, high = (np.nanmin(wide), np.nanmax(wide)) if np.isfinite(wide).any() else (0.0, 0.0)
        unit = ((wide - low) / ((high - low) or 1.0)).astype(np.float32)
    return unit if near == "dark" else np.float32(1) - unit


def _single_channel(values: np.ndarray) -> np.ndarray:
    """Return (H, W) in the machine's byte order. Raises DataError for another shape or type, and for channels that differ."""
    while values.ndim > 2 and 1 in (values.shape[0], values.shape[-1]):
        values = values[0] if values.shape[0] == 1 else values[..., 0]
    if values.ndim == 3 and values.shape[-1] in (2, 3, 4) and values.size and values.dtype.kind in "iuf":
        if not np.array_equal(values, np.broadcast_to(values[..., :1], values.shape), equal_nan=values.dtype.kind == "f"):
            raise DataError("this depth map is coloured: its channels differ, and colours cannot be turned back into depth; expected grey")
        values = np.ascontiguousarray(values[..., 0])
    if values.ndim != 2 or values.size == 0 or values.dtype.kind not in "iuf":
        raise DataError(f"depth is {values.dtype} {values.shape}; expected numbers of shape (H, W)")
    return values.astype(values.dtype.newbyteorder("="), copy=False)
