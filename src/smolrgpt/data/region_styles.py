"""Regions as people and programs mark them: masks some pixels off, blobs of a segmenter, polygons of few points, tight and loose boxes.

A style changes a mask inside of a canvas: bool (h, w), the region's own box with a margin. Sizes are shares of the region's own size, so
that a small region is hurt as a large one is.
"""

from __future__ import annotations

import functools
import math
import zlib
from collections.abc import Callable

import numpy as np
from PIL import Image

from smolrgpt.schema import DataError, Region

#: A mask in a canvas, its shorter side in pixels, and a generator -> the changed mask.
Style = Callable[[np.ndarray, float, np.random.Generator], np.ndarray]

#: Canvas around a region, as a share of its longer side, and pixels.
_MARGIN_SHARE, _MARGIN_PX = 0.2, 4
#: Rims and shifts: pixels, and at most this share of the shorter side.
RIM_PX, RIM_SHARE = 4.0, 0.12
#: A segmenter predicts masks of this many pixels a side, enlarged to the region (Mask R-CNN: 28).
BLOB_SIDE = (10, 32)
#: Margin of a loose box, as a share of the region's side, drawn for every side.
LOOSE_SHARE = 0.15
#: Corners of a coarse polygon.
CORNERS = (5, 12)


def restyle(region: Region, style: str, rng: np.random.Generator) -> Region:
    """Return the region in a style of ``STYLES``, cut at the image's border; one that would vanish stays as it is."""
    pixels, top, left, height, width = region.to_patch()
    if not pixels.size:
        return region
    margin = _MARGIN_PX + math.ceil(_MARGIN_SHARE * max(pixels.shape))
    canvas = STYLES[style](np.pad(pixels, margin), float(min(pixels.shape)), rng)
    whole = np.zeros((height + 2 * margin, width + 2 * margin), bool)
    whole[top : top + canvas.shape[0], left : left + canvas.shape[1]] = canvas
    inside = whole[margin : margin + height, margin : margin + width]
    return Region.from_mask(inside) if inside.any() else region


def region_generator(region: Region, seed: int) -> np.random.Generator:
    """Return a generator that depends on the seed and the region alone."""
    return np.random.default_rng([seed, zlib.crc32(region.counts.encode())])


def grow(mask: np.ndarray, pixels: int) -> np.ndarray:
    """Add a square rim of this many pixels to a mask, or remove it when negative."""
    return spread(mask, pixels) if pixels >= 0 else ~spread(~mask, -pixels)


def spread(mask: np.ndarray, rim: int) -> np.ndarray:
    """Return bool (H, W): pixels with one of the mask in the square that reaches ``rim`` pixels to all sides."""
    for axis in (0, 1):
        margins = [(rim, rim) if side == axis else (0, 0) for side in (0, 1)]
        padded, length = np.pad(mask, margins), mask.shape[axis]
        mask = np.logical_or.reduce([padded.take(range(start, start + length), axis) for start in range(2 * rim + 1)])
    return mask


def fill_box(mask: np.ndarray, margins: tuple[float, float, float, float] = (0, 0, 0, 0)) -> np.ndarray:
    """Return the box of a mask, wider by these pixels at the top, the bottom, the left and the right."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    top, bottom, left, right = (round(margin) for margin in margins)
    box = np.zeros_like(mask)
    box[max(0, rows[0] - top) : rows[-1] + 1 + bottom, max(0, columns[0] - left) : columns[-1] + 1 + right] = True
    return box


# -------------------------------------------------------------------------------------------------------------------------- styles
def _rim(side: float, rng: np.random.Generator) -> int:
    return max(1, round(min(rng.uniform(0.5, RIM_PX), RIM_SHARE * side)))


def _shift(mask: np.ndarray, side: float, rng: np.random.Generator) -> np.ndarray:
    angle, length = rng.uniform(0, 2 * math.pi), _rim(side, rng)
    return np.roll(mask, (round(length * math.sin(angle)), round(length * math.cos(angle))), (0, 1))


def _blob(mask: np.ndarray, side: float, rng: np.random.Generator) -> np.ndarray:
    """Predict the mask at a low resolution: rounded, leaking over the edge in places, with a hole now and then."""
    height, width = mask.shape
    cells = int(rng.integers(*BLOB_SIDE))
    small = np.asarray(Image.fromarray(mask.astype(np.float32)).resize((cells, cells), Image.Resampling.BOX))
    enlarged = np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC))
    wobble, holes = (_noise((height, width), rng, across) for across in (8, 5))
    found = enlarged + rng.uniform(0.05, 0.2) * wobble > rng.uniform(0.35, 0.65)
    return np.asarray(found & ~((holes > rng.uniform(1.8, 4.0)) & mask))


def _polygon(mask: np.ndarray, side: float, rng: np.random.Generator) -> np.ndarray:
    """Join the farthest pixels in a few directions from the middle."""
    rows, columns = np.nonzero(mask)
    down, across = rows - rows.mean(), columns - columns.mean()
    count = int(rng.integers(CORNERS[0], CORNERS[1] + 1))
    sector = np.floor((np.arctan2(down, across) / (2 * math.pi) + rng.random()) * count).astype(int) % count
    farthest = np.lexsort((np.hypot(down, across), sector))
    corners = farthest[np.flatnonzero(np.diff(sector[farthest], append=count))]  # the last of each sector
    try:
        return Region.from_polygon(np.stack([columns[corners], rows[corners]], -1) + 0.5, *mask.shape).to_mask()
    except DataError:  # fewer than three corners, or all on a line
        return mask


def _loose_box(mask: np.ndarray, side: float, rng: np.random.Generator) -> np.ndarray:
    height, width = np.count_nonzero(mask.any(axis=1)), np.count_nonzero(mask.any(axis=0))
    top, bottom, left, right = (rng.uniform(0, LOOSE_SHARE * size) for size in (height, height, width, width))
    return fill_box(mask, (top, bottom, left, right))


def _noise(shape: tuple[int, int], rng: np.random.Generator, across: int) -> np.ndarray:
    """Return smooth noise (h, w) of deviation about 1 with this many cells a side."""
    cells = Image.fromarray(rng.standard_normal((across, across), dtype=np.float32))
    return np.asarray(cells.resize(shape[::-1], Image.Resampling.BICUBIC))


#: Name -> style.
STYLES: dict[str, Style] = {
    "exact": lambda mask, side, rng: mask,
    "shifted": _shift,
    "grown": lambda mask, side, rng: grow(mask, _rim(side, rng)),
    "shrunk": lambda mask, side, rng: grow(mask, -_rim(side, rng)),
    "blob": _blob,
    "polygon": _polygon,
    "tight_box": lambda mask, side, rng: fill_box(mask),
    "loose_box": _loose_box,
}
#: How often training sees each style; exact masks come from the samples that are not restyled.
STYLE_WEIGHTS = {"shifted": 2, "grown": 2, "shrunk": 1, "blob": 3, "polygon": 1, "tight_box": 2, "loose_box": 3}


@functools.cache
def _weights() -> tuple[list[str], np.ndarray]:
    return list(STYLE_WEIGHTS), np.array(list(STYLE_WEIGHTS.values())) / sum(STYLE_WEIGHTS.values())


def draw_style(rng: np.random.Generator) -> str:
    """Draw a name of ``STYLES`` with ``STYLE_WEIGHTS``."""
    names, weights = _weights()
    return str(rng.choice(names, p=weights))
