"""Laws of the sensor models: what they lose, how they err, and that they scale with the scene."""

from __future__ import annotations

import numpy as np
import pytest

from smolrgpt.data.worlds.sensors import (
    LIDAR_MAX_SHARE,
    MIXTURES,
    MONOCULAR_SCALE,
    SENSORS,
    Sensor,
    View,
    draw_sensor,
    misregister,
    sensor_named,
)
from smolrgpt.schema import Camera

HEIGHT, WIDTH = 120, 160
SEEDS = range(12)
METRIC = [name for name, sensor in SENSORS.items() if sensor.kind == "metric"]


def _plane(z: float, unit: float = 1.0) -> View:
    """Return a wall at one depth."""
    depth = np.full((HEIGHT, WIDTH), z * unit, np.float32)
    camera = Camera(140.0, 140.0, WIDTH / 2, HEIGHT / 2, WIDTH, HEIGHT)
    return View(depth, np.zeros((HEIGHT, WIDTH), int), camera, np.full((HEIGHT, WIDTH, 3), 128, np.uint8), unit)


def _scene(unit: float = 1.0) -> View:
    """Return a floor with a box in the middle below a strip of sky."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    depth = np.clip(140 * 1.2 / np.maximum(rows - 40.0, 1e-6), 0.1, 30).astype(np.float32)
    depth[rows < 46] = np.inf
    box = (abs(columns - 80) < 20) & (rows > 50) & (rows < 100)
    depth[box] = 2.0
    rgb = np.random.default_rng(0).integers(60, 200, (HEIGHT, WIDTH, 3)).astype(np.uint8)
    return View(depth * np.float32(unit), box.astype(int), Camera(140.0, 140.0, 80.0, 60.0, WIDTH, HEIGHT), rgb, unit)


def _errors(sensor: Sensor, z: float) -> np.ndarray:
    """Return observed / true depth - 1 of a wall over several draws, without holes."""
    found = [sensor(_plane(z), np.random.default_rng(seed)).values for seed in SEEDS]
    return np.concatenate([values[np.isfinite(values)] for values in found]) / z - 1


@pytest.mark.parametrize("name", SENSORS)
def test_a_seed_gives_the_same_depth_and_another_seed_another(name: str) -> None:
    sensor = SENSORS[name]
    first, again, other = (sensor(_scene(), np.random.default_rng(seed)).values for seed in (1, 1, 3))
    assert first.shape == (HEIGHT, WIDTH) and first.dtype == np.float32
    np.testing.assert_array_equal(first, again)
    if name != "perfect":
        assert not np.array_equal(first, other, equal_nan=True)


@pytest.mark.parametrize("name", SENSORS)
@pytest.mark.parametrize("unit", [0.05, 8.0])
def test_a_multiplied_scene_is_seen_by_a_multiplied_sensor(name: str, unit: float) -> None:
    seen, scaled = (SENSORS[name](_scene(factor), np.random.default_rng(4)).values for factor in (1.0, unit))
    if SENSORS[name].kind == "relative":
        np.testing.assert_allclose(seen, scaled, atol=1.01 / 255)
        return
    same = np.isnan(seen) == np.isnan(scaled)  # rounding moves single pixels over a limit
    assert same.mean() > 0.995
    np.testing.assert_allclose(np.nanmedian(scaled / seen), unit, rtol=1e-4)


@pytest.mark.parametrize("name", METRIC)
def test_nothing_is_measured_where_nothing_is(name: str) -> None:
    values = SENSORS[name](_scene(), np.random.default_rng(0)).values
    assert (values[np.isfinite(values)] > 0).all()
    if name != "monocular":  # which guesses
        assert np.isnan(values[:38]).mean() > 0.95
    else:
        assert np.isfinite(values).all()


#: Least and greatest share of holes on a textured wall 2 m away.
HOLES = {
    "perfect": (0.0, 0.0),
    "stereo": (0.0, 0.3),
    "structured_light": (0.0, 0.35),
    "time_of_flight": (0.0, 0.35),
    "lidar": (1 - LIDAR_MAX_SHARE, 0.999),
    "dense_lidar": (0.0, 0.85),
    "monocular": (0.0, 0.0),
    "phone": (0.0, 0.0),
    "misregistered": (0.0, 0.05),
}


@pytest.mark.parametrize("name", METRIC)
def test_holes_are_within_their_range(name: str) -> None:
    shares = [np.isnan(SENSORS[name](_plane(2.0), np.random.default_rng(seed)).values).mean() for seed in SEEDS]
    low, high = HOLES[name]
    assert low <= min(shares) and max(shares) <= high


@pytest.mark.parametrize("name", ["stereo", "structured_light"])
def test_noise_of_triangulation_grows_with_the_square_of_depth(name: str) -> None:
    near, far = (np.std(_errors(SENSORS[name], z) * z) for z in (1.0, 4.0))
    assert 10 < far / near < 24


@pytest.mark.parametrize("name", ["perfect", "stereo", "structured_light", "time_of_flight", "lidar", "dense_lidar", "phone"])
@pytest.mark.parametrize("z", [1.0, 3.5])
def test_walls_are_measured_without_bias(name: str, z: float) -> None:
    assert abs(np.median(_errors(SENSORS[name], z))) < 0.01


def test_estimated_depth_has_a_wrong_scale_within_its_bounds() -> None:
    medians = [np.median(SENSORS["monocular"](_plane(2.0), np.random.default_rng(seed)).values) / 2 for seed in range(60)]
    assert 1 - MONOCULAR_SCALE - 0.1 < min(medians) < 0.9 and 1.1 < max(medians) < 1 + MONOCULAR_SCALE + 0.1


@pytest.mark.parametrize(("name", "z"), [("structured_light", 0.3), ("structured_light", 6.0), ("time_of_flight", 0.2), ("phone", 7.0)])
def test_nothing_is_measured_out_of_range(name: str, z: float) -> None:
    for seed in SEEDS:
        assert np.isnan(SENSORS[name](_plane(z), np.random.default_rng(seed)).values).all()


@pytest.mark.parametrize("name", ["stereo", "structured_light"])
def test_a_second_view_casts_a_shadow_beside_a_near_surface(name: str) -> None:
    beside, far = [], []
    for seed in SEEDS:
        missing = np.isnan(SENSORS[name](_scene(), np.random.default_rng(seed)).values)
        beside.append(max(missing[82:97, 57:60].mean(), missing[82:97, 100:103].mean()))
        far.append(missing[82:97, :20].mean())
    assert np.mean(beside) > 3 * np.mean(far) + 0.2


def test_time_of_flight_mixes_surfaces_at_edges_only() -> None:
    view = _scene()
    between = np.zeros((HEIGHT, WIDTH), bool)
    for seed in SEEDS:
        values = SENSORS["time_of_flight"](view, np.random.default_rng(seed)).values
        between |= (abs(values - 2.0) > 0.15) & (abs(values / view.depth - 1) > 0.1)
    assert between.any() and not (between & ~view.edges).any()


@pytest.mark.parametrize("name", ["relative", "inverse"])
def test_relative_depth_keeps_the_order_of_depth(name: str) -> None:
    view = _scene()
    true = view.depth[np.isfinite(view.depth)]
    for seed in SEEDS:
        values = SENSORS[name](view, np.random.default_rng(seed)).values
        assert values.min() == 0 and values.max() == 1 and np.allclose(np.rint(values * 255), values * 255, atol=1e-3)
        given = values[np.isfinite(view.depth)]
        ranks = np.corrcoef(np.argsort(np.argsort(true)), np.argsort(np.argsort(given)))
        assert ranks[0, 1] > 0.9


@pytest.mark.parametrize("pixels", [1.0, 3.0])
def test_misregistered_depth_is_shifted_by_so_many_pixels(pixels: float) -> None:
    rows, columns = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32)
    for seed in SEEDS:
        down = misregister(rows, np.random.default_rng(seed), pixels) - rows
        across = misregister(columns, np.random.default_rng(seed), pixels) - columns
        middle = np.hypot(down, across)[HEIGHT // 2 - 5 : HEIGHT // 2 + 5, WIDTH // 2 - 5 : WIDTH // 2 + 5]
        assert np.isfinite(middle).all() and abs(middle.mean() - pixels) < 0.8


@pytest.mark.parametrize("world", MIXTURES)
def test_every_sensor_of_a_mixture_is_drawn_and_only_those(world: str) -> None:
    rng = np.random.default_rng(0)
    drawn = [draw_sensor(rng, world) for _ in range(400)]
    assert {sensor.name for sensor in drawn} == set(MIXTURES[world]) and all(sensor.kind == "metric" for sensor in drawn)
    assert 0.05 < np.mean([sensor.registration_px > 0 for sensor in drawn]) < 0.3


def test_unknown_names_are_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="perfect, stereo"):
        sensor_named("sonar")
    with pytest.raises(ValueError, match="tabletop"):
        draw_sensor(np.random.default_rng(0), "moon")


@pytest.mark.parametrize("name", SENSORS)
def test_a_view_of_nothing_is_no_error(name: str) -> None:
    camera = Camera(140.0, 140.0, WIDTH / 2, HEIGHT / 2, WIDTH, HEIGHT)
    view = View(np.full((HEIGHT, WIDTH), np.inf, np.float32), np.zeros((HEIGHT, WIDTH), int), camera)
    values = SENSORS[name](view, np.random.default_rng(0)).values
    assert name in ("monocular", "relative", "inverse") or np.isnan(values).all()
