"""Laws of the floor: found on any pose with things on it, through noise and holes; heights and sides are those of what stands there."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smolrgpt.data.worlds import generate_scene
from smolrgpt.model import REGION_GEOMETRY_FEATURES
from smolrgpt.model.floor import find_floor, floor_rectangle
from smolrgpt.model.region_geometry import find_image_floor, measure_region


def floor_points(pitch: float, roll: float, height: float, seed: int, above: float = 0.4) -> tuple[np.ndarray, np.ndarray]:
    """Points (3, N) of a floor and, a share ``above`` of them, of what stands on it; and the way up."""
    random = np.random.default_rng(seed)
    up = np.array([np.sin(roll), -np.cos(roll) * np.cos(pitch), -np.cos(roll) * np.sin(pitch)])
    right = np.cross(up, [0.0, 0.0, 1.0])
    right /= np.linalg.norm(right)
    ahead = np.cross(right, up) * (1 if np.cross(right, up)[2] > 0 else -1)
    count = 3000
    x, z = random.uniform(-4, 4, count), random.uniform(1, 12, count)
    y = np.where(random.random(count) < above, random.uniform(0.2, 2.5, count), 0.0) - height
    points = x * right[:, None] + z * ahead[:, None] + y * up[:, None]
    return points[:, points[2] > 0.3], up


@settings(max_examples=40, deadline=None)
@given(
    pitch=st.floats(0.1, 1.5), roll=st.floats(-0.3, 0.3), height=st.floats(1.0, 10.0), above=st.floats(0.0, 0.7), seed=st.integers(0, 99)
)
def test_the_floor_is_found(pitch, roll, height, above, seed):
    points, up = floor_points(pitch, roll, height, seed, above)
    floor = find_floor(points)
    assert floor is not None and floor.up @ up > 0.9999 and floor.height_m == pytest.approx(height, abs=0.02)
    assert floor.above(points).min() > -0.1


def test_noise_and_a_big_table_do_not_matter():
    points, up = floor_points(0.6, 0.05, 3.0, 1)
    table = points[:, :1500] + up[:, None] * 0.8  # larger than what is left of the floor
    noisy = np.concatenate([points[:, 2000:], table], 1) * (1 + np.random.default_rng(0).normal(0, 0.005, (1, points.shape[1] - 500)))
    floor = find_floor(noisy)
    assert floor is not None and floor.up @ up > 0.999 and floor.height_m == pytest.approx(3.0, abs=0.1)


def test_there_is_no_floor_in_a_wall_a_line_or_nothing():
    wall = np.stack([*np.random.default_rng(0).uniform(-3, 3, (2, 500)), np.full(500, 4.0)])
    assert find_floor(wall) is None
    assert find_floor(np.linspace([0, 1, 2], [1, 1, 5], 300).T) is None
    assert find_floor(np.zeros((3, 0))) is None and find_floor(np.ones((3, 5))) is None


@pytest.mark.parametrize("degrees", [0, 10, 31, 45, 88])
def test_a_rectangle_has_its_sides_however_it_is_turned(degrees):
    corner = np.random.default_rng(0).uniform(-0.5, 0.5, (2, 4000)) * [[3.0], [1.2]]
    angle = np.radians(degrees)
    turned = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) @ corner
    assert floor_rectangle(turned) == pytest.approx((3.0, 1.2), rel=0.05)


def test_sizes_of_our_scenes_are_seen():
    """Nine in ten pallets and transporters are as high and as wide as what is seen of them, within a quarter."""
    right = []
    for seed in range(6):
        scene = generate_scene((71, seed))
        camera = (scene.camera.fx, scene.camera.fy, scene.camera.cx, scene.camera.cy, scene.camera.width, scene.camera.height)
        floor = find_image_floor(scene.depth_m, "metric", camera)
        assert floor is not None and floor.up @ scene.pose.axes[:, 2] > 0.9999
        assert floor.height_m == pytest.approx(scene.pose.position[2], abs=0.05)
        for number, thing in enumerate(scene.objects):
            mask = scene.instances == number + 1
            if thing.kind in ("pallet", "transporter") and mask.sum() > 50:
                values = measure_region(mask, scene.depth_m, "metric", camera, floor)
                seen = dict(zip(REGION_GEOMETRY_FEATURES, 10 * values, strict=True))
                right += [
                    abs(seen["floor_high_m"] / thing.size_m[2] - 1) < 0.25,
                    abs(seen["floor_long_m"] / max(thing.size_m[:2]) - 1) < 0.25,
                ]
                assert seen["floor_long_m"] >= seen["floor_short_m"] > 0 and seen["floor_high_m"] > seen["floor_low_m"] > -0.1
    assert len(right) > 40 and np.mean(right) > 0.9


def test_no_floor_without_metres_or_camera():
    scene = generate_scene((71, 0))
    camera = (scene.camera.fx, scene.camera.fy, scene.camera.cx, scene.camera.cy, scene.camera.width, scene.camera.height)
    assert find_image_floor(scene.depth_m, "relative", camera) is None and find_image_floor(scene.depth_m, "metric", None) is None
    assert (
        find_image_floor(None, None, camera) is None and find_image_floor(np.full((20, 30), np.nan, np.float32), "metric", camera) is None
    )
