"""Image files: opened in this one place, where any damage becomes a DataError that names the file."""

from __future__ import annotations

import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image, ImageOps

from smolrgpt.data.io import open_file
from smolrgpt.schema import DataError, TarMember, brief

#: What Pillow's decoders raise on damaged files (``UnidentifiedImageError`` is an OSError, so is a truncated PNG or JPEG).
_DAMAGE = (OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, struct.error, zlib.error, MemoryError)
_EXIF_ORIENTATION, _EXIF_QUARTER_TURNS = 0x0112, (5, 6, 7, 8)


def read_image(path: Path | TarMember | str) -> Image.Image:
    """Open and fully decode the first frame of an image file, turned upright by its EXIF orientation.

    Depth maps and masks are read by the same function, so files that belong together are turned together. The mode is the file's own.
    Raises DataError naming the file when it is absent, truncated, not an image or larger than ``Image.MAX_IMAGE_PIXELS``.
    """
    with _opened(path) as image:
        return decode_image(image, in_place=True)


def image_size(path: Path | TarMember | str) -> tuple[int, int]:
    """Return (width, height) of an image as ``read_image`` gives it, from its header. Raises DataError naming the file."""
    with _opened(path) as image:
        is_turned = image.getexif().get(_EXIF_ORIENTATION, 1) in _EXIF_QUARTER_TURNS
        return (image.height, image.width) if is_turned else image.size


@contextmanager
def _opened(path: Path | TarMember | str) -> Iterator[Image.Image]:
    """Turn every error of opening and of the block into a DataError that names the file."""
    name = brief(path, 200)
    try:
        with open_file(path) as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the limit in decode_image is the rule, and damage that matters is an error
            yield Image.open(file)
    except DataError as error:
        raise error if name in str(error) else DataError(f"{name}: {error}") from error
    except Image.DecompressionBombError as error:
        raise DataError(f"{name}: {_too_large(str(error))}") from error
    except _DAMAGE as error:
        raise DataError(f"{name}: {_damaged(error)}") from error


def decode_image(image: Image.Image, in_place: bool = False) -> Image.Image:
    """Decode an opened image and turn it upright.

    Returns a copy, or with ``in_place`` the image itself. Raises DataError as ``read_image`` does, without a file name.
    """
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and image.width * image.height > limit:
        raise DataError(_too_large(f"{image.width}x{image.height} pixels, more than the limit of {limit}"))
    try:
        image.load()
        if not in_place:
            return ImageOps.exif_transpose(image)
        ImageOps.exif_transpose(image, in_place=True)
        return image
    except _DAMAGE as error:
        raise DataError(_damaged(error)) from error


def _too_large(found: str) -> str:
    return f"too large an image: {found}; scale it down first"


def _damaged(error: BaseException) -> str:
    return f"cannot read this image: it is truncated, damaged or of an unknown format ({str(error) or type(error).__name__})"


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert an image of any mode (grey, palette, CMYK, with alpha, 16-bit) to 8-bit RGB. Raises DataError for float images."""
    if image.mode == "RGB":
        return image
    if image.mode == "F":
        raise DataError("a 32-bit float image has no agreed brightness range; expected an 8- or 16-bit image")
    if image.mode == "I" or image.mode.startswith("I;16"):
        image = image.convert("I").point(lambda value: value * (1 / 257)).convert("L")
    if image.mode == "P":
        image = image.convert("RGBA")  # a palette may carry transparency, which Pillow refuses to drop silently
    return image.convert("RGB")
