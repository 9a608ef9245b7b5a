"""Layouts of objects on the floor: one function per layout family. Metres, floor coordinates x y, yaw in radians.

A family decides the buffer regions, how pallets stand in them and where the racks are; what stands outside the buffers is strewn
the same way for all. ``RESERVED_LAYOUTS`` differ in structure (a ring; offset double rows) and are for testing only.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

MAX_PALLETS = 12
#: Least free space between two objects, so that objects never touch.
CLEARANCE_M = 0.10


@dataclass(frozen=True)
class Rect:
    """A rectangle on the floor: centre, yaw, length along its own x axis and width along its own y axis."""

    x: float
    y: float
    yaw: float
    length: float
    width: float

    def to_local(self, x: float | np.ndarray, y: float | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Convert floor coordinates to the rectangle's own frame."""
        cos, sin = math.cos(self.yaw), math.sin(self.yaw)
        dx, dy = np.asarray(x) - self.x, np.asarray(y) - self.y
        return cos * dx + sin * dy, cos * dy - sin * dx

    def to_floor(self, u: Any, v: Any) -> tuple[Any, Any]:
        """Convert a point of the rectangle's own frame to floor coordinates."""
        cos, sin = math.cos(self.yaw), math.sin(self.yaw)
        return self.x + cos * u - sin * v, self.y + sin * u + cos * v

    def contains(self, x: float, y: float) -> bool:
        """Return whether a point of the floor lies in the rectangle."""
        u, v = self.to_local(x, y)
        return bool(abs(u) <= self.length / 2 and abs(v) <= self.width / 2)

    def corners(self, inflate: float = 0.0) -> np.ndarray:
        """Return the (4, 2) corners, moved outwards by ``inflate`` metres."""
        a, b = self.length / 2 + inflate, self.width / 2 + inflate
        return np.array([self.to_floor(u, v) for u, v in ((a, b), (a, -b), (-a, -b), (-a, b))])

    def overlaps(self, other: Rect, clearance: float = 0.0) -> bool:
        """Return whether the two come closer than about ``clearance`` (separating axes of the inflated rectangles)."""
        reach = math.hypot(self.length, self.width) / 2 + math.hypot(other.length, other.width) / 2 + clearance
        if math.hypot(self.x - other.x, self.y - other.y) > reach:
            return False
        cos, sin = abs(math.cos(self.yaw - other.yaw)), abs(math.sin(self.yaw - other.yaw))
        for frame, rect in ((self, other), (other, self)):
            along, across = math.cos(frame.yaw), math.sin(frame.yaw)
            dx, dy = rect.x - frame.x, rect.y - frame.y
            u, v = abs(along * dx + across * dy), abs(along * dy - across * dx)
            if u > (frame.length + cos * rect.length + sin * rect.width) / 2 + clearance:
                return False
            if v > (frame.width + sin * rect.length + cos * rect.width) / 2 + clearance:
                return False
        return True


@dataclass
class Plan:
    """The floor plan of a scene. ``pallet_buffers[i]`` and ``transporter_buffers[i]`` are the buffers that they stand in, or None."""

    buffers: list[Rect] = field(default_factory=list)
    pallets: list[Rect] = field(default_factory=list)
    pallet_buffers: list[int | None] = field(default_factory=list)
    transporters: list[Rect] = field(default_factory=list)
    transporter_buffers: list[int | None] = field(default_factory=list)
    shelves: list[Rect] = field(default_factory=list)
    clutter: list[Rect] = field(default_factory=list)

    def solids(self) -> Iterable[Rect]:
        """Return the footprints of everything that stands on the floor."""
        return (*self.pallets, *self.transporters, *self.shelves, *self.clutter)

    def is_free(self, rect: Rect, clearance: float = CLEARANCE_M) -> bool:
        """Return whether a rectangle keeps the clearance from everything that stands on the floor."""
        return not any(rect.overlaps(solid, clearance) for solid in self.solids())


def make_plan(layout: str, rng: np.random.Generator) -> Plan:
    """Draw a plan of a layout family. Raises ValueError for an unknown layout."""
    if layout not in LAYOUTS:
        raise ValueError(f"layout {layout!r} is unknown; expected one of {', '.join(LAYOUTS)}")
    plan, fill, spread = LAYOUTS[layout](rng)
    _fill_buffers(plan, fill, rng)
    _strew(plan, spread, rng)
    return plan


_Fill = Callable[[Rect, int, np.random.Generator], list[Rect]]
_Family = tuple[Plan, _Fill, float]


