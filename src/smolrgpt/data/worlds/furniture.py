"""The objects of a warehouse, as lists of boxes: pallets with loads, transporters, racks, clutter, beams near the camera.

Every ``add_*`` appends to ``boxes``; those of objects that questions ask about mark them with ``owner`` and return the object's height in
metres.
Sizes are random on purpose: fixed ones would give the distance away.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from smolrgpt.data.worlds.caster import CARTONS, PLAIN, PLANKS, SLATS, Box, Colour
from smolrgpt.data.worlds.layouts import Rect
from smolrgpt.schema import Camera, CameraPose

_WOOD, _BLUE, _BLACK = (0.72, 0.56, 0.38), (0.1, 0.25, 0.62), (0.11, 0.1, 0.1)
_PALLETS: tuple[Colour, ...] = (_WOOD, _WOOD, _BLUE, _BLUE, _BLACK, _BLACK, (0.75, 0.38, 0.1), (0.06, 0.42, 0.42), (0.5, 0.1, 0.1))
_LABEL: Colour = (0.9, 0.9, 0.88)


@dataclass(frozen=True)
class Finish:
    """The pattern on a box's sides: a style of ``render``, the number of cartons along x, y and z, and a seed for their shades."""

    style: int = PLAIN
    cells: tuple[int, int, int] = (1, 1, 1)
    seed: float = 0.0


_SMOOTH = Finish()


def add_pallet(boxes: list[Box], rect: Rect, owner: int, rng: np.random.Generator) -> float:
    """Add a slatted pallet with cartons on it."""
    slab = rng.uniform(0.11, 0.17)
    colour = _vary(_PALLETS[int(rng.integers(len(_PALLETS)))], rng, 0.1)
    boxes.append(_on(rect, (0, 0, 0), (rect.length, rect.width, slab), colour, owner, finish=Finish(style=SLATS)))
    return _add_load(boxes, rect, owner, slab, rng.uniform(0.2, 1.8), rng)


def add_transporter(boxes: list[Box], rect: Rect, owner: int, loaded: bool, rng: np.random.Generator) -> float:
    """Add a flat vehicle on dark wheels with a lifting plate; loaded ones carry cartons, some on a pallet."""
    body = _vary([(0.16, 0.17, 0.19), (0.85, 0.86, 0.88), (0.82, 0.36, 0.06), (0.1, 0.3, 0.6)][int(rng.integers(4))], rng, 0.06)
    light = [(0.1, 0.85, 0.9), (0.2, 0.9, 0.3), (0.95, 0.2, 0.1)][int(rng.integers(3))]
    length, width, height = rect.length, rect.width, rng.uniform(0.2, 0.36)
    boxes.append(_on(rect, (0, 0, 0), (length * 0.94, width * 0.9, 0.08), (0.05, 0.05, 0.05), owner))
    boxes.append(_on(rect, (0, 0, 0.08), (length, width, height - 0.08), body, owner))
    boxes.append(_on(rect, (length * 0.475, 0, 0.1), (length * 0.055, width * 0.8, height * 0.4), light, owner))
    boxes.append(_on(rect, (0, 0, height), (length * 0.72, width * 0.8, 0.035), (0.07, 0.07, 0.08), owner))
    top = height + 0.035
    if rng.random() < 0.3:
        boxes.append(_on(rect, (-length * 0.42, 0, height), (0.06, width * 0.7, 0.3), (0.9, 0.75, 0.05), owner))
        top = height + 0.3
    if not loaded:
        return top
    deck, plate = Rect(rect.x, rect.y, rect.yaw, length * 0.78, width * 0.96), height + 0.035
    if rng.random() < 0.5:
        colour = _vary(_PALLETS[int(rng.integers(len(_PALLETS)))], rng, 0.1)
        boxes.append(_on(deck, (0, 0, plate), (deck.length, deck.width, 0.12), colour, owner, finish=Finish(style=SLATS)))
        plate += 0.12
    return max(top, _add_load(boxes, deck, owner, plate, rng.uniform(0.35, 1.1), rng))


