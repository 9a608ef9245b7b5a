"""DepthMeaning: what the stored values of a depth map mean, and the records (depth.json) that state it for a folder."""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypedDict, get_args

from smolrgpt.schema.errors import DataError, brief, naming

#: What a DepthMap holds: metres, or depth without a unit.
DepthKind = Literal["metric", "relative"]
#: What a file or array holds; inverse: values proportional to 1 / depth (disparity, the output of most monocular models), near = large.
StoredKind = Literal["metric", "relative", "inverse"]
#: Whether near pixels are dark (small values) or bright (large values).
Polarity = Literal["dark", "bright"]

#: Metres per unit of integer depth where nothing else is stated; the convention of PrimeSense, RealSense, Kinect, ScanNet, ROS (16UC1).
MILLIMETRE = 1e-3
#: Name of a unit -> metres per stored unit.
DEPTH_UNITS: Mapping[str, float] = {
    "m": 1.0,
    "cm": 1e-2,  # Virtual KITTI, Unreal Engine
    "mm": MILLIMETRE,
    "0.1mm": 1e-4,  # DeepVoxels, RealSense D405
    "tum": 1 / 5000,  # TUM RGB-D and ICL-NUIM: "scaled by a factor of 5000"
    "kitti": 1 / 256,  # KITTI's development kit: "depth = value / 256"; also VOID, DPT, ZoeDepth
    "l515": 0.25e-3,  # RealSense L515: depth units of 250 micrometres
    "sunrgbd": MILLIMETRE,  # millimetres whose 16 bits are rotated left by 3 (SUN RGB-D toolbox, read3dPoints.m)
}
#: The unit whose 16-bit values are rotated left by 3 bits.
ROTATED_UNIT = "sunrgbd"
#: Largest metres per unit: nobody stores depth in steps of 10 m, but 1000, 5000 and 256 are units per metre, the other way round.
_MAX_SCALE_M = 10.0
#: Beside depth maps: what the maps in this folder and in those below mean.
DEPTH_RECORD = "depth.json"
_RECORD_FIELDS = ("near", "kind", "scale_m", "model", "encoding")


class DepthOptions(TypedDict, total=False):
    """The options that state the meaning of a depth map, as every entrance names them; None: not stated."""

    depth_near: Polarity | None
    depth_kind: StoredKind | None
    depth_unit: float | str | None


#: Their names, in the order of the fields of ``DepthMeaning``.
DEPTH_OPTIONS = ("depth_near", "depth_kind", "depth_unit")


