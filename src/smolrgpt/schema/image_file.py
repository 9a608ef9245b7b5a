"""The one decoder of image files, with its limits: whatever is wrong with a file becomes a DataError that names it.

This module and the ``from_file`` converters of ``Region``, ``DepthMap`` and ``Camera`` are the only places in ``schema`` that open files.
"""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from PIL import Image, ImageOps

from smolrgpt.schema.errors import DataError, brief, naming
from smolrgpt.schema.tar_member import TarMember

#: Exceptions of Pillow's decoders on damaged files (``UnidentifiedImageError`` is an OSError, so is a truncated PNG or JPEG).
_DECODER_ERRORS = (OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, struct.error, zlib.error, MemoryError)
#: EXIF tag of the orientation, and its values that exchange width and height.
_ORIENTATION, _QUARTER_TURNS = 0x0112, (5, 6, 7, 8)


def open_file(source: Path | TarMember | str) -> BinaryIO:
    """Open a file, or a file inside an archive, for reading bytes. Raises DataError naming the file when it does not exist."""
    if not isinstance(source, TarMember):
        if not is_file(source):
            raise DataError(f"{brief(source, 200)}: no such file")
        return open(source, "rb")
    try:
        with open(source.archive, "rb") as archive:
            archive.seek(source.offset)
            found = archive.read(source.size)
    except OSError as error:
        raise DataError(f"{source}: the archive cannot be read ({error})") from error
    if len(found) < source.size:
        raise DataError(f"{source}: the archive ends {source.size - len(found)} bytes too early; copy it again")
    return io.BytesIO(found)


def is_file(path: Path | str) -> bool:
    """Return whether a file exists; False for what cannot be the name of a file."""
    try:
        return Path(path).is_file()
    except (OSError, ValueError):  # the name is too long or holds a null character
        return False


def read_image(path: Path | TarMember | str) -> Image.Image:
    """Open and fully decode the first frame of an image file, turned upright by its EXIF orientation.

    Depth maps and masks go through the same function, so all files of one scene are turned alike. The image keeps the file's mode.
    Raises DataError naming the file when it is missing, truncated, no image or larger than ``Image.MAX_IMAGE_PIXELS``.
    """
    with naming(path), _decoder_errors(), open_file(path) as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the limit in ``decode_image`` is the rule, and damage that matters is an error
        return decode_image(Image.open(file), in_place=True)


def read_rgb(path: Path | TarMember | str) -> Image.Image:
    """Read an image file as 8-bit RGB, upright. Raises DataError naming the file."""
    with naming(path):
        return to_rgb(read_image(path))


def image_size(path: Path | TarMember | str) -> tuple[int, int]:
    """Read (width, height) of an upright image, as ``read_image`` returns it, from the file's header. Raises DataError naming the file."""
    with naming(path), _decoder_errors(), open_file(path) as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        image = Image.open(file)
        turned = image.getexif().get(_ORIENTATION, 1) in _QUARTER_TURNS
        return (image.height, image.width) if turned else image.size


def image_from_bytes(data: bytes, formats: Sequence[str]) -> Image.Image:
    """Decode an image file in memory as ``read_image`` does, with the decoders of these Pillow formats alone. Raises DataError."""
    with _decoder_errors():
        return decode_image(Image.open(io.BytesIO(data), formats=list(formats)), in_place=True)


def decode_image(image: Image.Image, in_place: bool = False) -> Image.Image:
    """Load the pixels of an image that a caller opened, and turn them upright; a copy, unless ``in_place``.

    Raises DataError when the image is damaged or larger than ``Image.MAX_IMAGE_PIXELS``.
    """
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and image.width * image.height > limit:
        raise DataError(_too_large(f"{image.width}x{image.height} pixels, more than the limit of {limit}"))
    with _decoder_errors():
        image.load()
        if not in_place:
            return ImageOps.exif_transpose(image)
        ImageOps.exif_transpose(image, in_place=True)
        return image


@contextmanager
def _decoder_errors() -> Iterator[None]:
    """Turn what Pillow's decoders raise into DataError."""
    try:
        yield
    except DataError:
        raise
    except Image.DecompressionBombError as error:
        raise DataError(_too_large(str(error))) from error
    except _DECODER_ERRORS as error:
        reason = str(error) or type(error).__name__
        raise DataError(f"cannot read this image: it is truncated, damaged or of an unknown format ({reason})") from error


def _too_large(found: str) -> str:
    return f"too large an image: {found}; scale it down first"


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert an image of any mode to 8-bit RGB (alpha is dropped, 16 bits are scaled). Raises DataError for float images."""
    if image.mode == "RGB":
        return image
    if image.mode == "F":
        raise DataError("a 32-bit float image has no agreed brightness range; expected an 8- or 16-bit image")
    if image.mode == "I" or image.mode.startswith("I;16"):
        image = image.convert("I").point(lambda value: value * (1 / 257)).convert("L")
    if image.mode == "P":
        image = image.convert("RGBA")  # a palette may carry transparency, which Pillow refuses to drop silently
    return image.convert("RGB")
