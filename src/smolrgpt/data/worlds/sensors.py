"""Depth as sensors measure it: models of stereo, structured light, time of flight, LiDAR and of depth estimated from one image.

Each model turns perfect depth into observed depth, NaN where nothing is measured. Its constants are those of real devices in metres; a
scene that is multiplied by a factor is seen by a sensor that is multiplied as well (``View.unit_m``). Widths in pixels are those of an
image 640 pixels wide and shrink with the image. numpy and Pillow only; up to 15 ms for 320x240 pixels.

Legend: H W image height and width in pixels; z depth in units of ``View.unit_m``.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from smolrgpt.schema import Camera, DepthKind, DepthMap

#: Width of the images that widths in pixels refer to.
NATIVE_WIDTH = 640
#: Neighbours whose depths differ by more than this share, beyond what a plane explains, lie on different surfaces.
EDGE_SHARE = 0.04

# Stereo, of the D400 series: baselines 50 to 95 mm, focal lengths 420 px (D435, 848 wide) to 940 px (D415, 1280 wide), 128 disparities;
# error in the disparity about 0.08 px, steps of 1/32 px (Intel, "Tuning depth cameras for best performance", "Subpixel linearity
# improvement").
STEREO_BASELINE, STEREO_FOCAL_PX, STEREO_NOISE_PX = (0.05, 0.12), (400.0, 950.0), (0.04, 0.15)
STEREO_STEPS_PX, MAX_DISPARITY_PX = (1 / 8, 1 / 16, 1 / 32), 128
# Kinect v1: baseline 75 mm, focal length 580 px, 11 bits in steps of 1/8 px; 0.4 to 5 m; error of 4 cm at 5 m, which is 0.07 px
# (Khoshelham and Elberink, "Accuracy and resolution of Kinect depth data", Sensors 12, 2012). Edges lose up to 3 px on either side.
KINECT_BASELINE, KINECT_FOCAL_PX, KINECT_STEP_PX, KINECT_NOISE_PX = 0.075, 580.0, 1 / 8, (0.04, 0.1)
KINECT_RANGE, KINECT_RIM_PX = ((0.4, 0.5), (4.0, 5.0)), (1.0, 3.0)
# Time of flight: some millimetres of noise, more with distance; pixels between two surfaces mix both, and corners appear too far
# (Sarbolandi, Lefloch and Kolb, "Kinect range sensing", arXiv 1505.05459); from 0.25 m (L515) to 4.5 m (Kinect v2) or 9 m (L515).
TOF_NOISE, TOF_NOISE_Z2, TOF_RANGE = (0.001, 0.003), (0.0004, 0.0015), ((0.25, 0.5), (4.5, 9.0))
# LiDAR: 16 to 128 beams over 25 to 45 degrees, 0.2 degrees of azimuth, 2 cm of noise, 100 m (data sheets of VLP-16, HDL-64E and OS1).
LIDAR_BEAMS, LIDAR_SPAN_DEG, LIDAR_STEP_DEG, LIDAR_NOISE, LIDAR_RANGE = (16, 32, 64, 128), (25.0, 45.0), 0.2, 0.02, (0.5, 100.0)
#: Largest share of an image's pixels that LiDAR measures.
LIDAR_MAX_SHARE = 0.05
#: Largest error of the scale of estimated depth, and the range of its low-frequency error (standard deviation).
MONOCULAR_SCALE, MONOCULAR_FIELD = 0.2, (0.02, 0.06)
# The LiDAR of phones and tablets: 256 x 192 for images of 1920 x 1440, here for smaller ones; 0.2 to 5 m (Apple, ARKit's sceneDepth).
PHONE_SHARE, PHONE_NOISE, PHONE_RANGE = (0.3, 0.7), (0.003, 0.01), (0.2, 5.0)
#: Quantiles that relative depth stretches to [0, 1].
RELATIVE_QUANTILES = (0.005, 0.995)


@dataclass(frozen=True)
class View:
    """A perfect view of a scene.

    Attributes:
        depth_m: float32 (H, W), planar; not finite where nothing is, such as in the sky.
        instances: int (H, W), >= 0; each is a surface of one material, 0 is all that is no object.
        camera: Intrinsics of the image.
        rgb: uint8 (H, W, 3), from which plain and dark surfaces are known; None where it is not.
        unit_m: Length of a sensor's metre in this scene: the factor that the scene was multiplied by.
    """

    depth_m: np.ndarray
    instances: np.ndarray
    camera: Camera
    rgb: np.ndarray | None = None
    unit_m: float = 1.0

    @functools.cached_property
    def depth(self) -> np.ndarray:
        """Depth in sensor metres, float32 (H, W); NaN where nothing is."""
        z = (self.depth_m / np.float32(self.unit_m)).astype(np.float32)
        return np.where(np.isfinite(z) & (z > 0), z, np.float32(np.nan))

    @functools.cached_property
    def edges(self) -> np.ndarray:
        """Pixels beside a jump in depth or where nothing is: bool (H, W). A plane has none: its 1 / z is linear in the image."""
        nearness = np.nan_to_num(1 / self.depth)
        bends = [abs(_shifted(nearness, *step) + _shifted(nearness, -step[0], -step[1]) - 2 * nearness) for step in ((1, 0), (0, 1))]
        jumps: np.ndarray = np.maximum(*bends) > EDGE_SHARE * np.maximum(_extremes(nearness)[1], 1e-9)
        return jumps

    @functools.cached_property
    def slope(self) -> np.ndarray:
        """Tangent of the angle between viewing direction and surface normal, float32 (H, W); 0 where unknown."""
        filled = np.nan_to_num(self.depth, nan=1e6)
        down, across = np.gradient(filled)
        steep = np.hypot(across * self.camera.fx, down * self.camera.fy) / filled
        return np.where(self.edges | np.isnan(self.depth), 0, steep).astype(np.float32)

    @functools.cached_property
    def luma(self) -> np.ndarray | None:
        """Brightness in [0, 1], float32 (H, W)."""
        return None if self.rgb is None else (self.rgb @ np.array([0.299, 0.587, 0.114], np.float32) / 255).astype(np.float32)

    def pixels(self, native: float) -> float:
        """Convert pixels of an image ``NATIVE_WIDTH`` wide."""
        return native * float(self.depth.shape[1]) / NATIVE_WIDTH


@dataclass(frozen=True)
class Sensor:
    """A model of a sensor.

    Attributes:
        name: Its name in ``SENSORS``.
        about: The devices that measure like this.
        observe: (view, generator) -> depth in sensor metres, or relative in [0, 1]: float32 (H, W), NaN where not measured.
        kind: Whether depth is metric or relative.
        registration_px: How far depth is off the image, in pixels of an image ``NATIVE_WIDTH`` wide.
    """

    name: str
    about: str
    observe: Callable[[View, np.random.Generator], np.ndarray]
    kind: DepthKind = "metric"
    registration_px: float = 0.0

    def __call__(self, view: View, rng: np.random.Generator) -> DepthMap:
        """Return the depth that this sensor measures of a view."""
        values = self.observe(view, rng)
        if self.registration_px:
            values = misregister(values, rng, view.pixels(self.registration_px))
        scale = view.unit_m if self.kind == "metric" else 1.0
        return DepthMap((values * scale).astype(np.float32), self.kind)


# --------------------------------------------------------------------------------------------------------------------------- models
def observe_perfect(view: View, rng: np.random.Generator) -> np.ndarray:
    """Return depth as it is."""
    return view.depth


def observe_stereo(view: View, rng: np.random.Generator) -> np.ndarray:
    """Match two images: error and steps grow with z squared; holes beside near surfaces, on plain ones and below the least distance."""
    baseline, focal = rng.uniform(*STEREO_BASELINE), rng.uniform(*STEREO_FOCAL_PX)
    step = float(rng.choice(STEREO_STEPS_PX))
    z = _jagged(view.depth, rng, view.pixels(1.0))
    observed = _triangulated(z, baseline * focal, rng.uniform(*STEREO_NOISE_PX), step, rng)
    missing = _shadow(view, baseline, rng) | _blotches(view, _plainness(view, rng), rng)
    missing |= view.edges & (rng.random(z.shape) < rng.uniform(0.1, 0.6))
    return np.where(missing | (baseline * focal / observed > MAX_DISPARITY_PX), np.float32(np.nan), observed)


def observe_structured_light(view: View, rng: np.random.Generator) -> np.ndarray:
    """Project a pattern: like stereo in steps of 1/8 px; shadows beside near objects, eroded edges, holes where it is dark or shiny."""
    z = _jagged(view.depth, rng, view.pixels(1.0))
    observed = _triangulated(z, KINECT_BASELINE * KINECT_FOCAL_PX, rng.uniform(*KINECT_NOISE_PX), KINECT_STEP_PX, rng)
    rim = view.pixels(rng.uniform(*KINECT_RIM_PX)) * (0.5 + rng.random(z.shape))
    missing = _shadow(view, KINECT_BASELINE, rng) | _within(view.edges, rim)
    missing |= _blotches(view, _absorption(view, rng), rng) | (view.slope > rng.uniform(6, 15))
    return _limited(np.where(missing, np.float32(np.nan), observed), *(rng.uniform(*ends) for ends in KINECT_RANGE))


def observe_time_of_flight(view: View, rng: np.random.Generator) -> np.ndarray:
    """Time light: pixels at edges mix both surfaces, corners seem too far, dark and grazing surfaces are lost."""
    z = view.depth
    near, far = _extremes(z)
    share = rng.random(z.shape, dtype=np.float32)
    flies = view.edges & (rng.random(z.shape) < rng.uniform(0.2, 0.7))
    mixed = np.where(flies, near + share * (far - near), z)
    sigma = rng.uniform(*TOF_NOISE) + rng.uniform(*TOF_NOISE_Z2) * z**2
    observed = mixed + sigma * rng.standard_normal(z.shape, dtype=np.float32) + rng.uniform(0.0, 1.0) * _corner_bias(view)
    missing = _blotches(view, _absorption(view, rng), rng) | (view.slope > rng.uniform(8, 20))
    missing |= view.edges & ~flies & (rng.random(z.shape) < 0.3)
    return _limited(np.where(missing, np.float32(np.nan), observed), *(rng.uniform(*ends) for ends in TOF_RANGE))


def observe_lidar(view: View, rng: np.random.Generator) -> np.ndarray:
    """Project the points of a scanner with 16 to 128 beams; some at edges are those of what the camera does not see behind them."""
    height, width = view.depth.shape
    rows, columns = _scan_pattern(view.camera.resized(width, height), height, width, rng)
    z = view.depth[rows, columns]
    reach = np.rint(view.pixels(rng.uniform(1, 6))).astype(int)  # the scanner is beside the camera and sees past edges
    beside = view.depth[rows, np.clip(columns + rng.choice([-1, 1]) * max(1, reach), 0, width - 1)]
    z = np.where((beside > (1 + EDGE_SHARE) * z) & (rng.random(len(z)) < 0.3), beside, z)
    z = z + LIDAR_NOISE * rng.standard_normal(len(z), dtype=np.float32)
    z[rng.random(len(z)) < 0.03 + 0.5 * _absorption(view, rng)[rows, columns]] = np.nan
    observed = np.full((height, width), np.nan, np.float32)
    observed[rows, columns] = z
    return _limited(observed, *LIDAR_RANGE)


def observe_dense_lidar(view: View, rng: np.random.Generator) -> np.ndarray:
    """Fill the pixels around the points of ``observe_lidar``, by the nearest point or smoothly."""
    filled = _fill_nearest(observe_lidar(view, rng), max(2, round(view.pixels(rng.uniform(8, 24)))))
    return filled if rng.random() < 0.5 else _smoothed(filled, 2)


def observe_monocular(view: View, rng: np.random.Generator) -> np.ndarray:
    """Estimate depth from one image: no holes, soft edges, a smooth error and a wrong scale."""
    z = view.depth
    sky = 1.5 * np.nanmax(z) if np.isfinite(z).any() else 1.0
    soft = _smoothed(np.log(np.where(np.isnan(z), np.float32(sky), z)), 1 + round(view.pixels(rng.uniform(1, 5))))
    error = rng.uniform(*MONOCULAR_FIELD) * _field(z.shape, rng, rng.uniform(2, 6))
    low, high = math.log(1 - MONOCULAR_SCALE), math.log(1 + MONOCULAR_SCALE)
    return np.exp(soft + error + np.float32(rng.uniform(low, high))).astype(np.float32)


def observe_phone(view: View, rng: np.random.Generator) -> np.ndarray:
    """Measure at a low resolution, smoothly enlarged, so that edges are ramps."""
    height, width = view.depth.shape
    share = rng.uniform(*PHONE_SHARE)
    small = max(2, round(share * width)), max(2, round(share * height))
    filled = _smoothed(view.depth, 1)
    reduced = np.array(Image.fromarray(filled).resize(small, Image.Resampling.NEAREST))
    reduced *= 1 + rng.uniform(*PHONE_NOISE) * _field(reduced.shape, rng, 24)
    gaps = np.isnan(reduced)
    enlarged = np.asarray(Image.fromarray(np.where(gaps, 0, reduced)).resize((width, height), Image.Resampling.BILINEAR))
    weight = np.asarray(Image.fromarray((~gaps).astype(np.float32)).resize((width, height), Image.Resampling.BILINEAR))
    with np.errstate(invalid="ignore", divide="ignore"):
        return _limited(np.where(weight > 0.5, enlarged / weight, np.nan), *PHONE_RANGE)


def observe_relative(view: View, rng: np.random.Generator) -> np.ndarray:
    """Return 8-bit relative depth, near = small, stretched between two quantiles: of half of the draws soft, as a network gives it."""
    return _relative(_estimated(view, rng))


def observe_inverse(view: View, rng: np.random.Generator) -> np.ndarray:
    """Return 8-bit relative depth that is linear in 1 / z, as models that estimate disparity give it, turned so that near = small."""
    return np.float32(1) - _relative(1 / _estimated(view, rng))


def misregister(values: np.ndarray, rng: np.random.Generator, pixels: float) -> np.ndarray:
    """Return depth (H, W) shifted by ``pixels`` in any direction and scaled by up to one percent about its middle; NaN from outside."""
    height, width = values.shape
    angle, scale = rng.uniform(0, 2 * math.pi), 1 + rng.uniform(-0.01, 0.01)
    rows, columns = (
        np.rint((np.arange(size) - size / 2) * scale + size / 2 + pixels * part).astype(int)
        for size, part in ((height, math.sin(angle)), (width, math.cos(angle)))
    )
    moved = values[np.ix_(rows.clip(0, height - 1), columns.clip(0, width - 1))]
    outside = ((rows < 0) | (rows >= height))[:, None] | ((columns < 0) | (columns >= width))
    return np.where(outside, np.float32(np.nan), moved)


# ------------------------------------------------------------------------------------------------------------------------ registry
_ALL = (
    Sensor("perfect", "none: the depth of the scene itself", observe_perfect),
    Sensor("stereo", "RealSense D4xx, OAK-D, ZED", observe_stereo),
    Sensor("structured_light", "Kinect v1, Xtion, Orbbec Astra", observe_structured_light),
    Sensor("time_of_flight", "Kinect v2, Azure Kinect, L515", observe_time_of_flight),
    Sensor("lidar", "a rotating scanner, projected into the image", observe_lidar),
    Sensor("dense_lidar", "the same, filled between the points", observe_dense_lidar),
    Sensor("monocular", "a network that estimates metres from the image", observe_monocular),
    Sensor("phone", "the LiDAR of phones and tablets", observe_phone),
    Sensor("misregistered", "perfect depth that is some pixels off the image", observe_perfect, registration_px=4.0),
    Sensor("relative", "a network that estimates depth without a unit", observe_relative, "relative"),
    Sensor("inverse", "a network that estimates disparity", observe_inverse, "relative"),
)
#: Name -> sensor.
SENSORS: dict[str, Sensor] = {sensor.name: sensor for sensor in _ALL}

#: World -> weights of the metric sensors that people use there.
MIXTURES: dict[str, Mapping[str, float]] = {
    "tabletop": {"perfect": 2, "stereo": 3, "structured_light": 3, "time_of_flight": 2, "phone": 1, "monocular": 1},
    "room": {"perfect": 2, "stereo": 2, "structured_light": 3, "time_of_flight": 3, "phone": 2, "monocular": 1, "lidar": 0.5},
    "warehouse": {"perfect": 3, "stereo": 3, "time_of_flight": 1, "lidar": 1, "dense_lidar": 1, "monocular": 1},
    "yard": {"perfect": 2, "stereo": 2, "lidar": 3, "dense_lidar": 2, "monocular": 2},
}
#: How many sensors are off the image, and by how many pixels.
MISREGISTERED_SHARE, MISREGISTERED_PX = 0.2, (1.0, 4.0)


def sensor_named(name: str) -> Sensor:
    """Return a sensor. Raises ValueError for an unknown name."""
    if name not in SENSORS:
        raise ValueError(f"there is no sensor {name!r}; expected one of {', '.join(SENSORS)}")
    return SENSORS[name]


def draw_sensor(rng: np.random.Generator, world: str) -> Sensor:
    """Draw a metric sensor of those used in a world, a name of ``MIXTURES``. Raises ValueError for an unknown name."""
    if world not in MIXTURES:
        raise ValueError(f"there is no world {world!r}; expected one of {', '.join(MIXTURES)}")
    names, weights = zip(*MIXTURES[world].items(), strict=True)
    sensor = SENSORS[str(rng.choice(names, p=np.array(weights) / sum(weights)))]
    is_off = sensor.name != "perfect" and rng.random() < MISREGISTERED_SHARE
    return replace(sensor, registration_px=rng.uniform(*MISREGISTERED_PX)) if is_off else sensor


# --------------------------------------------------------------------------------------------------------------- triangulation, scan
def _triangulated(z: np.ndarray, focal_baseline: float, noise_px: float, step_px: float, rng: np.random.Generator) -> np.ndarray:
    """Return depth from a noisy disparity in steps; half of the noise is common to neighbours, which share a matching window."""
    noise = math.sqrt(0.5) * (_field(z.shape, rng, z.shape[1] / 3) + rng.standard_normal(z.shape, dtype=np.float32))
    disparity = step_px * np.rint((focal_baseline / z + noise_px * noise) / step_px)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(disparity > 0, focal_baseline / disparity, np.nan).astype(np.float32)


def _shadow(view: View, baseline: float, rng: np.random.Generator) -> np.ndarray:
    """Return what the second camera, or the projector, does not see: behind a nearer surface in the same row."""
    height, width = view.depth.shape
    shift = view.camera.resized(width, height).fx * baseline / np.nan_to_num(view.depth, nan=1e6)
    flipped = rng.random() < 0.5
    shift = shift[:, ::-1] if flipped else shift
    position = np.arange(width, dtype=np.float32) - shift
    nearest = np.minimum.accumulate(position[:, ::-1], axis=1)[:, ::-1]  # of this pixel and all to its right
    hidden = np.zeros(shift.shape, bool)
    hidden[:, :-1] = nearest[:, 1:] <= position[:, :-1] - 0.5
    return np.flip(hidden, 1) if flipped else hidden


def _scan_pattern(camera: Camera, height: int, width: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return rows and columns of the pixels that the beams of a level scanner at the camera meet, at most ``LIDAR_MAX_SHARE`` of them."""
    beams, span = int(rng.choice(LIDAR_BEAMS)), math.radians(rng.uniform(*LIDAR_SPAN_DEG))
    middle = math.atan2(height / 2 - camera.cy, camera.fy) + rng.uniform(-0.1, 0.2)  # of the image, or lower
    elevation = np.tan(middle + np.linspace(-span / 2, span / 2, beams) + rng.uniform(0, span / beams))
    ends = np.arctan((np.array([0, width - 1]) - camera.cx) / camera.fx)
    x = np.tan(np.arange(ends[0], ends[1], math.radians(LIDAR_STEP_DEG)))
    rows = np.rint(camera.cy + camera.fy * elevation[:, None] * np.sqrt(1 + x**2)).astype(int)
    columns = np.broadcast_to(np.rint(camera.cx + camera.fx * x).astype(int), rows.shape)
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    most = LIDAR_MAX_SHARE * height * width
    crossing = np.count_nonzero(inside.any(axis=1))
    inside[np.arange(beams) % max(1, math.ceil(crossing / math.sqrt(most))) != 0] = False  # lines stay farther apart than their points
    inside[:, np.arange(len(x)) % max(1, math.ceil(np.count_nonzero(inside) / most)) != 0] = False
    return rows[inside], columns[inside]


