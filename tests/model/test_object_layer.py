"""The pixels of a region that show its object: the same rules as those that measure scenes."""

from __future__ import annotations

import numpy as np
import pytest

from smolrgpt.data import measure
from smolrgpt.model.floor import Floor
from smolrgpt.model.object_layer import insideness, object_pixels
from smolrgpt.schema import Camera, CameraPose, Region

CAMERA = Camera(140.0, 140.0, 79.5, 59.5, 160, 120)


def scene(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Depth of a floor 1.2 m below the camera, a wall and a box on the floor, with noise; and the box's exact mask."""
    rng = np.random.default_rng(seed)
    rows = np.mgrid[0:120, 0:160][0].astype(np.float64)
    depth = np.where(rows > 60, np.minimum(1.2 * 140 / np.maximum(rows - 59.5, 0.1), 6.0), 6.0)
    distance = rng.uniform(2.0, 4.0)
    bottom = round(59.5 + 1.2 * 140 / distance)
    left, top = int(rng.integers(20, 100)), bottom - int(rng.integers(15, 40))
    mask = np.zeros((120, 160), dtype=bool)
    mask[top:bottom, left : left + int(rng.integers(15, 40))] = True
    depth[mask] = distance
    return (depth * rng.normal(1, 0.001, depth.shape)).astype(np.float32), mask


def grown(mask: np.ndarray, pixels: int) -> np.ndarray:
    """The smallest box around a mask with a margin."""
    rows, columns = np.nonzero(mask)
    box = np.zeros_like(mask)
    box[max(0, rows.min() - pixels) : rows.max() + pixels + 1, max(0, columns.min() - pixels) : columns.max() + pixels + 1] = True
    return box


@pytest.mark.parametrize("margin", [0, 4, 10])
@pytest.mark.parametrize("has_floor", [True, False])
def test_the_model_and_the_measured_graph_see_the_same_object(margin: int, has_floor: bool) -> None:
    for seed in range(5):
        depth, exact = scene(seed)
        mask = exact if margin == 0 else grown(exact, margin)
        pose = CameraPose.above_plane((0.0, -1.0, 0.0), 1.2) if has_floor else None
        expected = measure.object_points(Region.from_mask(mask), depth, CAMERA, pose)
        rows, columns = np.nonzero(mask)
        z = depth[rows, columns].astype(np.float64)
        points = np.stack([(columns - 79.5) / 140 * z, (rows - 59.5) / 140 * z, z])
        patch = mask[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
        floor = Floor(np.array([0.0, -1.0, 0.0]), 1.2) if has_floor else None
        kept = object_pixels(patch, rows - rows.min(), columns - columns.min(), points, floor)
        np.testing.assert_allclose(points[:, kept].T, expected, rtol=1e-4, atol=1e-5)
        if margin == 0:
            assert kept.mean() > 0.9
        elif has_floor and margin == 4:  # neither the wall nor the floor in the margin
            assert np.median(points[2][kept]) == pytest.approx(np.median(depth[exact]), rel=0.01)


def test_the_middle_of_a_mask_counts_more_than_its_border() -> None:
    mask = np.ones((9, 15), dtype=bool)
    found = insideness(mask)
    assert found[4, 7] == 1 and found[0].max() == found[0].min() == found[:, 0].min() == pytest.approx(0.2)
    assert (insideness(np.ones((1, 3), dtype=bool)) == 1).all()
