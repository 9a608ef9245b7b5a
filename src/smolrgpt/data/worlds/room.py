"""Rooms: furniture along walls and about, people, clutter on tables and shelves, seen by robots, by hand and from corners."""

from __future__ import annotations

import math

import numpy as np

from smolrgpt.data.worlds.layouts import Rect
from smolrgpt.data.worlds.objects import Thing, load_recipes, make_thing, names_on
from smolrgpt.data.worlds.paint import Light
from smolrgpt.data.worlds.scene import Scene
from smolrgpt.data.worlds.stage import Shot, Stage, Surface, enclose

#: Layout family -> the furniture that it has more often than others.
_FURNITURE = {
    "living_room": ("sofa", "armchair", "coffee table", "television", "bookcase", "floor lamp", "large plant", "cushion", "dog"),
    "office": ("desk", "office chair", "bookcase", "cabinet", "drawers", "bin", "table", "moving box", "person"),
    "bedroom": ("bed", "drawers", "laundry basket", "chair", "floor lamp", "suitcase", "radiator", "door"),
    "kitchen": ("table", "chair", "refrigerator", "washing machine", "cabinet", "stool", "bin", "serving cart", "round table"),
    "storage": ("rack", "moving box", "moving box", "step ladder", "suitcase", "serving cart", "bin", "cabinet", "person"),
    "hallway": ("coat stand", "door", "cabinet", "drum", "baby crib", "suitcase", "person"),
    "studio": ("piano", "drum", "bean bag", "fan", "coat stand", "chair", "rack"),
}
RESERVED = ("hallway", "studio")
KNOWN = tuple(name for name in _FURNITURE if name not in RESERVED)
#: Where cameras are: on a robot, in a hand, in a corner below the ceiling.
_SHOTS = (
    Shot((1.0, 4.5), (-12, 20), (45, 100), (0.2, 0.6), least_m=0.25),
    Shot((0.8, 4.5), (-5, 45), (30, 90), (1.1, 1.8), roll=7.0, least_m=0.25),
    Shot((2.0, 6.0), (15, 45), (60, 110), (1.9, 2.5), least_m=0.15),
)
_CLUTTER_SHARE = 0.7


def draw(layout: str, size: tuple[int, int], rng: np.random.Generator) -> Scene:
    """Draw a scene of a layout family."""
    stage, is_reserved = Stage(rng), layout in RESERVED
    narrow = layout == "hallway"
    area = Rect(0, 0, 0, rng.uniform(4.5, 8) if narrow else rng.uniform(3.2, 7), rng.uniform(1.8, 2.6) if narrow else rng.uniform(3.0, 6))
    enclose(stage, area, 0.0, rng.uniform(2.6, 3.2))
    every = names_on("floor") + names_on("floor", "shelf") + names_on("floor", "transporter")
    extra = names_on("floor", reserved=True) if is_reserved else every
    names = [name for name in _FURNITURE[layout] if is_reserved or not load_recipes()[name].get("reserved")]
    clutter = names_on("surface", reserved=True) + names_on("surface")[::4] if is_reserved else names_on("surface")
    if rng.random() < 0.5:
        stage.place(make_thing(str(rng.choice(names_on("floor", "buffer"))), rng), Surface(area, 0.0), 0.2)
    for _ in range(stage.count(6, 18)):
        thing = make_thing(str(rng.choice(names if rng.random() < 0.65 else extra)), rng)
        number = _against_wall(stage, thing, area) if thing.recipe.get("wall") else stage.place(thing, Surface(area, 0.0), clearance=0.1)
        if number is not None and rng.random() < _CLUTTER_SHARE:
            for board in stage.surfaces_of(number, thing):
                stage.scatter(clutter, board, int(rng.integers(0, 6)))
    stage.scatter(clutter, Surface(area, 0.0), stage.count(0, 7))
    for _ in range(int(rng.integers(0, 3))):
        stage.stack(make_thing(str(rng.choice(("moving box", "cushion", "book", "carton"))), rng))
    return stage.finish(size, _SHOTS[int(rng.integers(len(_SHOTS)))], layout, Light.random(rng), area)


def _against_wall(stage: Stage, thing: Thing, area: Rect) -> int | None:
    """Stand a thing with its back, the +x side, against one of the walls; return its number, None where no place was found."""
    for side in stage.rng.permutation(4).tolist():
        yaw, gap = side * math.pi / 2, stage.rng.uniform(0.005, 0.05)
        reach = (area.length if side % 2 == 0 else area.width) / 2 - gap - thing.size_m[0] / 2
        along = area.width if side % 2 == 0 else area.length
        strip = Rect(reach * math.cos(yaw), reach * math.sin(yaw), yaw, thing.size_m[0] + 1e-3, along - 0.02)
        number = stage.place(thing, Surface(strip, 0.0), 0.5, yaw, clearance=1e-3)
        if number is not None:
            return number
    return None
