"""Questions of the warm-up about what and where single objects are, and surveys of many at once."""

from __future__ import annotations

import numpy as np

from smolrgpt.schema import SceneGraph, SceneObject
from smolrgpt.tasks.base import OtherTask
from smolrgpt.tasks.drawing import draw_one, draw_several, pick, shuffled
from smolrgpt.tasks.question import Question, brief_metres, list_facts, mask_placeholders


def ask_what(graph: SceneGraph, rng: np.random.Generator) -> Question | None:
    """Ask what an object is."""
    name = _full_name(item := draw_one(graph, rng))
    text = pick(rng, ("What is <mask>?", "What kind of object is <mask>?", "Can you name the object in <mask>?"))
    article = "an" if name[0] in "aeiou" else "a"
    return Question(text, [item], f"[Region 0] is {article} {name}.", name, WHAT.name, "[Region 0]")


def ask_where(graph: SceneGraph, rng: np.random.Generator) -> Question | None:
    """Ask where in the image an object is."""
    item = draw_one(graph, rng)
    column, row = _percentages(graph, item)
    text = pick(rng, ("Where is <mask>?", "Where in the image is <mask>?", "What is the position of <mask> in the image?"))
    answer = f"[Region 0] is {column} percent from the left and {row} percent from the top of the image."
    return Question(text, [item], answer, f"{column:02d} {row:02d}", WHERE.name, "[Region 0]")


def survey_positions(graph: SceneGraph, rng: np.random.Generator) -> Question | None:
    """Ask where in the image several objects are."""
    objects = draw_several(graph.objects, rng)
    text = pick(rng, ("Where in the image are {m}?", "What are the positions of {m} in the image?")).format(
        m=mask_placeholders(len(objects))
    )
    values = ["{:02d} {:02d}".format(*_percentages(graph, item)) for item in objects]
    return list_facts(POSITIONS.name, text, objects, values, "{r} is at {v} percent of the width and height.")


def survey_depths(graph: SceneGraph, rng: np.random.Generator) -> Question | None:
    """Ask how far several objects are from the camera."""
    objects = draw_several(graph.objects, rng)
    text = pick(rng, ("How far are {m} from the camera?", "What are the distances of {m} from the camera?")).format(
        m=mask_placeholders(len(objects))
    )
    values = [brief_metres(graph.camera_distance_m(item)) for item in objects]
    return list_facts(DEPTHS.name, text, objects, values, "{r} is {v} meters from the camera.")


def survey_kinds(graph: SceneGraph, rng: np.random.Generator) -> Question | None:
    """Ask what several objects are."""
    objects = draw_several(graph.objects, rng)
    text = pick(rng, ("What are {m}?", "What kinds of objects are {m}?")).format(m=mask_placeholders(len(objects)))
    return list_facts(KINDS.name, text, objects, [_full_name(item) for item in objects], "{r} is a {v}.")


def survey_loads(graph: SceneGraph, rng: np.random.Generator) -> Question | None:
    """Ask which transporters carry a load."""
    objects = shuffled(graph.of_kind("transporter"), rng)
    if not objects:
        return None
    text = pick(rng, ("Are the transporters {m} loaded or empty?", "Which of the transporters {m} carry a load?"))
    values = ["loaded" if item.loaded else "empty" for item in objects]
    return list_facts(LOADS.name, text.format(m=mask_placeholders(len(objects))), objects, values, "{r} is {v}.")


def _full_name(item: SceneObject) -> str:
    """Return the object's noun, with its load where it is known."""
    return item.name if item.loaded is None else f"{'loaded' if item.loaded else 'empty'} {item.name}"


def _percentages(graph: SceneGraph, item: SceneObject) -> tuple[int, int]:
    """Return where the object's centroid is, in whole percents (0 to 99) of the image's width and height."""
    shares = item.image_xy[0] / graph.camera.width, item.image_xy[1] / graph.camera.height
    column, row = (min(99, max(0, int(100 * share))) for share in shares)
    return column, row


WHAT = OtherTask(name="what", title="what an object is", makers=((1.0, ask_what),))
WHERE = OtherTask(name="where", title="position in the image", makers=((1.0, ask_where),))
POSITIONS = OtherTask(name="positions", title="positions in the image", makers=((1.0, survey_positions),))
DEPTHS = OtherTask(name="depths", title="distances from the camera", makers=((1.0, survey_depths),))
KINDS = OtherTask(name="kinds", title="what objects are", makers=((1.0, survey_kinds),))
LOADS = OtherTask(name="loads", title="loads of transporters", makers=((1.0, survey_loads),))