def _rows(rng: np.random.Generator) -> _Family:
    """Lay out three parallel buffers side by side, as in the real sets."""
    gap, length, width = rng.uniform(0.7, 2.0), rng.uniform(5.0, 6.6), rng.uniform(1.7, 2.5)
    shift = rng.uniform(-1.5, 1.5)
    plan = Plan(buffers=[Rect(k * shift + rng.uniform(-0.3, 0.3), k * (width + gap), 0.0, length, width) for k in (-1, 0, 1)])
    _maybe_shelves(plan, rng, [Rect(rng.uniform(-1, 1), side * (1.5 * (width + gap) + rng.uniform(1.2, 2.2)), 0, 0, 0) for side in (1, -1)])
    return plan, _fill_row, 5.5


def _angled(rng: np.random.Generator) -> _Family:
    """Lay out three buffers turned against the line they stand on, like angled parking."""
    yaw, pitch = rng.uniform(0.45, 0.95) * rng.choice([-1, 1]), rng.uniform(3.6, 4.4)
    length, width = rng.uniform(4.6, 5.8), rng.uniform(1.7, 2.2)
    plan = Plan(buffers=[Rect(k * pitch, rng.uniform(-0.3, 0.3), yaw, length, width) for k in (-1, 0, 1)])
    _maybe_shelves(plan, rng, [Rect(rng.uniform(-2, 2), side * rng.uniform(4.2, 5.2), 0, 0, 0) for side in (1, -1)])
    return plan, _fill_row, 6.0


def _l_shape(rng: np.random.Generator) -> _Family:
    """Lay out two parallel buffers and one across their ends."""
    length, width, gap = rng.uniform(4.6, 6.0), rng.uniform(1.7, 2.4), rng.uniform(0.7, 1.6)
    across = Rect(length / 2 + gap + width / 2 + 0.2, rng.uniform(-0.8, 0.8), math.pi / 2, rng.uniform(4.6, 6.0), width)
    plan = Plan(buffers=[Rect(-0.3, (width + gap) / 2, 0, length, width), Rect(-0.3, -(width + gap) / 2, 0, length, width), across])
    _maybe_shelves(plan, rng, [Rect(-length / 2 - rng.uniform(1.6, 2.4), 0, math.pi / 2, 0, 0), Rect(0, rng.uniform(4.0, 4.8), 0, 0, 0)])
    return plan, _fill_row, 5.5


def _scattered(rng: np.random.Generator) -> _Family:
    """Lay out two or three buffers at random positions and angles, pallets turned in them, many outside."""
    plan = Plan()
    for _ in range(60):
        if len(plan.buffers) == 3:
            break
        x, y = rng.uniform(-4, 4, 2)
        rect = Rect(x, y, rng.uniform(0, math.pi), rng.uniform(4.5, 5.6), rng.uniform(1.8, 2.6))
        if not any(rect.overlaps(other, 0.5) for other in plan.buffers):
            plan.buffers.append(rect)
    _maybe_shelves(plan, rng, [Rect(rng.uniform(-2, 2), 6.2, 0, 0, 0), Rect(-6.2, rng.uniform(-2, 2), math.pi / 2, 0, 0)])
    return plan, _fill_turned, 5.5


def _aisle(rng: np.random.Generator) -> _Family:
    """Lay out buffers end to end between two racks."""
    length, width, gap = rng.uniform(4.2, 5.0), rng.uniform(1.7, 2.2), rng.uniform(0.5, 1.2)
    plan = Plan(buffers=[Rect(k * (length + gap), rng.uniform(-0.9, 0.9), 0, length, width) for k in (-1, 0, 1)])
    for side in (1, -1):
        _add_shelf(plan, Rect(rng.uniform(-2, 2), side * rng.uniform(3.6, 4.4), 0, 0, 0), rng)
    return plan, _fill_row, 5.0


def _dock(rng: np.random.Generator) -> _Family:
    """Lay out four (or three) short buffers side by side, ends to the wall; pallets two deep."""
    count, length, width, gap = int(rng.integers(3, 5)), rng.uniform(3.0, 4.0), rng.uniform(2.3, 2.8), rng.uniform(0.5, 1.0)
    first = -(count - 1) / 2
    plan = Plan(buffers=[Rect((first + k) * (width + gap), rng.uniform(-0.2, 0.2), math.pi / 2, length, width) for k in range(count)])
    _maybe_shelves(plan, rng, [Rect(rng.uniform(-2, 2), length / 2 + rng.uniform(1.6, 2.4), 0, 0, 0)])
    return plan, _fill_grid, 5.5


