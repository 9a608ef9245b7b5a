"""The stage of all worlds but the warehouse: things are placed so that they rest on what supports them, and a camera views them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from smolrgpt.data.worlds.caster import Material, Rays, Solid, cast, project
from smolrgpt.data.worlds.layouts import Rect
from smolrgpt.data.worlds.objects import LYING, Thing, ground_material, make_thing
from smolrgpt.data.worlds.paint import Light, paint
from smolrgpt.data.worlds.scene import MIN_VISIBLE_FRACTION, PlacedObject, Scene, draw_areas, find_visible
from smolrgpt.schema import Camera, CameraPose

#: Width to height of images: of cameras, phones and crops, upright too.
_FORMATS = (4 / 3, 4 / 3, 16 / 9, 16 / 9, 3 / 2, 1.0, 3 / 4, 9 / 16)
#: What is thinner occupies nothing: things stand on it, and partly on it, as if it were not there.
_FLAT_M = 0.005
#: Share of the scenes with twice as many things, for long lists of regions.
_CROWDED_SHARE = 0.2
_PLACE_TRIES = 25
_CAMERA_TRIES = 30
_SHOT_TRIES = 4
#: A scene shows at least so many objects that can be moved and counted.
MIN_OBJECTS = 3


@dataclass(frozen=True)
class Surface:
    """A flat area on which things stand: its outline from above, its height, the free height above it, and its host in ``Stage.taken``."""

    rect: Rect
    z: float
    headroom: float = math.inf
    host: int = -1


@dataclass(frozen=True)
class Shot:
    """The ranges, from low to high, that cameras of a world are drawn from; angles in degrees.

    Attributes:
        distance_m: to the point that the camera looks at.
        pitch: below the horizon.
        fov: of the longer side of the image.
        height_m: above z = 0.
        roll: deviation of the roll.
        least_m: nearest that anything may be.
        far_m: what is farther has no depth, like the sky.
    """

    distance_m: tuple[float, float]
    pitch: tuple[float, float]
    fov: tuple[float, float] = (30, 110)
    height_m: tuple[float, float] = (0.02, 1e3)
    roll: float = 4.0
    least_m: float = 0.1
    far_m: float = math.inf


@dataclass(eq=False)
class Stage:
    """The things of a scene while it is built.

    Attributes:
        rng: draws everything.
        solids: their parts, and the scenery.
        objects: those that may be asked about; number k owns the solids of ``owner`` k + 1.
        taken: what is occupied: footprint, lower and upper end.
        tops: number of the object -> the flat top on which others can be stacked.
        shadows: of ``paint.paint``.
        hosts: number of the object -> its index in ``taken``.
    """

    rng: np.random.Generator
    solids: list[Solid] = field(default_factory=list)
    objects: list[PlacedObject] = field(default_factory=list)
    taken: list[tuple[Rect, float, float]] = field(default_factory=list)
    tops: dict[int, Surface] = field(default_factory=dict)
    shadows: list[tuple[Rect, float, float]] = field(default_factory=list)
    hosts: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.crowding = 2 if self.rng.random() < _CROWDED_SHARE else 1

    def count(self, low: int, high: int) -> int:
        """Draw how many things to place, from ``low`` to below ``high``; twice as many in a crowded scene."""
        return self.crowding * int(self.rng.integers(low, high))

    def add_block(self, rect: Rect, z0: float, z1: float, material: Material, solid: bool = True) -> None:
        """Add an upright box of scenery; where it is not solid, things may stand in it."""
        center, half = np.array([rect.x, rect.y, (z0 + z1) / 2]), np.array([rect.length, rect.width, z1 - z0]) / 2
        cos, sin = math.cos(rect.yaw), math.sin(rect.yaw)
        self.solids.append(Solid("box", center, half, np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1.0]]), material=material))
        if solid:
            self.taken.append((rect, z0, z1))

    def add(self, thing: Thing, rect: Rect, z: float) -> int:
        """Put a thing down, wherever that is; return its number."""
        number, height = len(self.objects), thing.size_m[2]
        self.solids += thing.placed(rect.x, rect.y, z, rect.yaw, number + 1)
        self.objects.append(
            PlacedObject(thing.kind, rect, np.array([rect.x, rect.y, z + height / 2]), thing.size_m, name=thing.name, digits=3)
        )
        if height > _FLAT_M:
            self.hosts[number] = len(self.taken)
            self.taken.append((rect, z, z + height))
            self.shadows.append((rect, z, height))
        return number

    def is_free(self, rect: Rect, z0: float, z1: float, clearance: float, host: int = -1) -> bool:
        """Return whether nothing but the host, an index of ``taken``, is within the clearance of a box."""
        return not any(
            number != host and low < z1 - 1e-6 and z0 < high - 1e-6 and rect.overlaps(other, clearance)
            for number, (other, low, high) in enumerate(self.taken)
        )

    def place(self, thing: Thing, surface: Surface, spread: float = 0.5, yaw: float | None = None, clearance: float = 0.006) -> int | None:
        """Stand a thing on a surface where it is free; return its number, None where no place was found.

        spread: how far from the middle of the surface, as a share of its sides; yaw: in scene coordinates, by default any.
        """
        length, width, height = thing.size_m
        if height > surface.headroom:
            return None
        for _ in range(_PLACE_TRIES):
            u, v = self.rng.uniform(-spread, spread, 2) * (surface.rect.length, surface.rect.width)
            x, y = surface.rect.to_floor(u, v)
            rect = Rect(float(x), float(y), self.rng.uniform(0, 2 * math.pi) if yaw is None else yaw, length, width)
            a, b = surface.rect.to_local(*rect.corners().T)
            inside = (np.abs(a) <= surface.rect.length / 2).all() and (np.abs(b) <= surface.rect.width / 2).all()
            if inside and self.is_free(rect, surface.z, surface.z + height, clearance, surface.host):
                return self._settle(thing, rect, surface.z)
        return None

    def _settle(self, thing: Thing, rect: Rect, z: float) -> int:
        number = self.add(thing, rect, z)
        if thing.recipe.get("top"):
            round_share = 0.7 if any(part.shape != "box" for part in thing.solids) else 1.0
            top = Rect(rect.x, rect.y, rect.yaw, rect.length * round_share, rect.width * round_share)
            self.tops[number] = Surface(top, z + thing.size_m[2], host=self.hosts[number])
        return number

    def stack(self, thing: Thing) -> int | None:
        """Put a thing on one that has a flat top: its middle well inside, a little over the edge at most; None where none is free."""
        length, width, height = thing.size_m
        for base in self.rng.permutation(sorted(self.tops)).tolist():
            top = self.tops[base]
            if length * width > 2.0 * top.rect.length * top.rect.width or min(length, width) > 1.3 * min(top.rect.length, top.rect.width):
                continue
            u, v = self.rng.uniform(-0.15, 0.15, 2) * (top.rect.length, top.rect.width)
            x, y = top.rect.to_floor(u, v)
            turn = self.rng.choice([0, math.pi / 2]) + self.rng.normal(0, 0.15)
            rect = Rect(float(x), float(y), top.rect.yaw + turn, length, width)
            if self.is_free(rect, top.z, top.z + height, 0.003, top.host):
                del self.tops[base]
                return self._settle(thing, rect, top.z)
        return None

    def lean(self, thing: Thing, base: int) -> int | None:
        """Lean a box-like thing against the first side of a taller upright box; None where it does not fit."""
        wall = self.objects[base]
        _, width, height = thing.size_m
        angle = self.rng.uniform(0.15, 0.6)
        cos, sin = math.cos(angle), math.sin(angle)
        turned = thing.turned(np.array([[cos, 0, sin], [0, 1, 0], [-sin, 0, cos]]))  # its top moves to +x
        if height * cos > wall.size_m[2] or width > 2 * wall.footprint.width:
            return None
        return self._tilt(turned, wall, -wall.footprint.length / 2 - turned.size_m[0] / 2 - 5e-4, 2e-4, -1)

    def prop(self, thing: Thing, base: int) -> int | None:
        """Lay a flat thing with one end on the plane and the other across the edge of an upright one; None where it does not fit."""
        block, (length, width, height) = self.objects[base], thing.size_m
        away = self.rng.uniform(0.3, 0.8) * length  # of its lower end from the block
        angle = math.atan2(block.size_m[2], away)
        cos, sin = math.cos(angle), math.sin(angle)
        if base not in self.tops or not away / cos < 0.95 * length or width > 1.5 * block.footprint.width or height > 0.5 * length:
            return None
        turned = thing.turned(np.array([[cos, 0, -sin], [0, 1, 0], [sin, 0, cos]]))  # its +x end goes up
        number = self._tilt(turned, block, (length * cos - height * sin - block.footprint.length) / 2 - away, 1e-3, self.hosts[base])
        if number is not None:
            del self.tops[base]
        return number

    def _tilt(self, turned: Thing, base: PlacedObject, along: float, clearance: float, host: int) -> int | None:
        """Put down a turned thing in line with another one, if the place is free but for the host."""
        x, y = base.footprint.to_floor(along, 0.0)
        rect = Rect(float(x), float(y), base.footprint.yaw, *turned.size_m[:2])
        z = float(base.center_m[2] - base.size_m[2] / 2)
        if not self.is_free(rect, z, z + turned.size_m[2], clearance, host):
            return None
        number = self.add(turned, rect, z)
        self.objects[number].is_tilted = True
        return number

    def surfaces_of(self, number: int, thing: Thing) -> list[Surface]:
        """Return the boards of a thing that was put down, each with the free height up to the next one."""
        item, (length, width, height) = self.objects[number], thing.size_m
        boards = thing.recipe.get("boards", [])
        levels = sorted(board[4] for board in boards)
        found = []
        for x0, x1, y0, y1, level in boards:
            x, y = item.footprint.to_floor((x0 + x1) / 2 * length, (y0 + y1) / 2 * width)
            rect = Rect(float(x), float(y), item.footprint.yaw, (x1 - x0) * length, (y1 - y0) * width)
            above = [other for other in levels if other > level]
            headroom = (
                ((above[0] if above else 1.0) - level) * height * 0.88 if above or (0.05 < level < 0.9 and len(boards) > 1) else math.inf
            )
            z = float(item.center_m[2]) - height / 2 + level * height
            found.append(Surface(rect, z, headroom, self.hosts.get(number, -1)))
        return found

    def scatter(self, names: Sequence[str], surface: Surface, count: int, spread: float = 0.5, lying: float = 0.25) -> list[int]:
        """Place things of any of the recipes on a surface, others where one finds no place; some that may do so lie on their side."""
        found: list[int] = []
        for _ in range(3 * count):
            if len(found) == count:
                break
            thing = make_thing(str(self.rng.choice(names)), self.rng)
            if thing.recipe.get("lie") and self.rng.random() < lying:
                thing = thing.turned(LYING)
                thing = Thing(thing.name, thing.kind, thing.size_m, thing.solids, {})
            number = self.place(thing, surface, spread)
            found += [] if number is None else [number]
        return found

    def finish(self, size: tuple[int, int], shot: Shot, layout: str, light: Light, inside: Rect | None = None) -> Scene:
        """Return the scene of the first of a few cameras that shows enough.

        Args:
            size: width and height in pixels; the image has about as many.
            shot: the ranges of cameras.
            layout: the layout family.
            light: the light.
            inside: where the camera must be, seen from above.
        """
        owners_of = np.array([solid.owner for solid in self.solids] + [0], np.int16)
        for _ in range(_SHOT_TRIES):
            camera, pose = choose_camera(self, size, shot, inside)
            rays = Rays.of(camera, pose, 0.3 * shot.least_m)
            depth, index, full = cast(self.solids, rays, np.full((camera.height, camera.width), shot.far_m, np.float32))
            owners = owners_of[index]
            masks = ((owners == k + 1, int(np.count_nonzero(full[k + 1]))) for k in range(len(self.objects)))
            find_visible(self.objects, masks, camera, pose, MIN_VISIBLE_FRACTION)
            if sum(item.is_region and item.kind == "pallet" for item in self.objects) >= MIN_OBJECTS:
                break
        rgb = paint(self.solids, depth, index, rays, light, self.shadows, self.rng)
        depth[index < 0] = np.nan
        areas = draw_areas(self.objects, camera.width, camera.height, self.rng)
        return Scene(rgb, depth, owners, self.objects, camera, pose, layout, areas=areas)


def random_camera(size: tuple[int, int], fov_deg: tuple[float, float], rng: np.random.Generator) -> Camera:
    """Draw an image format of about as many pixels as ``size`` has, and a field of view of its longer side."""
    ratio = _FORMATS[int(rng.integers(len(_FORMATS)))]
    width, height = round(math.sqrt(size[0] * size[1] * ratio)), round(math.sqrt(size[0] * size[1] / ratio))
    focal = max(width, height) / 2 / math.tan(math.radians(rng.uniform(*fov_deg)) / 2)
    cx, cy = (width - 1) / 2 + rng.normal(0, 0.015) * width, (height - 1) / 2 + rng.normal(0, 0.015) * height
    return Camera(focal, focal * rng.uniform(0.98, 1.02), cx, cy, width, height)


def aim(target: np.ndarray, distance: float, pitch_deg: float, azimuth: float, roll_deg: float) -> CameraPose:
    """Return the pose of a camera that looks at a target from a distance."""
    pitch, roll = math.radians(pitch_deg), math.radians(roll_deg)
    forward = np.array([math.cos(pitch) * math.cos(azimuth), math.cos(pitch) * math.sin(azimuth), -math.sin(pitch)])
    level = np.array([math.sin(azimuth), -math.cos(azimuth), 0.0])
    right = math.cos(roll) * level + math.sin(roll) * np.cross(forward, level)
    return CameraPose(target - distance * forward, np.stack([right, np.cross(forward, right), forward]))


def choose_camera(stage: Stage, size: tuple[int, int], shot: Shot, inside: Rect | None = None) -> tuple[Camera, CameraPose]:
    """Return the best of a few random cameras: the one that shows most objects, large enough, from outside of all of them.

    inside: where the camera must be, seen from above.
    """
    rng = stage.rng
    centers = np.array([item.center_m for item in stage.objects])
    sizes = np.array([max(item.size_m) for item in stage.objects])
    best: tuple[float, Camera, CameraPose] | None = None
    for _ in range(_CAMERA_TRIES):
        camera = random_camera(size, shot.fov, rng)
        target = centers[int(rng.integers(len(centers)))] * 0.5 + centers.mean(0) * 0.5
        roll = rng.normal(0, shot.roll) if rng.random() < 0.93 else rng.uniform(-8, 8) * shot.roll
        distance = math.exp(rng.uniform(*np.log(shot.distance_m)))
        pose = aim(target, distance, rng.uniform(*shot.pitch), rng.uniform(0, 2 * math.pi), roll)
        x, y, z = pose.position
        if not shot.height_m[0] <= z <= shot.height_m[1] or (inside is not None and not inside.contains(x, y)):
            continue
        around = Rect(float(x), float(y), 0.0, 2 * shot.least_m, 2 * shot.least_m)
        if not stage.is_free(around, z - shot.least_m, z + shot.least_m, 0.0):
            continue
        column, row, depth = project(centers, camera, pose).T
        shown = (depth > shot.least_m) & (np.abs(column / camera.width - 0.5) < 0.46) & (np.abs(row / camera.height - 0.5) < 0.46)
        large = shown & (sizes / np.maximum(depth, 1e-3) * camera.fx > 0.04 * max(size))
        score = large.sum() / 12 + 0.2 * rng.random()
        if best is None or score > best[0]:
            best = score, camera, pose
        if score > 1.0:
            break
    if best is None:  # no place was free: from above
        camera, target = random_camera(size, shot.fov, rng), centers.mean(0)
        return camera, aim(target, max(shot.distance_m), max(shot.pitch), rng.uniform(0, 2 * math.pi), 0.0)
    return best[1], best[2]


def enclose(
    stage: Stage, rect: Rect, floor: float, height: float, floors: Sequence[str] = ("boards", "tiles", "cloth", "stone", "plain")
) -> None:
    """Add a floor, four walls and a ceiling round a rectangle."""
    rng = stage.rng
    thick = 0.1 * max(rect.length, rect.width)
    ground = ground_material(rng, 1.0, floors)
    stage.add_block(Rect(rect.x, rect.y, rect.yaw, rect.length + thick, rect.width + thick), floor - thick, floor, ground, solid=False)
    wall = ground_material(rng, 2.0, ("plain", "plain", "plain", "stone", "tiles", "stripes", "print"))
    for u, v, length, width in (
        (1, 0, thick, rect.width),
        (-1, 0, thick, rect.width),
        (0, 1, rect.length, thick),
        (0, -1, rect.length, thick),
    ):
        x, y = rect.to_floor(u * (rect.length + thick) / 2, v * (rect.width + thick) / 2)
        stage.add_block(Rect(float(x), float(y), rect.yaw, length, width), floor, floor + height, wall)
    stage.add_block(rect, floor + height, floor + height + thick, ground_material(rng, 2.0, ("plain",)), solid=False)
