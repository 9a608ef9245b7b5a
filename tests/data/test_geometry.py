"""Laws of the pinhole: back-projecting and projecting are inverse, known shapes measure what they are."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from smolrgpt.data.geometry import backproject, visible_box
from smolrgpt.schema import Camera, DataError, DepthMap

CAMERA = Camera(fx=50.0, fy=48.0, cx=19.5, cy=14.5, width=40, height=30)


def test_projecting_back_projected_pixels_returns_them() -> None:
    depth = np.random.default_rng(0).uniform(0.5, 20, (30, 40)).astype(np.float32)
    points = backproject(depth, CAMERA)
    v, u = np.mgrid[0:30, 0:40]
    x, y, z = points.T
    projected = np.stack([x / z * CAMERA.fx + CAMERA.cx, y / z * CAMERA.fy + CAMERA.cy], axis=-1)
    np.testing.assert_allclose(projected, np.stack([u.ravel(), v.ravel()], axis=-1), atol=1e-3)
    np.testing.assert_array_equal(points[:, 2], depth.ravel())


def test_invalid_and_masked_out_pixels_give_no_points() -> None:
    depth = np.full((30, 40), 2, np.float32)
    depth[0, :3] = [np.nan, 0, -1]
    mask = np.zeros((30, 40), bool)
    mask[0, :5] = True
    points = backproject(depth, CAMERA, mask)
    assert points.shape == (2, 3) and points.dtype == np.float32
    assert backproject(np.full((30, 40), np.nan, np.float32), CAMERA).shape == (0, 3)


def test_a_fronto_parallel_plate_has_its_size_and_place() -> None:
    camera = Camera(500, 500, 199.5, 149.5, 400, 300)
    mask = np.zeros((300, 400), bool)
    mask[100:200, 100:300] = True
    points = backproject(np.full((300, 400), 5, np.float32), camera, mask)
    np.testing.assert_allclose(visible_box(points)[0], [0, 0, 5], atol=0.01)
    np.testing.assert_allclose(visible_box(points)[1], [2 * 0.96, 1 * 0.96, 0], atol=0.02)


def test_the_camera_follows_the_image_size() -> None:
    small = backproject(np.full((30, 40), 3, np.float32), CAMERA)
    large = backproject(np.full((300, 400), 3, np.float32), CAMERA)
    (center, size), (large_center, large_size) = visible_box(small), visible_box(large)
    np.testing.assert_allclose(center, large_center, atol=0.06)
    np.testing.assert_allclose(size, large_size, atol=0.1)


def test_nothing_measured_is_nan_and_shapes_must_agree() -> None:
    nothing = np.zeros((0, 3), np.float32)
    assert np.isnan(visible_box(nothing)).all()
    with pytest.raises(DataError, match="expected the same"):
        backproject(np.ones((30, 40), np.float32), CAMERA, np.ones((3, 4), bool))


@pytest.mark.realdata
def test_redwood_room_has_the_size_of_a_room() -> None:
    folder = Path(__file__).parents[2] / "../shared/samples/rgbd/redwood"
    if not folder.is_dir():
        pytest.skip("no real samples here")
    meta = json.loads((folder / "camera_primesense.json").read_text())
    k = meta["intrinsic_matrix"]  # column-major 3x3
    camera = Camera(k[0], k[4], k[6], k[7], meta["width"], meta["height"])
    points = backproject(DepthMap.from_file(folder / "00000_depth.png").values, camera)
    assert ((visible_box(points)[1] > 0.3) & (visible_box(points)[1] < 5)).all()
