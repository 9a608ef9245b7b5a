"""Laws of depth files: the same scene in every unit and format is the same map, bit for bit, and no file is read as another meaning."""

from __future__ import annotations

import io
import json
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from smolrgpt.schema import DataError, DepthMap, DepthMeaning
from smolrgpt.schema.depth_meaning import DEPTH_UNITS

#: A scene in millimetres that every unit holds exactly: multiples of 250 mm up to 6 m, with a hole.
SCENE_MM = (np.arange(35 * 24, dtype=np.int64).reshape(35, 24) % 24 + 1) * 250
SCENE_MM[3:6, 4:9] = 0
METRES = np.where(SCENE_MM > 0, SCENE_MM / 1000, np.nan).astype(np.float32)


def png(values: np.ndarray, channels: int = 1) -> bytes:
    """Write (H, W) uint8 or uint16 as a PNG of 1 (grey), 2 (with alpha), 3 or 4 channels of as many bits."""
    height, width = values.shape
    bits = 8 * values.dtype.itemsize
    pixels = np.stack([values] * channels, axis=-1)
    if channels in (2, 4):
        pixels[..., -1] = np.iinfo(values.dtype).max
    rows = b"".join(b"\0" + row.astype(values.dtype.newbyteorder(">")).tobytes() for row in pixels)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    colour = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def npy(values: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, values)
    return file.getvalue()


def npz(**arrays: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)
    return file.getvalue()


