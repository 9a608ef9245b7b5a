"""The one decoder of image files, with its limits: whatever is wrong with a file becomes a DataError that names it.

This module and the ``from_file`` converters of ``Region``, ``DepthMap`` and ``Camera`` are the only places in ``schema`` that open files.
"""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps

from smolrgpt.schema.errors import DataError, brief, naming
from smolrgpt.schema.tar_member import TarMember

#: Exceptions of Pillow's decoders on damaged files (``UnidentifiedImageError`` is an OSError, so is a truncated PNG or JPEG).
_DECODER_ERRORS = (OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, struct.error, zlib.error, MemoryError)
#: Formats of several frames; the further ones of a phone's .jpg (MPO) are previews, those of a .psd layers.
FRAME_FORMATS = ("GIF", "PNG", "TIFF", "WEBP")
#: EXIF tag of the orientation.
_ORIENTATION = 0x0112
#: What turns stored pixels (H, W, ...) upright, by EXIF orientation; the same transformations as those of ``ImageOps.exif_transpose``.
_TURNS: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    2: np.fliplr,
    3: lambda pixels: np.rot90(pixels, 2),
    4: np.flipud,
    5: lambda pixels: pixels.swapaxes(0, 1),
    6: lambda pixels: np.rot90(pixels, -1),
    7: lambda pixels: np.rot90(pixels, 2).swapaxes(0, 1),
    8: np.rot90,
}
#: What shows through transparent pixels: white, as in most viewers, so that the model sees what a person sees.
BACKGROUND = (255, 255, 255)
#: EXIF orientations that exchange width and height.
QUARTER_TURNS = (5, 6, 7, 8)


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


def read_image(path: Path | TarMember | str, *, single: bool = False) -> Image.Image:
    """Open and fully decode the first frame of an image file, turned upright by its EXIF orientation.

    Depth maps and masks go through the same function, so all files of one scene are turned alike. The image keeps the file's mode.
    single: Whether a file of several frames is refused. Raises DataError naming the file when it is missing, truncated, no image or larger
    than ``Image.MAX_IMAGE_PIXELS``.
    """
    with naming(path), decoder_errors(), open_file(path) as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the limit in ``decode_image`` is the rule, and damage that matters is an error
        image = Image.open(file)
        if single:
            _require_single_frame(image)
        return decode_image(image, in_place=True)


def _require_single_frame(image: Image.Image) -> None:
    if image.format in FRAME_FORMATS and (frames := getattr(image, "n_frames", 1)) > 1:
        raise DataError(f"the file holds {frames} frames; expected one, save the frame that you mean as a file of its own")


def read_rgb(path: Path | TarMember | str) -> Image.Image:
    """Read an image file as 8-bit RGB, upright. Raises DataError naming the file."""
    return read_upright(path)[0]


def read_upright(source: Path | TarMember | str | Image.Image) -> tuple[Image.Image, int]:
    """Read a file, or take an open image, as 8-bit RGB, upright: the image, and the EXIF orientation (1 to 8) of its stored pixels.

    ``turn_upright`` turns what was made on the stored pixels. Raises DataError, naming the file.
    """
    if isinstance(source, Image.Image):
        is_deep, orientation = _has_deep_colours(source), _orientation(source)  # in this order: reading EXIF may load the image
        return _bright_enough(to_rgb(decode_image(source)), is_deep), orientation
    with naming(source), decoder_errors(), open_file(source) as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        image = Image.open(file)
        is_deep, orientation = _has_deep_colours(image), _orientation(image)
        return _bright_enough(to_rgb(decode_image(image, in_place=True)), is_deep), orientation


def _has_deep_colours(image: Image.Image) -> bool:
    """Return whether an image that is not loaded yet has colours of 16 bits, of which Pillow keeps the upper 8."""
    return image.mode in ("RGB", "RGBA") and any(";16" in str(tile[3]) for tile in getattr(image, "tile", ()))


def _bright_enough(image: Image.Image, is_deep: bool) -> Image.Image:
    """Return the image. Raises DataError for colours of 10 or 12 bits in a file of 16, which would be black."""
    if is_deep and (largest := int(np.asarray(image).max())) < 16:
        raise DataError(
            f"its colours of 16 bits use the lowest {8 + largest.bit_length()} at most, as a 10- or 12-bit camera's, and would be black; "
            "multiply them up to 65535, or save it with 8 bits"
        )
    return image


def turn_upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Turn stored pixels (H, W, ...) upright by their EXIF orientation, as ``read_image`` turns images; 1 leaves them as they are."""
    turn = _TURNS.get(orientation)
    return pixels if turn is None else np.ascontiguousarray(turn(pixels))


def image_size(path: Path | TarMember | str) -> tuple[int, int]:
    """Read (width, height) of an upright image, as ``read_image`` returns it, from the file's header. Raises DataError naming the file."""
    return read_header(path)[0]


