"""Streets and yards: vehicles, people, cones, barriers and pallets outdoors, 3 to 60 m away, below a sky that has no depth."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from smolrgpt.data.worlds.layouts import Rect
from smolrgpt.data.worlds.objects import ground_material, make_thing, names_on
from smolrgpt.data.worlds.paint import Light
from smolrgpt.data.worlds.scene import Scene
from smolrgpt.data.worlds.stage import Shot, Stage, Surface

KNOWN = ("street", "car_park", "storage_yard", "road_works", "square")
RESERVED = ("farm", "ring_road")
_VEHICLES = ("car", "car", "estate car", "van", "truck", "flatbed truck", "motorcycle", "bicycle")
_PEOPLE = ("pedestrian", "pedestrian", "worker", "child")
_GOODS = ("loaded pallet", "loaded pallet", "crate", "barrel", "shipping container", "forklift", "tyre stack", "concrete pipe", "trailer")
_FURNITURE = ("lamp post", "bollard", "bench", "waste container", "tree", "road sign", "fire hydrant", "bus stop")
_WORKS = ("traffic cone", "traffic cone", "barrier", "road barrier", "worker", "concrete pipe", "barrel", "road sign")
#: Farther than this there is no depth.
_FAR_M = 150.0
#: Where cameras are: on a robot or a vehicle, in a hand, on a pole or a drone.
_SHOTS = (
    Shot((4, 30), (-3, 12), (40, 110), (0.4, 2.0), roll=2.0, least_m=0.6, far_m=_FAR_M),
    Shot((3, 20), (-2, 25), (40, 85), (1.3, 1.9), roll=5.0, least_m=0.6, far_m=_FAR_M),
    Shot((8, 45), (10, 60), (30, 85), (3.0, 25), roll=2.0, least_m=0.6, far_m=_FAR_M),
)


def draw(layout: str, size: tuple[int, int], rng: np.random.Generator) -> Scene:
    """Draw a scene of a layout family."""
    stage = Stage(rng)
    ground = ground_material(rng, 3.0, ("stone", "plain", "tiles", "cloth"))
    stage.add_block(Rect(0, 0, 0, 500, 500), -1.0, 0.0, ground, solid=False)
    _LAYOUTS[layout](stage)
    _add_buildings(stage)
    return stage.finish(size, _SHOTS[int(rng.integers(len(_SHOTS)))], layout, Light.random(rng, outdoors=True))


def _add_buildings(stage: Stage) -> None:
    """Add buildings and hedges round the place, as scenery."""
    rng = stage.rng
    for _ in range(int(rng.integers(0, 7))):
        angle, away = rng.uniform(0, 2 * math.pi), rng.uniform(22, 60)
        length, width, height = rng.uniform(5, 25), rng.uniform(4, 12), rng.uniform(1.5, 15)
        rect = Rect(away * math.cos(angle), away * math.sin(angle), angle + math.pi / 2 + rng.normal(0, 0.1), length, width)
        if stage.is_free(rect, 0.0, height, 1.0):
            stage.add_block(rect, 0.0, height, ground_material(rng, 8.0, ("plain", "tiles", "checks", "cloth", "stripes")))


def _put(stage: Stage, names: Sequence[str], rect: Rect, count: int, yaw: float | None = None, clearance: float = 0.25) -> None:
    for _ in range(count):
        thing = make_thing(str(stage.rng.choice(names)), stage.rng)
        turned = None if yaw is None else yaw + stage.rng.normal(0, 0.04) + math.pi * stage.rng.integers(2)
        stage.place(thing, Surface(rect, 0.0), yaw=turned, clearance=clearance)


def _zones(stage: Stage, names: Sequence[str], count: int, spread: float) -> None:
    """Add painted areas, with things on them."""
    for _ in range(count):
        zone = make_thing(str(stage.rng.choice(names_on("ground", "buffer"))), stage.rng)
        x, y = stage.rng.uniform(-spread, spread, 2).tolist()
        rect = Rect(x, y, stage.rng.uniform(0, math.pi), *zone.size_m[:2])
        if not any(item.kind == "buffer" and rect.overlaps(item.footprint, 0.3) for item in stage.objects):
            number = stage.add(zone, rect, 0.0)
            for board in stage.surfaces_of(number, zone):
                _put(stage, names, board.rect, stage.count(0, 5))


def _street(stage: Stage) -> None:
    """Vehicles along a road, people and street furniture at its sides."""
    rng = stage.rng
    half, length = rng.uniform(3, 5), rng.uniform(25, 45)
    stage.add_block(Rect(0, 0, 0, 500, 2 * half), 0.0, 0.004, ground_material(rng, 3.0, ("stone",)), solid=False)
    for side in (-1, 1):
        _put(stage, _VEHICLES, Rect(0, side * (half - 1.4), 0, length, 2.8), stage.count(1, 6), 0.0)
        _put(stage, (*_PEOPLE, *_FURNITURE), Rect(0, side * (half + 2.2), 0, length, 3.6), stage.count(2, 7), clearance=0.4)
    _put(stage, (*_PEOPLE, "bicycle", "traffic cone"), Rect(0, 0, 0, length, 2 * half), stage.count(0, 5))


def _car_park(stage: Stage) -> None:
    """Rows of marked bays, some of them with a vehicle."""
    rng, count = stage.rng, int(stage.rng.integers(3, 6))
    pitch, lane = rng.uniform(3.0, 3.8), rng.uniform(5, 7)
    for side in (-1, 1):
        for k in range(count):
            rect = Rect((k - (count - 1) / 2) * pitch, side * (lane / 2 + 2.7), math.pi / 2, 5.2, pitch - 0.3)
            bay = make_thing("parking bay", rng).resized((rect.length, rect.width))
            stage.add(bay, rect, 0.0)
            if rng.random() < 0.6:
                _put(stage, ("car", "car", "estate car", "van", "motorcycle"), rect, 1, math.pi / 2, 0.15)
    _put(stage, (*_PEOPLE, "traffic cone", "bollard", "waste container"), Rect(0, 0, 0, 14, lane), stage.count(2, 7))


def _storage_yard(stage: Stage) -> None:
    """Goods on and beside painted areas, stacked crates, carriers."""
    rng, side = stage.rng, float(stage.rng.uniform(12, 26))
    _zones(stage, _GOODS[:4], int(rng.integers(1, 4)), side / 4)
    _put(stage, (*_GOODS, "worker", "flatbed truck"), Rect(0, 0, 0, side, side), stage.count(5, 13), clearance=0.4)
    for _ in range(int(rng.integers(0, 4))):
        stage.stack(make_thing(str(rng.choice(("crate", "barrel", "moving box"))), rng))


def _road_works(stage: Stage) -> None:
    """Lines of cones and barriers, and who works between them."""
    rng = stage.rng
    for _ in range(int(rng.integers(1, 4))):
        kind = str(rng.choice(("traffic cone", "barrier", "road barrier", "bollard")))
        x, y, yaw, step = *rng.uniform(-6, 6, 2), rng.uniform(0, math.pi), rng.uniform(2.2, 4)
        for k in range(int(rng.integers(3, 7))):
            spot = Rect(x + k * step * math.cos(yaw), y + k * step * math.sin(yaw), yaw, 3.0, 3.0)
            stage.place(make_thing(kind, rng), Surface(spot, 0.0), 0.05, yaw + rng.normal(0, 0.2))
    _put(stage, _WORKS + _VEHICLES[:5], Rect(0, 0, 0, 24, 24), stage.count(4, 10))


def _square(stage: Stage) -> None:
    """People, street furniture and some vehicles anywhere."""
    side = float(stage.rng.uniform(8, 24))
    _zones(stage, _PEOPLE, int(stage.rng.integers(0, 2)), side / 4)
    _put(stage, _PEOPLE + _FURNITURE + ("bicycle", "traffic cone", "car"), Rect(0, 0, 0, side, side), stage.count(6, 16))


def _farm(stage: Stage) -> None:
    """Reserved things anywhere, some in lines (reserved)."""
    side = float(stage.rng.uniform(14, 26))
    _zones(stage, names_on("ground", reserved=True), int(stage.rng.integers(0, 3)), side / 4)
    names = names_on("ground", reserved=True) + names_on("ground", "transporter", True) + names_on("ground", "shelf", True)
    _put(stage, names, Rect(0, 0, 0, side, side), stage.count(6, 12))
    _put(stage, ("pedestrian", "tree", "crate"), Rect(0, 0, 0, side, side), stage.count(1, 5))


def _ring_road(stage: Stage) -> None:
    """Vehicles and cones on a circle round a free middle (reserved)."""
    rng, radius, count = stage.rng, float(stage.rng.uniform(7, 12)), int(stage.rng.integers(6, 12))
    names = (*names_on("ground", reserved=True), *names_on("ground", "transporter", True), "car", "van", "traffic cone", "pedestrian")
    for angle in np.linspace(0, 2 * math.pi, count, endpoint=False) + rng.uniform(0, 1):
        spot = Rect(radius * math.cos(angle), radius * math.sin(angle), angle, 12.5, 12.5)
        stage.place(make_thing(str(rng.choice(names)), rng), Surface(spot, 0.0), 0.02, angle + math.pi / 2 + rng.normal(0, 0.1))


_LAYOUTS = {
    "street": _street, "car_park": _car_park, "storage_yard": _storage_yard, "road_works": _road_works, "square": _square, "farm": _farm,
    "ring_road": _ring_road,
}  # fmt: skip