def _blocks(rng: np.random.Generator) -> _Family:
    """Lay out two or three nearly square buffers, pallets two by two."""
    side, gap = rng.uniform(3.0, 3.8), rng.uniform(0.8, 2.2)
    spots = [(-(side + gap) / 2, 0.0), ((side + gap) / 2, rng.uniform(-1, 1)), (rng.uniform(-1.5, 1.5), side + gap)]
    count = int(rng.integers(2, 4))
    plan = Plan(buffers=[Rect(x, y, rng.uniform(-0.1, 0.1), side, side * rng.uniform(0.85, 1.0)) for x, y in spots[:count]])
    _maybe_shelves(plan, rng, [Rect(-side - gap - 1.5, 0, math.pi / 2, 0, 0), Rect(side + gap + 1.5, 0, math.pi / 2, 0, 0)])
    return plan, _fill_grid, 5.5


def _ring(rng: np.random.Generator) -> _Family:
    """Lay out (reserved) buffers around a free centre, each turned to it."""
    count, radius, start = int(rng.integers(3, 5)), rng.uniform(3.8, 4.6), rng.uniform(0, 2 * math.pi)
    plan = Plan()
    for k in range(count):
        angle = start + 2 * math.pi * k / count
        x, y = radius * math.cos(angle), radius * math.sin(angle)
        plan.buffers.append(Rect(x, y, angle + math.pi / 2, rng.uniform(4.6, 5.4), rng.uniform(1.7, 2.2)))
    _maybe_shelves(plan, rng, [Rect(0, radius + 3.2, 0, 0, 0), Rect(-radius - 3.2, 0, math.pi / 2, 0, 0)])
    return plan, _fill_row, 3.2


def _staggered(rng: np.random.Generator) -> _Family:
    """Lay out (reserved) wide buffers offset brick-like, pallets in two offset rows inside."""
    length, width, gap = rng.uniform(4.4, 5.4), rng.uniform(3.0, 3.5), rng.uniform(0.6, 1.2)
    half = (length + gap) / 2
    spots = [(-half, -(width + gap) / 2), (half, -(width + gap) / 2), (rng.uniform(-1.2, 1.2), (width + gap) / 2)]
    plan = Plan(buffers=[Rect(x, y, 0, length, width) for x, y in spots])
    _maybe_shelves(plan, rng, [Rect(rng.uniform(-2, 2), width + gap + 1.6, 0, 0, 0), Rect(-2 * half - 1, 0, math.pi / 2, 0, 0)])
    return plan, _fill_staggered, 5.5


LAYOUTS: dict[str, Callable[[np.random.Generator], _Family]] = {
    "rows": _rows,
    "angled": _angled,
    "l_shape": _l_shape,
    "scattered": _scattered,
    "aisle": _aisle,
    "dock": _dock,
    "blocks": _blocks,
    "ring": _ring,
    "staggered": _staggered,
}
RESERVED_LAYOUTS = ("ring", "staggered")
KNOWN_LAYOUTS = tuple(name for name in LAYOUTS if name not in RESERVED_LAYOUTS)


def _pallet(x: float, y: float, yaw: float, rng: np.random.Generator, longest: float = 1.4) -> Rect:
    return Rect(x, y, yaw + rng.normal(0, 0.05), rng.uniform(0.9, max(longest, 0.92)), rng.uniform(0.85, 1.25))


def _in_slots(
    buffer: Rect, slots: list[tuple[float, float]], count: int, rng: np.random.Generator, turn: float = 0.0, longest: float = 1.4
) -> list[Rect]:
    """Place pallets in ``count`` of the slots (positions in the buffer's own frame), not quite in their middle."""
    slack = min(0.12, max(0.0, longest - 0.95) / 2)
    jitter = rng.uniform(-1, 1, (len(slots), 2)) * (slack, 0.12)
    positions = [buffer.to_floor(slots[k][0] + jitter[k, 0], slots[k][1] + jitter[k, 1]) for k in rng.permutation(len(slots))[:count]]
    return [_pallet(x, y, buffer.yaw + rng.uniform(-turn, turn), rng, longest) for x, y in positions]


def _fill_row(buffer: Rect, count: int, rng: np.random.Generator, turn: float = 0.0) -> list[Rect]:
    slots = max(count, int(buffer.length / 1.4))
    step = buffer.length / slots
    positions = [((k + 0.5) * step - buffer.length / 2, rng.uniform(-0.25, 0.25)) for k in range(slots)]
    return _in_slots(buffer, positions, count, rng, turn, longest=min(1.4, step - 0.12))


def _fill_turned(buffer: Rect, count: int, rng: np.random.Generator) -> list[Rect]:
    return _fill_row(buffer, count, rng, turn=0.7 if count < 4 else 0.2)


