"""Camera: pinhole intrinsics, with converters from the usual forms, and what is doubtful about them."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from smolrgpt.schema.camera_forms import KNOWN_FORMS, Fields, parse_text, read_fields
from smolrgpt.schema.errors import DataError, brief

#: Limits of fx, fy, cx, cy as shares of an image's longer side: fields of view from 178 degrees to a telescope's; the principal point
#: within ten images.
CAMERA_RANGES = ((0.005, 1000.0), (0.005, 1000.0), (-10.0, 10.0), (-10.0, 10.0))
_NUMBERS = ("fx", "fy", "cx", "cy")
#: Focal length of a guessed camera as a share of the image's longer side: a field of view of 61 degrees, between those of Kinect v1 (57),
#: Kinect v2 colour (84), RealSense D435 colour (69) and the main cameras of phones (62 to 70). It belongs to the longer side because a
#: camera that is held upright keeps its lens.
GUESSED_FOCAL = 0.85
#: A principal point is refused more than this share of a side outside of an image whose size was not given with it,
_MAX_OUTSIDE = 0.25
#: and doubted more than this share of a side from the middle. Calibrated cameras are within 0.05, crops need not be.
_MAX_OFF_CENTER = 0.15
#: A principal point that is off along both sides by this share and equally is that of another size of the image.
_MAX_SCALED = 0.06
#: fx and fy are doubted where they differ by more than this share: pixels are square in nearly all cameras.
_MAX_UNEQUAL_FOCAL = 0.2
#: Usual fields of view of the longer side, in degrees.
_USUAL_VIEW = (20, 150)
#: Distortion is doubted where it displaces a point by more than this share of the longer side.
_MAX_DISPLACEMENT = 0.01
#: Names of projections that no coefficients turn into a pinhole's: ROS, Kalibr, OpenCV, RealSense, nerfstudio.
_NOT_PINHOLE = re.compile(r"fish.?eye|equi|kannala|theta|omni|mei\b|double.?sphere|\bds\b|eucm|\bucm\b|\bfov\b", re.IGNORECASE)
#: EXIF orientation of a quarter turn -> whether the turned axes x and y are flipped.
_TURNS = {5: (False, False), 6: (True, False), 7: (True, True), 8: (False, True)}


@dataclass(frozen=True)
class Camera:
    """A pinhole camera.

    Attributes:
        fx: Focal length in pixels of a (height, width) image, along x.
        fy: The same along y.
        cx: Principal point in pixels, from the left.
        cy: The same from the top.
        width: Of the image, in pixels.
        height: Of the image, in pixels.
        distortion: Coefficients in OpenCV's order (k1, k2, p1, p2, k3, ...), as far as known. They are not undone, only doubted.
        distortion_model: The name of their model, as the camera's program writes it; empty: OpenCV's.
        is_guessed: Whether no camera was given, and this is a usual one.
    """

    fx: float
    fy: float
    cx: float
    cy: float
    width: int
    height: int
    distortion: tuple[float, ...] = ()
    distortion_model: str = ""
    is_guessed: bool = False

    @classmethod
    def from_any(cls, value: Any, height: int | None = None, width: int | None = None, folder: Path | None = None) -> Camera:
        """Convert any form of the camera of a (height, width) image.

        value: a Camera (as it is); fx, fy, cx, cy[, width, height]; a 3x3, 3x4 or 4x4 matrix, nested or flat, row-major or column-major; a
        mapping, an object, JSON or YAML as of ``camera_forms``; text as of ``from_text``; the path of a file, relative to ``folder``.
        Intrinsics of another image size need their width and height; height and width may be left out where the value has them.
        Raises DataError for everything else, and for values that no camera has.
        """
        return value if isinstance(value, Camera) else cls._from_fields(read_fields(value, folder), value, height, width)

    @classmethod
    def from_text(cls, text: str, height: int | None = None, width: int | None = None) -> Camera:
        """Read fx,fy,cx,cy with commas or spaces, a printed matrix, JSON or YAML. Opens no file. Raises DataError."""
        return cls.from_any(parse_text(text), height, width)

    @classmethod
    def guess(cls, height: int, width: int) -> Camera:
        """Return a usual camera of a (height, width) image."""
        focal = GUESSED_FOCAL * max(height, width)
        return cls(focal, focal, (width - 1) / 2, (height - 1) / 2, width, height, is_guessed=True)

    @classmethod
    def _from_fields(cls, fields: Fields, value: Any, height: int | None, width: int | None) -> Camera:
        """Check the fields that were read from ``value``."""
        has_size = "width" in fields and "height" in fields
        if ("width" in fields) != ("height" in fields):
            raise DataError(f"camera {brief(value)} has one of width and height; expected both, or fx, fy, cx, cy in pixels of the image")
        try:
            fx, fy, cx, cy = numbers = [float(fields[name]) for name in _NUMBERS]
            columns, rows = (
                int(float(number)) for number in ((fields["width"], fields["height"]) if has_size else (width or 0, height or 0))
            )
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise DataError(f"camera {brief(value)} is not fx, fy, cx, cy in pixels; expected {KNOWN_FORMS}") from error
        distortion = tuple(fields.get("distortion", ()))
        if not np.isfinite([*numbers, *distortion]).all() or min(fx, fy, columns, rows) <= 0:
            raise DataError(f"camera {brief(value)}: focal lengths and size must be finite and above 0")
        of_image, side = f"camera {brief(value)} of an image of {columns}x{rows}", max(columns, rows)
        if 0 < cx <= 1 and 0 < cy <= 1 and min(columns, rows) > 2:
            raise DataError(f"{of_image}: shares of the sides; expected pixels: multiply fx and cx by the width, fy and cy by the height")
        if not all(low * side <= number <= high * side for number, (low, high) in zip(numbers, CAMERA_RANGES, strict=True)):
            raise DataError(f"{of_image}: no camera is like this; expected pixels of the image")
        if not has_size and max(abs(cx / columns - 0.5), abs(cy / rows - 0.5)) > 0.5 + _MAX_OUTSIDE:
            raise DataError(f"{of_image}: the principal point {_point(cx, cy)} is outside; give the width and height that it belongs to")
        return cls(fx, fy, cx, cy, columns, rows, distortion, fields.get("distortion_model", ""), fields.get("is_guessed", False))

    # ------------------------------------------------------------------------------------------------------------------- geometry
    def resized(self, width: int, height: int) -> Camera:
        """Return the same camera for the same image stretched to (height, width)."""
        sx, sy = width / self.width, height / self.height
        return replace(self, fx=self.fx * sx, fy=self.fy * sy, cx=self.cx * sx, cy=self.cy * sy, width=width, height=height)

    def turned(self, orientation: int) -> Camera:
        """Return the camera of the upright image whose stored pixels this one is of; orientation: EXIF's, a quarter turn (5 to 8)."""
        flips_x, flips_y = _TURNS[orientation]
        cx = self.height - 1 - self.cy if flips_x else self.cy
        cy = self.width - 1 - self.cx if flips_y else self.cx
        return replace(self, fx=self.fy, fy=self.fx, cx=cx, cy=cy, width=self.height, height=self.width)

    # --------------------------------------------------------------------------------------------------------------------- doubts
    def describe(self) -> str:
        """Return the camera in words."""
        guessed = "guessed, " if self.is_guessed else ""
        return f"{guessed}fx {self.fx:.1f}, fy {self.fy:.1f}, cx {self.cx:.1f}, cy {self.cy:.1f} of {self.width}x{self.height}"

    def doubts(self) -> list[str]:
        """Return what is implausible about the camera, a sentence each without a full stop."""
        if self.is_guessed:
            return [
                f"no camera was given, so a usual one is assumed (a focal length of {GUESSED_FOCAL} x the longer side), and lengths can be "
                "off by a third; give fx, fy, cx, cy"
            ]
        return [*self._doubts_of_center(), *self._doubts_of_focal_lengths(), *self._doubts_of_distortion()]

    def _doubts_of_center(self) -> list[str]:
        width, height = self.width, self.height
        x, y = self.cx / width - 0.5, self.cy / height - 0.5
        is_scaled = min(abs(x), abs(y)) > _MAX_SCALED and abs(x - y) < 0.5 * _MAX_SCALED
        is_turned = max(abs(x), abs(y)) > 0.1 and max(abs(self.cx / height - 0.5), abs(self.cy / width - 0.5)) < 0.03
        point = f"the camera's principal point {_point(self.cx, self.cy)}"
        if is_scaled or is_turned:
            of_size = f"is the middle of an image of about {2 * self.cx:.0f}x{2 * self.cy:.0f}, not of {width}x{height}"
            return [f"{point} {of_size}; {'turn the camera with the image' if is_turned else 'give the width and height it belongs to'}"]
        if max(abs(x), abs(y)) > _MAX_OFF_CENTER:
            return [f"{point} is far from the middle of a {width}x{height} image; check the order fx, fy, cx, cy and give width, height"]
        return []

    def _doubts_of_focal_lengths(self) -> list[str]:
        doubts, lengths = [], f"fx {self.fx:.5g}, fy {self.fy:.5g}"
        if max(self.fx, self.fy) > (1 + _MAX_UNEQUAL_FOCAL) * min(self.fx, self.fy):
            doubts.append(f"the camera's focal lengths differ ({lengths}); check their order, and whether the image was stretched")
        angle = math.degrees(2 * math.atan(max(self.width / self.fx, self.height / self.fy) / 2))
        if not _USUAL_VIEW[0] <= angle <= _USUAL_VIEW[1]:
            doubts.append(
                f"the camera has an unusual field of view of {angle:.3g} degrees ({lengths} of {self.width}x{self.height}); check the "
                "width and height that they belong to"
            )
        return doubts

    def _doubts_of_distortion(self) -> list[str]:
        if _NOT_PINHOLE.search(self.distortion_model):
            return [f"the camera's model is {brief(self.distortion_model)}, which is read as a pinhole; undistort image and depth first"]
        share = self._displacement() / max(self.width, self.height)
        if share <= _MAX_DISPLACEMENT:
            return []
        return [f"the camera's distortion, up to {share:.2g} of the image's side, is not undone; undistort image and depth first"]

    def _displacement(self) -> float:
        """Return the largest displacement of a pixel by distortion, in pixels: OpenCV's radial and tangential terms on a grid."""
        k1, k2, p1, p2, k3, k4, k5, k6 = (*self.distortion[:8], *[0.0] * 8)[:8]
        u, v = np.meshgrid(np.linspace(0, self.width - 1, 9), np.linspace(0, self.height - 1, 9))
        x, y = (u - self.cx) / self.fx, (v - self.cy) / self.fy
        r2 = x * x + y * y
        with np.errstate(all="ignore"):
            radial = (1 + r2 * (k1 + r2 * (k2 + r2 * k3))) / (1 + r2 * (k4 + r2 * (k5 + r2 * k6)))
            moved_x = x * (radial - 1) + 2 * p1 * x * y + p2 * (r2 + 2 * x * x)
            moved_y = y * (radial - 1) + 2 * p2 * x * y + p1 * (r2 + 2 * y * y)
            moved = np.hypot(moved_x * self.fx, moved_y * self.fy)
        return float(np.nan_to_num(moved, nan=np.inf).max())


def _point(x: float, y: float) -> str:
    return f"({x:.5g}, {y:.5g})"
