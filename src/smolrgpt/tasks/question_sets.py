"""Which questions the files of a data set ask about a scene: groups of makers, with the weights they are drawn by.

The order of groups and makers decides which random numbers they get, so that an existing table is never changed: the same seed gives the
same questions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from smolrgpt.schema import SceneGraph
from smolrgpt.tasks import makers_choice as choice
from smolrgpt.tasks import makers_count as count
from smolrgpt.tasks import makers_distance as distance
from smolrgpt.tasks import makers_order as order
from smolrgpt.tasks import makers_position as position
from smolrgpt.tasks import makers_side as side
from smolrgpt.tasks import makers_size as size
from smolrgpt.tasks.drawing import WeightedMakers, sample_balanced
from smolrgpt.tasks.official import OfficialForm, official_forms
from smolrgpt.tasks.question import Maker, Question
from smolrgpt.tasks.wording import Wording

#: Relation of the official forms -> how much earlier than others it is tried in a scene, because fewer scenes show it: of the synthetic
#: warehouse's, one in ten has two shelves on clear sides, one in three has a shelf that one buffer is clearly the nearest to.
_PRIORITIES = {
    "buffer_by_shelf_on_side": 40.0,
    "pallet_to_shelf_on_side": 20.0,
    "buffer_by_shelf": 3.0,
    "pallet_to_shelf": 2.5,
    "pickup_by_empty": 2.0,
    "pallet_to_buffer": 1.4,
    "buffer_on_side": 1.3,
    "pallet_to_pallet": 1.3,
    "transporter_to_buffer": 1.3,
}
#: Tries to draw objects for an official form before it is given up.
_FORM_TRIES = 6

_PlainMaker = Callable[[SceneGraph, np.random.Generator, Wording], Question | None]
_FormMaker = Callable[[SceneGraph, np.random.Generator, OfficialForm], Question | None]

_OFFICIAL: dict[str, WeightedMakers] = {
    "left_right": [(1.0, side.ask_side)],
    "count": [(0.85, count.ask_count), (0.15, count.ask_count_by_shelf)],
    "mcq": [(0.22, choice.ask_extreme), (0.68, choice.ask_pickup), (0.1, choice.ask_buffer_by_shelf)],
    "distance": [
        (0.6, distance.ask_distance),
        (0.12, distance.ask_transporter_to_buffer),
        (0.14, distance.ask_pallet_to_buffer),
        (0.1, distance.ask_pallet_to_pallet),
        (0.04, distance.ask_pallet_to_shelf),
    ],
}
_WARMUP: dict[str, WeightedMakers] = {
    "single": [(0.25, position.ask_what), (0.35, position.ask_where), (0.4, position.ask_depth)],
    "size": [(0.5, size.ask_width), (0.5, size.ask_height)],
    "pair": [(0.4, position.ask_closer), (0.6, side.ask_side)],
    "inside": [(1.0, count.ask_inside)],
    "distance": [(1.0, distance.ask_distance)],
    "survey": [
        (0.15, position.survey_positions),
        (0.1, position.survey_depths),
        (0.1, position.survey_kinds),
        (0.25, distance.survey_distances),
        (0.1, side.survey_sides),
        (0.15, count.survey_insides),
        (0.15, position.survey_loads),
    ],
}
_EXTRA: dict[str, WeightedMakers] = {
    "width": [(1.0, size.ask_width)],
    "height": [(1.0, size.ask_height)],
    "vertical": [(1.0, size.ask_vertical)],
    "behind": [(1.0, order.ask_behind)],
    "above": [(1.0, order.ask_above)],
}
_PLAIN: dict[str, list[tuple[float, _PlainMaker]]] = {
    "left_right": [(1.0, side.ask_side_plainly)],
    "distance": [(1.0, distance.ask_distance_plainly)],
    "mcq": [(0.5, choice.ask_extreme_plainly), (0.5, choice.ask_nearest_plainly)],
    "count": [(1.0, count.ask_count_plainly)],
    "size": [(0.35, size.ask_width_plainly), (0.35, size.ask_height_plainly), (0.3, size.ask_vertical_plainly)],
}
_FORMS: dict[str, _FormMaker] = {
    "left_right": side.ask_side_form,
    "count": count.ask_count_form,
    "mcq": choice.ask_choice_form,
    "distance": distance.ask_distance_form,
}


def scene_questions(graph: SceneGraph, rng: np.random.Generator, n: int) -> list[Question]:
    """Draw at most n different questions of the official four categories, a quarter each as far as the scene has them."""
    return sample_balanced(graph, rng, n, _OFFICIAL)


def warmup_questions(graph: SceneGraph, rng: np.random.Generator, n: int) -> list[Question]:
    """Draw at most n questions about what and where single regions are, and how pairs compare."""
    return sample_balanced(graph, rng, n, _WARMUP)


def extra_questions(graph: SceneGraph, rng: np.random.Generator, n: int) -> list[Question]:
    """Draw at most n questions of the kinds width, height, vertical, behind and above."""
    return sample_balanced(graph, rng, n, _EXTRA)


def plain_questions(graph: SceneGraph, rng: np.random.Generator, n: int, wording: Wording = "known") -> list[Question]:
    """Draw at most n different questions of the official four categories and of lengths, in plain words of one wording."""

    def with_wording(ask: _PlainMaker) -> Maker:
        return lambda graph, rng: ask(graph, rng, wording)

    groups = {name: [(weight, with_wording(ask)) for weight, ask in makers] for name, makers in _PLAIN.items()}
    return sample_balanced(graph, rng, n, groups)


def template_questions(graph: SceneGraph, rng: np.random.Generator, n: int) -> list[Question]:
    """Draw at most n questions that are instances of different official forms.

    Forms that few scenes can be asked about come first, so that a set of many scenes has every form about equally often.
    """
    forms = official_forms()
    priorities = np.array([_PRIORITIES.get(form.relation, 1.0) for form in forms])
    found: list[Question] = []
    for k in np.argsort(rng.exponential(size=len(forms)) / priorities):
        if len(found) == n:
            break
        question = _ask_form(graph, rng, forms[k])
        if question is not None:
            found.append(question)
    return found


def _ask_form(graph: SceneGraph, rng: np.random.Generator, form: OfficialForm) -> Question | None:
    """Ask a form in a few tries, since the first draw of objects may not be clear."""
    for _ in range(_FORM_TRIES):
        question = _FORMS[form.category](graph, rng, form)
        if question is not None:
            return replace(question, template=form.template)
    return None