def _corner_bias(view: View) -> np.ndarray:
    """Return how much too far corners seem, where light is reflected twice: up to 3 % of z, 0 on flat and bulging surfaces."""
    z = view.depth
    excess = z - _smoothed(_fill_nearest(z, 8), max(2, round(view.pixels(24))))
    bias = np.clip(np.nan_to_num(excess), 0, 0.03 * np.nan_to_num(z))
    return np.where(view.edges, 0, _smoothed(bias.astype(np.float32), 2))


# ---------------------------------------------------------------------------------------------------------------- surfaces and holes
def _per_instance(view: View, rng: np.random.Generator, share: float) -> np.ndarray:
    """Return a weakness in [0, 1] of every pixel's surface, 0 of all but a share of the surfaces: float32 (H, W)."""
    count = int(view.instances.max()) + 1
    weakness = np.where(rng.random(count) < share, rng.uniform(0.1, 1.0, count), 0.0)
    weakness[0] *= 0.5  # one number for floor, walls and all else
    return np.take(weakness.astype(np.float32), view.instances)


def _plainness(view: View, rng: np.random.Generator) -> np.ndarray:
    """Return how hard surfaces are to match: those without texture in the image, and a few others."""
    weakness = _per_instance(view, rng, 0.15)
    if view.luma is not None:
        contrast = np.sqrt(np.maximum(_smoothed(view.luma**2, 3) - _smoothed(view.luma, 3) ** 2, 0))
        weakness = np.maximum(weakness, rng.uniform(0, 0.5) * np.clip(1 - contrast / 0.02, 0, 1))
    return weakness


