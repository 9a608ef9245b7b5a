"""The ray caster, numpy only: exact planar depth, and which shape each pixel shows.

Shapes are upright boxes (``Box``: the slab test of the warehouse) and boxes, frustums and ellipsoids at any orientation (``Solid``). Every
shape tests only the pixels of its projection. Legend: H W image height and width in pixels, h w those of a window, N shapes. Lengths in
metres; images float32.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from smolrgpt.schema import Camera, CameraPose

PLAIN, CARTONS, SLATS, STRIPES, PLANKS = range(5)
Colour = tuple[float, float, float]
#: Rows and columns of an image that a shape covers.
Window = tuple[slice, slice]
_NEAR_M = 0.15
_NOISE_SIZE = 512
_FAR = np.float32(np.inf)
#: Inner radius of a tube, as a share of the outer one.
TUBE_HOLE = 0.82


@dataclass(frozen=True)
class Box:
    """An upright box: centre and half sizes in metres, yaw in radians, and the colours and pattern of its sides.

    ``owner`` is the instance it belongs to (0: scenery); ``cells`` are the numbers of cartons along x, y and z.
    """

    center: tuple[float, float, float]
    half: tuple[float, float, float]
    yaw: float
    colour: Colour
    style: int = PLAIN
    owner: int = 0
    cells: tuple[int, int, int] = (1, 1, 1)
    accent: Colour = (0.9, 0.9, 0.9)
    seed: float = 0.0

    @property
    def axes(self) -> np.ndarray:
        """Return the (3, 3) matrix whose columns are the box's axes."""
        cos, sin = math.cos(self.yaw), math.sin(self.yaw)
        return np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])

    def intersect(self, rays: Rays, window: Window) -> np.ndarray:
        """Return the depth of the nearest hit, (h, w) float32; inf where there is none."""
        cos, sin = math.cos(self.yaw), math.sin(self.yaw)
        ox, oy, oz = (float(v) - center for v, center in zip(rays.pose.position, self.center, strict=True))
        dx, dy = rays.directions[0][window], rays.directions[1][window]
        ix, iy, iz = 1 / (cos * dx + sin * dy), 1 / (cos * dy - sin * dx), rays.inverse_z[window]
        mx, my, mz = ix * -(cos * ox + sin * oy), iy * -(cos * oy - sin * ox), iz * -oz
        ex, ey, ez = np.abs(ix) * self.half[0], np.abs(iy) * self.half[1], np.abs(iz) * self.half[2]
        near = np.maximum(np.maximum(mx - ex, my - ey), mz - ez)
        far = np.minimum(np.minimum(mx + ex, my + ey), mz + ez)
        return np.where((near < far) & (near > rays.near_m), near, _FAR)


@dataclass(frozen=True)
class Material:
    """The look of a surface: two colours, a pattern (a name of ``paint.PATTERNS``), its grain in metres, and a seed."""

    colour: Colour = (0.6, 0.6, 0.6)
    accent: Colour = (0.9, 0.9, 0.9)
    pattern: str = "plain"
    grain_m: float = 0.01
    seed: float = 0.0


@dataclass(frozen=True, eq=False)
class Solid:
    """A box, a frustum (cylinder, cone) or an ellipsoid at any orientation.

    Attributes:
        shape: what it is. A "bowl" is the lower half of an ellipsoid, ``half[2]`` deep below its ``center``; a "dome" has a lid on it.
        center: (3,) middle in scene coordinates.
        half: (3,) half sizes along its own axes.
        axes: (3, 3), the columns are its own axes in scene coordinates.
        bottom, top: shares of ``half`` along x and y at the lower and the upper end of a box or frustum; a frustum uses the first.
        num_open: ends of a frustum without a cap: 0, 1 (the upper one: a cup, with thin walls) or 2 (a tube).
        material: its look.
        owner: the instance that it belongs to; 0 for scenery.
    """

    shape: Literal["box", "frustum", "ellipsoid", "bowl", "dome"]
    center: np.ndarray
    half: np.ndarray
    axes: np.ndarray
    bottom: tuple[float, float] = (1.0, 1.0)
    top: tuple[float, float] = (1.0, 1.0)
    num_open: int = 0
    material: Material = Material()
    owner: int = 0

    def slope(self, axis: int) -> tuple[float, float]:
        """Return (a, q): its half size along x or y is a + q z in units of ``half``, for z from -1 to 1."""
        return (self.bottom[axis] + self.top[axis]) / 2, (self.top[axis] - self.bottom[axis]) / 2

    def intersect(self, rays: Rays, window: Window) -> np.ndarray:
        """Return the depth of the nearest hit, (h, w) float32; inf where there is none."""
        to_unit = self.axes.T / self.half[:, None]
        step = to_unit @ rays.pose.axes.T  # columns: along the image's x, along its y, along the optical axis
        center = rays.pose.to_camera(self.center)
        start = max(float(center[2]), 0.0)  # rays are followed from the plane of the centre, where float32 is exact
        origin = -to_unit @ rays.pose.axes.T @ (center - [0, 0, start])
        u, v = rays.u[window[1]], rays.v[window[0]]
        d, p = (np.empty((3, len(v), len(u)), np.float32) for _ in range(2))
        for axis, (a, b, c) in enumerate(step.tolist()):
            np.add((a * u + c).astype(np.float32), (b * v).astype(np.float32)[:, None], out=d[axis])
            np.add((start * a * u + origin[axis]).astype(np.float32), (start * b * v).astype(np.float32)[:, None], out=p[axis])
        hits = _HITS[self.shape](self, p, d)
        limit = np.float32(rays.near_m - start)
        nearest = functools.reduce(np.minimum, [np.where(is_hit & (s > limit), s, _FAR) for s, is_hit in hits])
        return nearest + np.float32(start)


