"""The files that hold depth, as arrays of their stored values: never stretched, never cut to 8 bits, and never larger than an image may be.

| file | values |
|---|---|
| PNG, TIFF, PGM, PFM and what else Pillow opens | 8 or 16 bits (also several equal channels, or alpha), 32-bit integers or floats |
| .npy, .npz | one array; of several in an .npz, the one named depth |
| EXR | float16 or float32: the channel Z, depth or Y, or equal R, G and B; needs the extra ``exr`` |
"""

from __future__ import annotations

import re
import warnings
import zipfile
import zlib
from collections.abc import Callable, Sequence
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, UnidentifiedImageError

from smolrgpt.schema.errors import DataError, brief
from smolrgpt.schema.image_file import FRAME_FORMATS, check_size, decode_image, decoder_errors, is_file

#: Formats of depth files, as Pillow names them where it reads them.
DEPTH_FORMATS = ("PNG", "TIFF", "PPM", "JPEG", "WEBP", "BMP", "NPY", "NPZ", "EXR")
#: Raw mode of a file's 16-bit channels -> how Pillow unpacks the bytes that it drops by default.
_OTHER_BYTES = {"RGB;16B": "RGB;16L", "RGB;16L": "RGB;16B", "RGBA;16B": "RGBA;16L", "RGBA;16L": "RGBA;16B", "LA;16B": "RGBA"}
_OTHER_BYTES |= {"RGB;16N": "RGB;16B", "RGBA;16N": "RGBA;16B"}  # compressed TIFF, in the machine's order, which is little-endian
#: Tags of TIFF files.
_BITS_PER_SAMPLE, _PHOTOMETRIC, _PLANAR_CONFIGURATION = 258, 262, 284
#: Channels of an EXR file that hold depth, in the order in which they are looked for; lower case, the last part of a layer's channel.
_EXR_CHANNELS = ("z", "depth", "y", "v")
#: Raw mode -> maximum of the PGM files that Pillow does not stretch.
_PGM_ENDS = {"L": 255, "I;16B": 65535}
#: Most bytes of a number in a plain PGM, with the spaces and comments around it.
_PLAIN_BYTES = 16
_ARRAY_ERRORS = (OSError, ValueError, EOFError, KeyError, SyntaxError, zipfile.BadZipFile, zlib.error, NotImplementedError, MemoryError)


