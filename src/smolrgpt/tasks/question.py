"""A question about a scene with its answer, and how masks and regions are written in both."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from smolrgpt.schema import REGION_PLACEHOLDER, SceneGraph, SceneObject
from smolrgpt.tasks.region_text import region_tag

#: Most regions of an official question.
MAX_MARKED = 15


@dataclass(eq=False)
class Question:
    """A question with its answer.

    Attributes:
        text: the question, with one ``<mask>`` per entry of ``objects``, in order.
        objects: the objects that the question marks.
        answer: the full answer, which names objects as ``[Region i]``.
        normalized_answer: the short answer; None where the answer is a list of facts, which is not scored.
        category: the kind of the question.
        steps: intermediate results on the way to the answer, region by region; empty when none is needed.
        official_template: the template of the official data set that the question is an instance of; empty for other questions.
        max_same_fact: how often one fact about the same objects is asked of a scene at most, in different words.
    """

    text: str
    objects: list[SceneObject]
    answer: str
    normalized_answer: str | int | float | None
    category: str
    steps: str = ""
    official_template: str = ""
    max_same_fact: int = 2


#: Draws one question about a scene, or None where the drawn facts give no clear question.
Maker = Callable[[SceneGraph, np.random.Generator], Question | None]


def mask_placeholders(count: int) -> str:
    """Return ``count`` times ``<mask>``, separated by spaces."""
    return " ".join([REGION_PLACEHOLDER] * count)


def region_tags(objects: Sequence[SceneObject], *named: SceneObject) -> str:
    """Return ``[Region k]`` of each of the ``named`` objects, with k its position in ``objects``."""
    return "".join(region_tag(objects.index(item)) for item in named)


def join_steps(*parts: list[str]) -> str:
    """Return lists of steps as one text."""
    return ", ".join(step for part in parts for step in part)


def capitalized(text: str) -> str:
    """Return the text with its first letter in upper case and all others as they are."""
    return text[0].upper() + text[1:]


def format_metres(value: float) -> str:
    """Return a rounded length with all its digits, two decimals at least."""
    return f"{value:.2f}" if round(value, 2) == value else f"{value:.6g}"


def brief_metres(value: float) -> str:
    """Return a length with as few digits as an answer within 10 % needs, and one to spare."""
    if 0 < value < 0.2:
        return f"{value:.3g}"
    return f"{value:.2f}" if value < 3 else f"{value:.1f}"


def add_viewpoint_phrase(rng: np.random.Generator, sentence: str) -> str:
    """Return the sentence, in three of five draws after a phrase such as "From this viewpoint, "."""
    phrases = ("", "", "From this viewpoint, ", "From the image's perspective, ", "Observing from this perspective, ")
    phrase = phrases[int(rng.integers(len(phrases)))]
    return phrase + (sentence[0].lower() + sentence[1:] if phrase and sentence.startswith("The ") else sentence)


def list_facts(category: str, text: str, objects: list[SceneObject], values: Sequence[str], sentence: str) -> Question:
    """Return a question about many regions at once; its answer is a list of facts and is not scored.

    Args:
        category: the kind of the question.
        text: the question.
        objects: the objects in the order of their masks; one more than values where the last one is an anchor.
        values: a fact per object.
        sentence: how the answer states a fact, with {r} for the region and {v} for the value.
    """
    answer = " ".join(sentence.format(r=region_tag(k), v=value) for k, value in enumerate(values))
    anchor = region_tag(len(values)) if len(objects) > len(values) else ""
    steps = ", ".join(f"{region_tag(k)}{anchor} {value}" for k, value in enumerate(values))
    return Question(text, objects, answer, None, category, steps)
