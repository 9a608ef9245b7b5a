"""The one place a picture file is opened: anything wrong with it becomes a DataError that names it."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from pathlib import Path
from typing import BinaryIO

from PIL import Image, ImageOps

from smolrgpt.schema import DataError, TarMember, brief

#: What Pillow's decoders raise on damaged files (``UnidentifiedImageError`` is an OSError, so is a truncated PNG or JPEG).
_DAMAGE = (OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, struct.error, zlib.error, MemoryError)


def open_file(source: Path | TarMember | str) -> BinaryIO:
    """The bytes of a file, also of one in an archive. Raises DataError naming it when it is not there."""
    if not isinstance(source, TarMember):
        try:
            exists = Path(source).is_file()
        except (OSError, ValueError):  # too long a name, or one with a null character
            exists = False
        if not exists:
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


def read_picture(path: Path | TarMember | str) -> Image.Image:
    """Open and fully decode the first frame of a picture, turned upright by its EXIF orientation.

    Depth maps and masks go through the same function, so what belongs together turns together. The mode is the file's own.
    Raises DataError naming the file when it is absent, truncated, no picture or larger than ``Image.MAX_IMAGE_PIXELS``.
    """
    try:
        with open_file(path) as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the limit in decoded() is the rule, and damage that matters is an error
            return decoded(Image.open(file), in_place=True)
    except DataError as error:
        raise error if brief(path, 200) in str(error) else DataError(f"{brief(path, 200)}: {error}") from error
    except Image.DecompressionBombError as error:
        raise DataError(f"{brief(path, 200)}: {_too_large(str(error))}") from error
    except _DAMAGE as error:
        raise DataError(f"{brief(path, 200)}: {_damaged(error)}") from error


def picture_size(path: Path | TarMember | str) -> tuple[int, int]:
    """(width, height) of a picture as ``read_picture`` gives it, from its header. Raises DataError naming the file."""
    try:
        with open_file(path) as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            picture = Image.open(file)
            turned = picture.getexif().get(0x0112, 1) in (5, 6, 7, 8)
            return (picture.height, picture.width) if turned else picture.size
    except DataError:
        raise
    except Image.DecompressionBombError as error:
        raise DataError(f"{brief(path, 200)}: {_too_large(str(error))}") from error
    except _DAMAGE as error:
        raise DataError(f"{brief(path, 200)}: {_damaged(error)}") from error


def decoded(picture: Image.Image, in_place: bool = False) -> Image.Image:
    """The picture's pixels, upright, as a copy; for pictures a caller opened himself, who may give his own away with ``in_place``.

    Raises DataError as ``read_picture`` does, without a name.
    """
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and picture.width * picture.height > limit:
        raise DataError(_too_large(f"{picture.width}x{picture.height} pixels, more than the limit of {limit}"))
    try:
        picture.load()
        if not in_place:
            return ImageOps.exif_transpose(picture)
        ImageOps.exif_transpose(picture, in_place=True)
        return picture
    except _DAMAGE as error:
        raise DataError(_damaged(error)) from error


def _too_large(found: str) -> str:
    return f"too large a picture: {found}; scale it down first"


def _damaged(error: BaseException) -> str:
    return f"cannot read this picture, it is truncated, damaged or of an unknown format ({str(error) or type(error).__name__})"


def to_rgb(picture: Image.Image) -> Image.Image:
    """8-bit RGB of a picture of any mode (grey, palette, CMYK, alpha dropped, 16-bit scaled). Raises DataError for float pictures."""
    if picture.mode == "RGB":
        return picture
    if picture.mode == "F":
        raise DataError("a 32-bit float picture has no agreed brightness range; expected an 8- or 16-bit picture")
    if picture.mode == "I" or picture.mode.startswith("I;16"):
        picture = picture.convert("I").point(lambda value: value * (1 / 257)).convert("L")
    if picture.mode == "P":
        picture = picture.convert("RGBA")  # a palette may carry transparency, which Pillow refuses to drop silently
    return picture.convert("RGB")