def read_header(path: Path | TarMember | str) -> tuple[tuple[int, int], int]:
    """Read ((width, height) upright, EXIF orientation) of an image from the file's header. Raises DataError naming the file."""
    with naming(path), decoder_errors(), open_file(path) as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        image = Image.open(file)
        orientation = _orientation(image)
        # Pillow opens TIFF files with the size that they have upright
        turned = orientation in QUARTER_TURNS and image.format != "TIFF"
        return ((image.height, image.width) if turned else image.size), orientation


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation of an image whose pixels were not turned yet; 1 where it has none, or one that does not exist."""
    with decoder_errors():
        found = image.getexif().get(_ORIENTATION, 1)
    return found if found in _TURNS else 1


def open_image_bytes(data: bytes, formats: Sequence[str]) -> Image.Image:
    """Open an image file in memory, with the decoders of these Pillow formats alone; nothing is decoded or turned. Raises DataError."""
    with decoder_errors():
        return Image.open(io.BytesIO(data), formats=list(formats))


def image_from_bytes(data: bytes, formats: Sequence[str], *, single: bool = False) -> Image.Image:
    """Decode an image file in memory as ``read_image`` does, with the decoders of these Pillow formats alone. Raises DataError."""
    with decoder_errors():
        image = open_image_bytes(data, formats)
        if single:
            _require_single_frame(image)
        return decode_image(image, in_place=True)


def decode_image(image: Image.Image, in_place: bool = False) -> Image.Image:
    """Load the pixels of an image that a caller opened, and turn them upright; a copy, unless ``in_place``.

    Raises DataError when the image is damaged or larger than ``Image.MAX_IMAGE_PIXELS``.
    """
    check_size(image.width, image.height)
    with decoder_errors():
        image.load()
        if image.format == "TIFF":  # Pillow turns these when it loads them
            return image if in_place else image.copy()
        if not in_place:
            return ImageOps.exif_transpose(image)
        ImageOps.exif_transpose(image, in_place=True)
        return image


def check_size(width: int, height: int) -> None:
    """Raise DataError for an image or map of more pixels than ``Image.MAX_IMAGE_PIXELS``."""
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and width * height > limit:
        raise DataError(_too_large(f"{width}x{height} pixels, more than the limit of {limit}"))


@contextmanager
def decoder_errors() -> Iterator[None]:
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


def image_from_array(pixels: np.ndarray) -> Image.Image:
    """Convert an array uint8 or uint16 (H, W), or uint8 (H, W, C) of C = 1, 3 (RGB, not OpenCV's BGR) or 4 (RGBA) to an image.

    Raises DataError for other shapes and types: the brightness range of floats is not known.
    """
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[..., 0]
    is_grey = pixels.ndim == 2 and pixels.dtype in (np.uint8, np.uint16)
    if not pixels.size or not (is_grey or (pixels.ndim == 3 and pixels.shape[2] in (3, 4) and pixels.dtype == np.uint8)):
        advice = "; multiply values from 0 to 1 by 255, round, and convert to uint8" if pixels.dtype.kind == "f" else ""
        raise DataError(f"the image is {pixels.dtype} {pixels.shape}; expected uint8 (H, W, 3) in the order red, green, blue{advice}")
    return Image.fromarray(np.ascontiguousarray(pixels))


def to_rgba(image: Image.Image) -> Image.Image:
    """Convert an image with transparency of any mode to RGBA."""
    return (image.convert("LA") if image.mode == "La" else image).convert("RGBA")  # Pillow cannot do the former in one step


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert an image of any mode to 8-bit RGB.

    Grey of more than 8 bits is stretched by the bits in use: those of the highest value, at least 8, so that a 10-bit camera's files are
    not dark. Transparency shows the ``BACKGROUND``. Raises DataError for float images, negative values, and an image all transparent.
    """
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode == "F":
        raise DataError("a 32-bit float image has no agreed brightness range; expected an 8- or 16-bit image")
    if image.mode == "I" or image.mode.startswith("I;16"):
        return _stretched(np.asarray(image)).convert("RGB")
    if image.has_transparency_data:
        image = to_rgba(image)
        if image.getchannel("A").getextrema() == (0, 0):
            raise DataError("every pixel of this image is transparent; expected an image to look at, save it without alpha")
        return Image.alpha_composite(Image.new("RGBA", image.size, BACKGROUND), image).convert("RGB")
    return image.convert("RGB")


def _stretched(grey: np.ndarray) -> Image.Image:
    low, high = int(grey.min()), int(grey.max())
    if low < 0:
        raise DataError(f"a grey image holds negative values, down to {low}; expected 0 and more")
    largest = 2 ** max(8, high.bit_length()) - 1
    return Image.fromarray((grey * (255 / largest)).astype(np.uint8))
