"""Laws of image files: paths, open images and bytes are one image, and no mode hides or darkens what it shows."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from smolrgpt.inference.inputs import as_upright
from smolrgpt.schema import DataError
from smolrgpt.schema.image_file import image_from_array, image_from_bytes, read_header, read_rgb, read_upright, to_rgb

H, W = 24, 32
RAMP = np.linspace(0, 1, H * W).reshape(H, W)
COLOURS = np.random.default_rng(0).integers(0, 256, (H // 8, W // 8, 3)).astype(np.uint8).repeat(8, 0).repeat(8, 1)


@pytest.mark.parametrize("orientation", [*range(1, 9), 0, 77])
@pytest.mark.parametrize("form", ["PNG", "JPEG", "TIFF", "WEBP"])
def test_paths_open_images_and_bytes_are_turned_alike(tmp_path: Path, form: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"a.{form.lower()}"
    Image.fromarray(COLOURS).save(path, form, exif=exif, **({"quality": 100, "subsampling": 0} if form == "JPEG" else {}))
    expected, size = np.asarray(read_rgb(path)), read_header(path)[0]
    assert expected.shape[:2] == ((W, H) if 5 <= orientation <= 8 else (H, W)) and size == expected.shape[1::-1]
    opened = Image.open(path)
    loaded = Image.open(path).convert("RGB") if form != "TIFF" else opened
    data = path.read_bytes()
    for image in (opened, opened, loaded, path, str(path)):
        np.testing.assert_array_equal(np.asarray(as_upright(image)[0]), expected)
    np.testing.assert_array_equal(np.asarray(to_rgb(image_from_bytes(data, [form]))), expected)
    assert read_upright(path)[1] == (orientation if 1 <= orientation <= 8 else 1)


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
@pytest.mark.parametrize("mode", ["I;16", "I", "array"])
def test_grey_is_stretched_by_the_bits_in_use(tmp_path: Path, bits: int, mode: str) -> None:
    levels = np.rint(RAMP * (2**bits - 1)).astype(np.int32 if mode == "I" else np.uint16)
    if mode == "array":
        image = as_upright(levels)[0]
    else:
        Image.fromarray(levels).save(tmp_path / "a.tiff")
        image = read_rgb(tmp_path / "a.tiff")
    assert image.mode == "RGB"
    assert np.abs(np.asarray(image)[..., 0] - 255 * RAMP).max() <= 1.5


def test_dark_grey_of_few_levels_stays_dark() -> None:
    assert np.asarray(to_rgb(Image.fromarray(np.full((H, W), 3, np.uint16)))).max() == 3
    with pytest.raises(DataError, match="negative values, down to -5"):
        to_rgb(Image.fromarray(np.full((H, W), -5, np.int32)))


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA", "P", "RGB", "L"])
def test_transparency_shows_white(tmp_path: Path, mode: str) -> None:
    """What is transparent hides a colour of its own."""
    image = Image.new("RGBA", (W, H), (255, 0, 0, 0))
    image.paste((0, 0, 255, 255), (0, 0, W // 2, H))
    path = tmp_path / "a.png"
    if mode in ("RGB", "L"):
        image.convert("RGB").convert(mode).save(
            path, transparency=(255, 0, 0) if mode == "RGB" else image.convert("L").getpixel((W - 1, 0))
        )
    elif mode == "P":
        flat = Image.new("P", (W, H), 1)
        flat.putpalette([0, 0, 255, 255, 0, 0])
        flat.paste(0, (0, 0, W // 2, H))
        flat.save(path, transparency=1)
    elif mode == "PA":
        path = tmp_path / "a.tiff"
        image.save(path)
    else:
        image.convert(mode).save(path)
    shown = np.asarray(read_rgb(path))
    assert (shown[:, W // 2 :] == 255).all() and (shown[:, : W // 2, 0] < 40).all()


def test_half_transparency_is_mixed_and_full_transparency_refused() -> None:
    assert np.asarray(to_rgb(Image.new("RGBA", (W, H), (0, 0, 0, 128))))[0, 0, 0] in range(125, 130)
    with pytest.raises(DataError, match="every pixel of this image is transparent"):
        to_rgb(Image.new("RGBA", (W, H), (9, 9, 9, 0)))


@pytest.mark.parametrize(
    ("pixels", "words"),
    [
        (RAMP.astype(np.float32), "multiply values from 0 to 1 by 255"),
        (np.zeros((3, H, W), np.uint8), r"uint8 \(3, 24, 32\); expected uint8 \(H, W, 3\)"),
        (np.zeros((H, W, 2), np.uint8), "expected uint8"),
        (np.zeros((H, W, 3), np.uint16), "expected uint8"),
        (np.zeros((0, 0, 3), np.uint8), "expected uint8"),
        (np.zeros((H, W), np.int64), "expected uint8"),
        (np.zeros((H, W), bool), "expected uint8"),
    ],
)
def test_arrays_that_are_no_image_are_refused_in_words(pixels: np.ndarray, words: str) -> None:
    with pytest.raises(DataError, match=words):
        image_from_array(pixels)


def test_arrays_are_images() -> None:
    for pixels in (COLOURS, COLOURS[::-1, ::-1], np.dstack([COLOURS, np.full((H, W), 255, np.uint8)])):
        np.testing.assert_array_equal(np.asarray(as_upright(pixels)[0]), pixels[..., :3])
    np.testing.assert_array_equal(np.asarray(as_upright(COLOURS[..., :1])[0])[..., 2], COLOURS[..., 0])


def test_colours_of_12_bits_in_16_are_not_read_as_black(tmp_path: Path) -> None:

    def write(largest: int) -> Path:
        def chunk(kind: bytes, data: bytes) -> bytes:
            return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

        rows = np.linspace(0, largest, 8 * 8 * 3).astype(">u2").reshape(8, 24)
        data = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
        header = struct.pack(">IIBBBBB", 8, 8, 16, 2, 0, 0, 0)
        path = tmp_path / f"{largest}.png"
        path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b""))
        return path

    assert np.asarray(read_rgb(write(65535))).max() == 255
    with pytest.raises(DataError, match="10- or 12-bit"):
        read_upright(write(4095))
    with Image.open(write(1023)) as image, pytest.raises(DataError, match="10- or 12-bit"):
        read_upright(image)
