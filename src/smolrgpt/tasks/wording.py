"""Questions in everyday language: short, with or without a noun, in either order, sometimes without capitals.

A model trained only on the official sentences answers those alone: of two marked regions, the official questions about their distance were
right in 98 of 100 and "How far is <mask> from <mask>?" in 2. ``wordings/<family>.json`` has the forms. The reserved ones are never trained
on, and most of them were written without knowledge of the others.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import cast, get_args

import numpy as np

from smolrgpt.schema import SceneGraph, SceneObject, Wording
from smolrgpt.tasks.drawing import pick
from smolrgpt.tasks.question import Question, capitalized

WORDINGS: tuple[Wording, ...] = get_args(Wording)
#: Draws one question about a scene in plain words of a wording, or None where the drawn facts give no clear question.
PlainMaker = Callable[[SceneGraph, np.random.Generator, Wording], Question | None]
#: Regions that a question lists at most.
MAX_LISTED = 8

_FOLDER = Path(__file__).parent / "wordings"
#: Openings that stand before some questions.
_OPENINGS = ("Please: ", "Look at the picture. ", "Question: ", "In this picture, ", "Hi! ", "I need to know: ")
_NOUNS = ("{}", "{}", "the object {}", "object {}", "the thing {}", "region {}", "the region {}", "the one in {}", "item {}")


@functools.cache
def load_wordings(family: str) -> dict[str, dict[Wording, list[str]]]:
    """Return the forms of a family of kinds: what is asked -> wording -> forms.

    The slots of a form: objects {a} and {b} or a {list} of them, a buffer {b}, and a {side} or the {short} word for it.
    """
    forms = json.loads((_FOLDER / f"{family}.json").read_text(encoding="utf-8"))
    return cast("dict[str, dict[Wording, list[str]]]", forms)


def name_object(item: SceneObject, rng: np.random.Generator, bare: bool) -> str:
    """Return ``<mask>``, with a noun unless it is bare."""
    if bare:
        return "<mask>"
    if rng.random() < 0.4:
        return f"{pick(rng, ('the ', '', 'that '))}{item.name} <mask>"
    return pick(rng, _NOUNS).format("<mask>")


def list_masks(objects: Sequence[SceneObject], rng: np.random.Generator) -> str:
    """Return the masks of several objects as a list, sometimes with a noun."""
    masks = ["<mask>"] * len(objects)
    noun = pick(rng, ("", "", "", "the ", ""))
    if noun:
        noun += f"{objects[0].name}s " if len({item.name for item in objects}) == 1 else "objects "
    form = int(rng.integers(4))
    if form < 2:
        return noun + (" ", ", ")[form].join(masks)
    return noun + ", ".join(masks[:-1]) + (" and " if form == 2 else " or ") + masks[-1]


def vary_typing(text: str, rng: np.random.Generator) -> str:
    """Vary a question at random as users type: capitals, final question mark and polite openings."""
    text = capitalized(text)
    chance = rng.random(3)
    if chance[0] < 0.1:
        text = pick(rng, _OPENINGS) + text
    if chance[1] < 0.2:
        text = text.lower()
    return text.rstrip("?.") if chance[2] < 0.15 else text


def ask_about_pair(forms: Sequence[str], pair: Sequence[SceneObject], rng: np.random.Generator) -> tuple[str, list[SceneObject]]:
    """Return a question about objects a and b, and the two in order of mention."""
    form, bare = pick(rng, forms), bool(rng.random() < 0.5)
    a, b = (name_object(item, rng, bare) for item in pair)
    objects = list(pair) if form.index("{a}") < form.index("{b}") else list(pair)[::-1]
    return vary_typing(form.format(a=a, b=b), rng), objects
