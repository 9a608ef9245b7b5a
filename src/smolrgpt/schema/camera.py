"""Camera: pinhole intrinsics, with converters from the usual forms."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from smolrgpt.schema.errors import DataError, brief, naming
from smolrgpt.schema.image_file import open_file

#: Limits of fx, fy, cx, cy as shares of an image's longer side: fields of view from 178 degrees to a telescope's; the principal point
#: within ten images.
CAMERA_RANGES = ((0.005, 1000.0), (0.005, 1000.0), (-10.0, 10.0), (-10.0, 10.0))
_FIELDS = ("fx", "fy", "cx", "cy", "width", "height")


@dataclass(frozen=True)
class Camera:
    """A pinhole camera: focal lengths and principal point in pixels of a (height, width) image."""

    fx: float
    fy: float
    cx: float
    cy: float
    width: int
    height: int

    @classmethod
    def from_any(cls, value: Any, height: int, width: int) -> Camera:
        """Convert any form of the camera of a (height, width) image.

        value: a Camera (as it is); a sequence fx, fy, cx, cy[, width, height]; a mapping with these names, or with ``intrinsic_matrix`` in
        Open3D's column-major order; a 3x3 array; text as of ``from_text``; the path of a .json file. Intrinsics of another image size
        need its width and height. Raises DataError for everything else, and for values that no camera has.
        """
        if isinstance(value, Camera):
            return value
        if isinstance(value, Path) or (isinstance(value, str) and value.endswith(".json")):
            return cls.from_file(value, height, width)
        if isinstance(value, str):
            return cls.from_text(value, height, width)
        if isinstance(value, np.ndarray) and value.shape == (3, 3):
            return cls.from_matrix(value, height, width)
        if isinstance(value, Mapping) and "intrinsic_matrix" in value:
            try:
                matrix = np.asarray(value["intrinsic_matrix"], dtype=np.float64).reshape(3, 3).T
                return cls.from_matrix(matrix, int(value.get("height", height)), int(value.get("width", width)))
            except (TypeError, ValueError, OverflowError) as error:
                raise DataError(f"camera {brief(value)}: its intrinsic_matrix is not nine numbers") from error
        return cls._from_values(value, height, width)

    @classmethod
    def from_text(cls, text: str, height: int, width: int) -> Camera:
        """Read ``fx,fy,cx,cy``, with commas or spaces, in pixels of the (height, width) image. Opens no file. Raises DataError."""
        numbers = text.replace(",", " ").split()
        if len(numbers) != 4:
            raise DataError(f"camera {brief(text)}: expected fx,fy,cx,cy in pixels of the image")
        return cls.from_any(numbers, height, width)

    @classmethod
    def from_file(cls, path: Path | str, height: int, width: int) -> Camera:
        """Read a JSON object, as of ``from_any``. Raises DataError naming the file."""
        with naming(path):
            try:
                with open_file(path) as file:
                    value = json.load(file)
            except DataError:
                raise
            except (OSError, ValueError, RecursionError) as error:
                raise DataError(f"cannot read this camera as JSON ({error})") from error
            if not isinstance(value, dict):
                raise DataError(f"camera {brief(value)}: expected a JSON object with fx, fy, cx, cy in pixels")
            return cls.from_any(value, height, width)

    @classmethod
    def from_matrix(cls, matrix: np.ndarray, height: int, width: int) -> Camera:
        """Take a 3x3 intrinsic matrix, row-major, in pixels of the (height, width) image. Raises DataError."""
        return cls.from_any((matrix[0, 0], matrix[1, 1], matrix[0, 2], matrix[1, 2]), height, width)

    @classmethod
    def _from_values(cls, value: Mapping[str, Any] | Sequence[Any], height: int, width: int) -> Camera:
        """Check fx, fy, cx, cy and, where given, width and height."""
        try:
            pairs = value.items() if isinstance(value, Mapping) else zip(_FIELDS, value, strict=False)
            values: dict[str, Any] = dict(pairs)
            numbers = [float(values[name]) for name in _FIELDS[:4]]
            size = int(values.get("width", width)), int(values.get("height", height))
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise DataError(f"camera {brief(value)} is not fx, fy, cx, cy in pixels") from error
        if not np.isfinite(numbers).all() or min(numbers[:2]) <= 0 or min(size) <= 0:
            raise DataError(f"camera {brief(value)}: focal lengths and size must be finite and above 0")
        if not all(low * max(size) <= number <= high * max(size) for number, (low, high) in zip(numbers, CAMERA_RANGES, strict=True)):
            raise DataError(
                f"camera {brief(value)} of an image of {size[0]}x{size[1]}: no camera is like this; expected pixels of the image"
            )
        fx, fy, cx, cy = numbers
        return cls(fx, fy, cx, cy, *size)

    def describe(self) -> str:
        """Return the camera in words."""
        return f"fx {self.fx:.1f}, fy {self.fy:.1f}, cx {self.cx:.1f}, cy {self.cy:.1f} of {self.width}x{self.height}"

    def doubts(self) -> list[str]:
        """Return what is implausible about the camera, a sentence each without a full stop."""
        return []

    def resized(self, width: int, height: int) -> Camera:
        """Return the same camera for the same image stretched to (height, width)."""
        sx, sy = width / self.width, height / self.height
        return Camera(self.fx * sx, self.fy * sy, self.cx * sx, self.cy * sy, width, height)
