"""What a camera, a depth sensor or a segmenter does to a question: changes of known strength, and inputs that are plainly wrong.

Every factor leaves questions and truths alone, and its first level leaves everything alone.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from PIL import Image, ImageFilter, ImageOps

from smolrgpt.data.loading import load_image, load_sample_depth
from smolrgpt.schema import DepthMap, Region, Sample

Level = float | str
#: Side in cells of the pattern that holes in depth are cut from: about the size of a dark or shiny face in a warehouse picture.
HOLE_CELLS = 24


@dataclass(frozen=True)
class Factor:
    """about: what is changed, with its unit; levels: the first changes nothing; change: samples at a level, drawn by a generator."""

    about: str
    levels: tuple[Level, ...]
    change: Callable[[list[Sample], Any, random.Random], list[Sample]]


def perturb(samples: Sequence[Sample], factor: str, level: Level, seed: int = 0) -> list[Sample]:
    """The samples at a level of a factor of ``FACTORS``; the same seed draws the same changes at every level.

    Pictures and depth maps that change are held in memory. Raises DataError for one that cannot be read, ValueError for another name or
    level.
    """
    if factor not in FACTORS:
        raise ValueError(f"there is no factor {factor!r}; expected one of {', '.join(FACTORS)}")
    known = FACTORS[factor]
    if level not in known.levels:
        raise ValueError(f"{factor} has no level {level!r}; expected one of {', '.join(map(str, known.levels))}")
    if level == known.levels[0]:
        return list(samples)
    return known.change(list(samples), level, random.Random(seed))


# --------------------------------------------------------------------------------------------------------------- what is changed
def _by_image(make: Callable[[Sample, Any, np.random.Generator], dict[str, Any]]) -> Callable[..., list[Sample]]:
    """Changed fields, made once an image; its randomness depends on the image alone, so that levels differ in strength only."""

    def change(samples: list[Sample], level: Any, rng: random.Random) -> list[Sample]:
        seed, made = rng.randrange(2**32), dict[str, dict[str, Any]]()
        for sample in samples:
            if sample.image_key not in made:
                generator = np.random.default_rng([seed, zlib.crc32(sample.image_key.encode())])
                made[sample.image_key] = make(sample, level, generator)
        return [replace(sample, **made[sample.image_key]) for sample in samples]

    return change


def _depth(change: Callable[[np.ndarray, Any, np.random.Generator], np.ndarray]) -> Callable[..., list[Sample]]:
    """change: of depth values (H, W) float32."""

    def make(sample: Sample, level: Any, rng: np.random.Generator) -> dict[str, Any]:
        depth = load_sample_depth(sample)
        return {} if depth is None else {"depth": DepthMap(change(depth.values, level, rng).astype(np.float32), depth.kind)}

    return _by_image(make)


def _picture(change: Callable[[Image.Image, Any, np.random.Generator], Image.Image]) -> Callable[..., list[Sample]]:
    return _by_image(lambda sample, level, rng: {"image": change(load_image(sample), level, rng)})


def _regions(change: Callable[[Region, Any], Region]) -> Callable[..., list[Sample]]:
    """change: of one region; done once for each."""

    def all_of(samples: list[Sample], level: Any, rng: random.Random) -> list[Sample]:
        made = {region: change(region, level) for region in dict.fromkeys(region for one in samples for region in one.regions)}
        return [replace(sample, regions=[made[region] for region in sample.regions]) for sample in samples]

    return all_of


# ------------------------------------------------------------------------------------------------------------------------ depth
def _noise(values: np.ndarray, sigma: float, rng: np.random.Generator) -> np.ndarray:
    """Error that grows with the square of the distance, as triangulation's does."""
    return np.maximum(values + sigma * values**2 * rng.standard_normal(values.shape), 1e-3)


