"""Draws a scene of any world: the registry of worlds and their layout families.

A layout's name decides its world, so that a list of layouts (as in ``settings.json``) is all that a data set needs to record.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from smolrgpt.data.worlds import layouts, room, tabletop, warehouse, yard
from smolrgpt.data.worlds.scene import Scene, random_generator, scale_scene

_SCENE_TRIES = 8


@dataclass(frozen=True)
class World:
    """A kind of place.

    Attributes:
        draw: draws a scene from a layout's name, a size and a generator.
        is_rich: whether a scene shows enough to ask about it.
        known: layout families for training.
        reserved: layout families for testing only; outside of the warehouse they use objects that the known ones never show.
    """

    draw: Callable[..., Scene]
    is_rich: Callable[[Scene], bool]
    known: tuple[str, ...]
    reserved: tuple[str, ...]


WORLDS: dict[str, World] = {
    "warehouse": World(warehouse.draw, warehouse.is_rich, layouts.KNOWN_LAYOUTS, layouts.RESERVED_LAYOUTS),
    "tabletop": World(tabletop.draw, tabletop.is_rich, tabletop.KNOWN, tabletop.RESERVED),
    "room": World(room.draw, tabletop.is_rich, room.KNOWN, room.RESERVED),
    "yard": World(yard.draw, tabletop.is_rich, yard.KNOWN, yard.RESERVED),
}


def resolve_layouts(names: str | Sequence[str], world: str = "warehouse") -> tuple[str, ...]:
    """Return the names of layout families.

    Args:
        names: "known", "reserved", "all", a name, "name,name" or a sequence of those.
        world: the world, or worlds "world,world", whose families "known", "reserved" and "all" are; "mixed" is all worlds.

    Raises:
        ValueError: for an unknown name or world.
    """
    chosen = list(WORLDS) if world == "mixed" else [part.strip() for part in world.split(",")]
    if wrong := [name for name in chosen if name not in WORLDS]:
        raise ValueError(f"there is no world {wrong[0]!r}; expected mixed or names from {', '.join(WORLDS)}")
    known, reserved = (tuple(name for part in chosen for name in getattr(WORLDS[part], group)) for group in ("known", "reserved"))
    groups = {"known": known, "reserved": reserved, "all": (*known, *reserved)}
    parts = names.split(",") if isinstance(names, str) else list(names)
    found = [name for part in parts for name in groups.get(part.strip(), (part.strip(),))]
    unknown = [name for name in found if name not in _WORLD_OF]
    if unknown or not found:
        raise ValueError(f"layouts {names!r}: unknown {unknown}; expected known, reserved, all or names from {', '.join(_WORLD_OF)}")
    return tuple(dict.fromkeys(found))


def generate_scene(
    seed: int | Sequence[int],
    layout: str | None = None,
    size: tuple[int, int] = (384, 216),
    scales: Sequence[float] = (1.0, 1.0),
    **options: Any,
) -> Scene:
    """Draw one scene; again, from the same random stream, until enough is visible to ask about.

    Args:
        seed: a non-negative number or several (set seed, scene number).
        layout: the layout family, which decides the world; None for any known one of the warehouse.
        size: width and height in pixels; worlds other than the warehouse draw images of about as many pixels in any format.
        scales: range of the factor that all lengths are multiplied by, drawn with an even logarithm.
        options: of the warehouse, ``view`` and ``surroundings``, names of ``warehouse.VIEWS`` and ``warehouse.SURROUNDINGS``.

    Raises:
        ValueError: for an unknown layout or a size below 32 pixels.
    """
    width, height = size
    if width < 32 or height < 32:
        raise ValueError(f"scene size {width}x{height} is too small; expected at least 32x32 pixels")
    seeds = [seed] if isinstance(seed, int) else list(seed)
    rng = random_generator(*seeds)
    name = layout or str(rng.choice(layouts.KNOWN_LAYOUTS))
    if name not in _WORLD_OF:
        raise ValueError(f"layout {name!r} is unknown; expected one of {', '.join(_WORLD_OF)}")
    factor = _draw_scale(scales, random_generator(*seeds, 7)) if tuple(scales) != (1.0, 1.0) else 1.0
    scene = _draw_rich(WORLDS[_WORLD_OF[name]], name, (width, height), rng, options)
    return scene if factor == 1.0 else scale_scene(scene, factor)


def world_of(layout: str) -> str:
    """Return the world of a layout family."""
    return _WORLD_OF[layout]


def _draw_rich(world: World, name: str, size: tuple[int, int], rng: np.random.Generator, options: dict[str, Any]) -> Scene:
    best: Scene | None = None
    for _ in range(_SCENE_TRIES):
        scene = world.draw(name, size, rng, **options)
        scene.world = _WORLD_OF[name]
        if world.is_rich(scene):
            return scene
        best = scene if best is None or len(scene.regions) > len(best.regions) else best
    assert best is not None
    return best


def _draw_scale(scales: Sequence[float], rng: np.random.Generator) -> float:
    return math.exp(rng.uniform(math.log(scales[0]), math.log(scales[1])))


_WORLD_OF = {name: world for world, value in WORLDS.items() for name in (*value.known, *value.reserved)}
