"""Laws of the ray caster: the depth of a pixel is where its ray first meets the shape."""

from __future__ import annotations

import numpy as np
import pytest

from smolrgpt.data.worlds.caster import TUBE_HOLE, Box, Rays, Solid, cast
from smolrgpt.schema import Camera, CameraPose

SHAPES = {
    "box": {},
    "tapered box": {"shape": "box", "bottom": (1.0, 0.8), "top": (0.5, 0.2)},
    "cylinder": {"shape": "frustum"},
    "cone": {"shape": "frustum", "top": (0.0, 0.0)},
    "funnel": {"shape": "frustum", "bottom": (0.3, 0.3)},
    "tube": {"shape": "frustum", "num_open": 2},
    "ellipsoid": {"shape": "ellipsoid"},
    "dome": {"shape": "dome"},
}


def is_inside(solid: Solid, points: np.ndarray) -> np.ndarray:
    """Which of (..., 3) scene points are in a solid, from its definition."""
    x, y, z = np.moveaxis((points - solid.center) @ solid.axes / solid.half, -1, 0)
    (ax, qx), (ay, qy) = solid.slope(0), solid.slope(1)
    if solid.shape == "box":
        return (abs(x) <= ax + qx * z) & (abs(y) <= ay + qy * z) & (abs(z) <= 1)
    if solid.shape == "frustum":
        hole = TUBE_HOLE if solid.num_open == 2 else 0.0
        radius = np.hypot(x, y)
        return (radius <= ax + qx * z) & (radius >= hole * (ax + qx * z)) & (abs(z) <= 1)
    return (x * x + y * y + z * z <= 1) & ((z <= 0) | (solid.shape == "ellipsoid"))


def random_solid(rng: np.random.Generator, **fields: object) -> Solid:
    axes = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    axes[:, 0] *= np.sign(np.linalg.det(axes))
    center = np.array([rng.uniform(-0.3, 0.3), rng.uniform(1.5, 2.5), rng.uniform(-0.3, 0.3)])
    return Solid(**{"shape": "box", "center": center, "half": rng.uniform(0.15, 0.5, 3), "axes": axes, **fields})


@pytest.mark.parametrize("name", SHAPES)
def test_depth_is_that_of_a_walk_along_the_ray(name: str) -> None:
    camera, pose, step = Camera(30, 31, 15.5, 11.5, 32, 24), CameraPose.level(), 5e-4
    rays = Rays.of(camera, pose, near_m=0.1)
    steps = np.arange(0.5, 3.5, step)
    for seed in range(3):
        solid = random_solid(np.random.default_rng(seed), **SHAPES[name])
        depth, index, full = cast([solid], rays, np.full((24, 32), np.inf, np.float32))
        for v, u in np.ndindex(24, 32):
            walk = is_inside(solid, pose.position + steps[:, None] * rays.directions[:, v, u])
            if walk.sum() > 4:  # a graze of a few steps may be a miss
                assert depth[v, u] == pytest.approx(steps[walk.argmax()], abs=2 * step), (seed, u, v)
            elif not walk.any():
                assert not np.isfinite(depth[v, u]) or not is_inside(solid, pose.position + (depth[v, u] + 0.01) * rays.directions[:, v, u])
        assert ((index == 0) == np.isfinite(depth)).all() and not full[0].any()


def test_an_open_vessel_shows_its_inside() -> None:
    """Seen from above, a bowl's middle is at its bottom and a cup's just above its foot."""
    camera = Camera(60, 60, 15, 15, 31, 31)
    down = CameraPose(np.array([0, 0, 2.0]), np.array([[1.0, 0, 0], [0, -1, 0], [0, 0, -1]]))
    back = np.full((31, 31), np.inf, np.float32)
    for shape, num_open, center, expected in (("bowl", 0, 0.2, 2.0), ("frustum", 1, 0.1, 1.996)):
        solid = Solid(shape, np.array([0, 0, center]), np.array([0.2, 0.2, center]), np.eye(3), num_open=num_open)
        depth = cast([solid], Rays.of(camera, down), back)[0]
        assert depth[15, 15] == pytest.approx(expected, abs=1e-4)


def test_an_upright_solid_box_is_a_box() -> None:
    camera, pose = Camera(50, 50, 31.5, 23.5, 64, 48), CameraPose.level()
    box = Box((0.2, 2.0, -0.1), (0.3, 0.2, 0.4), 0.7, (1, 1, 1))
    rays, back = Rays.of(camera, pose), np.full((48, 64), np.inf, np.float32)
    solid = Solid("box", np.array(box.center), np.array(box.half), box.axes)
    one, other = (cast([shape], rays, back)[0] for shape in (box, solid))
    assert np.isfinite(one).any() and np.allclose(one, other, rtol=1e-5)