def _absorption(view: View, rng: np.random.Generator) -> np.ndarray:
    """Return how little light surfaces send back: dark ones in the image, and a few shiny ones."""
    weakness = _per_instance(view, rng, 0.2)
    return weakness if view.luma is None else np.maximum(weakness, rng.uniform(0, 0.9) * np.clip(1 - view.luma / 0.12, 0, 1))


def _blotches(view: View, weakness: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return holes in blobs: bool (H, W), of a weak surface at most about half."""
    share = 1 / (1 + np.exp(-1.7 * _field(weakness.shape, rng, rng.uniform(10, 30))))  # about even in [0, 1]
    return share < 0.6 * weakness


def _limited(z: np.ndarray, low: float, high: float) -> np.ndarray:
    return np.where((z >= low) & (z <= high), z, np.nan).astype(np.float32)


# ------------------------------------------------------------------------------------------------------------------------- images
def _field(shape: tuple[int, ...], rng: np.random.Generator, cells: float) -> np.ndarray:
    """Return smooth noise (H, W) of mean 0 and deviation 1 with about this many independent cells across."""
    height, width = shape
    across = max(2, round(cells))
    small = rng.standard_normal((max(2, round(across * height / width)), across), dtype=np.float32)
    large = np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC))
    return np.asarray((large - large.mean()) / max(float(large.std()), 1e-6), np.float32)


def _shifted(values: np.ndarray, down: int, across: int) -> np.ndarray:
    """Return (H, W) moved by some pixels; the border repeats."""
    height, width = values.shape
    rows = np.arange(-down, height - down).clip(0, height - 1)
    columns = np.arange(-across, width - across).clip(0, width - 1)
    return np.asarray(values[rows][:, columns])


def _extremes(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the smallest and the largest of each pixel and its four neighbours, without NaN."""
    around = [values, *(_shifted(values, *step) for step in ((1, 0), (-1, 0), (0, 1), (0, -1)))]
    return functools.reduce(np.fmin, around), functools.reduce(np.fmax, around)


def _within(mask: np.ndarray, radius: np.ndarray) -> np.ndarray:
    """Return the pixels that are at most ``radius`` (H, W) steps away from a pixel of the mask."""
    found, reached = mask & (radius >= 0.5), mask
    for step in range(1, int(np.ceil(radius.max())) + 1):
        reached = functools.reduce(np.logical_or, (_shifted(reached, *move) for move in ((1, 0), (-1, 0), (0, 1), (0, -1))), reached)
        found |= reached & (radius >= step)
    return found


def _jagged(values: np.ndarray, rng: np.random.Generator, pixels: float) -> np.ndarray:
    """Return (H, W) with each pixel taken from about ``pixels`` away, which frays edges and leaves surfaces nearly as they are."""
    height, width = values.shape
    rows, columns = (
        np.rint(index + 0.6 * pixels * _field(values.shape, rng, width / 3)).astype(int).clip(0, size - 1)
        for index, size in ((np.arange(height)[:, None], height), (np.arange(width), width))
    )
    return np.asarray(values[rows, columns])


def _smoothed(values: np.ndarray, radius: int) -> np.ndarray:
    """Return the mean over a square of 2 radius + 1 pixels, weighted by a triangle (two box filters); NaN counts for nothing."""
    known = ~np.isnan(values)
    total, weight = np.where(known, values, 0).astype(np.float64), known.astype(np.float64)
    for axis in (0, 1):
        total, weight = (_box_sum(part, radius, axis) for part in (total, weight))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(known, total / weight, np.nan).astype(np.float32)


def _box_sum(values: np.ndarray, radius: int, axis: int) -> np.ndarray:
    """Return sums of 2 radius + 1 neighbours along an axis; the border repeats."""
    pad = [(radius + 1, radius) if side == axis else (0, 0) for side in (0, 1)]
    sums = np.pad(values, pad, mode="edge").cumsum(axis)
    width = 2 * radius + 1
    return np.asarray(sums[width:] - sums[:-width] if axis == 0 else sums[:, width:] - sums[:, :-width])


def _fill_nearest(values: np.ndarray, radius: int) -> np.ndarray:
    """Return (H, W) with NaN within about ``radius`` pixels of a value filled by it, nearest first."""
    filled, step = values, 1
    while step <= radius:
        for down, across in ((0, step), (0, -step), (step, 0), (-step, 0)):
            filled = np.where(np.isnan(filled), _shifted(filled, down, across), filled)
        step *= 2
    return filled


def _estimated(view: View, rng: np.random.Generator) -> np.ndarray:
    """Return depth without holes: as a network estimates it, or as it is, with the largest value where nothing is."""
    if rng.random() < 0.5:
        return observe_monocular(view, rng)
    z = view.depth
    return np.where(np.isnan(z), np.nanmax(z) if np.isfinite(z).any() else np.float32(1), z)


def _relative(values: np.ndarray) -> np.ndarray:
    low, high = np.quantile(values, RELATIVE_QUANTILES)
    share = np.clip((values - low) / max(float(high - low), 1e-9), 0, 1)
    return np.asarray(np.rint(255 * share) / 255, np.float32)
