"""Things of which scenes are made, drawn from the recipes in ``recipes.json``.

A recipe has the fields

    on         where such things are: on a "surface" (a table, a board, a floor), a room's "floor", or the "ground" outdoors
    kind       the part that it plays in official questions, see ``scene.NOUNS``; by default "pallet": what can be moved and counted
    size       the ranges of length, width and height in metres; 0 repeats the number before
    parts      [shape, [x, y, z], [length, width, height], colour, options]: the middle of its foot and its size as shares of the thing's
               size; x and y from -0.5 to 0.5, z from 0 to 1. All parts together fill the box of the thing
    like       another recipe, whose parts it has
    boards     [x0, x1, y0, y1, z] in the same shares: flat areas on which other things stand
    top        whether others can be stacked on it;  lie: whether it may lie on its side;  wall: whether its +x side stands against a wall
    colours    main colours to choose from, by default any
    reserved   whether it is for testing only

The options of a part: bottom and top (shares of its size at its ends), open (ends without a cap), axis ("x" or "y" instead of upright),
flip (upside down), pattern (of ``paint.PATTERNS``).
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from smolrgpt.data.worlds.caster import Colour, Material, Solid

_RECIPES = Path(__file__).parent / "recipes.json"
#: Colours that do not change from thing to thing of one kind; others are "main" and "accent".
_COLOURS: dict[str, Colour] = {
    "dark": (0.12, 0.12, 0.13), "black": (0.03, 0.03, 0.03), "white": (0.85, 0.85, 0.83), "metal": (0.55, 0.56, 0.58),
    "wood": (0.5, 0.34, 0.2), "glass": (0.35, 0.42, 0.45), "skin": (0.6, 0.42, 0.32), "stone": (0.5, 0.49, 0.47),
}  # fmt: skip
_AXES = {"z": np.eye(3), "x": np.array([[0, 0, 1], [1, 0, 0], [0, 1, 0.0]]), "y": np.array([[1, 0, 0], [0, 0, 1], [0, -1, 0.0]])}
_FLIP = np.diag([1.0, -1.0, -1.0])
#: Orientation of what lies on its side.
LYING = np.array([[0, 0, 1.0], [0, 1, 0], [-1, 0, 0]])


@dataclass(frozen=True, eq=False)
class Thing:
    """A thing of a recipe with its sizes and colours, in its own frame: the middle of its foot at the origin, z up.

    Attributes:
        name: its class noun.
        kind: a key of ``scene.NOUNS``.
        size_m: length, width, height.
        solids: its parts.
        recipe: the recipe's other fields.
    """

    name: str
    kind: str
    size_m: tuple[float, float, float]
    solids: tuple[Solid, ...]
    recipe: dict[str, Any]

    def turned(self, tilt: np.ndarray) -> Thing:
        """Return the thing as it rests after a rotation (3, 3) about its middle; its new box is exact for boxes and quarter turns."""
        half = np.array(self.size_m) / 2
        length, width, height = (np.abs(tilt) @ (2 * half)).tolist()
        middle, lifted = np.array([0, 0, half[2]]), np.array([0, 0, height / 2])
        solids = tuple(
            replace(part, center=tilt @ (part.center - middle) + lifted, axes=tilt @ part.axes, material=part.material)
            for part in self.solids
        )
        return replace(self, size_m=(length, width, height), solids=solids)

    def resized(self, sides_m: tuple[float, float]) -> Thing:
        """Return the thing stretched to another length and width; for things of one upright part."""
        gain = np.array([sides_m[0] / self.size_m[0], sides_m[1] / self.size_m[1], 1.0])
        return replace(self, size_m=(*sides_m, self.size_m[2]), solids=tuple(replace(part, half=part.half * gain) for part in self.solids))

    def placed(self, x: float, y: float, z: float, yaw: float, owner: int) -> list[Solid]:
        """Return its parts in scene coordinates."""
        cos, sin = math.cos(yaw), math.sin(yaw)
        turn = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])
        return [replace(part, center=turn @ part.center + (x, y, z), axes=turn @ part.axes, owner=owner) for part in self.solids]


@functools.cache
def load_recipes() -> dict[str, dict[str, Any]]:
    """Return all recipes by name."""
    recipes: dict[str, dict[str, Any]] = json.loads(_RECIPES.read_text(encoding="utf-8"))
    return {name: {**recipes.get(recipe.get("like", ""), {}), "kind": "pallet", **recipe} for name, recipe in recipes.items()}


@functools.cache
def names_on(place: str, kind: str = "pallet", reserved: bool = False) -> tuple[str, ...]:
    """Return the names of the recipes for a place and of a kind; reserved ones only, or none of them."""
    return tuple(
        name
        for name, recipe in load_recipes().items()
        if recipe["on"] == place and recipe["kind"] == kind and recipe.get("reserved", False) == reserved
    )


def random_colour(rng: np.random.Generator) -> Colour:
    """Draw any colour, grey to saturated, dark to light."""
    value, saturation = rng.uniform(0.1, 0.95), rng.random() ** 1.5
    hue = 0.5 + 0.5 * np.cos(2 * math.pi * (rng.random() + np.array([0, 1 / 3, 2 / 3])))
    red, green, blue = (value * (1 - saturation + saturation * hue)).tolist()
    return red, green, blue


def random_material(rng: np.random.Generator, size_m: float, pattern: str = "", colour: Colour | None = None) -> Material:
    """Draw a material for something of a size in metres; by default of any pattern and colour."""
    pattern = pattern or str(rng.choice(["plain", "plain", "label", "print", "stripes", "checks", "cloth"]))
    return Material(colour or random_colour(rng), random_colour(rng), pattern, size_m * rng.uniform(0.01, 0.03), rng.random())


def ground_material(rng: np.random.Generator, size_m: float, patterns: Sequence[str]) -> Material:
    """Draw a material for floors, walls and tables: mostly of a dull colour, with a pattern that differs little from it."""
    look = random_material(rng, size_m, str(rng.choice(patterns)))
    base = np.asarray(look.colour)
    if rng.random() < 0.7:
        base = 0.8 * rng.uniform(0.15, 0.8) * np.array([1, 0.95, 0.85]) ** rng.uniform(-0.5, 3) + 0.2 * base
    accent = base * rng.uniform(0.6, 1.3) if rng.random() < 0.8 else 0.5 * (base + np.asarray(look.accent))
    red, green, blue = base.clip(0.02, 0.9).tolist()
    accents = accent.clip(0.02, 0.9).tolist()
    return replace(look, colour=(red, green, blue), accent=(accents[0], accents[1], accents[2]))


def make_thing(name: str, rng: np.random.Generator) -> Thing:
    """Draw a thing of a recipe: its size, its colours and its patterns."""
    recipe = load_recipes()[name]
    sides: list[float] = []
    for extent in recipe["size"]:
        sides.append(rng.uniform(*extent) if extent else sides[-1])
    size = np.array(sides)
    colours = recipe.get("colours")
    main = random_colour(rng) if colours is None else _vary(colours[int(rng.integers(len(colours)))], rng)
    look = random_material(rng, float(size.max()), colour=main)
    solids = tuple(_part(*part, size=size, look=look, rng=rng) for part in recipe["parts"])
    return Thing(name, recipe["kind"], (sides[0], sides[1], sides[2]), solids, recipe)


def _part(
    shape: Any, at: list[float], share: list[float], colour: str, options: dict[str, Any] | None = None,
    *, size: np.ndarray, look: Material, rng: np.random.Generator,
) -> Solid:  # fmt: skip
    options = options or {}
    length, width, height = size * share
    foot = size * at
    axes = _AXES[options.get("axis", "z")]
    half = np.abs(axes.T @ (length, width, height)) / 2
    middle = foot + np.array([0, 0, height / 2])
    if shape in ("bowl", "dome"):  # whose middle is at the flat end
        middle, half, axes = foot + np.array([0, 0, height if shape == "bowl" else 0]), half * [1, 1, 2], axes if shape == "bowl" else _FLIP
    if options.get("flip"):
        axes = axes @ _FLIP
    bottom, top = (_pair(options.get(end, 1.0)) for end in ("bottom", "top"))
    material = look if colour == "main" else replace(look, pattern="plain", colour=look.accent)
    if colour in _COLOURS:
        material = replace(material, colour=_vary(_COLOURS[colour], rng), pattern="plain")
    material = replace(material, pattern=options.get("pattern", material.pattern))
    return Solid(shape, middle, half, axes, bottom, top, options.get("open", 0), material)


def _pair(value: float | list[float]) -> tuple[float, float]:
    return (value, value) if isinstance(value, (int, float)) else (value[0], value[1])


def _vary(colour: Colour, rng: np.random.Generator) -> Colour:
    red, green, blue = np.clip(np.asarray(colour) * rng.uniform(0.6, 1.4) * rng.uniform(0.9, 1.1, 3), 0.01, 0.95).tolist()
    return red, green, blue
