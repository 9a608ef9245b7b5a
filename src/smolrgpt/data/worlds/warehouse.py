"""The warehouse: one scene of pallets, buffers, transporters and shelves in front of one camera.

Scene coordinates: metres, z up, the floor at z = 0. Camera coordinates: x right, y down, z forward (planar depth).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from smolrgpt.data.worlds.caster import STRIPES, Box, project
from smolrgpt.data.worlds.furniture import add_clutter, add_overhead, add_pallet, add_shelf, add_transporter
from smolrgpt.data.worlds.layouts import CLEARANCE_M, Plan, Rect, make_plan
from smolrgpt.data.worlds.render import Look, Rendering, Room, render
from smolrgpt.data.worlds.scene import MIN_VISIBLE_FRACTION, PlacedObject, Scene, find_visible
from smolrgpt.schema import Camera, CameraPose

_CAMERA_TRIES = 24


@dataclass(frozen=True)
class View:
    """The ranges, from low to high, that cameras are drawn from.

    Attributes:
        pitch_deg: pitch below the horizon.
        height_m: height above the floor.
        distance_m: distance to the middle of all objects.
        fov_deg: horizontal field of view; a distant camera shows all objects in a narrow one.
    """

    pitch_deg: tuple[float, float] = (25, 65)
    height_m: tuple[float, float] = (3.0, 9.0)
    distance_m: tuple[float, float] = (6.5, 15)
    fov_deg: tuple[float, float] = (50, 90)


#: Cameras by name. "usual" is the one of all training sets; the others lie outside of it, to test on.
VIEWS: dict[str, View] = {
    "usual": View(),
    "low": View(pitch_deg=(10, 22), height_m=(1.4, 2.8)),
    "steep": View(pitch_deg=(68, 88), height_m=(6.0, 12.0)),
    "high": View(pitch_deg=(35, 65), height_m=(10.0, 16.0), distance_m=(14, 20)),
    "far": View(pitch_deg=(25, 50), height_m=(8.0, 20.0), distance_m=(18, 28), fov_deg=(25, 48)),
    "wide": View(distance_m=(4.0, 6.0), height_m=(2.0, 5.5), fov_deg=(95, 115)),
}


@dataclass(frozen=True)
class Surroundings:
    """Extra objects, pillars, light and colours of a scene, relative to a usual one.

    Attributes:
        clutter: fewest and most extra objects that are scattered among the pallets.
        posts: fewest and most extra pillars between the pallets.
        min_visible: share of an object that must be visible for it to become a region.
        exposure: times the exposure of a usual scene.
        ambient: times the ambient light of a usual scene.
        noise: times the noise of a usual scene.
        painted: whether floor, walls and light have any colour.
    """

    clutter: tuple[int, int] = (0, 0)
    posts: tuple[int, int] = (0, 0)
    min_visible: float = MIN_VISIBLE_FRACTION
    exposure: float = 1.0
    ambient: float = 1.0
    noise: float = 1.0
    painted: bool = False


#: Surroundings by name. "usual" are those of all training sets; the others lie outside of them, to test on.
SURROUNDINGS: dict[str, Surroundings] = {
    "usual": Surroundings(),
    "cluttered": Surroundings(clutter=(12, 24)),
    "hidden": Surroundings(posts=(10, 20), min_visible=0.1),
    "dim": Surroundings(exposure=0.3, noise=3.0),
    "harsh": Surroundings(exposure=1.5, ambient=0.25),
    "painted": Surroundings(painted=True),
}


def is_rich(scene: Scene) -> bool:
    """Return whether a scene shows enough to ask all kinds of questions about it."""
    return len(scene.of_kind("pallet")) >= 3 and len(scene.of_kind("buffer")) >= 2 and len(scene.of_kind("transporter")) >= 1


def draw(layout: str, size: tuple[int, int], rng: np.random.Generator, view: str = "usual", surroundings: str = "usual") -> Scene:
    """Draw a scene of a layout family; ``view`` and ``surroundings`` are names of ``VIEWS`` and ``SURROUNDINGS``."""
    return _draw(layout, size, VIEWS[view], SURROUNDINGS[surroundings], rng)


def _draw(layout: str, size: tuple[int, int], view: View, surroundings: Surroundings, rng: np.random.Generator) -> Scene:
    plan = make_plan(layout, rng)
    camera, pose = _camera(plan, size, view, rng)
    extra_rng = rng.spawn(1)[0]  # its own stream: the scene of a seed is the same except for what its surroundings add
    plan.clutter += _strewn(plan, surroundings.clutter, (0.4, 1.2), extra_rng)
    posts = _strewn(plan, surroundings.posts, (0.2, 0.35), extra_rng)
    boxes: list[Box] = []
    objects = _furnish(plan, boxes, rng)
    look = _relit(_look(rng), surroundings, extra_rng)
    for rect in plan.clutter:
        add_clutter(boxes, rect, rng)
    room = _room(plan, pose, rng)
    _add_pillars(boxes, plan, room, pose, look, rng)
    for rect in posts:
        if math.hypot(rect.x - pose.position[0], rect.y - pose.position[1]) > 2.0:
            boxes.append(Box((rect.x, rect.y, 1.5), (rect.length / 2, rect.width / 2, 1.5), rect.yaw, look.wall, STRIPES))
    add_overhead(boxes, camera, pose, rng)
    lanes = _lanes(plan, rng)
    shadows = [(item.footprint, item.size_m[2]) for item in objects if item.kind != "buffer"]
    shadows += [(rect, 0.5) for rect in (*plan.clutter, *posts)]
    rendering = render(boxes, room, [*plan.buffers, *lanes], shadows, camera, pose, look, rng)
    find_visible(objects, _masks(objects, rendering), camera, pose, surroundings.min_visible)
    return Scene(rendering.rgb, rendering.depth_m, rendering.owners, objects, camera, pose, layout)


def _strewn(plan: Plan, count: tuple[int, int], sides_m: tuple[float, float], rng: np.random.Generator) -> list[Rect]:
    """Place rectangles anywhere among the pallets, in buffers too, where they fit.

    count: fewest and most of them; (0, 0) draws no random number. sides_m: the range of their sides.
    """
    if count[1] == 0:
        return []
    found: list[Rect] = []
    corners = np.concatenate([rect.corners() for rect in (*plan.solids(), *plan.buffers)])
    wanted = int(rng.integers(count[0], count[1] + 1))
    for _ in range(20 * wanted):
        x, y = rng.uniform(corners.min(0), corners.max(0))
        rect = Rect(x, y, rng.uniform(0, math.pi), *rng.uniform(*sides_m, 2))
        if len(found) < wanted and plan.is_free(rect) and not any(rect.overlaps(other, CLEARANCE_M) for other in found):
            found.append(rect)
    return found


def _relit(look: Look, surroundings: Surroundings, rng: np.random.Generator) -> Look:
    light = {name: getattr(look, name) * getattr(surroundings, name) for name in ("exposure", "ambient", "noise")}
    if not surroundings.painted:
        return replace(look, **light)
    floor, wall = (tuple(rng.uniform(0.05, 0.9, 3).tolist()) for _ in range(2))
    return replace(look, **light, floor=floor, wall=wall, tint=look.tint * rng.uniform(0.6, 1.2, 3))


def _furnish(plan: Plan, boxes: list[Box], rng: np.random.Generator) -> list[PlacedObject]:
    """Place the plan's objects, buffers first, so that ``PlacedObject.buffer`` is the plan's buffer number."""
    objects = [_object("buffer", rect, 0.0) for rect in plan.buffers]
    for rect, buffer in zip(plan.pallets, plan.pallet_buffers, strict=True):
        top = add_pallet(boxes, rect, len(objects) + 1, rng)
        objects.append(_object("pallet", rect, top, buffer=buffer))
    count = len(plan.transporters)
    empty = int(rng.integers(count)) if count else 0  # of several, exactly one is empty
    for number, (rect, buffer) in enumerate(zip(plan.transporters, plan.transporter_buffers, strict=True)):
        loaded = bool(number != empty if count > 1 else rng.random() < 0.4)
        top = add_transporter(boxes, rect, len(objects) + 1, loaded, rng)
        objects.append(_object("transporter", rect, top, loaded=loaded, buffer=buffer))
    for rect in plan.shelves:
        top = add_shelf(boxes, rect, len(objects) + 1, rng)
        objects.append(_object("shelf", rect, top))
    return objects


def _object(kind: str, rect: Rect, height: float, loaded: bool | None = None, buffer: int | None = None) -> PlacedObject:
    center = np.array([rect.x, rect.y, height / 2])
    return PlacedObject(kind, rect, center, (rect.length, rect.width, height), loaded=loaded, buffer=buffer)


def _camera(plan: Plan, size: tuple[int, int], view: View, rng: np.random.Generator) -> tuple[Camera, CameraPose]:
    """Return the best of a few random cameras of the view: the one with most objects in the image."""
    width, height = size
    points = np.array([(rect.x, rect.y, 0.4) for rect in (*plan.pallets, *plan.transporters, *plan.buffers, *plan.shelves)])
    weights = np.repeat([1.0, 2.0, 2.0, 1.0], [len(plan.pallets), len(plan.transporters), len(plan.buffers), len(plan.shelves)])
    best: tuple[float, Camera, CameraPose] | None = None
    for _ in range(_CAMERA_TRIES):
        pose, distance = _pose(points, view, rng)
        radius = 2.0 + np.linalg.norm(points[:, :2] - points[:, :2].mean(0), axis=1).mean()
        narrow, wide = (math.radians(end) for end in view.fov_deg)
        fov = min(wide, max(narrow, 2 * math.atan(radius * rng.uniform(0.75, 1.15) / distance)))
        focal = width / 2 / math.tan(fov / 2)
        cx, cy = (width - 1) / 2 + rng.normal(0, 0.01) * width, (height - 1) / 2 + rng.normal(0, 0.01) * height
        camera = Camera(focal, focal * rng.uniform(0.98, 1.02), cx, cy, width, height)
        column, row, depth = project(points, camera, pose).T
        inside = (depth > 1) & (abs(column / width - 0.5) < 0.47) & (abs(row / height - 0.5) < 0.46)
        score = float((inside * weights).sum() / weights.sum()) + rng.uniform(0, 0.15)
        if best is None or score > best[0]:
            best = score, camera, pose
        if score > 0.9:
            break
    assert best is not None
    return best[1], best[2]


def _pose(points: np.ndarray, view: View, rng: np.random.Generator) -> tuple[CameraPose, float]:
    """Return a pose of the view with a small roll, and the distance to the point that it looks at."""
    while True:
        pitch, distance = math.radians(rng.uniform(*view.pitch_deg)), rng.uniform(*view.distance_m)
        if view.height_m[0] <= distance * math.sin(pitch) <= view.height_m[1]:
            break
    azimuth, roll = rng.uniform(0, 2 * math.pi), math.radians(rng.normal(0, 2.0))
    forward = np.array([math.cos(pitch) * math.cos(azimuth), math.cos(pitch) * math.sin(azimuth), -math.sin(pitch)])
    level = np.array([math.sin(azimuth), -math.cos(azimuth), 0.0])
    down = np.cross(forward, level)
    right = math.cos(roll) * level + math.sin(roll) * down
    axes = np.stack([right, np.cross(forward, right), forward])
    target = np.append(points[:, :2].mean(0) + rng.normal(0, 0.6, 2), 0.3)
    return CameraPose(target - distance * forward, axes), distance


def _room(plan: Plan, pose: CameraPose, rng: np.random.Generator) -> Room:
    """Return a room with walls close behind the objects on some sides and far on others; the camera is always inside."""
    solids = [rect.corners() for rect in (*plan.solids(), *plan.buffers)]
    low, high = np.concatenate(solids).min(0), np.concatenate(solids).max(0)
    margin = np.where(rng.random(4) < 0.45, rng.uniform(0.4, 2.0, 4), rng.uniform(4, 14, 4))
    x, y, z = pose.position
    return Room(
        float(min(low[0] - margin[0], x - 0.6)),
        float(max(high[0] + margin[1], x + 0.6)),
        float(min(low[1] - margin[2], y - 0.6)),
        float(max(high[1] + margin[3], y + 0.6)),
        float(max(z + 0.8, rng.uniform(6, 11))),
    )


def _lanes(plan: Plan, rng: np.random.Generator) -> list[Rect]:
    """Return, for some scenes, a long yellow walkway outline beyond the buffers, as real floors have; it is never a region."""
    if rng.random() < 0.5:
        return []
    reach = max(float(np.abs(rect.corners()).max()) for rect in plan.buffers)
    offset, length = reach + rng.uniform(1.0, 2.2), rng.uniform(10, 20)
    side = int(rng.integers(4))
    yaw = side * math.pi / 2
    lane = Rect(offset * math.cos(yaw), offset * math.sin(yaw), yaw + math.pi / 2, length, 1.2)
    return [] if any(lane.overlaps(buffer, 0.2) for buffer in plan.buffers) else [lane]


def _add_pillars(boxes: list[Box], plan: Plan, room: Room, pose: CameraPose, look: Look, rng: np.random.Generator) -> None:
    """Add white pillars with warning stripes at the foot, along the walls."""
    for x in (room.x0 + 0.25, room.x1 - 0.25):
        for y in np.arange(room.y0 + rng.uniform(0.5, 3), room.y1, rng.uniform(3.5, 6)):
            if math.hypot(x - pose.position[0], y - pose.position[1]) > 2.0 and plan.is_free(Rect(x, float(y), 0, 0.5, 0.5), 0.1):
                boxes.append(Box((x, float(y), room.height / 2), (0.16, 0.2, room.height / 2), 0, look.wall, STRIPES))


def _look(rng: np.random.Generator) -> Look:
    azimuth, rise = rng.uniform(0, 2 * math.pi), rng.uniform(1.0, 1.35)
    light = np.array([math.cos(azimuth) * math.cos(rise), math.sin(azimuth) * math.cos(rise), math.sin(rise)])
    grey = rng.uniform(0.3, 0.5)
    white = rng.uniform(0.75, 0.92)
    stripe = [(0.08, 0.26, 0.55), (0.08, 0.26, 0.55), (0.55, 0.12, 0.1), (0.15, 0.4, 0.25), (0.35, 0.35, 0.38)][int(rng.integers(5))]
    return Look(
        light=light,
        ambient=rng.uniform(0.42, 0.62),
        exposure=rng.uniform(0.82, 1.18),
        tint=1 + rng.uniform(-0.04, 0.04, 3) + np.array([0.02, 0.0, -0.03]),
        floor=(grey, grey * 0.99, grey * 0.93),
        wall=(white, white, white * 0.97),
        stripe=stripe,
        paint=(rng.uniform(0.72, 0.9), rng.uniform(0.6, 0.7), rng.uniform(0.02, 0.15)),
        line_width_m=rng.uniform(0.09, 0.16),
        joint_m=rng.uniform(2.5, 5.0),
        joint_yaw=rng.uniform(0, math.pi / 2),
        noise=rng.uniform(0.8, 4.0),
        vignette=rng.uniform(0.0, 0.3),
        offset=rng.uniform(0, 512, 2),
    )


def _masks(objects: list[PlacedObject], rendering: Rendering) -> Iterator[tuple[np.ndarray, int]]:
    """Yield what ``find_visible`` needs of each object; a buffer is the bare floor inside its outline."""
    for number, item in enumerate(objects):
        if item.kind == "buffer":
            u, v = item.footprint.to_local(*rendering.floor_xy)
            inside = (np.abs(u) <= item.footprint.length / 2) & (np.abs(v) <= item.footprint.width / 2) & rendering.bare_floor
            yield inside & rendering.on_floor, int(np.count_nonzero(inside))
        else:
            yield rendering.owners == number + 1, int(np.count_nonzero(rendering.full[number + 1]))
