"""Questions about the order of two objects in depth and in the image's height."""

from __future__ import annotations

import numpy as np

from smolrgpt.schema import SceneGraph
from smolrgpt.tasks.base import OtherTask
from smolrgpt.tasks.drawing import shuffled
from smolrgpt.tasks.question import Question
from smolrgpt.tasks.relations import SIDE_MARGIN

#: One object is behind another when its distance from the camera along the plane is larger by this, in metres.
MIN_BEHIND_M = 0.5


def ask_behind(graph: SceneGraph, rng: np.random.Generator) -> Question | None:
    """Ask whether an object is behind or in front of another: farther from the camera along the supporting plane, or nearer."""
    if not graph.has_plane:
        return None
    pair = shuffled(graph.objects, rng)[:2]
    distances = [graph.ground_distance_m(item) for item in pair]
    if len(pair) < 2 or abs(distances[0] - distances[1]) < MIN_BEHIND_M:
        return None
    order = "behind" if distances[0] > distances[1] else "in front of"
    a, b = (item.name for item in pair)
    text = f"Is the {a} <mask> behind or in front of the {b} <mask>?"
    return Question(text, pair, f"The {a} [Region 0] is {order} the {b} [Region 1].", order, BEHIND.name)


def ask_above(graph: SceneGraph, rng: np.random.Generator) -> Question | None:
    """Ask whether an object appears above or below another in the image."""
    pair = shuffled(graph.objects, rng)[:2]
    if len(pair) < 2 or abs(pair[0].image_xy[1] - pair[1].image_xy[1]) < SIDE_MARGIN * graph.camera.height:
        return None
    order = "above" if pair[0].image_xy[1] < pair[1].image_xy[1] else "below"
    a, b = (item.name for item in pair)
    text = f"In the image, does the {a} <mask> appear above or below the {b} <mask>?"
    return Question(text, pair, f"The {a} [Region 0] is {order} the {b} [Region 1] in the image.", order, ABOVE.name)


BEHIND = OtherTask(name="behind", title="behind or in front", makers=((1.0, ask_behind),))
ABOVE = OtherTask(name="above", title="above or below", makers=((1.0, ask_above),))