@dataclass(frozen=True)
class DepthMeaning:
    """What the stored values of a depth map mean; None: not stated, so that a folder's record or the type of the values decides.

    Attributes:
        near: Whether near pixels are dark (small values) or bright (large values); of relative maps, which can be either.
        kind: What the values are: metres times ``scale``, depth without a unit, or inverse depth.
        scale: Metres per stored unit, or a name of ``DEPTH_UNITS``; text such as "1/5000" becomes a number. Of inverse depth: the product
            of metres and stored value (for a disparity in pixels: focal length in pixels times baseline in metres).

    Raises:
        DataError: For a value that is none of these, and for values that contradict each other.
    """

    near: Polarity | None = None
    kind: StoredKind | None = None
    scale: float | str | None = None

    def __post_init__(self) -> None:
        for name, value, known in (("near", self.near, get_args(Polarity)), ("kind", self.kind, get_args(StoredKind))):
            if value is not None and value not in known:
                raise DataError(f"depth {name} is {brief(value)!r}; expected {' or '.join(map(repr, known))}")
        object.__setattr__(self, "scale", _read_scale(self.scale))
        self._check_agreement()

    def _check_agreement(self) -> None:
        kind = self.kind or ("metric" if self.scale is not None else None)
        if self.kind == "relative" and self.scale is not None:
            raise DataError(f"depth kind is 'relative' and its unit is {self.scale!r}: relative depth has no unit; leave one of them out")
        if kind == "metric" and self.near == "bright":
            stated = f"kind is {self.kind!r}" if self.kind else f"unit is {self.scale!r}"
            raise DataError(f"depth near is 'bright' and its {stated}: metres are small where near; expected kind 'inverse' or 'relative'")
        if kind == "inverse" and self.near == "dark":
            raise DataError("depth near is 'dark' and its kind is 'inverse': inverse depth is large, bright, where near; leave near out")
        if kind == "inverse" and isinstance(self.scale, str):
            raise DataError(f"depth kind is 'inverse' and its unit is {self.scale!r}; expected a number: metres times stored value")
        if kind == "metric" and isinstance(self.scale, float) and self.scale > _MAX_SCALE_M:
            raise DataError(f"depth unit is {self.scale:g} metres per stored unit; expected at most 10, is it 1/{self.scale:g}?")

    @classmethod
    def from_options(
        cls, depth_near: Polarity | None = None, depth_kind: StoredKind | None = None, depth_unit: float | str | None = None
    ) -> DepthMeaning:
        """Return the meaning that options, named as every entrance names them, state. Raises DataError."""
        return cls(depth_near, depth_kind, depth_unit)

    @classmethod
    def from_record(cls, path: Path) -> DepthMeaning:
        """Read a depth.json: near, kind and scale_m (metres per unit, or its name). Raises DataError naming it and the field."""
        with naming(path):
            try:
                found = json.loads(path.read_text(encoding="utf-8-sig"))
            except (OSError, ValueError, RecursionError) as error:
                raise DataError(f"cannot read this record as JSON ({error}); expected {{'near': 'dark' or 'bright', ...}}") from error
            if not isinstance(found, dict):
                raise DataError(f"holds {brief(found)}; expected an object with {', '.join(_RECORD_FIELDS)}")
            if unknown := [name for name in found if name not in _RECORD_FIELDS]:
                raise DataError(f"has a field {brief(unknown[0])!r}; expected {', '.join(_RECORD_FIELDS)}")
            return cls(found.get("near"), found.get("kind"), found.get("scale_m"))

    @classmethod
    def recorded_for(cls, folder: Path) -> DepthMeaning:
        """Read the depth.json of a folder, or of the nearest folder above that has one; states nothing where there is none."""
        for above in (folder.absolute(), *folder.absolute().parents):
            if (above / DEPTH_RECORD).is_file():
                return cls.from_record(above / DEPTH_RECORD)
        return cls()

    def require_map(self, depth: Any) -> None:
        """Raise DataError where a meaning is stated and there is no depth map (``depth`` is None) that could have it."""
        if depth is None and self != DepthMeaning():
            given = zip(DEPTH_OPTIONS, self._fields(), strict=True)
            stated = ", ".join(f"{name} {value}" for name, value in given if value is not None)
            raise DataError(f"{stated} is stated and there is no depth map; give depth as well, or leave it out")

    def over(self, other: DepthMeaning) -> DepthMeaning:
        """Return what both state; where they differ, this one counts. Another kind than this one's states nothing about these values.

        Raises DataError where the two together contradict each other.
        """
        differs = self.kind and other.kind and self.kind != other.kind
        if differs or (self.scale is not None and other.kind == "relative"):
            return self
        return DepthMeaning(*(own if own is not None else theirs for own, theirs in zip(self._fields(), other._fields(), strict=True)))

    def _fields(self) -> tuple[Any, Any, Any]:
        return self.near, self.kind, self.scale

    @property
    def scale_m(self) -> float | None:
        """Metres per stored unit, as a number."""
        return DEPTH_UNITS[self.scale] if isinstance(self.scale, str) else self.scale


def _read_scale(scale: Any) -> float | str | None:
    """Return a unit as a name of ``DEPTH_UNITS``, or as a number > 0. Raises DataError."""
    if scale is None:
        return None
    expected = f"expected metres per stored unit, > 0, or one of {', '.join(DEPTH_UNITS)}"
    if isinstance(scale, str):
        name = scale.strip().lower().replace(" ", "")
        if name in DEPTH_UNITS:
            return name
        try:
            numerator, _, denominator = name.partition("/")
            number = float(numerator) / float(denominator or 1)
        except (ValueError, ZeroDivisionError):
            nearest = difflib.get_close_matches(name, DEPTH_UNITS, 1)
            hint = f"; is it {nearest[0]!r}?" if nearest else ""
            raise DataError(f"depth unit is {brief(scale)!r}; {expected}{hint}") from None
    elif isinstance(scale, bool):
        raise DataError(f"depth unit is {scale}; {expected}")
    else:
        try:
            number = float(scale)
        except (TypeError, ValueError, OverflowError):
            raise DataError(f"depth unit is {brief(scale)}; {expected}") from None
    if not (math.isfinite(number) and number > 0):
        raise DataError(f"depth unit is {brief(scale)}; {expected}")
    return number