def add_shelf(boxes: list[Box], rect: Rect, owner: int, rng: np.random.Generator) -> float:
    """Add a shelf to ``boxes`` and return its height in metres: posts, two or three levels with beams, cartons and crates on them."""
    levels, gap = int(rng.integers(2, 4)), rng.uniform(0.95, 1.35)
    height = levels * gap + 0.3
    post = _vary([(0.1, 0.2, 0.45), (0.1, 0.2, 0.45), (0.25, 0.27, 0.3)][int(rng.integers(3))], rng, 0.05)
    beam = _vary([(0.5, 0.08, 0.05), (0.5, 0.08, 0.05), (0.85, 0.4, 0.06)][int(rng.integers(3))], rng, 0.05)
    bays = max(1, round(rect.length / 1.6))
    for k in range(bays + 1):
        for side in (-1, 1):
            u = (k / bays - 0.5) * (rect.length - 0.1)
            boxes.append(_on(rect, (u, side * (rect.width / 2 - 0.05), 0), (0.1, 0.1, height), post, owner))
    for level in range(levels):
        foot = 0.15 + level * gap
        for side in (-1, 1):
            boxes.append(_on(rect, (0, side * (rect.width / 2 - 0.04), foot), (rect.length, 0.07, 0.12), beam, owner))
        boxes.append(_on(rect, (0, 0, foot + 0.08), (rect.length - 0.1, rect.width - 0.12, 0.03), (0.3, 0.28, 0.26), owner))
        _add_goods(boxes, rect, foot + 0.12, gap - 0.3, owner, rng)
    return height


def add_clutter(boxes: list[Box], rect: Rect, rng: np.random.Generator) -> None:
    """Add a table with boxes on it, a wheeled cart, a bin or a heap of cartons; scenery only."""
    kind = int(rng.integers(4))
    if kind == 0:
        height, steel = rng.uniform(0.75, 0.95), _vary((0.38, 0.39, 0.4), rng, 0.1)
        boxes.append(_on(rect, (0, 0, height - 0.05), (rect.length, rect.width, 0.05), steel, 0))
        for a in (-1, 1):
            for b in (-1, 1):
                boxes.append(_on(rect, (a * (rect.length / 2 - 0.06), b * (rect.width / 2 - 0.06), 0), (0.06, 0.06, height), steel, 0))
        for _ in range(int(rng.integers(0, 4))):
            (long, wide, tall), colour = rng.uniform(0.18, 0.4, 3), _pick_colour(rng)
            u, v = rng.uniform(-0.35, 0.35, 2) * (rect.length, rect.width)
            boxes.append(_on(rect, (u, v, height), (long, wide, tall), colour, 0, turn=rng.uniform(0, 3)))
    elif kind == 1:
        blue = _vary((0.08, 0.22, 0.5), rng, 0.05)
        for level in (0.12, 0.6, 1.1):
            boxes.append(_on(rect, (0, 0, level), (rect.length, rect.width, 0.05), blue, 0))
            u = rng.uniform(-0.2, 0.2)
            boxes.append(_on(rect, (u, 0, level + 0.05), (rect.length * 0.5, rect.width * 0.7, 0.25), _pick_colour(rng), 0))
        for a in (-1, 1):
            boxes.append(_on(rect, (a * rect.length / 2, 0, 0), (0.05, rect.width, 1.5), blue, 0))
    elif kind == 2:
        boxes.append(_on(rect, (0, 0, 0), (0.4, 0.4, rng.uniform(0.5, 0.9)), _pick_colour(rng), 0))
    else:
        for _ in range(int(rng.integers(2, 6))):
            u, v = rng.uniform(-0.3, 0.3, 2) * (rect.length, rect.width)
            long, wide, tall = rng.uniform(0.3, 0.7, 3)
            turn = rng.uniform(-0.4, 0.4)
            boxes.append(
                _on(rect, (u, v, 0), (long, wide, tall), _carton(rng), 0, turn=turn, finish=Finish(style=CARTONS, seed=rng.random()))
            )


