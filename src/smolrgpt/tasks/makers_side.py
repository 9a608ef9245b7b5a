"""Questions about the side of one object relative to another."""

from __future__ import annotations

import numpy as np

from smolrgpt.schema import SceneGraph, SceneObject
from smolrgpt.tasks.drawing import draw_several, pick, shuffled
from smolrgpt.tasks.official import OfficialForm, fill_form
from smolrgpt.tasks.question import Question, capitalized, from_viewpoint, list_facts, masks, tags
from smolrgpt.tasks.region_text import region_tag
from smolrgpt.tasks.relations import is_side_clear, side_of
from smolrgpt.tasks.wording import Wording, ask_about_pair, load_wordings

_QUESTIONS = (
    "Is {a} to the left or right of {b}?",
    "From this viewpoint, does {a} appear on the left or right side of {b}?",
    "Does {a} appear on the left or right side of {b}?",
    "Is {a} positioned on the left or right side of {b} relative to the observer?",
    "Is {a} to the {side} of {b} from the image's perspective?",
    "Looking from this perspective, is {a} to the {side} of {b}?",
    "Is {a} placed to the {side} of {b} when looking from this angle?",
    "Is {a} positioned on the {side} side of {b} relative to the observer?",
    "Can you determine if {a} is to the {side} of {b} based on the current viewing angle?",
)
_SURVEY_QUESTIONS = (
    "Are {m} to the left or right of the {a} <mask>?",
    "On which side of the {a} in the last mask are {m}? It is <mask>.",
)


def ask_side(graph: SceneGraph, rng: np.random.Generator) -> Question | None:
    """Ask on which side of the second object the first one is, in an official sentence."""
    pair = _draw_pair(graph, rng)
    if pair is None:
        return None
    a, b = (f"the {item.name} <mask>" for item in pair)
    text = capitalized(pick(rng, _QUESTIONS).format(a=a, b=b, side=pick(rng, ("left", "right"))))
    return _official_question(text, pair, rng)


def ask_side_form(graph: SceneGraph, rng: np.random.Generator, form: OfficialForm) -> Question | None:
    """Ask an official form about the sides of two objects."""
    pair = _draw_pair(graph, rng)
    if pair is None:
        return None
    text, objects = fill_form(form, a=pair[0], b=pair[1])
    return _official_question(text, objects, rng)


def _draw_pair(graph: SceneGraph, rng: np.random.Generator) -> list[SceneObject] | None:
    """Draw two objects of one kind or, less often, any two; None where their sides are not clear."""
    kinds = ("pallet", "pallet", "pallet", "buffer", "transporter", "shelf")
    pools = [pool for pool in (graph.of_kind(kind) for kind in kinds) if pool]
    if not pools:
        return None
    pool = pick(rng, pools) if rng.random() < 0.7 else graph.objects
    pair = shuffled(pool, rng)[:2]
    return pair if len(pair) == 2 and is_side_clear(graph, pair) else None


def _official_question(text: str, pair: list[SceneObject], rng: np.random.Generator) -> Question:
    side = side_of(*pair)
    form = pick(rng, ("is to the {s} of", "is on the {s} of", "is situated on the {s} of"))
    answer = from_viewpoint(rng, f"The {pair[0].name} [Region 0] {form.format(s=side)} the {pair[1].name} [Region 1].")
    return Question(text, pair, answer, side, "left_right", tags(pair, *pair))


def ask_side_plainly(graph: SceneGraph, rng: np.random.Generator, wording: Wording) -> Question | None:
    """Ask on which side of the second object the first one is, in plain words."""
    pair = shuffled(graph.objects, rng)[:2]
    if len(pair) < 2 or not is_side_clear(graph, pair):
        return None
    text, objects = ask_about_pair(load_wordings("side")["sides"][wording], pair, rng)
    a, b = pair
    side = side_of(a, b)
    answer = f"{tags(objects, a)} is to the {side} of {tags(objects, b)}."
    return Question(text, objects, answer, side, "left_right", tags(objects, a, b))


def survey_sides(graph: SceneGraph, rng: np.random.Generator) -> Question | None:
    """Ask of several objects on which side of an anchor each one is."""
    found = draw_several(graph.objects, rng)
    if not found:
        return None
    anchor = found[0]
    objects = [item for item in found[1:] if is_side_clear(graph, [item, anchor])]
    if not objects:
        return None
    text = pick(rng, _SURVEY_QUESTIONS).format(m=masks(len(objects)), a=anchor.name)
    values = [side_of(item, anchor) for item in objects]
    return list_facts("sides", text, [*objects, anchor], values, f"{{r}} is to the {{v}} of {region_tag(len(objects))}.")