#: Candidates of a nearest hit: the steps along the ray, and where they are on the shape; both (h, w).
_Hits = list[tuple[np.ndarray, np.ndarray]]


def _hit_box(solid: Solid, p: np.ndarray, d: np.ndarray) -> _Hits:
    """Intersect rays p + s d (3, h, w) in unit coordinates with six planes."""
    inverse = 1 / d[2]
    middle, reach = -p[2] * inverse, np.abs(inverse)
    near, far = middle - reach, middle + reach
    for axis in (0, 1):
        a, q = solid.slope(axis)
        if q == 0:
            inverse = 1 / d[axis]
            middle, reach = -p[axis] * inverse, np.float32(a) * np.abs(inverse)
            near, far = np.maximum(near, middle - reach), np.minimum(far, middle + reach)
            continue
        for sign in (1, -1):
            along, rest = sign * d[axis] - q * d[2], a + q * p[2] - sign * p[axis]  # inside where s * along <= rest
            s = rest / along
            near, far = np.where(along < 0, np.maximum(near, s), near), np.where(along < 0, far, np.minimum(far, s))
    return [(near, near < far)]


def _hit_frustum(solid: Solid, p: np.ndarray, d: np.ndarray) -> _Hits:
    a, q = solid.slope(0)
    is_tube = solid.num_open == 2
    hits = _hit_side(p, d, a, q)
    if is_tube:
        hits += _hit_side(p, d, a * TUBE_HOLE, q * TUBE_HOLE)
    foot = -0.96 if solid.num_open == 1 else -1.0  # the foot of a cup is above what it stands on
    caps = [(foot, solid.bottom[0]), (1.0, solid.top[0])][: 1 if solid.num_open == 1 else 2]
    for z, r in caps:
        s = (z - p[2]) / d[2]
        square = (p[0] + s * d[0]) ** 2 + (p[1] + s * d[1]) ** 2
        hits.append((s, (square <= r * r) & (square >= (r * TUBE_HOLE) ** 2) if is_tube else square <= r * r))
    return hits


def _hit_side(p: np.ndarray, d: np.ndarray, a: float, q: float) -> _Hits:
    """Intersect rays with the side of a frustum of radius a + q z."""
    radius = a + q * p[2]
    square = d[0] ** 2 + d[1] ** 2 - q * q * d[2] ** 2
    half_b = p[0] * d[0] + p[1] * d[1] - q * d[2] * radius
    disc = half_b**2 - square * (p[0] ** 2 + p[1] ** 2 - radius**2)
    root = np.sqrt(np.maximum(disc, 0))
    steps = [(-half_b - root) / square, (-half_b + root) / square]
    return [(s, (disc > 0) & (np.abs(p[2] + s * d[2]) <= 1)) for s in steps]


def _hit_ellipsoid(solid: Solid, p: np.ndarray, d: np.ndarray) -> _Hits:
    square, half_b = (d * d).sum(0), (p * d).sum(0)
    disc = half_b**2 - square * ((p * p).sum(0) - 1)
    root = np.sqrt(np.maximum(disc, 0))
    sides = [(-half_b - root) / square, (-half_b + root) / square]
    if solid.shape == "ellipsoid":
        return [(sides[0], disc > 0)]
    hits = [(s, (disc > 0) & (p[2] + s * d[2] <= 0)) for s in sides[: 2 if solid.shape == "bowl" else 1]]
    if solid.shape == "dome":
        s = -p[2] / d[2]
        hits.append((s, (p[0] + s * d[0]) ** 2 + (p[1] + s * d[1]) ** 2 <= 1))
    return hits


_HITS = {"box": _hit_box, "frustum": _hit_frustum, "ellipsoid": _hit_ellipsoid, "bowl": _hit_ellipsoid, "dome": _hit_ellipsoid}