def add_overhead(boxes: list[Box], camera: Camera, pose: CameraPose, rng: np.random.Generator) -> None:
    """Add roof beams and sometimes a lamp or duct close to the camera, at the edge of the image; they occlude."""
    for _ in range(int(rng.choice([0, 1, 2, 3], p=[0.35, 0.3, 0.25, 0.1]))):
        depth, angle = rng.uniform(1.3, 3.5), rng.uniform(0, 2 * math.pi)
        plate = rng.random() < 0.3
        reach = rng.uniform(0.85, 1.15) if plate else rng.uniform(0.55, 1.0)
        x = depth * reach * math.cos(angle) * camera.width / 2 / camera.fx
        y = depth * reach * math.sin(angle) * camera.height / 2 / camera.fy
        center = pose.position + np.array([x, y, depth]) @ pose.axes
        if center[2] < 2.4:
            continue
        spot = (float(center[0]), float(center[1]), float(center[2]))
        grey = rng.uniform(0.55, 0.9)
        if plate:
            dark = rng.uniform(0.03, 0.3)
            boxes.append(Box(spot, (depth * 0.2, depth * 0.13, 0.06), rng.uniform(0, 3), (dark, dark, dark)))
            continue
        yaw, thick = math.atan2(pose.axes[2, 1], pose.axes[2, 0]) + rng.normal(0, 0.5), rng.uniform(0.025, 0.05)
        along = rng.uniform(0.3, 0.7)
        boxes.append(Box(spot, (along, thick, thick * 0.5), yaw, (grey, grey, grey * 0.97)))
        below = (spot[0] + 0.04, spot[1] + 0.03, spot[2] - 3 * thick)
        boxes.append(Box(below, (along, thick * 0.6, thick * 0.3), yaw, (grey * 0.85, grey * 0.85, grey * 0.83)))


def _add_load(boxes: list[Box], rect: Rect, owner: int, foot: float, height: float, rng: np.random.Generator) -> float:
    """Add cartons on a rectangle: a full block, a few large ones, or a pile in columns; return the height of the top."""
    kind = rng.random()
    if kind < 0.45:
        return _add_block(boxes, rect, owner, foot, height, rng)
    if kind < 0.68:
        return _add_large(boxes, rect, owner, foot, height, rng)
    return _add_pile(boxes, rect, owner, foot, min(height, 1.2), rng)


def _add_block(boxes: list[Box], rect: Rect, owner: int, foot: float, height: float, rng: np.random.Generator) -> float:
    length, width = rect.length * rng.uniform(0.86, 0.98), rect.width * rng.uniform(0.86, 0.98)
    unit = rng.uniform(0.28, 0.6)
    cells = (max(1, round(length / unit)), max(1, round(width / unit)), max(1, round(height / unit)))
    boxes.append(
        _on(rect, (0, 0, foot), (length, width, height), _carton(rng), owner, finish=Finish(style=CARTONS, cells=cells, seed=rng.random()))
    )
    return foot + height


def _add_large(boxes: list[Box], rect: Rect, owner: int, foot: float, height: float, rng: np.random.Generator) -> float:
    top, colour = foot, _carton(rng)
    for a in (-1, 1):
        if rng.random() < 0.2 and a == 1 and top > foot:
            continue
        length, width, tall = rect.length * rng.uniform(0.38, 0.46), rect.width * rng.uniform(0.7, 0.95), height * rng.uniform(0.55, 1.0)
        slide = rng.uniform(-0.5, 0.5) * (rect.width - width)
        cells = (1, int(rng.integers(1, 3)), int(rng.integers(1, 3)))
        u = a * 0.24 * rect.length
        boxes.append(
            _on(rect, (u, slide, foot), (length, width, tall), colour, owner, finish=Finish(style=CARTONS, cells=cells, seed=rng.random()))
        )
        top = max(top, foot + tall)
    return top


