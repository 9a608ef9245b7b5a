"""Laws of depth: near is small, metres are metres, NaN is the only invalid value, and no file crashes the reader."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from smolrgpt.schema import DataError, DepthMap, DepthMeaning

RAMP = np.arange(256, dtype=np.uint8).reshape(16, 16)


def save(path: Path, values: np.ndarray, **options: object) -> Path:
    Image.fromarray(values).save(path, **options)
    return path


def test_eight_bit_is_relative_and_dark_is_near(tmp_path: Path) -> None:
    depth = DepthMap.from_file(save(tmp_path / "d.png", RAMP))
    assert depth.kind == "relative" and depth.values.dtype == np.float32
    np.testing.assert_array_equal(depth.values, RAMP.astype(np.float32) / 255)


def test_bright_polarity_is_turned_round(tmp_path: Path) -> None:
    path = save(tmp_path / "d.png", RAMP)
    np.testing.assert_allclose(DepthMap.from_file(path, DepthMeaning("bright")).values, 1 - DepthMap.from_file(path).values, atol=1e-7)
    inverted = save(tmp_path / "i.png", 255 - RAMP)
    np.testing.assert_allclose(DepthMap.from_file(inverted, DepthMeaning("bright")).values, DepthMap.from_file(path).values, atol=1e-6)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "P"])
def test_grey_images_of_other_modes_are_the_same_depth(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "d.png"
    Image.fromarray(RAMP).convert(mode).save(path)
    np.testing.assert_array_equal(DepthMap.from_file(path).values, RAMP.astype(np.float32) / 255)


@pytest.mark.parametrize("values", [np.zeros((4, 5), np.uint8), np.full((4, 5), 77, np.uint8)])
def test_constant_eight_bit_maps_are_depth_too(values: np.ndarray) -> None:
    assert np.isfinite(DepthMap.from_array(values).values).all()


def test_sixteen_bit_is_millimetres_and_zero_is_invalid(tmp_path: Path) -> None:
    values = np.array([[0, 1, 1000], [2345, 65535, 500]], np.uint16)
    depth = DepthMap.from_file(save(tmp_path / "d.png", values))
    assert depth.kind == "metric"
    np.testing.assert_allclose(depth.values, [[np.nan, 0.001, 1], [2.345, np.nan, 0.5]], rtol=1e-6)
    np.testing.assert_allclose(DepthMap.from_file(tmp_path / "d.png", DepthMeaning(scale=1 / 5000)).values[0, 2], 0.2, rtol=1e-6)


@pytest.mark.parametrize("scale_m", [None, 1 / 5000, "sunrgbd", 0.5])
def test_large_sixteen_bit_maps_mean_what_small_ones_do(scale_m: float | None) -> None:
    """They go through a table of all values; every value is in this map, some twice."""
    values = np.arange(300 * 300, dtype=np.uint32).astype(np.uint16).reshape(300, 300)
    rows = np.concatenate([DepthMap.from_array(row, DepthMeaning(scale=scale_m)).values for row in np.array_split(values, 3)])
    np.testing.assert_array_equal(DepthMap.from_array(values, DepthMeaning(scale=scale_m)).values, rows)


@pytest.mark.parametrize("suffix", [".npy", ".tiff"])
def test_floats_are_metres_and_nonsense_is_nan(tmp_path: Path, suffix: str) -> None:
    values = np.array([[1.5, np.nan, np.inf], [-1, 0, 20]], np.float32)
    path = tmp_path / f"d{suffix}"
    np.save(path, values) if suffix == ".npy" else save(path, values)
    depth = DepthMap.from_file(path)
    assert depth.kind == "metric"
    np.testing.assert_array_equal(depth.values, np.array([[1.5, np.nan, np.nan], [np.nan, np.nan, 20]], np.float32))


@settings(max_examples=60, deadline=None)
@given(
    hnp.arrays(
        st.sampled_from([np.uint8, np.uint16, np.int32, np.float16, np.float32, np.float64]),
        st.tuples(st.integers(1, 6), st.integers(1, 6)),
    ),
    st.sampled_from(["dark", "bright"]),
    st.sampled_from([None, "metric", "relative"]),
)
def test_any_numeric_array_keeps_the_promise(values: np.ndarray, near: str, kind: str | None) -> None:
    try:
        depth = DepthMap.from_array(values, DepthMeaning(near, kind, 0.1 if kind == "metric" else None))
    except DataError:  # the meaning contradicts itself or the type, or nothing is measured
        return
    valid = depth.values[~np.isnan(depth.values)]
    assert depth.values.shape == values.shape and np.isfinite(valid).all()
    assert (valid > 0).all() if depth.kind == "metric" else ((valid >= 0) & (valid <= 1)).all()


def test_kind_can_be_said_against_the_type() -> None:
    wide = np.array([[0, 65535]], np.uint16)
    np.testing.assert_array_equal(DepthMap.from_array(wide, DepthMeaning(kind="relative")).values, [[0, 1]])
    np.testing.assert_allclose(DepthMap.from_array(RAMP, DepthMeaning(kind="metric", scale=0.1)).values[0, 10], 1.0, rtol=1e-6)
    with pytest.raises(DataError, match="state its unit"):
        DepthMap.from_array(RAMP, DepthMeaning(kind="metric"))


@pytest.mark.parametrize("shape", [(1, 4, 5), (4, 5, 1), (4, 5)])
def test_single_channels_are_squeezed(shape: tuple[int, ...]) -> None:
    assert DepthMap.from_array(np.ones(shape, np.float32)).values.shape == (4, 5)


@pytest.mark.parametrize(
    "values", [np.ones((2, 4, 3, 4)), np.ones((2, 3, 5)), np.ones(5), np.ones((0, 3)), np.eye(2, dtype=bool), np.eye(2, dtype=complex)]
)
def test_other_arrays_are_errors(values: np.ndarray) -> None:
    with pytest.raises(DataError, match="expected"):
        DepthMap.from_array(values)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"near": "white"}, "near is 'white'"),
        ({"near": []}, "near is"),
        ({"kind": {}}, "kind is"),
        ({"kind": "absolute"}, "kind is 'absolute'"),
        ({"scale": 0.0}, r"unit is 0\.0"),
        ({"scale": float("nan")}, "unit is nan"),
    ],
)
def test_bad_options_are_errors(option: dict, message: str) -> None:
    with pytest.raises(DataError, match=message):
        DepthMeaning(**option)


@pytest.mark.parametrize("name", ["colour.png", "cut.png", "objects.npy", "cut.npy", "d.exr", "absent.png", "absent.npy"])
def test_unusable_files_are_errors_that_name_them(tmp_path: Path, name: str) -> None:
    rng = np.random.default_rng(0)
    save(tmp_path / "colour.png", rng.integers(0, 255, (8, 8, 3), dtype=np.uint8))
    whole = save(tmp_path / "whole.png", rng.integers(0, 60000, (64, 64)).astype(np.uint16)).read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    np.save(tmp_path / "objects.npy", np.array([{}], dtype=object), allow_pickle=True)
    (tmp_path / "cut.npy").write_bytes(b"\x93NUMPY")
    (tmp_path / "d.exr").write_bytes(b"v/1\x01")
    with pytest.raises(DataError, match=name):
        DepthMap.from_file(tmp_path / name)


@pytest.mark.realdata
def test_redwood_depth_is_metric() -> None:
    folder = Path(__file__).parents[2] / "../shared/samples/rgbd/redwood"
    if not folder.is_dir():
        pytest.skip("no real samples here")
    for name in ("00000", "00001", "00002"):
        depth = DepthMap.from_file(folder / f"{name}_depth.png")
        assert depth.kind == "metric" and depth.values.shape == (480, 640)
        assert 0.5 < np.nanmin(depth.values) < np.nanmax(depth.values) < 5 and 0.05 < np.isnan(depth.values).mean() < 0.5