def _holes(values: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """NaN, no measurement, in blotches that cover this share of the picture."""
    cells = Image.fromarray(rng.random((HOLE_CELLS, HOLE_CELLS)).astype(np.float32))
    pattern = np.asarray(cells.resize(values.shape[::-1], Image.Resampling.BICUBIC))
    return np.where(pattern < np.quantile(pattern, share), np.nan, values)


def _kind(sample: Sample, level: str, rng: np.random.Generator) -> dict[str, Any]:
    depth = load_sample_depth(sample)
    if level == "none" or depth is None:
        return {"depth": None, "camera": None}
    if level == "8-bit":
        seen = depth.values[np.isfinite(depth.values)]
        low, high = (float(seen.min()), float(seen.max())) if seen.size else (0.0, 1.0)
        share = np.clip((depth.values - low) / max(high - low, 1e-6), 0, 1)
        return {"depth": DepthMap((np.rint(255 * share) / 255).astype(np.float32), "relative"), "camera": None}
    return {"camera": None}


# ---------------------------------------------------------------------------------------------------------------------- picture
def _gamma(picture: Image.Image, gamma: float, rng: np.random.Generator) -> Image.Image:
    return picture.point([round(255 * (value / 255) ** gamma) for value in range(256)] * 3)


def _grain(picture: Image.Image, sigma: float, rng: np.random.Generator) -> Image.Image:
    values = np.asarray(picture, dtype=np.float32)
    return Image.fromarray(np.clip(values + sigma * rng.standard_normal(values.shape), 0, 255).astype(np.uint8))


def _colour(picture: Image.Image, level: str, rng: np.random.Generator) -> Image.Image:
    if level == "grey":
        return picture.convert("L").convert("RGB")
    red, green, blue = picture.split()
    return Image.merge("RGB", (blue, red, green))


# ---------------------------------------------------------------------------------------------------------------------- regions
def _grown(region: Region, pixels: float) -> Region:
    """The mask with a rim of so many pixels added, or taken away; what would vanish stays."""
    mask, rim = region.to_mask().astype(bool), int(abs(pixels))
    grown = _spread(mask, rim) if pixels > 0 else ~_spread(~mask, rim)
    return Region.from_mask(grown) if grown.any() else region


def _spread(mask: np.ndarray, rim: int) -> np.ndarray:
    """Every pixel (H, W) that has one of the mask in the square of this many pixels to all sides."""
    for axis in (0, 1):
        room = [(rim, rim) if one == axis else (0, 0) for one in (0, 1)]
        padded, length = np.pad(mask, room), mask.shape[axis]
        mask = np.logical_or.reduce([padded.take(range(start, start + length), axis) for start in range(2 * rim + 1)])
    return mask


def _shifted(region: Region, share: float) -> Region:
    """Moved right and down by this share of its own box; what would leave the picture stays inside."""
    mask = region.to_mask()
    rows, columns = np.nonzero(mask)
    height, width = mask.shape
    down = min(round(share * (np.ptp(rows) + 1)), height - 1 - rows.max())
    right = min(round(share * (np.ptp(columns) + 1)), width - 1 - columns.max())
    moved = np.zeros_like(mask)
    moved[rows + down, columns + right] = True
    return Region.from_mask(moved)


def _boxed(region: Region, level: str) -> Region:
    rows, columns = np.nonzero(region.to_mask())
    box = (int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1)
    return Region.from_box(box, *region.size)


# ----------------------------------------------------------------------------------------------------- inputs that are plainly wrong
def _wrong_regions(samples: list[Sample], level: str, rng: random.Random) -> list[Sample]:
    if level == "all the same":
        return [replace(sample, regions=sample.regions[:1] * len(sample.regions)) for sample in samples]
    return [replace(sample, regions=rng.sample(sample.regions, len(sample.regions))) for sample in samples]


def _of_another(field: str) -> Callable[[list[Sample], random.Random], list[Sample]]:
    """This field of the next image in a shuffled circle, so that no image keeps its own unless there is only one."""

    def change(samples: list[Sample], rng: random.Random) -> list[Sample]:
        first = {sample.image_key: sample for sample in reversed(samples)}
        keys = rng.sample(list(first), len(first))
        other = dict(zip(keys, keys[1:] + keys[:1], strict=True))
        return [replace(sample, **{field: getattr(first[other[sample.image_key]], field)}) for sample in samples]

    return change


def _wrong_depth(samples: list[Sample], level: str, rng: random.Random) -> list[Sample]:
    if level == "another picture's":
        return _of_another("depth")(samples, rng)
    changes = {"mirrored": lambda values: values[:, ::-1].copy(), "flat": lambda values: np.full_like(values, np.nanmedian(values))}
    return _depth(lambda values, name, _: changes[name](values))(samples, level, rng)


def _wrong_picture(samples: list[Sample], level: str, rng: random.Random) -> list[Sample]:
    if level == "another":
        return _of_another("image")(samples, rng)
    changes = {"mirrored": ImageOps.mirror, "grey": lambda picture: Image.new("RGB", picture.size, (128, 128, 128))}
    return _picture(lambda picture, name, _: changes[name](picture))(samples, level, rng)


FACTORS: dict[str, Factor] = {
    # Kinect v1: 0.0016 (4 cm at 5 m, Khoshelham and Elberink 2012); stereo cameras of the RealSense class: some 0.005 (2 % at 4 m)
    "depth noise": Factor("standard deviation at 1 m, in m; grows with the square", (0.0, 0.0016, 0.005, 0.01, 0.02), _depth(_noise)),
    "depth holes": Factor("share of the picture without a measurement", (0.0, 0.1, 0.25, 0.5, 0.75), _depth(_holes)),
    "depth scale": Factor("depth times 1 + this", (0.0, 0.02, 0.05, 0.1, 0.2), _depth(lambda values, more, _: values * (1 + more))),
    "depth kind": Factor("what depth there is", ("metric", "no camera", "8-bit", "none"), _by_image(_kind)),
    "mask grown": Factor("pixels added around every mask", (0.0, 1.0, 2.0, 4.0, 8.0), _regions(_grown)),
    "mask shrunk": Factor("pixels taken off every mask", (0.0, 1.0, 2.0, 4.0), _regions(lambda region, pixels: _grown(region, -pixels))),
    "mask shifted": Factor("share of its box every mask is off", (0.0, 0.05, 0.1, 0.2, 0.4), _regions(_shifted)),
    "mask shape": Factor("what marks a region", ("mask", "box"), _regions(_boxed)),
    "darker": Factor("gamma of the picture", (1.0, 1.5, 2.2, 4.0), _picture(_gamma)),
    "brighter": Factor("gamma of the picture", (1.0, 0.7, 0.45, 0.25), _picture(_gamma)),
    "grain": Factor("standard deviation of 255", (0.0, 8.0, 16.0, 32.0, 64.0), _picture(_grain)),
    "blur": Factor(
        "radius in pixels", (0.0, 1.0, 2.0, 4.0), _picture(lambda picture, radius, _: picture.filter(ImageFilter.GaussianBlur(radius)))
    ),
    "colour": Factor("colours of the picture", ("its own", "grey", "channels turned"), _picture(_colour)),
    "wrong regions": Factor("regions of a question", ("its own", "shuffled", "all the same"), _wrong_regions),
    "wrong depth": Factor("depth of a question", ("its own", "mirrored", "flat", "another picture's"), _wrong_depth),
    "wrong picture": Factor("picture of a question", ("its own", "mirrored", "grey", "another"), _wrong_picture),
}

#: What a segmenter, or a hand with a mouse, does to masks: one of these an image in ``rough``.
ROUGH_MASKS: tuple[tuple[str, Level], ...] = (
    ("mask grown", 1.0),
    ("mask grown", 2.0),
    ("mask grown", 4.0),
    ("mask shrunk", 1.0),
    ("mask shrunk", 2.0),
    ("mask shifted", 0.05),
    ("mask shifted", 0.1),
    ("mask shape", "box"),
)


def rough(samples: Sequence[Sample]) -> list[Sample]:
    """The samples with masks that are off: all of an image in the same way of ``ROUGH_MASKS``, which its key decides; for training.

    Image keys change, so that these stand beside the same images with their own masks.
    """
    ways: dict[tuple[str, Level], list[Sample]] = {way: [] for way in ROUGH_MASKS}
    for sample in samples:
        ways[ROUGH_MASKS[zlib.crc32(sample.image_key.encode()) % len(ROUGH_MASKS)]].append(sample)
    changed = {sample.id: sample for way, members in ways.items() for sample in perturb(members, *way)}
    return [replace(changed[sample.id], image_key=f"{sample.image_key}#rough") for sample in samples]
