"""Laws of measured objects: background in a mask or a box, the plane below it and stray points do not move what is measured."""

from __future__ import annotations

import numpy as np
import pytest

from smolrgpt.data.geometry import visible_box
from smolrgpt.data.measure import object_points
from smolrgpt.schema import Camera, CameraPose, Region

HEIGHT, WIDTH = 120, 160
CAMERA = Camera(140.0, 140.0, 79.5, 59.5, WIDTH, HEIGHT)
#: A level camera 0.6 above a plane views an upright card at depth 2, 0.5 wide and 0.4 high, before a wall at depth 5.
PLANE = CameraPose.above_plane((0, -1, 0), 0.6)


def _view(scale: float) -> tuple[np.ndarray, np.ndarray]:
    """Return depth and the card's mask."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    with np.errstate(divide="ignore"):
        depth = np.minimum(np.where(rows > 59.5, 0.6 * 140 / (rows - 59.5), 5.0), 5.0)
    card = (abs(columns - 79.5) <= 17.5) & (rows >= 74) & (rows <= 101)
    return (np.where(card, 2.0, depth) * scale).astype(np.float32), card


@pytest.mark.parametrize("scale", [0.05, 1.0, 10.0])
@pytest.mark.parametrize("rim", [0, 2, 4])
@pytest.mark.parametrize("shape", ["box", "mask"])
def test_background_around_an_object_is_left_out(scale: float, rim: int, shape: str) -> None:
    depth, card = _view(scale)
    marked = np.zeros_like(card)
    marked[74 - rim : 102 + rim, 62 - rim : 98 + rim] = True
    if shape == "mask":
        marked[74 - rim, 62 - rim] = False
    pose = CameraPose(PLANE.position * scale, PLANE.axes)
    points = object_points(Region.from_mask(marked), depth, CAMERA, pose)
    assert np.all(abs(points[:, 2] / scale - 2) < 0.01)
    middle, size = visible_box(points / np.float32(scale))
    assert middle == pytest.approx([0, 0.4, 2], abs=0.02) and size[:2] == pytest.approx([0.5, 0.38], abs=0.04)


def test_stray_points_and_holes_do_not_move_an_object() -> None:
    depth, card = _view(1.0)
    rng = np.random.default_rng(0)
    depth[card & (rng.random(card.shape) < 0.4)] = np.nan
    stray = card & (rng.random(card.shape) < 0.04)
    depth[stray] = rng.uniform(2.3, 5, card.shape).astype(np.float32)[stray]
    middle, _ = visible_box(object_points(Region.from_mask(card), depth, CAMERA, PLANE))
    assert middle == pytest.approx([0, 0.4, 2], abs=0.03)


def test_an_area_of_the_plane_is_measured_as_it_is() -> None:
    depth, _ = _view(1.0)
    points = object_points(Region.from_box((20, 90, 55, 110), HEIGHT, WIDTH), depth, CAMERA, PLANE)
    assert len(points) > 300 and abs(points[:, 1] - 0.6).max() < 1e-3


def test_nothing_measured_gives_no_points() -> None:
    depth, card = _view(1.0)
    assert object_points(Region.from_mask(card), np.full_like(depth, np.nan), CAMERA, PLANE).shape == (0, 3)
    one = np.where(np.arange(depth.size).reshape(depth.shape) == 80 * WIDTH + 80, depth, np.nan)
    assert len(object_points(Region.from_mask(card), one, CAMERA, PLANE)) == 1