@dataclass(frozen=True, eq=False)
class Rays:
    """The rays of an image: unit steps along the optical axis, so that the ray parameter is planar depth.

    Attributes:
        camera: intrinsics of the image.
        pose: where the camera is.
        u, v: (W,) and (H,) float64, x / z and y / z of the columns and rows in camera coordinates.
        directions: (3, H, W) float32 in scene coordinates.
        inverse_z: (H, W) float32, 1 / the third direction.
        near_m: least depth of a hit.
    """

    camera: Camera
    pose: CameraPose
    u: np.ndarray
    v: np.ndarray
    directions: np.ndarray
    inverse_z: np.ndarray
    near_m: float = _NEAR_M

    @classmethod
    def of(cls, camera: Camera, pose: CameraPose, near_m: float = _NEAR_M) -> Rays:
        """Return the rays of a camera."""
        x = (np.arange(camera.width) - camera.cx) / camera.fx
        y = (np.arange(camera.height) - camera.cy) / camera.fy
        right, down, forward = pose.axes
        rays = x[None, None, :] * right[:, None, None] + y[None, :, None] * down[:, None, None] + forward[:, None, None]
        directions = rays.astype(np.float32)
        with np.errstate(divide="ignore"):
            return cls(camera, pose, x, y, directions, 1 / directions[2], near_m)


def cast(shapes: Sequence[Box | Solid], rays: Rays, back: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Find the nearest shape of every pixel.

    Args:
        shapes: everything in the scene.
        rays: the rays of the image.
        back: (H, W) float32, the depth of what is behind all shapes; inf for nothing.

    Returns:
        depth float32 (H, W); the number of the shape int16 (H, W), -1 for none; and (owners + 1, H, W) bool, the pixels that each owner
        would cover were it alone.
    """
    depth, index = back.copy(), np.full(back.shape, -1, np.int16)
    full = np.zeros((max(shape.owner for shape in shapes) + 1, *back.shape), bool)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        for number, (shape, (u0, u1, v0, v1)) in enumerate(zip(shapes, _windows(shapes, rays).tolist(), strict=True)):
            if u1 <= u0 or v1 <= v0:
                continue
            window = slice(v0, v1), slice(u0, u1)
            near = shape.intersect(rays, window)
            if shape.owner:
                full[shape.owner][window] |= near < _FAR
            hit = near < depth[window]
            np.copyto(depth[window], near, where=hit)
            np.copyto(index[window], np.int16(number), where=hit)
    return depth, index, full


def project(points: np.ndarray, camera: Camera, pose: CameraPose) -> np.ndarray:
    """Convert (..., 3) scene coordinates to (..., 3): pixel column, row, and depth in metres (negative behind the camera)."""
    local = pose.to_camera(points)
    z = np.where(np.abs(local[..., 2]) < 1e-6, 1e-6, local[..., 2])
    return np.stack([local[..., 0] / z * camera.fx + camera.cx, local[..., 1] / z * camera.fy + camera.cy, local[..., 2]], axis=-1)


def _windows(shapes: Sequence[Box | Solid], rays: Rays) -> np.ndarray:
    """Return (N, 4) int: u0, u1, v0, v1 of each shape's projection, clipped; the whole frame for shapes that reach behind the camera."""
    signs = np.array([(a, b, c) for a in (-1, 1) for b in (-1, 1) for c in (-1, 1)])
    local = signs[None] * np.array([shape.half for shape in shapes])[:, None]  # (N, 8, 3)
    axes, center = np.array([shape.axes for shape in shapes]), np.array([shape.center for shape in shapes])
    corners = np.einsum("nij,nkj->nki", axes, local) + center[:, None]
    return window_around(project(corners, rays.camera, rays.pose), rays.camera, margin=1, near_m=rays.near_m)


def window_around(projected: np.ndarray, camera: Camera, margin: int, near_m: float = _NEAR_M) -> np.ndarray:
    """Return the (..., 4) int windows u0, u1, v0, v1 around (..., K, 3) projected corners."""
    size = np.array([camera.width, camera.height])
    low = np.clip(np.floor(projected[..., :2].min(-2)) - margin, 0, size)
    high = np.clip(np.ceil(projected[..., :2].max(-2)) + 1 + margin, 0, size)
    nearest, farthest = projected[..., 2].min(-1, keepdims=True), projected[..., 2].max(-1, keepdims=True)
    low = np.where(nearest < near_m, 0, low)
    high = np.where(nearest < near_m, size, high)
    high = np.where(farthest < near_m, 0, high)
    return np.stack([low[..., 0], high[..., 0], low[..., 1], high[..., 1]], -1).astype(int)


@functools.cache
def _noise() -> np.ndarray:
    """Return an (S, S) float32 tile of 1/f noise, mean 0, deviation 1, periodic."""
    rng = np.random.Generator(np.random.PCG64(20250101))
    frequency = np.hypot(np.fft.fftfreq(_NOISE_SIZE)[:, None], np.fft.rfftfreq(_NOISE_SIZE)[None])
    frequency[0, 0] = 1
    spectrum = np.fft.rfft2(rng.standard_normal((_NOISE_SIZE, _NOISE_SIZE))) / frequency**1.1
    spectrum[0, 0] = 0
    tile = np.fft.irfft2(spectrum, (_NOISE_SIZE, _NOISE_SIZE))
    unit: np.ndarray = (tile / tile.std()).astype(np.float32)
    return unit


def noise_at(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return smooth noise (mean 0, deviation 1) at positions in units of a tile's pixel."""
    wrap = _NOISE_SIZE - 1
    found: np.ndarray = _noise()[x.astype(np.int32) & wrap, y.astype(np.int32) & wrap]
    return found