def saved(values: np.ndarray, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(values).save(file, kind, **options)
    return file.getvalue()


def pgm(values: np.ndarray, maximum: int = 65535, plain: bool = False) -> bytes:
    height, width = values.shape
    header = f"P{2 if plain else 5}\n# a camera wrote this\n{width} {height}\n{maximum}\n".encode()
    if plain:
        return header + b"\n".join(b" ".join(str(value).encode() for value in row) for row in values) + b"\n# end\n"
    return header + values.astype(">u2" if maximum > 255 else np.uint8).tobytes()


def exr(**channels: np.ndarray) -> bytes:
    openexr = pytest.importorskip("OpenEXR")
    file = io.BytesIO()
    with openexr.File({"compression": openexr.ZIP_COMPRESSION, "type": openexr.scanlineimage}, channels) as opened:
        opened.write(file)
    return file.getvalue()


def rotated(values: np.ndarray) -> np.ndarray:
    return values << 3 | values >> 13


INTEGER_FORMATS: dict[str, Callable[[np.ndarray], bytes]] = {
    **{f"png of {channels} channels": lambda values, c=channels: png(values, c) for channels in (1, 2, 3, 4)},
    "tiff": lambda values: saved(values, "TIFF"),
    "compressed tiff": lambda values: saved(values, "TIFF", compression="tiff_lzw"),
    "pgm": pgm,
    "pgm of its own maximum": lambda values: pgm(values, int(values.max())),
    "plain pgm": lambda values: pgm(values, plain=True),
    "npy": npy,
    "big-endian npy": lambda values: npy(values.astype(">u2")),
    "int32 npy": lambda values: npy(values.astype(np.int32)),
    "uint32 npy": lambda values: npy(values.astype(np.uint32)),
    "npz": lambda values: npz(depth=values, other=values[:2]),
    "equal channels": lambda values: npy(np.stack([values] * 3, axis=-1)),
}
FLOAT_FORMATS: dict[str, Callable[[np.ndarray], bytes]] = {
    "npy": npy,
    "float64 npy": lambda values: npy(values.astype(np.float64)),
    "big-endian npy": lambda values: npy(values.astype(">f4")),
    "float16 npy": lambda values: npy(values.astype(np.float16)),
    "one array": lambda values: npz(anything=values),
    "tiff": lambda values: saved(values.astype(np.float32), "TIFF"),
    "pfm": lambda values: saved(values.astype(np.float32), "PPM"),
    "exr": lambda values: exr(Z=values.astype(np.float32)),
    "exr of float16": lambda values: exr(Z=values.astype(np.float16)),
    "exr of a layer": lambda values: exr(**{"View Layer.Depth.V": values.astype(np.float32)}),
    "exr of colours": lambda values: exr(RGB=np.stack([values.astype(np.float32)] * 3, axis=-1)),
    "(1, H, W)": lambda values: npy(values[None]),
    "nan": lambda values: npy(np.where(values > 0, values, np.nan)),
    "negative": lambda values: npy(np.where(values > 0, values, -1)),
    "infinite": lambda values: npy(np.where(values > 0, values, np.inf)),
    "Blender's background": lambda values: npy(np.where(values > 0, values, 1e10)),
}


def entrances(data: bytes, meaning: DepthMeaning, folder: Path) -> list[DepthMap]:
    """Read a file by its path, with a record of the same meaning instead, and as bytes."""
    (folder / "plain").mkdir()
    (folder / "recorded").mkdir()
    for name in ("plain", "recorded"):
        (folder / name / "depth.any").write_bytes(data)
    record = {"near": meaning.near, "kind": meaning.kind, "scale_m": meaning.scale}
    (folder / "recorded" / "depth.json").write_text(json.dumps(record))
    return [
        DepthMap.from_file(folder / "plain" / "depth.any", meaning),
        DepthMap.from_file(str(folder / "recorded" / "depth.any")),
        DepthMap.from_bytes(data, meaning),
    ]


@pytest.mark.parametrize("form", INTEGER_FORMATS)
@pytest.mark.parametrize("unit", [name for name in DEPTH_UNITS if name != "m"])
def test_integers_of_every_unit_and_format_are_the_same_metres(unit: str, form: str, tmp_path: Path) -> None:
    stored = np.rint(SCENE_MM / 1000 / DEPTH_UNITS[unit]).astype(np.uint16)
    values = rotated(stored) if unit == "sunrgbd" else stored
    for depth in entrances(INTEGER_FORMATS[form](values), DepthMeaning(scale=unit), tmp_path):
        np.testing.assert_array_equal(depth.values, METRES)
        assert depth.kind == "metric" and depth.reading.missing_share == pytest.approx((values == 0).mean())


@pytest.mark.parametrize("form", FLOAT_FORMATS)
@pytest.mark.parametrize(("unit", "factor"), [(None, 1), ("mm", 1000), (0.5, 2), ("cm", 100)])
def test_floats_of_every_unit_and_format_are_the_same_metres(unit: Any, factor: float, form: str, tmp_path: Path) -> None:
    data = FLOAT_FORMATS[form](SCENE_MM / 1000 * factor)
    for depth in entrances(data, DepthMeaning(scale=unit), tmp_path):
        if "float16" in form:
            np.testing.assert_allclose(depth.values, METRES, rtol=1e-3)
        else:
            np.testing.assert_array_equal(depth.values, METRES)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_open_images_mean_what_their_files_do(channels: int, tmp_path: Path) -> None:
    (tmp_path / "d.png").write_bytes(png(SCENE_MM.astype(np.uint16), channels))
    (tmp_path / "d.pgm").write_bytes(pgm(SCENE_MM, int(SCENE_MM.max())))
    for name in ("d.png", "d.pgm"):
        for source in (tmp_path / name, io.BytesIO((tmp_path / name).read_bytes())):
            with Image.open(source) as image:
                for _ in range(2):
                    np.testing.assert_array_equal(DepthMap.from_image(image).values, METRES)
        loaded = Image.open(tmp_path / name)
        loaded.load()
        np.testing.assert_array_equal(DepthMap.from_image(loaded).values, METRES)


def test_a_pgm_that_pillow_has_stretched_is_refused() -> None:
    image = Image.open(io.BytesIO(pgm(SCENE_MM, int(SCENE_MM.max()))))
    image.load()
    with pytest.raises(DataError, match="pass its path"):
        DepthMap.from_image(image)


def test_65535_is_missing_in_16_bits_alone() -> None:
    values = np.array([[1000, 65535], [2000, 3000]])
    for stored in (values.astype(np.uint16), values.astype(np.int32), values.astype(">u2")):
        np.testing.assert_array_equal(DepthMap.from_array(stored).values, np.float32([[1, np.nan], [2, 3]]))
    values[1, 1] = 70000
    assert not np.isnan(DepthMap.from_array(values.astype(np.int32)).values).any()
    assert DepthMap.from_array(values / 1000).values[0, 1] == np.float32(65.535)


def test_inverse_depth_keeps_its_order_and_with_a_scale_becomes_metres(tmp_path: Path) -> None:
    depth = np.float32([[1, 2], [4, 8]])
    relative = DepthMap.from_array(1 / depth, DepthMeaning(kind="inverse"))
    assert relative.kind == "relative" and (np.argsort(relative.values, axis=None) == np.arange(4)).all()
    metric = DepthMap.from_array(500 * 0.1 / depth, DepthMeaning(kind="inverse", scale=50.0))
    assert metric.kind == "metric"
    np.testing.assert_allclose(metric.values, depth, rtol=1e-6)
    assert np.isnan(DepthMap.from_array(np.uint16([[0, 7]]), DepthMeaning(kind="inverse", scale=50.0)).values[0, 0])


# ------------------------------------------------------------------------------------------------------------------------ refusals
@pytest.mark.parametrize(
    ("data", "message"),
    [
        (npz(a=SCENE_MM, b=SCENE_MM), r"arrays a, b; expected one, or one named depth"),
        (npz(), "cannot read this"),
        (npz(depth=SCENE_MM)[:200], "cannot read this .npz file"),
        (npy(SCENE_MM)[:200], "ends early"),
        (npy(np.zeros((3, 4), dtype="U3")), "expected numbers"),
        (npy(np.zeros(4)), "expected numbers"),
        (pgm(SCENE_MM)[:91], "ends early"),
        (pgm(SCENE_MM, 300), "its header promises 0 to 300"),
        (pgm(SCENE_MM, plain=True)[:90], "ends early"),
        (b"v/1\x01" + bytes(90), "cannot read this EXR file"),
        (b"nothing of the kind", "cannot read this image"),
        (b"", "cannot read this image"),
        (png(np.zeros((4, 5), np.uint16)), "nothing is measured"),
        (npy(-SCENE_MM / 1000), r"all depth is negative .*negate the map"),
        (npy(np.full((4, 5), np.nan)), "nothing is measured"),
        (npy(np.full((4, 5), 1e9)), "state the unit"),
        (npy(np.arange(60, dtype=np.uint16).reshape(4, 5, 3)), "coloured"),
    ],
)
def test_files_that_cannot_mean_depth_are_refused(data: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "d.bin").write_bytes(data)
    with pytest.raises(DataError, match=message):
        DepthMap.from_bytes(data)
    with pytest.raises(DataError, match=r"d\.bin"):
        DepthMap.from_file(tmp_path / "d.bin")


def test_a_file_is_no_larger_than_an_image_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    header = npy(np.zeros((2, 2), np.float32)).replace(b"(2, 2), }          ", b"(200000, 200000), }")
    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("depth.npy", header)
    for data in (header, bomb.getvalue()):
        with pytest.raises(DataError, match="too large"):
            DepthMap.from_bytes(data)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    values = SCENE_MM.astype(np.uint16)
    for data in (
        npy(values),
        npz(depth=values),
        png(values),
        png(values, 3),
        pgm(values),
        pgm(values, plain=True),
        exr(Z=values.astype("f")),
    ):
        with pytest.raises(DataError, match="too large"):
            DepthMap.from_bytes(data)


def test_uploads_are_of_the_allowed_formats_alone() -> None:
    values = SCENE_MM.astype(np.uint16)
    assert DepthMap.from_bytes(png(values), formats=["PNG"]).kind == "metric"
    for data in (npy(values), npz(depth=values), pgm(values), saved(values, "TIFF")):
        with pytest.raises(DataError):
            DepthMap.from_bytes(data, formats=["PNG"])


# ------------------------------------------------------------------------------------------------------------------------- meaning
@pytest.mark.parametrize(
    ("meaning", "found"),
    [
        ({"near": "bright", "kind": "metric"}, ("'bright'", "'metric'")),
        ({"near": "bright", "scale": "tum"}, ("'bright'", "'tum'")),
        ({"near": "dark", "kind": "inverse"}, ("'dark'", "'inverse'")),
        ({"kind": "relative", "scale": 0.001}, ("'relative'", "0.001")),
        ({"kind": "inverse", "scale": "mm"}, ("'inverse'", "'mm'")),
        ({"scale": 5000}, ("5000", "1/5000")),
        ({"scale": "tom"}, ("'tom'", "is it 'tum'")),
        ({"scale": "1/0"}, ("'1/0'", "expected metres")),
        ({"scale": True}, ("True", "expected metres")),
        ({"scale": -1}, ("-1", "> 0")),
        ({"scale": [1]}, ("[1]", "expected metres")),
    ],
)
def test_contradictions_are_refused_with_both_values(meaning: dict[str, Any], found: tuple[str, str]) -> None:
    with pytest.raises(DataError) as error:
        DepthMeaning(**meaning)
    assert all(part in str(error.value) for part in found)


@pytest.mark.parametrize(("text", "scale"), [("MM", "mm"), ("0.1 mm", "0.1mm"), ("1/5000", 1 / 5000), ("0.0002", 0.0002), (" TUM ", "tum")])
def test_units_are_names_numbers_or_fractions(text: str, scale: Any) -> None:
    assert DepthMeaning(scale=text).scale == scale


def test_bright_near_and_values_that_count_as_metric_are_refused() -> None:
    with pytest.raises(DataError, match=r"near is 'bright', but uint16 values count as metric"):
        DepthMap.from_array(SCENE_MM.astype(np.uint16), DepthMeaning("bright"))


def test_options_win_over_the_record_and_the_record_over_the_type(tmp_path: Path) -> None:
    values = np.array([[10, 200]], np.uint8)
    below = tmp_path / "maps" / "below"
    below.mkdir(parents=True)
    (below / "d.png").write_bytes(png(values))
    (tmp_path / "maps" / "depth.json").write_text('{"near": "bright", "kind": "relative", "model": "x", "encoding": "y", "scale_m": null}')

    def read(*meaning: Any) -> DepthMap:
        return DepthMap.from_file(below / "d.png", DepthMeaning(*meaning))

    bright = 1 - values.astype(np.float32) / 255
    np.testing.assert_array_equal(read().values, bright)
    np.testing.assert_allclose(read("dark").values, 1 - bright, atol=1e-7)
    np.testing.assert_array_equal(read(None, None, "cm").values, np.float32([[0.1, 2]]))
    (below / "depth.json").write_text('{"kind": "metric", "scale_m": 0.02}')
    np.testing.assert_array_equal(read().values, np.float32([[0.2, 4]]))
    np.testing.assert_allclose(read(None, "relative").values, 1 - bright, atol=1e-7)
    np.testing.assert_array_equal(read(None, None, 0.01).values, np.float32([[0.1, 2]]))
    with pytest.raises(DataError, match="'bright' and its kind is 'metric'"):
        read("bright")


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ('{"scale": 0.001}', "field 'scale'"),
        ('{"near": "left"}', "near is 'left'"),
        ('{"kind": 3}', "kind is '3'"),
        ('{"scale_m": 0}', "unit is 0"),
        ('{"kind": "relative", "scale_m": 1}', "'relative'"),
        ("[]", "expected an object"),
        ("{", "as JSON"),
    ],
)
def test_a_bad_record_is_an_error_that_names_it_and_the_field(record: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "d.png").write_bytes(png(SCENE_MM.astype(np.uint16)))
    (tmp_path / "depth.json").write_text(record)
    with pytest.raises(DataError, match=message) as error:
        DepthMap.from_file(tmp_path / "d.png")
    assert "depth.json" in str(error.value)


def test_files_whose_values_would_change_are_refused(tmp_path: Path) -> None:
    values = np.arange(300, 300 + 48, dtype=np.uint16).reshape(6, 8)
    pages = [Image.fromarray(values), Image.fromarray(values + 1)]
    pages[0].save(tmp_path / "pages.tif", save_all=True, append_images=pages[1:])
    with pytest.raises(DataError, match="2 frames"):
        DepthMap.from_file(tmp_path / "pages.tif")
    Image.fromarray(values).save(tmp_path / "white.tif", tiffinfo={262: 0})
    with pytest.raises(DataError, match="16-bit grey PNG"):
        DepthMap.from_file(tmp_path / "white.tif")


@pytest.mark.parametrize(("dtype", "end"), [(np.uint16, 65535), (np.int16, 32767), (np.int32, 65535), (np.float32, 65535)])
def test_the_end_of_16_bits_is_not_measured_in_any_type(dtype: type, end: int) -> None:
    read = DepthMap.from_array(np.array([[1000, 2000, end]], dtype=dtype), DepthMeaning(scale="mm"))
    assert np.isnan(read.values).tolist() == [[False, False, True]]
