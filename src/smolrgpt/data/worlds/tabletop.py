"""Table tops: bowls, cups, boxes, bottles and tools on a table, in a tote or on a floor, alone, stacked and in heaps, 0.3 to 1.5 m away."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from smolrgpt.data.worlds.layouts import Rect
from smolrgpt.data.worlds.objects import ground_material, make_thing, names_on, random_material
from smolrgpt.data.worlds.paint import Light
from smolrgpt.data.worlds.scene import Scene
from smolrgpt.data.worlds.stage import MIN_OBJECTS, Shot, Stage, Surface, enclose

KNOWN = ("table_spread", "table_stacks", "table_heap", "tote", "carpet")
RESERVED = ("table_ring", "steps")
_SHOT = Shot((0.3, 1.5), (15, 88), roll=6.0, least_m=0.12, height_m=(0.05, 1.4))
#: Height of the table above the floor.
_TABLE_M = (0.6, 1.0)


def draw(layout: str, size: tuple[int, int], rng: np.random.Generator) -> Scene:
    """Draw a scene of a layout family."""
    stage = Stage(rng)
    is_reserved = layout in RESERVED
    names = names_on("surface", reserved=True) + names_on("surface")[::3] if is_reserved else names_on("surface")
    surface, roof = _support(stage, layout)
    if layout not in ("tote", "steps") and rng.random() < 0.5:
        mat = make_thing(str(rng.choice(names_on("surface", "buffer"))), rng)
        number = stage.place(mat, surface, 0.3)
        boards = [] if number is None else stage.surfaces_of(number, mat)
        for board in boards:
            stage.scatter(names, board, int(rng.integers(1, 4)))
    _LAYOUTS[layout](stage, surface, names)
    return stage.finish(size, _SHOT, layout, Light.random(rng), roof)


def is_rich(scene: Scene) -> bool:
    """Return whether a scene shows enough to ask all kinds of questions about it."""
    return len(scene.of_kind("pallet")) >= MIN_OBJECTS


def _support(stage: Stage, layout: str) -> tuple[Surface, Rect]:
    """Add what the things stand on, and what is round it; return it with the rectangle that the camera is in."""
    rng = stage.rng
    area = Rect(0, 0, rng.uniform(0, math.pi), rng.uniform(3, 7), rng.uniform(3, 7))
    offset = rng.uniform(-0.2, 0.2, 2) * (area.length - 2.5, area.width - 2.5)
    area = Rect(float(offset[0]), float(offset[1]), area.yaw, area.length, area.width)
    if layout == "carpet":
        enclose(stage, area, 0.0, 2.6)
        side = rng.uniform(0.6, 1.2)
        return Surface(Rect(0, 0, 0, side, side), 0.0), area
    height = rng.uniform(*_TABLE_M)
    enclose(stage, area, -height, 2.6)
    length, width = rng.uniform(0.7, 1.8), rng.uniform(0.55, 1.0)
    top = ground_material(rng, 1.0, ("boards", "plain", "plain", "stone", "cloth", "print"))
    stage.add_block(Rect(0, 0, 0, length, width), -0.04, 0.0, top)
    for sign in (-1, 1):
        stage.add_block(Rect(sign * (length / 2 - 0.05), 0, 0, 0.06, width * 0.9), -height, -0.04, top)
    for _ in range(int(rng.integers(0, 4))):  # furniture behind the table, which is never asked about
        angle, thing = rng.uniform(0, 2 * math.pi), make_thing(str(rng.choice(names_on("floor") + names_on("floor", "shelf"))), rng)
        rect = Rect(1.6 * math.cos(angle) + area.x, 1.6 * math.sin(angle) + area.y, rng.uniform(0, 6), *thing.size_m[:2])
        u, v = area.to_local(*rect.corners().T)
        inside = (np.abs(u) < area.length / 2).all() and (np.abs(v) < area.width / 2).all()
        if inside and stage.is_free(rect, -height, thing.size_m[2] - height, 0.1):
            stage.solids += thing.placed(rect.x, rect.y, -height, rect.yaw, 0)
            stage.taken.append((rect, -height, thing.size_m[2] - height))
    used = min(length, width, rng.uniform(0.5, 1.0))
    middle = rng.uniform(-0.5, 0.5, 2) * (length - used, width - used)
    return Surface(Rect(float(middle[0]), float(middle[1]), 0, used * 0.97, used * 0.97), 0.0), area


def _spread(stage: Stage, surface: Surface, names: tuple[str, ...]) -> None:
    """Things apart from one another."""
    stage.scatter(names, surface, stage.count(3, 17))


def _stacks(stage: Stage, surface: Surface, names: tuple[str, ...]) -> None:
    """Things on one another, one to four high, and some leaning."""
    rng = stage.rng
    flat = [name for name in names if make_thing(name, np.random.default_rng(0)).recipe.get("top")]
    bases = stage.scatter(flat, surface, int(rng.integers(2, 6)), lying=0.0)
    for _ in range(stage.count(2, 10)):
        stage.stack(make_thing(str(rng.choice(flat if rng.random() < 0.6 else names)), rng))
    _lean(stage, bases, names)
    stage.scatter(names, surface, stage.count(0, 6))


def _heap(stage: Stage, surface: Surface, names: tuple[str, ...]) -> None:
    """Things close together, lying and on one another."""
    rng = stage.rng
    _lean(stage, stage.scatter(names, surface, int(rng.integers(1, 4)), 0.25, lying=0.4), names)
    for share in np.linspace(0.15, 0.5, stage.count(4, 14)):
        stage.scatter(names, surface, 1, float(share), lying=0.6)
    for _ in range(int(rng.integers(2, 9))):
        stage.stack(make_thing(str(rng.choice(names)), rng))


def _lean(stage: Stage, bases: Sequence[int], names: Sequence[str]) -> None:
    """Lean flat things against some of the others, or lay them across their edge."""
    rng = stage.rng
    flat = [name for name in ("book", "tea box", "carton", "cereal box", "phone", "keyboard") if name in names] or ["book"]
    for base in bases:
        for _ in range(int(rng.integers(0, 5)) if stage.objects[base].size_m[2] > 0.03 else 0):
            thing = make_thing(str(rng.choice(flat)), rng)
            number = stage.lean(thing, base) if thing.size_m[2] > thing.size_m[0] else stage.prop(thing, base)
            if number is not None:
                break


def _tote(stage: Stage, surface: Surface, names: tuple[str, ...]) -> None:
    """Things in an open box."""
    rng = stage.rng
    length, width, height = rng.uniform(0.35, 0.62), rng.uniform(0.3, 0.42), rng.uniform(0.08, 0.26)
    material, yaw = random_material(rng, length, "plain"), rng.uniform(0, math.pi)
    outer = Rect(surface.rect.x, surface.rect.y, yaw, length, width)
    for u, v, long, wide in ((1, 0, 0.01, width), (-1, 0, 0.01, width), (0, 1, length, 0.01), (0, -1, length, 0.01)):
        x, y = outer.to_floor(u * length / 2, v * width / 2)
        stage.add_block(Rect(float(x), float(y), yaw, long, wide), 0.0, height, material)
    _heap(stage, Surface(Rect(outer.x, outer.y, yaw, length - 0.03, width - 0.03), 0.0), names)


def _ring(stage: Stage, surface: Surface, names: tuple[str, ...]) -> None:
    """Things on a circle round a free middle (reserved)."""
    rng, count = stage.rng, int(stage.rng.integers(5, 12))
    radius, side = surface.rect.length * 0.36, surface.rect.length * 0.26
    for angle in np.linspace(0, 2 * math.pi, count, endpoint=False) + rng.uniform(0, 1):
        x, y = surface.rect.to_floor(radius * math.cos(angle), radius * math.sin(angle))
        stage.scatter(names, Surface(Rect(float(x), float(y), float(angle), side, side), surface.z), 1, 0.1)


def _steps(stage: Stage, surface: Surface, names: tuple[str, ...]) -> None:
    """Things on steps of different heights (reserved)."""
    rng, count = stage.rng, int(stage.rng.integers(3, 5))
    length, width = surface.rect.length / count, surface.rect.width
    material = ground_material(rng, 0.5, ("plain", "boards", "stone"))
    for k in range(count):
        x, y = surface.rect.to_floor((k + 0.5) * length - surface.rect.length / 2, 0.0)
        rect, z = Rect(float(x), float(y), surface.rect.yaw, length, width), surface.z + k * rng.uniform(0.05, 0.1)
        if k:
            stage.add_block(rect, surface.z, z, material)
        stage.scatter(names, Surface(rect, z), int(rng.integers(1, 5)), lying=0.1)


_LAYOUTS = {
    "table_spread": _spread, "carpet": _spread, "table_stacks": _stacks, "table_heap": _heap, "tote": _tote, "table_ring": _ring,
    "steps": _steps,
}  # fmt: skip
