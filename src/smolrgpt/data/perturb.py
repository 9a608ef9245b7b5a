"""Changes of known strength to images, depth and regions, as cameras, depth sensors and segmenters cause them, and plainly wrong inputs.

Every factor leaves questions and answers unchanged, and its first level leaves everything unchanged.
"""

from __future__ import annotations

import functools
import random
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from PIL import Image, ImageFilter, ImageOps

from smolrgpt.data.frame import Frame
from smolrgpt.data.loading import load_sample_depth, load_upright
from smolrgpt.data.region_styles import draw_style, fill_box, grow, region_generator, restyle
from smolrgpt.schema import DataError, DepthMap, Region, Sample

Level = float | str
#: Side, in cells, of the random pattern of holes in depth: a cell is about as large as a dark or shiny surface in a warehouse image.
HOLE_CELLS = 24


@dataclass(frozen=True)
class Factor:
    """One kind of change.

    Attributes:
        about: The changed quantity, with its unit.
        levels: The first changes nothing.
        change: (samples, level, generator) -> the changed samples.
    """

    about: str
    levels: tuple[Level, ...]
    change: Callable[[list[Sample], Any, random.Random], list[Sample]]


def perturb(samples: Sequence[Sample], factor: str, level: Level, seed: int = 0) -> list[Sample]:
    """Return the samples at a level of a factor of ``FACTORS``; the same seed draws the same changes at every level.

    Images and depth maps that change are held in memory. Raises DataError for one that cannot be read, ValueError for a factor or level
    that does not exist.
    """
    if factor not in FACTORS:
        raise ValueError(f"there is no factor {factor!r}; expected one of {', '.join(FACTORS)}")
    found = FACTORS[factor]
    if level not in found.levels:
        raise ValueError(f"{factor} has no level {level!r}; expected one of {', '.join(map(str, found.levels))}")
    if level == found.levels[0]:
        return list(samples)
    return found.change(list(samples), level, random.Random(seed))


# ------------------------------------------------------------------------------------------------------------ kinds of factors
def _by_image(make: Callable[[Sample, Any, np.random.Generator], dict[str, Any]]) -> Callable[..., list[Sample]]:
    """Change fields once per image; the random draw depends on the image alone, so that levels differ in strength only."""

    def change(samples: list[Sample], level: Any, rng: random.Random) -> list[Sample]:
        seed, made = rng.randrange(2**32), dict[Hashable, dict[str, Any]]()
        for sample in samples:
            if sample.image_key not in made:
                generator = np.random.default_rng([seed, sample.image_checksum])
                made[sample.image_key] = make(sample, level, generator)
        return [replace(sample, **made[sample.image_key]) for sample in samples]

    return change


def _depth(change: Callable[[np.ndarray, Any, np.random.Generator], np.ndarray]) -> Callable[..., list[Sample]]:
    """Return the change of samples from one of depth values, (H, W) float32."""

    def make(sample: Sample, level: Any, rng: np.random.Generator) -> dict[str, Any]:
        depth = load_sample_depth(sample)
        return {} if depth is None else {"depth": DepthMap(change(depth.values, level, rng).astype(np.float32), depth.kind)}

    return _by_image(make)


def _image(change: Callable[[Image.Image, Any, np.random.Generator], Image.Image]) -> Callable[..., list[Sample]]:
    """Return the change of samples from one of an image, which is upright then; what EXIF turned with it is turned for good."""

    def change_all(samples: list[Sample], level: Any, rng: random.Random) -> list[Sample]:
        frames: dict[Hashable, Frame] = {}

        def make(sample: Sample, level: Any, generator: np.random.Generator) -> dict[str, Any]:
            image, orientation = load_upright(sample)
            changed = change(image, level, generator)
            if orientation == 1:
                return {"image": changed}
            frame = frames[sample.image_key] = Frame(image, load_sample_depth(sample), sample.camera, orientation)
            return {"image": changed, "depth": frame.depth, "camera": None if sample.camera is None else frame.camera}

        return [_turned(sample, frames.get(sample.image_key)) for sample in _by_image(make)(samples, level, rng)]

    return change_all


def _turned(sample: Sample, frame: Frame | None) -> Sample:
    """Return the sample with the regions of the upright image; those that do not fit it stay, and are counted where they are used."""

    def fit(region: Region) -> Region:
        try:
            return region if frame is None else frame.fit_region("a region", region)
        except DataError:
            return region

    return replace(sample, regions=[fit(region) for region in sample.regions])


