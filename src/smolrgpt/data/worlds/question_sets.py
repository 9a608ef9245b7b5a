"""The questions about a scene in the files of a data set: groups of makers, with the weights they are drawn by.

The order of groups and makers decides which random numbers they get: whoever changes it raises ``GENERATOR_VERSION``, because the same seed
gives other questions.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from smolrgpt.schema import SceneGraph, Wording
from smolrgpt.tasks import OFFICIAL, TASKS, Task
from smolrgpt.tasks.choice import MCQ
from smolrgpt.tasks.compare import CHOICE_OF_TWO
from smolrgpt.tasks.count import COUNT, ask_inside, survey_insides
from smolrgpt.tasks.distance import DISTANCE, ask_distance, survey_distances
from smolrgpt.tasks.drawing import WeightedMakers, sample_balanced
from smolrgpt.tasks.lengths import CAMERA_DISTANCE
from smolrgpt.tasks.official import OfficialForm, official_forms
from smolrgpt.tasks.position import (
    ask_what,
    ask_where,
    survey_depths,
    survey_kinds,
    survey_loads,
    survey_positions,
)
from smolrgpt.tasks.question import Maker, Question
from smolrgpt.tasks.side import LEFT_RIGHT, ask_side, survey_sides
from smolrgpt.tasks.size import HEIGHT, VERTICAL, WIDTH, ask_height, ask_width
from smolrgpt.tasks.wording import PlainMaker

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

_WARMUP: dict[str, WeightedMakers] = {
    "single": [(0.25, ask_what), (0.35, ask_where), (0.4, CAMERA_DISTANCE.makers[0][1])],
    "size": [(0.5, ask_width), (0.5, ask_height)],
    "pair": [(0.4, CHOICE_OF_TWO.makers[0][1]), (0.6, ask_side)],
    "inside": [(1.0, ask_inside)],
    "distance": [(1.0, ask_distance)],
    "survey": [
        (0.15, survey_positions),
        (0.1, survey_depths),
        (0.1, survey_kinds),
        (0.25, survey_distances),
        (0.1, survey_sides),
        (0.15, survey_insides),
        (0.15, survey_loads),
    ],
}
#: The kinds of the extra questions.
_EXTRA: tuple[Task, ...] = (WIDTH, HEIGHT, VERTICAL, *(task for task in TASKS.values() if task.is_extra))
#: Group of the plain questions -> its kinds. A kind that is in no group here is a group of its own, after these.
_PLAIN: dict[str, tuple[Task, ...]] = {
    "sides": (LEFT_RIGHT,),
    "distances": (DISTANCE,),
    "choices": (MCQ,),
    "counts": (COUNT,),
    "sizes": (WIDTH, HEIGHT, VERTICAL),
}
_PLAIN |= {task.name: (task,) for task in TASKS.values() if task.plain_makers and not any(task in group for group in _PLAIN.values())}


def scene_questions(graph: SceneGraph, rng: np.random.Generator, n: int) -> list[Question]:
    """Draw at most n different questions of the official four categories, a quarter each as far as the scene has them."""
    return sample_balanced(graph, rng, n, {task.name: task.makers for task in OFFICIAL})


def warmup_questions(graph: SceneGraph, rng: np.random.Generator, n: int) -> list[Question]:
    """Draw at most n questions about what and where single regions are, and how pairs compare."""
    return sample_balanced(graph, rng, n, _WARMUP)


def extra_questions(graph: SceneGraph, rng: np.random.Generator, n: int) -> list[Question]:
    """Draw at most n questions about sizes and of the kinds that ``Task.is_extra`` marks."""
    return sample_balanced(graph, rng, n, {task.name: task.makers for task in _EXTRA})


def plain_questions(graph: SceneGraph, rng: np.random.Generator, n: int, wording: Wording = "known") -> list[Question]:
    """Draw at most n different questions of the official four categories and of lengths, in plain words of one wording."""

    def with_wording(ask: PlainMaker) -> Maker:
        return lambda graph, rng: ask(graph, rng, wording)

    groups = {name: [(weight, with_wording(ask)) for task in tasks for weight, ask in task.plain_makers] for name, tasks in _PLAIN.items()}
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
    ask = TASKS[form.category].form_maker
    if ask is None:
        return None
    for _ in range(_FORM_TRIES):
        question = ask(graph, rng, form)
        if question is not None:
            return replace(question, official_template=form.template)
    return None
