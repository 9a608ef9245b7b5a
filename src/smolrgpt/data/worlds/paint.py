"""The look of solids: colours, patterns, light and soft shadows of what the ray caster found. Legend: H W image, P pixels of one solid."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from smolrgpt.data.worlds.caster import TUBE_HOLE, Colour, Rays, Solid, noise_at, project, window_around
from smolrgpt.data.worlds.layouts import Rect


@dataclass(frozen=True)
class Exposure:
    """What the camera makes of light: exposure, tint (3,), noise (grey levels) and vignette (share lost in the corners)."""

    exposure: float
    tint: np.ndarray
    noise: float
    vignette: float


@dataclass(frozen=True)
class Light:
    """The light of a scene: (3,) the direction towards it, the share of ambient light, the colour of the sky, and the camera's exposure."""

    direction: np.ndarray
    ambient: float
    sky: Colour
    exposure: Exposure

    @classmethod
    def random(cls, rng: np.random.Generator, outdoors: bool = False) -> Light:
        """Draw a light: from above, at any side, from dim to harsh."""
        direction = np.append(rng.normal(0, 0.8, 2), rng.uniform(0.5, 1.5))
        grey = rng.uniform(0.55, 0.95)
        sky = tuple((grey * np.array([1, 1, 1] if rng.random() < 0.5 else [0.7, 0.85, 1.05])).clip(0, 1).tolist())
        exposure = Exposure(rng.uniform(1.0, 2.0), 1 + rng.uniform(-0.12, 0.12, 3), rng.uniform(0.5, 6), rng.uniform(0, 0.4))
        return cls(direction / np.linalg.norm(direction), rng.uniform(0.3, 0.5 if outdoors else 0.75), sky, exposure)


def develop(colour: np.ndarray, look: Exposure, noise: np.ndarray) -> np.ndarray:
    """Convert linear colour to uint8: exposure, tint, vignette, sensor noise (of deviation 1, of the image's shape)."""
    height, width = colour.shape[:2]
    y, x = np.linspace(-1, 1, height, dtype=np.float32)[:, None], np.linspace(-1, 1, width, dtype=np.float32)[None]
    vignette = look.exposure * (1 - look.vignette * (x * x + y * y) / 2)
    image = colour * vignette[..., None] * (255 * look.tint).astype(np.float32)
    image += look.noise * noise
    return np.clip(image, 0, 255).astype(np.uint8)


#: Share of the accent colour at P pixels: from two coordinates in grains, the height in the solid (-1 to 1), and the material's seed.
Pattern = Callable[[np.ndarray, np.ndarray, np.ndarray, float], np.ndarray]


def _boards(x: np.ndarray, y: np.ndarray, z: np.ndarray, seed: float) -> np.ndarray:
    row = np.floor(y / 12)
    seam = (np.mod(y, 12) < 0.5) | (np.mod(x + 37 * row, 90) < 0.5)
    share: np.ndarray = 0.3 + 0.12 * noise_at(x * 0.15 + 50 * row, y * 3) + 0.1 * np.mod(row * 0.618, 1) + 0.5 * seam
    return share


def _label(x: np.ndarray, y: np.ndarray, z: np.ndarray, seed: float) -> np.ndarray:
    middle, half = 0.5 * seed - 0.25, 0.25 + 0.3 * seed
    share: np.ndarray = (np.abs(z - middle) < half) * (0.75 + 0.25 * (noise_at(x * 2 + 91 * seed, y * 5) > 0.6))
    return share


PATTERNS: dict[str, Pattern] = {
    "plain": lambda x, y, z, seed: np.zeros_like(x),
    "boards": _boards,
    "label": _label,
    "print": lambda x, y, z, seed: np.clip(noise_at(x * 2 + 200 * seed, y * 2) - 0.3, 0, 1),
    "stripes": lambda x, y, z, seed: np.asarray(np.mod(z * (3 + 5 * seed), 2) < 1, np.float32),
    "tiles": lambda x, y, z, seed: 0.4 * ((np.mod(x, 30) < 1) | (np.mod(y, 30) < 1)),
    "checks": lambda x, y, z, seed: np.mod(np.floor(x / 20) + np.floor(y / 20), 2),
    "cloth": lambda x, y, z, seed: np.clip(0.4 + 0.3 * noise_at(x * 5, y * 5) + 0.2 * noise_at(x, y + 100 * seed), 0, 1),
    "stone": lambda x, y, z, seed: np.clip(0.5 + 0.2 * noise_at(x * 3, y * 3) + 0.25 * noise_at(x * 0.3 + 99 * seed, y * 0.3), 0, 1),
}


def paint(
    solids: Sequence[Solid],
    depth: np.ndarray,
    index: np.ndarray,
    rays: Rays,
    light: Light,
    shadows: Iterable[tuple[Rect, float, float]],
    rng: np.random.Generator,
) -> np.ndarray:
    """Return the uint8 (H, W, 3) image of what ``cast`` found.

    Args:
        solids: the solids of ``index``.
        depth: (H, W) metres.
        index: (H, W) number of the solid, -1 for the sky.
        rays: the rays of the image.
        light: the light.
        shadows: footprints of objects, the height of the plane below them, and their own height.
        rng: draws the sensor's noise.
    """
    height, width = depth.shape
    points = rays.directions * np.where(index >= 0, depth, 0) + rays.pose.position[:, None, None].astype(np.float32)  # (3, H, W)
    colour = np.empty((height * width, 3), np.float32)
    order = np.argsort(index, axis=None, kind="stable")
    numbers, starts = np.unique(index.ravel()[order], return_index=True)
    flat = points.reshape(3, -1)
    for number, where in zip(numbers.tolist(), np.split(order, starts[1:]), strict=True):
        if number < 0:
            up = np.clip(rays.directions[2].ravel()[where], 0, 1)
            colour[where] = np.asarray(light.sky, np.float32) * (1 - 0.35 * up[:, None])
        else:
            colour[where] = _shade(solids[number], flat[:, where], rays.pose.position, light)
    colour = colour.reshape(height, width, 3)
    for shadow in shadows:
        _add_shadow(colour, points, shadow, rays, light)
    return develop(colour, light.exposure, _noise_from_pool(colour.shape, rng))