def read_stored(file: BinaryIO, formats: Sequence[str] | None = None) -> np.ndarray:
    """Read the stored values of a depth file, (H, W) or (H, W, C) of any numeric type.

    Args:
        file: Seekable; its content decides on the format, not its name.
        formats: Of ``DEPTH_FORMATS``; other files are refused. None: these, and all that Pillow opens.

    Raises:
        DataError: For a damaged or too large file, one of another format, and one whose values Pillow would change.
    """
    start = file.read(8)
    file.seek(0)
    for name, magic, read in _READERS:
        if start.startswith(magic) and (formats is None or name in formats):
            return read(file)
    known = None if formats is None else [name for name in formats if name not in ("NPY", "NPZ", "EXR")]
    with decoder_errors(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the limit in ``decode_image`` is the rule
        return _decode_pixels(file, known)


def stored_of_image(image: Image.Image) -> np.ndarray:
    """Return the stored values of an image that a caller opened or made, (H, W) or (H, W, C); one that is not loaded yet stays so.

    Raises DataError for a damaged file, and for an image whose values Pillow has changed while it was loaded.
    """
    file, name = getattr(image, "fp", None), getattr(image, "filename", None)
    if getattr(image, "tile", None) and file is not None:
        file.seek(0)
        return read_stored(file)
    is_changed = image.format == "PPM" or (image.format in ("PNG", "TIFF") and image.mode in ("LA", "RGB", "RGBA"))
    if is_changed and name and is_file(name):
        with open(name, "rb") as opened:
            return read_stored(opened)
    if image.format == "PPM" and image.mode == "I":
        raise DataError("Pillow has stretched this PGM to 65535 while loading it; pass its path")
    return _array_of(decode_image(image))


def _decode_pixels(file: BinaryIO, formats: list[str] | None) -> np.ndarray:
    """Decode a file that Pillow opens; where it would change the values, they are read another way."""
    image = _open_single(file, formats)
    tiles = list(getattr(image, "tile", ()))
    args = tiles[0].args if tiles else ""
    rawmode = args if isinstance(args, str) else str(args[0])
    if image.format == "PPM" and image.mode in ("L", "I"):
        maximum = _PGM_ENDS[rawmode] if isinstance(args, str) else int(args[1])
        return _read_pgm(file, image.size, tiles[0].offset, maximum)
    if image.format == "PPM" and image.mode == "RGB" and args != "RGB":
        raise DataError("Pillow would stretch this PPM to 8 bits; save it as PGM or as 16-bit grey PNG")
    if ";16" not in rawmode or image.mode.startswith("I"):
        return _array_of(decode_image(image, in_place=True))
    if rawmode not in _OTHER_BYTES or len(tiles) != 1:
        raise DataError(f"16-bit channels in this form ({rawmode}) would be cut to 8 bits; save it as 16-bit grey")
    high = np.asarray(decode_image(image, in_place=True))
    other = Image.open(file, formats=formats)
    other.tile = [tiles[0]._replace(args=_OTHER_BYTES[rawmode] if isinstance(args, str) else (_OTHER_BYTES[rawmode], *args[1:]))]
    low = np.asarray(decode_image(other, in_place=True))
    if rawmode == "LA;16B":  # two bytes of grey and two of alpha, as four channels
        high, low = high[..., :1], low[..., 1:2]
    return _without_alpha(high.astype(np.uint16) << 8 | low)


def _open_single(file: BinaryIO, formats: list[str] | None) -> Image.Image:
    """Open a file of one frame. Raises DataError for others, for unknown formats, and for TIFF files whose values Pillow would change."""
    try:
        image = Image.open(file, formats=formats)
    except UnidentifiedImageError as error:
        advice = "save depth as 16-bit grey PNG, 32-bit float TIFF (not 16 or 64 bits) or .npy"
        raise DataError(f"cannot read this image: it is truncated, damaged or of an unknown format; {advice}") from error
    if image.format in FRAME_FORMATS and (frames := getattr(image, "n_frames", 1)) > 1:
        raise DataError(f"the depth map's file holds {frames} frames; expected one, save the frame that you mean as a file of its own")
    if image.format == "TIFF":
        tags = getattr(image, "tag_v2", {})
        bits = max(tags.get(_BITS_PER_SAMPLE, (1,)))
        is_planar = tags.get(_PLANAR_CONFIGURATION, 1) != 1 and len(image.getbands()) > 1
        if bits > 8 and (is_planar or tags.get(_PHOTOMETRIC, 1) == 0):
            form = "channels one after another" if is_planar else "large values as dark"
            raise DataError(f"this TIFF file stores {bits}-bit {form}, which would be changed on reading; save it as 16-bit grey PNG")
    return image


def _read_pgm(file: BinaryIO, size: tuple[int, int], offset: int, maximum: int) -> np.ndarray:
    """Read the numbers of a PGM, which Pillow would stretch from 0..maximum to 0..255 or 0..65535; plain ones are written out."""
    width, height = size
    check_size(width, height)
    file.seek(0)
    is_plain, kind, count = file.read(2) == b"P2", np.dtype(np.uint8 if maximum < 256 else ">u2"), width * height
    file.seek(offset)
    if is_plain:
        numbers = re.sub(rb"#[^\r\n]*", b"", file.read(_PLAIN_BYTES * count)).split()[:count]
        values = np.array(numbers, dtype=np.int64)
    else:
        data = file.read(count * kind.itemsize)
        values = np.frombuffer(data, kind, len(data) // kind.itemsize)
    if values.size < count:
        raise DataError(f"this PGM ends early: {values.size} of {count} values; copy it again")
    if values.min() < 0 or values.max() > maximum:
        raise DataError(f"this PGM holds {values.min()} to {values.max()}, and its header promises 0 to {maximum}; correct one of them")
    return values.astype(kind).reshape(height, width)


def _array_of(image: Image.Image) -> np.ndarray:
    """Return the values of a loaded image: (H, W) or (H, W, C). Raises DataError for a mode that holds no depth."""
    if image.mode in ("L", "F", "I") or image.mode.startswith("I;16"):
        return np.asarray(image)
    if image.mode in ("LA", "P", "PA", "RGB", "RGBA"):
        return _without_alpha(np.asarray(image.convert("RGBA")))
    raise DataError(f"image mode {image.mode!r} holds no depth; expected 8-bit grey, 16-bit grey or 32-bit float")


def _without_alpha(values: np.ndarray) -> np.ndarray:
    return values[..., :3]


def _read_npy(file: BinaryIO) -> np.ndarray:
    try:
        return _read_array(file)
    except _ARRAY_ERRORS as error:
        raise _unreadable(".npy file", error) from error


def _read_npz(file: BinaryIO) -> np.ndarray:
    try:
        with zipfile.ZipFile(file) as archive:
            names = [name for name in archive.namelist() if name.endswith(".npy")]
            chosen = names if len(names) == 1 else [name for name in names if name == "depth.npy"]
            if len(chosen) != 1:
                found = ", ".join(name.removesuffix(".npy") for name in names) or "none"
                raise DataError(f"this .npz file holds the arrays {brief(found, 200)}; expected one, or one named depth")
            with archive.open(chosen[0]) as member:
                return _read_array(member)
    except DataError:
        raise
    except (*_ARRAY_ERRORS, RuntimeError) as error:  # RuntimeError: encrypted
        raise _unreadable(".npz file", error) from error


def _read_array(file: Any) -> np.ndarray:
    """Read a .npy stream whose header promises no more values than an image may have pixels."""
    version = np.lib.format.read_magic(file)
    read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, is_fortran, dtype = read_header(file)
    if dtype.hasobject or dtype.kind not in "biuf":
        raise DataError(f"this array holds {dtype}; expected numbers of shape (H, W)")
    if not 2 <= len(shape) <= 4:
        raise DataError(f"this array has the shape {shape}; expected numbers of shape (H, W)")
    sides = sorted(shape)[-2:]
    check_size(sides[1], sides[0])
    count = int(np.prod(shape, dtype=np.int64))
    if count > 4 * sides[0] * sides[1]:
        raise DataError(f"this array has the shape {shape}; expected numbers of shape (H, W)")
    data = file.read(count * dtype.itemsize)
    if len(data) < count * dtype.itemsize:
        raise DataError(f"this array ends early: {len(data)} of {count * dtype.itemsize} bytes; copy it again")
    return np.frombuffer(data, dtype).reshape(shape, order="F" if is_fortran else "C")


def _read_exr(file: BinaryIO) -> np.ndarray:
    try:
        import OpenEXR
    except ImportError as error:
        raise DataError("EXR needs one more package: pip install 'smolrgpt[exr]'; or save it as .npy or 32-bit float TIFF") from error
    try:
        with OpenEXR.File(file, header_only=True) as header:
            low, high = header.header()["dataWindow"]
        check_size(*(int(side) for side in np.subtract(high, low, dtype=np.int64) + 1))
        file.seek(0)
        with OpenEXR.File(file, separate_channels=True) as opened:
            channels = {name: channel.pixels for name, channel in opened.channels().items()}
    except (RuntimeError, ValueError, TypeError, KeyError, MemoryError) as error:
        raise _unreadable("EXR file", error) from error
    layers: dict[str, list[str]] = {}
    for name in channels:
        layers.setdefault(name.rpartition(".")[2].lower(), []).append(name)
    found = {last: channels[names[0]] for last, names in layers.items()}
    for last in _EXR_CHANNELS:
        names = layers.get(last, [])
        if any(not np.array_equal(found[last], channels[other]) for other in names[1:]):
            listed = brief(", ".join(names), 200)
            raise DataError(f"this EXR file has several channels of depth ({listed}); save the one that you mean alone")
    if {"ry", "by"} & set(found) and "z" not in found and "depth" not in found:
        raise DataError("this EXR file holds colours as Y, RY and BY, no depth; expected a channel Z, depth or Y")
    if name := next((name for name in _EXR_CHANNELS if name in found), None):
        return np.asarray(found[name])
    if {"r", "g", "b"} <= set(found):
        return np.stack([found[name] for name in "rgb"], axis=-1)
    if len(found) == 1:
        return np.asarray(next(iter(found.values())))
    raise DataError(f"this EXR file has the channels {brief(', '.join(channels), 200)}; expected Z, depth or Y")


def _unreadable(kind: str, error: Exception) -> DataError:
    if isinstance(error, DataError):
        return error
    return DataError(f"cannot read this {kind} ({brief(error) or type(error).__name__}); expected an array (H, W) of depth, not truncated")


#: Name of the format, how its files begin, and what reads them; Pillow reads all others.
_READERS: tuple[tuple[str, bytes, Callable[[BinaryIO], np.ndarray]], ...] = (
    ("NPY", b"\x93NUMPY", _read_npy),
    ("NPZ", b"PK\x03\x04", _read_npz),
    ("EXR", b"v/1\x01", _read_exr),
)