def _add_pile(boxes: list[Box], rect: Rect, owner: int, foot: float, height: float, rng: np.random.Generator) -> float:
    top, colour, grid = foot, _carton(rng), int(rng.integers(2, 4))
    for a in range(grid):
        for b in range(grid):
            if rng.random() < 0.15 and top > foot:
                continue
            tall = height * rng.uniform(0.25, 1.0)
            u, v = ((a + 0.5) / grid - 0.5) * rect.length * 0.92, ((b + 0.5) / grid - 0.5) * rect.width * 0.92
            length, width = rect.length * rng.uniform(0.72, 0.92) / grid, rect.width * rng.uniform(0.72, 0.92) / grid
            cells = (1, 1, max(1, round(tall / 0.3)))
            turn = rng.uniform(-0.12, 0.12)
            shade = _vary(colour, rng, 0.06)
            boxes.append(
                _on(
                    rect,
                    (u, v, foot),
                    (length, width, tall),
                    shade,
                    owner,
                    turn=turn,
                    finish=Finish(style=CARTONS, cells=cells, seed=rng.random()),
                )
            )
            top = max(top, foot + tall)
    return top


def _add_goods(boxes: list[Box], rect: Rect, foot: float, headroom: float, owner: int, rng: np.random.Generator) -> None:
    u, end = -rect.length / 2 + 0.12, rect.length / 2 - 0.12
    crates = rng.random() < 0.35
    while u < end - 0.4:
        length = min(rng.uniform(0.4, 1.1), end - u)
        tall = headroom * rng.uniform(0.5, 0.98)
        if rng.random() > 0.12:
            colour = _vary((0.66, 0.5, 0.3), rng, 0.06) if crates else _carton(rng)
            cells = (max(1, round(length / 0.5)), 2, max(1, round(tall / 0.5)))
            style = PLANKS if crates else CARTONS
            width = rect.width * rng.uniform(0.7, 0.92)
            middle = u + length / 2
            boxes.append(
                _on(
                    rect,
                    (middle, 0, foot),
                    (length * 0.94, width, tall),
                    colour,
                    owner,
                    finish=Finish(style=style, cells=cells, seed=rng.random()),
                )
            )
        u += length


def _on(
    rect: Rect,
    at: tuple[float, float, float],
    size: tuple[float, float, float],
    colour: Colour,
    owner: int,
    turn: float = 0.0,
    finish: Finish = _SMOOTH,
) -> Box:
    """Return a box that is turned with a rectangle.

    Args:
        rect: the rectangle on the floor.
        at: the box's middle (u, v) in the rectangle's own frame, and the height that it stands at.
        size: length, width and height.
        colour: its main colour.
        owner: the instance that it belongs to; 0 for scenery.
        turn: angle between the box and the rectangle.
        finish: the pattern on its sides.
    """
    u, v, foot = at
    length, width, height = size
    x, y = rect.to_floor(u, v)
    half = (length / 2, width / 2, height / 2)
    return Box((x, y, foot + height / 2), half, rect.yaw + turn, colour, finish.style, owner, finish.cells, _LABEL, finish.seed)


def _carton(rng: np.random.Generator) -> Colour:
    return _vary([(0.66, 0.5, 0.34), (0.7, 0.55, 0.38), (0.58, 0.42, 0.26)][int(rng.integers(3))], rng, 0.06)


def _pick_colour(rng: np.random.Generator) -> Colour:
    colours = [(0.66, 0.5, 0.34), (0.85, 0.85, 0.85), (0.75, 0.62, 0.08), (0.1, 0.28, 0.6), (0.5, 0.1, 0.08), (0.12, 0.12, 0.13)]
    return _vary(colours[int(rng.integers(len(colours)))], rng, 0.08)


def _vary(colour: Colour, rng: np.random.Generator, amount: float) -> Colour:
    """Return the colour with its brightness and, less, its hue changed."""
    gain = 1 + rng.uniform(-2, 2) * amount
    red, green, blue = (float(np.clip(value * gain * (1 + rng.uniform(-0.5, 0.5) * amount), 0.01, 1)) for value in colour)
    return red, green, blue