def _regions(change: Callable[[Region, Any], Region]) -> Callable[..., list[Sample]]:
    """Return the change of samples from one of a region, which is made once for equal regions."""

    def change_all(samples: list[Sample], level: Any, rng: random.Random) -> list[Sample]:
        made = {region: change(region, level) for region in dict.fromkeys(region for sample in samples for region in sample.regions)}
        return [replace(sample, regions=[made[region] for region in sample.regions]) for sample in samples]

    return change_all


# ------------------------------------------------------------------------------------------------------------------------ depth
def _noise(values: np.ndarray, sigma: float, rng: np.random.Generator) -> np.ndarray:
    """Add an error that grows with the square of the distance, as that of triangulation does."""
    return np.maximum(values + sigma * values**2 * rng.standard_normal(values.shape), 1e-3)


def _holes(values: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """Set blotches that cover this share of the image to NaN, no measurement."""
    cells = Image.fromarray(rng.random((HOLE_CELLS, HOLE_CELLS)).astype(np.float32))
    pattern = np.asarray(cells.resize(values.shape[::-1], Image.Resampling.BICUBIC))
    return np.where(pattern < np.quantile(pattern, share), np.nan, values)


def _kind(sample: Sample, level: str, rng: np.random.Generator) -> dict[str, Any]:
    depth = load_sample_depth(sample)
    if level == "none" or depth is None:
        return {"depth": None, "camera": None}
    if level == "8-bit":
        measured = depth.values[np.isfinite(depth.values)]
        low, high = (float(measured.min()), float(measured.max())) if measured.size else (0.0, 1.0)
        share = np.clip((depth.values - low) / max(high - low, 1e-6), 0, 1)
        return {"depth": DepthMap((np.rint(255 * share) / 255).astype(np.float32), "relative"), "camera": None}
    return {"camera": None}


# ------------------------------------------------------------------------------------------------------------------------ image
def _gamma(image: Image.Image, gamma: float, rng: np.random.Generator) -> Image.Image:
    return image.point([round(255 * (value / 255) ** gamma) for value in range(256)] * 3)


def _grain(image: Image.Image, sigma: float, rng: np.random.Generator) -> Image.Image:
    values = np.asarray(image, dtype=np.float32)
    return Image.fromarray(np.clip(values + sigma * rng.standard_normal(values.shape), 0, 255).astype(np.uint8))


def _colour(image: Image.Image, level: str, rng: np.random.Generator) -> Image.Image:
    if level == "grey":
        return image.convert("L").convert("RGB")
    red, green, blue = image.split()
    return Image.merge("RGB", (blue, red, green))


# ---------------------------------------------------------------------------------------------------------------------- regions
def _grown(region: Region, pixels: float) -> Region:
    """Add a rim of this many pixels to the mask, or remove it when negative; a mask that would vanish stays as it is."""
    grown = grow(region.to_mask().astype(bool), int(pixels))
    return Region.from_mask(grown) if grown.any() else region


def _shifted(region: Region, share: float) -> Region:
    """Move the mask right and down by this share of its own box, at most to the image's border."""
    mask = region.to_mask()
    rows, columns = np.nonzero(mask)
    height, width = mask.shape
    down = min(round(share * (np.ptp(rows) + 1)), height - 1 - rows.max())
    right = min(round(share * (np.ptp(columns) + 1)), width - 1 - columns.max())
    moved = np.zeros_like(mask)
    moved[rows + down, columns + right] = True
    return Region.from_mask(moved)


def _boxed(region: Region, level: str) -> Region:
    return Region.from_mask(fill_box(region.to_mask()))


# ------------------------------------------------------------------------------------------------------------------- wrong inputs
def _wrong_regions(samples: list[Sample], level: str, rng: random.Random) -> list[Sample]:
    if level == "all the same":
        return [replace(sample, regions=sample.regions[:1] * len(sample.regions)) for sample in samples]
    return [replace(sample, regions=rng.sample(sample.regions, len(sample.regions))) for sample in samples]


def _of_another(field: str) -> Callable[[list[Sample], random.Random], list[Sample]]:
    """Give every image this field of the next image in a random cycle, so that none keeps its own unless it is the only one."""

    def change(samples: list[Sample], rng: random.Random) -> list[Sample]:
        first = {sample.image_key: sample for sample in reversed(samples)}
        keys = rng.sample(list(first), len(first))
        following = dict(zip(keys, keys[1:] + keys[:1], strict=True))
        return [replace(sample, **{field: getattr(first[following[sample.image_key]], field)}) for sample in samples]

    return change


def _wrong_depth(samples: list[Sample], level: str, rng: random.Random) -> list[Sample]:
    if level == "another image's":
        return _of_another("depth")(samples, rng)
    changes = {"mirrored": lambda values: values[:, ::-1].copy(), "flat": lambda values: np.full_like(values, np.nanmedian(values))}
    return _depth(lambda values, name, _: changes[name](values))(samples, level, rng)


def _wrong_image(samples: list[Sample], level: str, rng: random.Random) -> list[Sample]:
    if level == "another":
        return _of_another("image")(samples, rng)
    changes: dict[str, Callable[[Image.Image], Image.Image]] = {
        "mirrored": lambda image: ImageOps.mirror(image),
        "grey": lambda image: Image.new("RGB", image.size, (128, 128, 128)),
    }
    return _image(lambda image, name, _: changes[name](image))(samples, level, rng)


FACTORS: dict[str, Factor] = {
    # Kinect v1: 0.0016 (4 cm at 5 m, Khoshelham and Elberink 2012); stereo cameras of the RealSense class: some 0.005 (2 % at 4 m)
    "depth noise": Factor("standard deviation at 1 m, in m; grows with the square", (0.0, 0.0016, 0.005, 0.01, 0.02), _depth(_noise)),
    "depth holes": Factor("share of the image without a measurement", (0.0, 0.1, 0.25, 0.5, 0.75), _depth(_holes)),
    "depth scale": Factor("depth times 1 + this", (0.0, 0.02, 0.05, 0.1, 0.2), _depth(lambda values, error, _: values * (1 + error))),
    "depth kind": Factor("what depth there is", ("metric", "no camera", "8-bit", "none"), _by_image(_kind)),
    "mask grown": Factor("pixels added around every mask", (0.0, 1.0, 2.0, 4.0, 8.0), _regions(_grown)),
    "mask shrunk": Factor("pixels taken off every mask", (0.0, 1.0, 2.0, 4.0), _regions(lambda region, pixels: _grown(region, -pixels))),
    "mask shifted": Factor("share of its box every mask is off", (0.0, 0.05, 0.1, 0.2, 0.4), _regions(_shifted)),
    "mask shape": Factor("what marks a region", ("mask", "box"), _regions(_boxed)),
    "darker": Factor("gamma of the image", (1.0, 1.5, 2.2, 4.0), _image(_gamma)),
    "brighter": Factor("gamma of the image", (1.0, 0.7, 0.45, 0.25), _image(_gamma)),
    "grain": Factor("standard deviation of 255", (0.0, 8.0, 16.0, 32.0, 64.0), _image(_grain)),
    "blur": Factor(
        "radius in pixels", (0.0, 1.0, 2.0, 4.0), _image(lambda image, radius, _: image.filter(ImageFilter.GaussianBlur(radius)))
    ),
    "colour": Factor("colours of the image", ("its own", "grey", "channels turned"), _image(_colour)),
    "wrong regions": Factor("regions of a question", ("its own", "shuffled", "all the same"), _wrong_regions),
    "wrong depth": Factor("depth of a question", ("its own", "mirrored", "flat", "another image's"), _wrong_depth),
    "wrong image": Factor("image of a question", ("its own", "mirrored", "grey", "another"), _wrong_image),
}


def jitter_masks(samples: Sequence[Sample], fraction: float = 1.0) -> list[Sample]:
    """Return the samples with inexact masks, for training: those of an image are all in one style, drawn by ``region_styles.draw_style``.

    Which one depends on the image, as does whether it is in the ``fraction`` of the images that change. Their image keys change, so that a
    batch may hold the same images with their own masks as well.
    """
    images = {sample.image_key: sample.image_checksum for sample in samples}
    styles = {
        key: draw_style(np.random.default_rng([1, checksum]))
        for key, checksum in images.items()
        if np.random.default_rng([2, checksum]).random() < fraction
    }
    restyled = functools.cache(lambda region, style, seed: restyle(region, style, region_generator(region, seed)))
    return [
        replace(
            sample,
            regions=[restyled(region, styles[sample.image_key], sample.image_checksum) for region in sample.regions],
            image_key=(sample.image_key, "mask jitter"),
        )
        if sample.image_key in styles
        else sample
        for sample in samples
    ]
