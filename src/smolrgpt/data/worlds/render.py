"""The look of a warehouse, numpy only: boxes in a room with a painted floor. Colours are computed once for all visible pixels.

Legend: H W image height and width in pixels, N boxes, P pixels. Lengths in metres, colours linear in [0, 1], all arrays float32.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import numpy as np

from smolrgpt.data.worlds.caster import CARTONS, PLANKS, SLATS, STRIPES, Box, Colour, Rays, cast, noise_at, project, window_around
from smolrgpt.data.worlds.layouts import Rect
from smolrgpt.data.worlds.paint import Exposure, develop
from smolrgpt.schema import Camera, CameraPose

_BIG = np.float32(1e9)


@dataclass(frozen=True)
class Look(Exposure):
    """The appearance of an image: light, colours, textures and noise."""

    light: np.ndarray  # (3,) towards the light
    ambient: float
    floor: Colour
    wall: Colour
    stripe: Colour
    paint: Colour
    line_width_m: float
    joint_m: float
    joint_yaw: float
    offset: np.ndarray  # (2,) of the floor's texture


@dataclass(frozen=True)
class Room:
    """Floor rectangle [x0, x1] x [y0, y1] and ceiling height; the camera is inside."""

    x0: float
    x1: float
    y0: float
    y1: float
    height: float


@dataclass
class Rendering:
    """rgb uint8 (H, W, 3); depth_m float32 (H, W) along the optical axis; owners int16 (H, W); full: pixels of each owner were it alone.

    floor_xy float32 (2, H, W): floor coordinates under each pixel if nothing stood there; on_floor bool (H, W): nothing does.
    bare_floor bool (H, W): the floor would be visible there if nothing stood on it.
    """

    rgb: np.ndarray
    depth_m: np.ndarray
    owners: np.ndarray
    full: np.ndarray
    floor_xy: np.ndarray
    on_floor: np.ndarray
    bare_floor: np.ndarray


def render(
    boxes: list[Box],
    room: Room,
    outlines: list[Rect],
    shadows: list[tuple[Rect, float]],
    camera: Camera,
    pose: CameraPose,
    look: Look,
    rng: np.random.Generator,
) -> Rendering:
    """Draw boxes in a room.

    Args:
        boxes: everything that stands or hangs in the room.
        room: the floor, the walls and the ceiling.
        outlines: yellow rectangles on the floor.
        shadows: footprints with the height of what stands on them.
        camera: intrinsics of the image.
        pose: where the camera is.
        look: light and colours.
        rng: draws the sensor's noise.
    """
    image_rays = Rays.of(camera, pose)
    rays, inverse_z = image_rays.directions, image_rays.inverse_z
    with np.errstate(divide="ignore", invalid="ignore"):
        back, surface = _room_depth(rays, inverse_z, room, pose)
    depth, index, full = cast(boxes, image_rays, back)
    floor_t = np.where(rays[2] < -1e-6, -pose.position[2] * inverse_z, _BIG).astype(np.float32)
    floor_xy = np.stack([pose.position[k] + np.minimum(floor_t, 1e4) * rays[k] for k in (0, 1)]).astype(np.float32)
    colour = np.empty((*depth.shape, 3), np.float32)
    shown = index < 0
    bare_floor = surface == 0
    on_floor = shown & bare_floor
    ground = _ground(floor_xy, floor_t, outlines, shadows, camera, pose, look)
    colour[on_floor] = ground[on_floor]
    _paint_walls(colour, shown & ~bare_floor, surface, depth, rays, pose, look)
    _paint_boxes(colour, index, depth, rays, boxes, camera, pose, look)
    owner_of = np.array([box.owner for box in boxes] + [0], np.int16)
    noise = np.asarray(rng.standard_normal(colour.shape, dtype=np.float32))
    rgb = develop(colour, look, noise)
    return Rendering(rgb, depth, owner_of[index], full, floor_xy, on_floor, bare_floor)


def _room_depth(rays: np.ndarray, inverse_z: np.ndarray, room: Room, pose: CameraPose) -> tuple[np.ndarray, np.ndarray]:
    """Return the depth of the bare room and which surface it is: 0 floor, 1 wall across x, 2 wall across y, 3 ceiling."""
    x, y, z = (float(v) for v in pose.position)
    tz = np.where(rays[2] < 0, -z * inverse_z, (room.height - z) * inverse_z)
    tx = np.where(rays[0] > 0, room.x1 - x, room.x0 - x) / rays[0]
    ty = np.where(rays[1] > 0, room.y1 - y, room.y0 - y) / rays[1]
    depth = np.minimum(np.minimum(tx, ty), tz).astype(np.float32)
    surface = np.where(depth == tz.astype(np.float32), np.where(rays[2] < 0, 0, 3), np.where(tx < ty, 1, 2)).astype(np.int8)
    return depth, surface


def _ground(
    floor_xy: np.ndarray,
    floor_t: np.ndarray,
    outlines: list[Rect],
    shadows: list[tuple[Rect, float]],
    camera: Camera,
    pose: CameraPose,
    look: Look,
) -> np.ndarray:
    """Return the (H, W, 3) colour of the floor: concrete, joints, yellow outlines, contact shadows."""
    x, y = np.clip(floor_xy, -2e3, 2e3)
    footprint = np.minimum(floor_t, 100) / np.float32(camera.fx)  # metres a pixel spans
    grain = noise_at(x * 37 + look.offset[0], y * 37 + look.offset[1])
    cloud = noise_at(x * 7 + look.offset[1], y * 7 + look.offset[0])
    shade = 1 + 0.045 * grain + 0.075 * cloud
    cos, sin = math.cos(look.joint_yaw), math.sin(look.joint_yaw)
    for along in (cos * x + sin * y, cos * y - sin * x):
        distance = np.abs(np.mod(along, look.joint_m) - look.joint_m / 2)
        shade *= 1 - 0.35 * np.clip((0.012 + footprint * 0.5 - distance) / footprint, 0, 1) * np.minimum(1, 0.03 / footprint)
    for rect, height in shadows:
        _add_shadow(shade, floor_xy, rect, height, camera, pose, look)
    paint = np.zeros_like(shade)
    for rect in outlines:
        _add_outline(paint, floor_xy, footprint, rect, camera, pose, look)
    paint *= np.clip(1.02 + 0.04 * grain, 0, 1)
    floor, yellow = np.asarray(look.floor, np.float32), np.asarray(look.paint, np.float32)
    ground: np.ndarray = (floor + paint[..., None] * (yellow - floor)) * shade[..., None]
    return ground


def _floor_window(rect: Rect, inflate: float, camera: Camera, pose: CameraPose) -> tuple[slice, slice]:
    corners = np.concatenate([rect.corners(inflate), np.zeros((4, 1))], axis=1)
    u0, u1, v0, v1 = window_around(project(corners, camera, pose), camera, margin=2).tolist()
    return slice(v0, v1), slice(u0, u1)


def _add_shadow(shade: np.ndarray, floor_xy: np.ndarray, rect: Rect, height: float, camera: Camera, pose: CameraPose, look: Look) -> None:
    """Darken round a footprint: a narrow contact shadow and a wide soft one, moved away from the light."""
    reach = 0.15 + 0.25 * height
    window = _floor_window(rect, 0.1 + 2.2 * reach, camera, pose)  # beyond, the shadow is below one grey level
    x, y = floor_xy[0][window], floor_xy[1][window]
    if x.size == 0:
        return
    for dark, blur, shift in ((0.45, 0.07, 0.0), (0.38, reach, 0.35 * reach)):
        u, v = rect.to_local(x + np.float32(shift * look.light[0]), y + np.float32(shift * look.light[1]))
        a, b = np.maximum(np.abs(u) - rect.length / 2, 0), np.maximum(np.abs(v) - rect.width / 2, 0)
        shade[window] *= 1 - np.float32(dark) * np.exp((a * a + b * b) * np.float32(-1 / blur**2))


def _add_outline(
    paint: np.ndarray, floor_xy: np.ndarray, footprint: np.ndarray, rect: Rect, camera: Camera, pose: CameraPose, look: Look
) -> None:
    window = _floor_window(rect, 0.3, camera, pose)
    x, y = floor_xy[0][window], floor_xy[1][window]
    u, v = rect.to_local(x, y)
    half = look.line_width_m / 2
    inset = np.maximum(np.abs(u) - rect.length / 2, np.abs(v) - rect.width / 2) + half  # the outline's outer edge is the region's edge
    span = np.minimum(footprint[window], 0.3)
    paint[window] = np.maximum(paint[window], np.clip((half - np.abs(inset)) / span + 0.5, 0, 1))


def _paint_walls(
    colour: np.ndarray, shown: np.ndarray, surface: np.ndarray, depth: np.ndarray, rays: np.ndarray, pose: CameraPose, look: Look
) -> None:
    """Paint the walls: white plinth, a coloured stripe, ribbed sheet above."""
    if not shown.any():
        return
    t, kind = depth[shown], surface[shown]
    x, y, z = (pose.position[k] + t * rays[k][shown] for k in range(3))
    along = np.where(kind == 1, y, x)
    ribs = 1 - 0.16 * (np.mod(along, 0.32) < 0.05) * (z > 1.3)
    level = np.where(kind == 1, 0.86, 0.98) * ribs * (1 + 0.03 * noise_at(along * 9, z * 9))
    level = np.where(kind == 3, 0.45, level) * (0.72 + 0.28 * np.minimum(z, 1.0))
    striped = (z > 0.95) & (z < 1.3) & (kind != 3)
    base = np.where(striped[:, None], np.asarray(look.stripe, np.float32), np.asarray(look.wall, np.float32))
    colour[shown] = base * level[:, None]


@dataclass(frozen=True)
class _Surface:
    """The positions of P pixels on their boxes, all (P,).

    u, v: position on the face in [0, 1]; size_u, size_v: metres of the face; cells_u, cells_v: cartons along it; face: the axis that the
    face is across; seed: of the box; span: metres that the pixel covers.
    """

    u: np.ndarray
    v: np.ndarray
    size_u: np.ndarray
    size_v: np.ndarray
    cells_u: np.ndarray
    cells_v: np.ndarray
    face: np.ndarray
    seed: np.ndarray
    span: np.ndarray

    def at(self, where: np.ndarray) -> _Surface:
        """Return the surface at the pixels of a (P,) mask."""
        return _Surface(*(getattr(self, part.name)[where] for part in fields(self)))


def _paint_boxes(
    colour: np.ndarray,
    index: np.ndarray,
    depth: np.ndarray,
    rays: np.ndarray,
    boxes: list[Box],
    camera: Camera,
    pose: CameraPose,
    look: Look,
) -> None:
    shown = index >= 0
    if not shown.any():
        return
    which, t = index[shown], depth[shown]
    table = np.array(
        [(*b.center, math.cos(b.yaw), math.sin(b.yaw), *b.half, *b.colour, *b.accent, *b.cells, b.style, b.seed) for b in boxes], np.float32
    ).T[:, which]  # (19, P)
    x, y, z = (pose.position[k].astype(np.float32) + t * rays[k][shown] - table[k] for k in range(3))
    cos, sin = table[3], table[4]
    local = np.stack([cos * x + sin * y, cos * y - sin * x, z])  # (3, P)
    half, cells, style, seed = table[5:8], table[14:17], table[17], table[18]
    unit = local / half
    face = np.abs(unit).argmax(0)
    pixels = np.arange(len(which))
    side = np.sign(unit[face, pixels])
    normal = np.stack([np.where(face == 0, cos * side, np.where(face == 1, -sin * side, 0)),
                       np.where(face == 0, sin * side, np.where(face == 1, cos * side, 0)),
                       np.where(face == 2, side, 0)])  # fmt: skip
    lit = look.ambient + (1 - look.ambient) * np.clip(sum(float(look.light[k]) * normal[k] for k in range(3)), 0, None)
    lit *= 0.86 + 0.14 * np.clip((local[2] + half[2]) / 0.6, 0, 1)  # less light reaches the foot
    axis_u, axis_v = np.where(face == 0, 1, 0), np.where(face == 2, 1, 2)
    size_u, size_v = 2 * half[axis_u, pixels], 2 * half[axis_v, pixels]
    u, v = (unit[axis_u, pixels] + 1) / 2, (unit[axis_v, pixels] + 1) / 2
    base = table[8:11].copy()
    cells_u, cells_v = cells[axis_u, pixels], cells[axis_v, pixels]
    surface = _Surface(u, v, size_u, size_v, cells_u, cells_v, face, seed, t / np.float32(camera.fx))
    _cartons(base, lit, style == CARTONS, surface, table[11:14])
    _slats(lit, style == SLATS, surface)
    striped = (style == STRIPES) & (np.mod(local[2] + 0.4 * (u - 0.5) * size_u, 0.36) < 0.18) & (z + table[2] < 1.4)
    base[:, striped] = np.array([[0.85], [0.65], [0.05]], np.float32)
    planks = style == PLANKS
    lit *= np.where(planks & (np.mod(v * size_v, 0.14) < 0.018), 0.6, 1)
    colour[shown] = (base * lit).T


def _cartons(base: np.ndarray, lit: np.ndarray, where: np.ndarray, surface: _Surface, label: np.ndarray) -> None:
    """Paint cartons in place: seams, a brightness of its own for each, a strip of tape on top, white labels on some."""
    if not where.any():
        return
    part = surface.at(where)
    u, v, cells_u, cells_v, seed, span, top = part.u, part.v, part.cells_u, part.cells_v, part.seed, part.span, part.face == 2
    cell_u, cell_v = u * cells_u, v * cells_v
    i, j = np.minimum(np.floor(cell_u), cells_u - 1), np.minimum(np.floor(cell_v), cells_v - 1)
    fu, fv = cell_u - i, cell_v - j
    wide, tall = part.size_u / cells_u, part.size_v / cells_v
    chance = np.mod(np.sin(i * 12.9898 + j * 78.233 + seed * 37.719 + part.face * 4.1) * 437.585, 1)
    edge = np.minimum(np.minimum(fu, 1 - fu) * wide, np.minimum(fv, 1 - fv) * tall)
    seam = np.clip((0.008 + span * 0.5 - edge) / span, 0, 1) * np.minimum(1, 0.022 / span)
    gain = (0.9 + 0.2 * chance) * (1 - 0.55 * seam)
    tape = (np.abs(fv - 0.5) * tall < 0.028) & (top | (fu < 0.12) | (fu > 0.88))
    gain = np.where(tape, gain * np.where(seed > 0.5, 1.14, 0.82), gain)
    print_ = (chance < 0.5) & (np.abs(fu - 0.68) < 0.1) & (np.abs(fv - 0.3) < 0.05)
    gain = np.where(print_, gain * 0.6, gain)
    lit[where] *= gain
    sticker = np.flatnonzero(where)[(chance > 0.62) & (np.abs(fu - 0.3) < 0.13) & (np.abs(fv - 0.68) < 0.09)]
    base[:, sticker] = label[:, sticker]


def _slats(lit: np.ndarray, where: np.ndarray, surface: _Surface) -> None:
    """Paint a pallet in place: boards with gaps on top, three feet with openings at the sides."""
    if not where.any():
        return
    top = surface.face == 2
    boards = np.mod(surface.u * surface.size_u, 0.19) > 0.15
    opening = (np.abs(np.abs(surface.u - 0.5) - 0.24) < 0.13) & (surface.v < 0.72)
    lit *= np.where(where & np.where(top, boards, opening), np.where(top, 0.55, 0.35), 1)