def _fill_grid(buffer: Rect, count: int, rng: np.random.Generator) -> list[Rect]:
    u, v = buffer.length / 4, buffer.width / 4
    return _in_slots(buffer, [(a * u, b * v) for a in (-1, 1) for b in (-1, 1)], count, rng)


def _fill_staggered(buffer: Rect, count: int, rng: np.random.Generator) -> list[Rect]:
    u, v = buffer.length / 6, buffer.width / 4
    return _in_slots(buffer, [(-2 * u, v), (0, v), (2 * u, v), (-u, -v), (u, -v)], count, rng)


def _maybe_shelves(plan: Plan, rng: np.random.Generator, spots: list[Rect]) -> None:
    for k in rng.permutation(len(spots))[: int(rng.integers(0, 3))]:
        _add_shelf(plan, spots[k], rng)


def _add_shelf(plan: Plan, spot: Rect, rng: np.random.Generator) -> None:
    shelf = Rect(spot.x, spot.y, spot.yaw + rng.normal(0, 0.03), rng.uniform(2.4, 4.6), rng.uniform(0.8, 1.2))
    if plan.is_free(shelf, 0.5) and not any(shelf.overlaps(buffer, 0.25) for buffer in plan.buffers):
        plan.shelves.append(shelf)


def _fill_buffers(plan: Plan, fill: _Fill, rng: np.random.Generator) -> None:
    """Place one to four pallets in each buffer, at times none; four are drawn more often, because some of them are hidden."""
    for index, buffer in enumerate(plan.buffers):
        wanted = int(rng.choice(5, p=(0.06, 0.18, 0.21, 0.25, 0.3)))
        placed: list[Rect] = []
        for _ in range(8):  # a full buffer may need another draw of sizes
            placed = []
            for pallet in fill(buffer, wanted, rng):
                is_separate = not any(pallet.overlaps(other, CLEARANCE_M) for other in placed)
                if is_separate and plan.is_free(pallet) and buffer.contains(pallet.x, pallet.y):
                    placed.append(pallet)
            if len(placed) == wanted:
                break
        placed = placed[: MAX_PALLETS - len(plan.pallets)]
        plan.pallets += placed
        plan.pallet_buffers += [index] * len(placed)


def _strew(plan: Plan, spread: float, rng: np.random.Generator) -> None:
    """Place transporters (at times one in a buffer), pallets outside the buffers, clutter around them."""
    for _ in range(int(rng.choice([1, 2, 3], p=[0.3, 0.3, 0.4]))):
        inside = rng.random() < 0.2
        for _ in range(25):
            x, y = rng.uniform(-spread, spread, 2)
            if inside:
                buffer = plan.buffers[int(rng.integers(len(plan.buffers)))]
                x, y = buffer.to_floor(rng.uniform(-0.35, 0.35) * buffer.length, rng.uniform(-0.2, 0.2) * buffer.width)
            rect = Rect(x, y, rng.uniform(0, 2 * math.pi), rng.uniform(0.9, 1.4), rng.uniform(0.6, 0.9))
            where = _buffer_of(plan, rect)
            if plan.is_free(rect, 0.15) and where != -1:
                plan.transporters.append(rect)
                plan.transporter_buffers.append(where)
                break
    # The total is drawn on its own, so that the number of masks in a question hardly predicts the number of pallets in a buffer.
    outside = min(int(rng.integers(5, MAX_PALLETS + 1)) - len(plan.pallets), 4)
    for _ in range(60):
        if outside <= 0:
            break
        x, y = rng.uniform(-spread, spread, 2)
        rect = _pallet(x, y, rng.uniform(0, math.pi), rng)
        if plan.is_free(rect, 0.15) and _buffer_of(plan, rect) is None:
            plan.pallets.append(rect)
            plan.pallet_buffers.append(None)
            outside -= 1
    for _ in range(int(rng.integers(1, 7))):
        angle, radius = rng.uniform(0, 2 * math.pi), spread + rng.uniform(0.5, 3.5)
        length, width = rng.uniform(0.5, 1.9), rng.uniform(0.4, 0.9)
        rect = Rect(radius * math.cos(angle), radius * math.sin(angle), rng.uniform(0, math.pi), length, width)
        if plan.is_free(rect, 0.3) and _buffer_of(plan, rect) is None:
            plan.clutter.append(rect)


def _buffer_of(plan: Plan, rect: Rect) -> int | None:
    """Return the buffer that contains a rectangle's centre; None when it is clear of all; -1 when it straddles an outline from outside."""
    for index, buffer in enumerate(plan.buffers):
        if buffer.contains(rect.x, rect.y):
            return index
    return -1 if any(rect.overlaps(buffer, CLEARANCE_M) for buffer in plan.buffers) else None
