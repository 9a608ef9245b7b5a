"""The shapes drawn in Label Studio, as regions; lengths are in percent of the image's sides."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from smolrgpt.data.sources.outlines import ellipse, rotate
from smolrgpt.data.sources.rows import field
from smolrgpt.schema import DataError, Region, brief


def _rectangle(value: dict[str, Any], height: int, width: int) -> Region:
    """Return the outline of a rectangle: x, y, width, height in percent; rotated by ``rotation`` degrees clockwise about (x, y)."""
    x, y, w, h = _pixels(value, height, width, "x", "y", "width", "height")
    corners = np.array([(0, 0), (w, 0), (w, h), (0, h)])
    return Region.from_polygon(np.array([x, y]) + rotate(corners, _degrees(value)), height, width)


def _ellipse(value: dict[str, Any], height: int, width: int) -> Region:
    """Return an ellipse: centre and radii in percent; rotated about the centre."""
    x, y, radius_x, radius_y = _pixels(value, height, width, "x", "y", "radiusX", "radiusY")
    return Region.from_polygon(ellipse(x, y, radius_x, radius_y, _degrees(value)), height, width)


def _polygon(value: dict[str, Any], height: int, width: int) -> Region:
    points = field(value, "points", list)
    try:
        return Region.from_polygon(np.asarray(points, dtype=np.float64) * (width / 100, height / 100), height, width)
    except (TypeError, ValueError) as error:
        raise error if isinstance(error, DataError) else DataError(f"points {brief(points)} are no [x, y] pairs") from None


def _brush(value: dict[str, Any], height: int, width: int) -> Region:
    return Region.from_mask(decode_brush(field(value, "rle", list), height, width))


#: A result's type, without "labels" at its end -> makes its region from its value, height and width. Raises DataError.
SHAPES: dict[str, Callable[[dict[str, Any], int, int], Region]] = {
    "rectangle": _rectangle,
    "ellipse": _ellipse,
    "polygon": _polygon,
    "brush": _brush,
}


def decode_brush(codes: list[int], height: int, width: int) -> np.ndarray:
    """Decode Label Studio's brush run lengths to bool (H, W). Raises DataError when they do not describe such an image.

    The bytes are a stream of bits, most significant first (the format of the rle-pack library): the number of values (32 bits), their bit
    width - 1 (5), four bit widths of run lengths - 1 (4 each); then runs: a bit, an index (2) into those four, the run's length - 1, and
    one value for the whole run when the bit is 1, else one value each. Values are RGBA pixels in rows; those with alpha > 0 are inside.
    """
    try:
        data = bytes(codes)
    except (TypeError, ValueError) as error:
        raise DataError(f"brush run lengths are no bytes ({error}); expected a list of integers from 0 to 255") from None
    read = _BitReader(data)
    count = read(32)
    if count != 4 * height * width:
        raise DataError(f"brush run lengths hold {count} values; expected 4 x {height} x {width} = {4 * height * width}")
    value_bits, length_bits = read(5) + 1, [read(4) + 1 for _ in range(4)]
    values, start = np.zeros(count, dtype=np.uint32), 0
    while start < count:
        is_run = read(1)
        end = start + read(length_bits[read(2)]) + 1
        values[start:end] = read(value_bits) if is_run else [read(value_bits) for _ in range(min(end, count) - start)]
        start = end
    return values.reshape(height, width, 4)[..., 3] > 0


class _BitReader:
    """Unsigned integers from a stream of bits, most significant first. Raises DataError at the end of the stream."""

    def __init__(self, data: bytes):
        self._bits, self._position = format(int.from_bytes(data, "big"), f"0{8 * len(data)}b"), 0

    def __call__(self, size: int) -> int:
        end = self._position + size
        if end > len(self._bits):
            raise DataError(f"brush run lengths end after {len(self._bits) // 8} bytes, in the middle of the image")
        found = int(self._bits[self._position : end], 2)
        self._position = end
        return found


def _pixels(value: dict[str, Any], height: int, width: int, *names: str) -> list[float]:
    """Return the named fields, horizontal and vertical ones in turn, in pixels."""
    try:
        return [float(value[name]) / 100 * side for name, side in zip(names, (width, height) * 2, strict=True)]
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{brief(value)} has not the numbers {', '.join(names)}") from error


def _degrees(value: dict[str, Any]) -> float:
    try:
        return float(value.get("rotation") or 0)
    except (TypeError, ValueError):
        raise DataError(f"rotation is {brief(value['rotation'])!r}; expected degrees") from None
