"""Drafts: facts that were drawn from a scene before a sentence was chosen to ask for them.

A kind draws a draft; the official-like maker and the maker in plain words both ask it, in the forms of ``what`` is asked for.
"""

from __future__ import annotations

import string
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from smolrgpt.schema import SceneGraph, SceneObject, Wording
from smolrgpt.tasks.drawing import pick
from smolrgpt.tasks.given_lengths import write_metres
from smolrgpt.tasks.official import synthetic_frames
from smolrgpt.tasks.question import Maker, Question, capitalized, region_tags
from smolrgpt.tasks.wording import PlainMaker, Slot, ask_in_words

#: Names an object of the question by its tag.
Namer = Callable[[SceneObject], str]


@dataclass(frozen=True)
class Draft:
    """A question without its sentence.

    Attributes:
        asked: the key of the forms.
        slots: the contents of the slots of every form; objects and words.
        value: the normalised answer; an object where it is a region.
        answer: the answer text, given how objects are named.
        steps: the steps to the answer.
    """

    asked: str
    slots: Mapping[str, Slot]
    value: str | float | SceneObject
    answer: Callable[[Namer], str]
    steps: Callable[[Namer], str] = field(default=lambda tag: "")


#: Draws the facts of a question, or None where they are not clear.
Drawer = Callable[[SceneGraph, np.random.Generator], Draft | None]


def makers_of(category: str, family: str, *drawers: tuple[float, Drawer]) -> dict[str, Any]:
    """Return the fields ``makers`` and ``plain_makers`` of a kind: in sentences of ``synthetic.json``, and in plain words of a family.

    Args:
        category: the kind's name.
        family: the file of its plain wordings.
        drawers: what draws its facts, with weights.
    """
    return {
        "makers": tuple((weight, _formal_maker(category, draw)) for weight, draw in drawers),
        "plain_makers": tuple((weight, _plain_maker(category, family, draw)) for weight, draw in drawers),
    }


def _formal_maker(category: str, draw: Drawer) -> Maker:
    def ask(graph: SceneGraph, rng: np.random.Generator) -> Question | None:
        draft = draw(graph, rng)
        if draft is None:
            return None
        text, objects = _fill(pick(rng, synthetic_frames(draft.asked)), draft.slots)
        return _question(draft, text, objects, category)

    return ask


def _plain_maker(category: str, family: str, draw: Drawer) -> PlainMaker:
    def ask(graph: SceneGraph, rng: np.random.Generator, wording: Wording) -> Question | None:
        draft = draw(graph, rng)
        if draft is None:
            return None
        text, objects = ask_in_words(family, draft.asked, draft.slots, rng, wording)
        return _question(draft, text, objects, category)

    return ask


def _fill(form: str, slots: Mapping[str, Slot]) -> tuple[str, list[SceneObject]]:
    """Return the text of an official-like form, and its objects in order of mention."""
    text, objects = "", []
    for literal, slot, _, _ in string.Formatter().parse(form):
        text += literal
        content = slots[slot] if slot else ""
        if isinstance(content, str):
            text += content
        elif isinstance(content, float | int):
            text += f"{write_metres(content)} m"
        else:
            items = [content] if isinstance(content, SceneObject) else list(content)
            names = [f"the {item.name} <mask>" for item in items]
            objects += items
            text += " and ".join(part for part in (", ".join(names[:-1]), names[-1]) if part)
    return capitalized(text), objects


def _question(draft: Draft, text: str, objects: list[SceneObject], category: str) -> Question:
    def tag(item: SceneObject) -> str:
        return region_tags(objects, item)

    value = str(objects.index(draft.value)) if isinstance(draft.value, SceneObject) else draft.value
    return Question(text, objects, capitalized(draft.answer(tag)), value, category, draft.steps(tag))
