"""Laws of doubts about depth: what is implausible is said in words with its numbers, and usual scenes raise none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from smolrgpt.data.frame import Frame
from smolrgpt.schema import Camera, DepthMap, DepthMeaning, Region

SIZE = (48, 64)
CAMERA = Camera(60.0, 60.0, 32.0, 24.0, 64, 48)
BOX = Region.from_box((20, 10, 40, 30), *SIZE)
FLOOR = np.linspace(1.2, 6, SIZE[0] * SIZE[1]).reshape(SIZE)


def doubts(depth: DepthMap, *regions: Region, size: tuple[int, int] = SIZE, asks_length: bool = False) -> str:
    frame = Frame(Image.new("RGB", size[::-1]), depth, CAMERA.resized(size[1], size[0]))
    return "; ".join(frame.inputs_read(regions or [BOX], asks_length).warnings)


def metric(values: np.ndarray, **meaning: object) -> DepthMap:
    return DepthMap.from_array(values, DepthMeaning(**meaning))  # type: ignore[arg-type]


def with_hole(values: np.ndarray, fill: float, share: float = 1.0) -> np.ndarray:
    """Fill the first rows of the box."""
    holed = values.copy()
    holed[10 : 10 + round(20 * share), 20:40] = fill
    return holed


@pytest.mark.parametrize("factor", [0.2, 1, 8])
@pytest.mark.parametrize("form", [lambda metres: metres, lambda metres: np.uint16(metres * 1000)])
def test_usual_scenes_raise_no_doubt(form: object, factor: float) -> None:
    assert doubts(metric(form(FLOOR * factor)), asks_length=True) == ""  # type: ignore[operator]


@pytest.mark.parametrize(
    ("depth", "word"),
    [
        (metric(FLOOR * 1000), "half of the depth map is farther than 3600 m, read with the unit metres"),
        (metric(np.uint16(FLOOR)), "half of the depth map is nearer than 0.003 m, read with the unit 1 mm"),
        (metric(FLOOR / FLOOR.max()), "end at exactly 1, as normalised"),
        (metric(np.round(FLOOR / FLOOR.max() * 255)), "end at exactly 255"),
        (
            metric(np.uint16(np.minimum(FLOOR * 1000, 5000) * 13.107)),
            "% of the depth map's pixels hold the largest value",
        ),
        (metric(with_hole(FLOOR, np.nan, 0.95)), "region 0: 5% of its pixels have a depth measurement"),
        (metric(with_hole(FLOOR, np.nan)), "region 0: 0% of its pixels have a depth measurement"),
        (metric(np.uint16(with_hole(FLOOR * 1000, 65535, 0.5))), "region 0: 50% of its pixels hold the largest value"),
        (metric(FLOOR * 60), "region 0 would be 67.7 m large with depth in the unit metres"),
        (metric(FLOOR / 1000 + 0.01), "region 0 would be 0.0"),
    ],
)
def test_implausible_maps_are_doubted(depth: DepthMap, word: str) -> None:
    assert word in doubts(depth)


def test_a_relative_map_is_doubted_where_a_length_is_asked() -> None:
    relative = DepthMap.from_array(np.uint8(FLOOR * 40))
    assert doubts(relative) == "" and "a question asks for a length" in doubts(relative, asks_length=True)


def test_a_coarse_map_is_doubted_and_so_is_a_region_smaller_than_its_pixels() -> None:
    large = (SIZE[0] * 8, SIZE[1] * 8)
    found = doubts(metric(FLOOR), Region.from_box((101, 101, 103, 103), *large), size=large)
    assert "64x48 and the image 512x384" in found and "region 0 is smaller than a pixel of the depth map" in found


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("name", "unit", "is_cut_off"),
    [
        ("x256", "kitti", False), ("l515", "l515", True), ("cm", "cm", False), ("tum5000", "tum", True), ("tenth_mm", "0.1mm", True),
        ("sun", "sunrgbd", True), ("quarter_mm", None, False), ("quarter_sun", "sunrgbd", False), ("quarter_tum5000", "tum", False),
        ("quarter_tenth_mm", "0.1mm", False),
    ],
)  # fmt: skip
def test_shared_maps_of_every_unit_are_the_scene(shared_path, name: str, unit: str | None, is_cut_off: bool) -> None:  # type: ignore[no-untyped-def]
    folder: Path = shared_path("samples/inputs")
    depth = DepthMap.from_file(folder / "01-depth-units" / f"{name}.png", DepthMeaning(scale=unit))
    truth = DepthMap.from_file(folder / "00-scene" / "depth_mm.png").values / (4 if name.startswith("quarter") else 1)
    assert np.nanmax(np.abs(depth.values - truth)) < (0.02 if name == "cm" else 0.006)
    assert bool(depth.doubts()) == is_cut_off


@pytest.mark.realdata
def test_shared_holes_maxima_and_records_are_obeyed(shared_path) -> None:  # type: ignore[no-untyped-def]
    folder: Path = shared_path("samples/inputs")
    scene, hole, zero, pgm, bright, scaled = (
        DepthMap.from_file(folder / name)
        for name in (
            "00-scene/depth_mm.png", "03-missing-is-65535/hole.png", "03-missing-is-65535/zero.png", "05-pgm-maxval/max21335.pgm",
            "07-depth-record-not-read/near_bright/rgb.png", "07-depth-record-not-read/scaled/rgb.png",
        )
    )  # fmt: skip
    np.testing.assert_array_equal(hole.values, zero.values)
    np.testing.assert_array_equal(pgm.values, scene.values)
    assert bright.kind == "relative" and np.corrcoef(bright.values.ravel(), scene.values.ravel())[0, 1] > 0.5
    assert scaled.kind == "metric" and np.nanmax(np.abs(scaled.values - scene.values)) < 0.001
