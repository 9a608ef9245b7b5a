"""Directions by the clock, along the supporting plane, as seen from above.

Seen from a region, 12 o'clock is away from the camera, as in SpatialRGPT-Bench, or towards a region that somebody faces.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from smolrgpt.schema import SceneGraph, SceneObject
from smolrgpt.tasks.base import STEP_REGION, Cue, NormalizedAnswer, ReplySchema, Task
from smolrgpt.tasks.draft import Draft, makers_of
from smolrgpt.tasks.drawing import shuffled
from smolrgpt.tasks.relations import between_middles_m

DEGREES_PER_HOUR = 30
#: A direction is right when it is at most this many hours off (the rule of SpatialRGPT-Bench).
MAX_HOURS_OFF = 1
#: Directions that are farther from a full hour, in degrees, are not asked for.
_MAX_FROM_HOUR = 11
#: Two objects have a direction when they are at least this share of their distance apart along the plane.
_ALONG_SHARE = 0.5
_HOUR = r"(?<![\w.:-])(\d{1,2})(?::\d\d)?[\s-]*o\s*'?\s*clock"
_CLOCK = re.compile(_HOUR)


def hours_off(first: int, second: int) -> int:
    """Return the smaller difference of two hours of the clock, 0 to 6."""
    off = abs(first - second) % 12
    return min(off, 12 - off)


@dataclass(frozen=True, eq=False, kw_only=True)
class DirectionTask(Task):
    """A question whose answer is an hour of the clock, such as "3 o'clock"."""

    def field_pattern(self, num_regions: int) -> str:
        """Return the pattern of an hour."""
        return " ?(?:[1-9]|1[0-2]) o'clock"

    def _read_short(self, text: str) -> NormalizedAnswer:
        found = _CLOCK.fullmatch(text) or re.fullmatch(r"(\d{1,2})", text)
        return _written(int(found[1])) if found else None

    def _read_sentences(self, question: str, sentences: Sequence[str]) -> NormalizedAnswer:
        """Return the only hour that the last sentence with one gives."""
        for sentence in reversed(sentences):
            hours = {int(hour) for hour in _CLOCK.findall(sentence.lower().replace("\u2019", "'"))}
            if hours:
                return _written(hours.pop()) if len(hours) == 1 else None
        return None

    def parse(self, value: Any) -> int:
        """Return an hour from 1 to 12. Raises ValueError for any other value."""
        found = re.fullmatch(r"(\d{1,2})(?: ?o'clock)?", str(value).lower().strip())
        if found is None or not 1 <= int(found[1]) <= 12:
            raise ValueError("no hour of the clock")
        return int(found[1])

    def is_correct(self, truth: int, prediction: int) -> bool:
        """Return whether a prediction is at most an hour off."""
        return hours_off(truth, prediction) <= MAX_HOURS_OFF

    def describe_problem(self, value: Any, num_regions: int) -> str | None:
        """Return the expected form of an answer, as text; None where ``value`` is valid."""
        is_valid = isinstance(value, str) and re.fullmatch(r"(?:[1-9]|1[0-2]) o'clock", value) is not None
        return None if is_valid else 'an hour such as "3 o\'clock"'

    def chance(self, truths: Sequence[Any], num_regions: Sequence[int]) -> float:
        """Return the share that guessing an hour gets right."""
        return (1 + 2 * MAX_HOURS_OFF) / 12


def _written(hour: int) -> str | None:
    return f"{hour} o'clock" if 1 <= hour <= 12 else None


# ---------------------------------------------------------------------------------------------------------------------- questions
def ahead_of_camera(graph: SceneGraph) -> np.ndarray:
    """Return the direction (2,) along the plane that is away from the camera; the image's upward one for a camera that looks down."""
    forward, up = graph.pose.axes[2, :2], -graph.pose.axes[1, :2]
    ahead = forward if np.linalg.norm(forward) > 0.3 else up
    return np.asarray(ahead / np.linalg.norm(ahead))


def degrees_clockwise(ahead: np.ndarray, towards: np.ndarray) -> float:
    """Return the angle from one direction (2,) along the plane to another, clockwise seen from above, from 0 to below 360."""
    right = np.array([ahead[1], -ahead[0]])
    return math.degrees(math.atan2(float(towards @ right), float(towards @ ahead))) % 360


def clear_hour(degrees: float) -> str | None:
    """Return the hour that an angle points to; None where it is between two."""
    hour = round(degrees / DEGREES_PER_HOUR)
    return f"{hour % 12 or 12} o'clock" if abs(degrees - DEGREES_PER_HOUR * hour) <= _MAX_FROM_HOUR else None


def _along(a: SceneObject, b: SceneObject) -> np.ndarray | None:
    """Return the vector (2,) along the plane from one object to another; None where one is nearly above the other."""
    vector = np.asarray(b.center_m[:2] - a.center_m[:2])
    return vector if np.linalg.norm(vector) >= _ALONG_SHARE * max(between_middles_m(a, b), 1e-6) else None


def _draw_from(graph: SceneGraph, rng: np.random.Generator) -> Draft | None:
    pair = shuffled(graph.objects, rng)[:2]
    towards = _along(*pair) if len(pair) == 2 and graph.has_plane else None
    hour = None if towards is None else clear_hour(degrees_clockwise(ahead_of_camera(graph), towards))
    if hour is None:
        return None
    a, b = pair
    return Draft("from", {"a": a, "b": b}, hour, lambda tag: f"{tag(b)} is at {hour} from {tag(a)}.", lambda tag: f"{tag(a)}{tag(b)}")


def _draw_facing(graph: SceneGraph, rng: np.random.Generator) -> Draft | None:
    found = shuffled(graph.objects, rng)[:3]
    if len(found) < 3 or not graph.has_plane:
        return None
    a, b, c = found
    ahead, towards = _along(a, b), _along(a, c)
    if ahead is None or towards is None:
        return None
    hour = clear_hour(degrees_clockwise(ahead / np.linalg.norm(ahead), towards))
    if hour is None:
        return None
    return Draft(
        "facing",
        {"a": a, "b": b, "c": c},
        hour,
        lambda tag: f"standing at {tag(a)} and facing {tag(b)}, {tag(c)} is at {hour}.",
        lambda tag: f"{tag(a)}{tag(b)}{tag(a)}{tag(c)}",
    )


DIRECTION = DirectionTask(
    name="direction",
    title="direction by the clock",
    cues=(
        Cue(6, r"o'? ?clock\b|clock (?:direction|position|face|bearing)\b|(?:by|on|of|round) the clock\b|hour (?:of|on) (?:the|a) clock\b"),
        Cue(6, r"if (?:you are|you're|i am|i'm|i stand|you stand) at (?:\w+ ){0,7}<mask>.*\bwhere\b|what hour\b|which hour\b"),
    ),
    reply=ReplySchema("hour", int, "The hour of the clock, 1 to 12."),
    guess="12 o'clock",
    steps_pattern=rf"{STEP_REGION}{STEP_REGION}(?:{STEP_REGION}{STEP_REGION})?",
    is_extra=True,
    **makers_of("direction", "clock", (0.5, _draw_from), (0.5, _draw_facing)),
)
