"""The inputs people pass to a Predictor: what they may be, and checks that image, depth and regions show the same view."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from smolrgpt.data.geometry import ASPECT_TOLERANCE, same_aspect
from smolrgpt.schema import Camera, DataError, DepthMap, Region, TarMember
from smolrgpt.schema.image_file import read_image, to_rgb

ImageLike = Path | TarMember | str | Image.Image | np.ndarray
DepthLike = Path | TarMember | str | Image.Image | np.ndarray | DepthMap
#: A Region or any form that ``Region.from_any`` takes: a box (x0, y0, x1, y1) in pixels, a mask (H, W), a mask image, run lengths, ...
RegionLike = Region | Sequence[float] | np.ndarray | Image.Image | Path | str | Mapping[str, Any]
#: A Camera or any form that ``Camera.from_any`` takes, such as fx, fy, cx, cy in pixels of the image.
CameraLike = Camera | Sequence[float] | np.ndarray | Mapping[str, Any] | Path | str


def as_image(image: ImageLike) -> Image.Image:
    """Convert a path, an image or an array uint8 (H, W, 3) to 8-bit RGB, upright. Raises DataError, naming the file."""
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim not in (2, 3):
            raise DataError(f"the image is {image.dtype} {image.shape}; expected uint8 (H, W, 3)")
        image = Image.fromarray(image)
    if not isinstance(image, (Image.Image, str, Path, TarMember)):
        raise DataError(f"the image is a {type(image).__name__}; expected a path, an image or an array of uint8 (H, W, 3)")
    return to_rgb(image if isinstance(image, Image.Image) else read_image(image))


def check_depth(depth: DepthMap, image: Image.Image) -> None:
    """Raise DataError for a depth map whose sides have another ratio than the image's."""
    if not same_aspect(depth.values.shape, (image.height, image.width)):
        height, width = depth.values.shape
        raise DataError(
            f"the depth map is {width}x{height}, the image {image.width}x{image.height}: the sides' ratios differ by more than "
            f"{ASPECT_TOLERANCE:.0%}; expected depth of the same view, at any scale"
        )


def check_region(name: str, region: Region, image: Image.Image) -> None:
    """Raise DataError, calling the region ``name``, when it is empty or when its mask has another ratio of sides than the image."""
    height, width = region.size
    if not same_aspect(region.size, (image.height, image.width)):
        raise DataError(
            f"{name}: its mask is {width}x{height}, the image {image.width}x{image.height}; expected the whole image, at any scale"
        )
    if not region.area:
        raise DataError(f"{name}: its mask is empty; expected at least one pixel inside")