@functools.cache
def _noise_pool() -> np.ndarray:
    return np.random.Generator(np.random.PCG64(20250102)).standard_normal(1 << 21, dtype=np.float32)


def _noise_from_pool(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Return noise of deviation 1 from a random place in a fixed pool, which is faster than drawing it."""
    count, pool = math.prod(shape), _noise_pool()
    if count >= len(pool):
        return rng.standard_normal(shape, dtype=np.float32)
    start = int(rng.integers(len(pool) - count))
    return pool[start : start + count].reshape(shape)


def _shade(solid: Solid, points: np.ndarray, eye: np.ndarray, light: Light) -> np.ndarray:
    """Return the (P, 3) colour of a solid at (3, P) points on it."""
    axes, half = solid.axes.astype(np.float32), solid.half.astype(np.float32)[:, None]
    local = axes.T @ (points - solid.center.astype(np.float32)[:, None])
    unit = local / half
    normal = axes @ (_gradient(solid, unit) / half)
    towards = np.einsum("ip,ip->p", normal, eye.astype(np.float32)[:, None] - points)
    normal *= np.sign(towards) / np.sqrt(np.einsum("ip,ip->p", normal, normal))
    lit = light.ambient * (0.8 + 0.2 * normal[2]) + (1 - light.ambient) * np.clip(light.direction.astype(np.float32) @ normal, 0, None)
    material = solid.material
    x, y, z = local / np.float32(material.grain_m)
    x, y = x + 0.37 * z, y + z  # every side shows both coordinates change
    share = PATTERNS[material.pattern](x, y, unit[2], material.seed)[:, None]
    base, accent = np.asarray(material.colour, np.float32), np.asarray(material.accent, np.float32)
    grain = 1 + 0.04 * noise_at(x + 77 * material.seed, y)
    shaded: np.ndarray = (base + np.clip(share, 0, 1) * (accent - base)) * (lit * grain)[:, None]
    return shaded


def _gradient(solid: Solid, unit: np.ndarray) -> np.ndarray:
    """Return the (3, P) direction out of the surface in unit coordinates: of the side or cap that (3, P) points are the nearest to."""
    x, y, z = unit
    if solid.shape == "box":
        (ax, qx), (ay, qy) = solid.slope(0), solid.slope(1)
        face = np.stack([np.abs(x) - (ax + qx * z), np.abs(y) - (ay + qy * z), np.abs(z) - 1]).argmax(0)
        tilt = np.where(face == 0, -qx, np.where(face == 1, -qy, np.sign(z)))
        return np.stack([np.sign(x) * (face == 0), np.sign(y) * (face == 1), tilt])
    if solid.shape == "frustum":
        a, q = solid.slope(0)
        radius = np.hypot(x, y)
        off = np.abs(radius - (a + q * z))
        if solid.num_open == 2:
            off = np.minimum(off, np.abs(radius - TUBE_HOLE * (a + q * z)))
        is_cap = np.abs(1 - np.abs(z)) < off
        return np.stack([x * ~is_cap, y * ~is_cap, np.where(is_cap, np.sign(z), -q * radius)])
    is_lid: np.ndarray = (np.abs(z) < 1e-3) & (np.hypot(x, y) < 0.99) if solid.shape == "dome" else np.zeros(x.shape, bool)
    return np.stack([x * ~is_lid, y * ~is_lid, np.where(is_lid, 1.0, z)])


def _add_shadow(colour: np.ndarray, points: np.ndarray, shadow: tuple[Rect, float, float], rays: Rays, light: Light) -> None:
    """Darken a supporting plane round a footprint: a narrow contact shadow and a wide soft one, moved away from the light."""
    rect, plane, height = shadow
    reach = 0.1 * max(rect.length, rect.width) + 0.3 * height
    corners = np.column_stack([rect.corners(2 * reach), np.full(4, plane)])
    u0, u1, v0, v1 = window_around(project(corners, rays.camera, rays.pose), rays.camera, margin=1, near_m=rays.near_m).tolist()
    x, y, z = points[:, v0:v1, u0:u1]
    if x.size == 0:
        return
    gain = np.ones_like(x)
    corner = 0.35 * min(rect.length, rect.width)  # the radius of the footprint's corners
    inner = rect.length / 2 - corner, rect.width / 2 - corner
    for dark, blur, shift in ((0.4, 0.15 * reach, 0.0), (0.35, reach, 0.5 * reach)):
        u, v = rect.to_local(x + np.float32(shift * light.direction[0]), y + np.float32(shift * light.direction[1]))
        away = np.maximum(np.hypot(np.maximum(np.abs(u) - inner[0], 0), np.maximum(np.abs(v) - inner[1], 0)) - corner, 0)
        gain *= 1 - np.float32(dark) * np.exp(away * away * np.float32(-1 / blur**2))
    colour[v0:v1, u0:u1] *= np.where(np.abs(z - plane) < 0.02 * reach + 1e-4, gain, 1)[..., None]
